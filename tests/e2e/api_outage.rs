//! The API server goes away while runs wait, and comes back.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crate::binary::{as_pod_of, lines, only_on, waiting_job};
use crate::cluster::{cluster, items, items_of};
use crate::command::{start, until};
use crate::scenario::{Helm, Scenario, expect_line, verdict};

/// So long it is away.
const AWAY: Duration = Duration::from_secs(60);
/// Ends while it is away.
const TIMEOUT: Duration = Duration::from_secs(25);
/// Between a run's deadline and that of its Job, which is to find it ended.
const GRACE: Duration = Duration::from_secs(20);
/// What the cluster may take to remove what a Job owned: kubelets ask again in their own time,
/// which they let grow to half a minute and more.
const REMOVAL: Duration = Duration::from_secs(90);
/// Until every kubelet has told of itself again.
const READY: Duration = Duration::from_secs(60);

#[test]
fn runs_outlast_the_api_server_or_say_that_it_is_away() {
    let scenario = Scenario::alone("outage", Helm::Four);
    let [one, other, _] = cluster().all_nodes()[..] else { panic!("there are three") };
    // The first one comes while there is no API server, and the second one after that.
    let images =
        [("slow", 40), ("slower", 55)].map(|(name, seconds)| scenario.slow_image(name, seconds));
    let never_there = scenario.unavailable_image("one");
    scenario.create(&waiting_job("hook"));
    let hook = scenario.get(&["job", "hook"]);
    let patient = ["run", "--name=patient", &only_on(&[one]), &images[0], &images[1]];
    let patient = scenario.start_prepull(&patient);
    scenario.until_event("Pulling", &format!("\"{}\"", images[0]));

    let api_server = ApiServer::stop();
    api_server.start();
    let timeout = format!("--timeout={}s", TIMEOUT.as_secs());
    let hasty = ["run", "--name=hasty", &timeout, &only_on(&[other]), &never_there];
    let hasty = start(scenario.prepull_command(&hasty).envs(as_pod_of(&hook)));
    let began = Instant::now();
    scenario.until_failed_pulls(&never_there, 1);
    let api_server = ApiServer::stop();
    let stopped = Instant::now();

    let ended = hasty.wait(TIMEOUT + GRACE);
    assert!(began.elapsed() >= TIMEOUT, "{:?}", began.elapsed());
    assert_eq!(ended.code, Some(3), "{}", ended.said());
    let report = lines(&ended);
    expect_line(&report, &["note: DaemonSet `hasty-", "may be left: it goes with the Job `"]);
    expect_line(&report, &["failed: time ran out after 25s: cannot ", ": connect to "]);
    assert!(verdict(&report).ends_with(": check that the API server answers"), "{report:?}");

    thread::sleep(AWAY.saturating_sub(stopped.elapsed()));
    api_server.start();

    assert_eq!(pullers_of(&scenario, "hasty").len(), 1);
    cluster().kubectl(&["delete", "job", "hook", "--namespace", &scenario.ns]);
    until("the end of the DaemonSet", REMOVAL, || {
        let left = pullers_of(&scenario, "hasty");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let ended = scenario.end(patient).succeeded();
    let report = lines(&ended);
    expect_line(&report, &["cannot ", ": connect to ", ": trying again"]);
    assert!(verdict(&report).starts_with("ready: 2 images on 1 node after "), "{report:?}");
    let names = images.each_ref().map(|it| format!("docker.io/{it}"));
    cluster().expect_held(&[one], &names.each_ref().map(String::as_str));
    scenario.until_only(&[], REMOVAL);
}

fn pullers_of(scenario: &Scenario, name: &str) -> BTreeSet<String> {
    let mut pullers = scenario.names(&["daemonsets"]);
    pullers.retain(|it| it.contains(&format!("/{name}-")));
    pullers
}

/// The API server, which runs when this has gone, and has heard from every node.
struct ApiServer;

impl ApiServer {
    fn stop() -> Self {
        let api_server = Self;
        cluster().hack(&["apiserver", "stop"]);
        api_server
    }

    fn start(self) {}
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // A second panic would take all tests down.
        let restored = catch_unwind(AssertUnwindSafe(|| {
            cluster().hack(&["apiserver", "start"]);
            until_nodes_are_ready();
        }));
        match restored {
            Ok(()) => {}
            Err(_) if thread::panicking() => println!("there may be no API server"),
            Err(panic) => resume_unwind(panic),
        }
    }
}

fn until_nodes_are_ready() {
    until("the readiness of the nodes", READY, || {
        let found = cluster().get(&["nodes"]);
        let is_ready = |node: &serde_json::Value| {
            let mut conditions = items_of(&node["status"]["conditions"]).iter();
            conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
                && items_of(&node["spec"]["taints"]).is_empty()
        };
        match items(&found).iter().all(is_ready) {
            true => Ok(()),
            false => Err(found["items"].to_string()),
        }
    });
}

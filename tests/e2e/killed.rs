//! Nothing is left behind, whoever is killed.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{cluster, items_of, text};
use crate::command::{run, until};
use crate::scenario::{Helm, OURS, Scenario, expect_line};
use crate::turn::ReservedNodes;

with_helm_3_and_4!(
    a_second_attempt_takes_over,
    nothing_stays_when_everyone_is_killed,
    nothing_stays_when_the_job_is_deleted,
);

const TTL: u64 = 5;
/// What the cluster may take to clean up by itself.
const REMOVAL: Duration = Duration::from_secs(60);

fn a_second_attempt_takes_over(helm: Helm) {
    let node = ReservedNodes::one();
    let scenario = Scenario::new("again", helm);
    let image = scenario.slow_image("slow", 20);
    let installing = scenario.start_helm("install", values(&image, &node), &[]);
    scenario.until_event("Pulling", &format!("\"{image}\""));
    let puller = pullers(&scenario);

    kill_attempt(&scenario, 1);
    running_attempt(&scenario, 2);

    let installed = scenario.finish(installing).succeeded();
    let report = scenario.report(&installed);
    let [(name, _)] = puller.as_slice() else { panic!("there was not one puller: {puller:?}") };
    expect_line(&report, &["took over", &format!("`{name}`")]);
    // Helm shows the logs of both attempts, in the order of the names of their pods.
    expect_line(&report, &[&format!("ready: `{image}` on 1 node after ")]);
    cluster().expect_held(&[node.name()], &[&format!("docker.io/{image}")]);
    scenario.until_only(&[], Duration::from_secs(30));
}

fn nothing_stays_when_everyone_is_killed(helm: Helm) {
    let node = ReservedNodes::one();
    let scenario = Scenario::new("orphan", helm);
    let image = scenario.slow_image("slow", 30);
    let installing = scenario.start_helm("install", values(&image, &node), &[]);
    scenario.until_event("Pulling", &format!("\"{image}\""));
    let puller = pullers(&scenario);
    assert_eq!(puller.len(), 1, "{puller:?}");

    scenario.heard(installing.kill());
    kill_attempt(&scenario, 1);
    running_attempt(&scenario, 2);
    assert_eq!(pullers(&scenario), puller, "the second attempt goes on with what there is");
    kill_attempt(&scenario, 2);

    // Nobody is there to remove the rights any more.
    let rights = ["role", "serviceaccount/", "clusterrole"];
    scenario.until_only(&rights, Duration::from_secs(TTL) + REMOVAL);
}

fn nothing_stays_when_the_job_is_deleted(helm: Helm) {
    let node = ReservedNodes::one();
    let scenario = Scenario::new("deleted", helm);
    let image = scenario.slow_image("slow", 12);
    let installing = scenario.start_helm("install", values(&image, &node), &[]);
    scenario.until_event("Pulling", &format!("\"{image}\""));
    assert_eq!(pullers(&scenario).len(), 1);

    let job = format!("job/{}-prepull", scenario.release);
    let arguments = ["delete", &job, "--cascade=background", "--wait=false"];
    cluster().kubectl(&[&arguments[..], &["--namespace", &scenario.ns]].concat());
    let rights = ["role", "serviceaccount/", "clusterrole"];
    scenario.until_only(&rights, REMOVAL);
    scenario.heard(installing.kill());
}

fn values(image: &str, node: &ReservedNodes) -> Value {
    json!({
        "images": [image],
        "job": {"ttlSecondsAfterFinished": TTL},
        "puller": {"nodeSelector": {"kubernetes.io/hostname": node.name()}},
    })
}

/// The DaemonSets there are, as name and uid.
fn pullers(scenario: &Scenario) -> Vec<(String, String)> {
    let found = scenario.get(&["daemonsets"]);
    let meta = items_of(&found["items"]).iter().map(|it| &it["metadata"]);
    meta.map(|it| (text(&it["name"]).into(), text(&it["uid"]).into())).collect()
}

/// The pod of the Job's so manieth attempt, once its binary runs.
fn running_attempt(scenario: &Scenario, number: usize) -> Value {
    let selector = format!("{OURS},batch.kubernetes.io/job-name");
    until(&format!("attempt {number} to run"), Duration::from_secs(60), || {
        let mut pods = scenario.pods(&selector);
        let seen: Vec<_> = pods.iter().map(|it| text(&it["status"]["phase"])).collect();
        if pods.len() != number {
            return Err(format!("pods {seen:?}"));
        }
        let seen = format!("pods {seen:?}");
        let running = pods.iter().position(|it| running_container(it).is_some());
        running.map(|it| pods.swap_remove(it)).ok_or(seen)
    })
}

/// Kills the binary in its pod, and nothing else.
fn kill_attempt(scenario: &Scenario, number: usize) {
    let pod = running_attempt(scenario, number);
    let container = running_container(&pod).expect("it runs");
    let node = text(&pod["spec"]["nodeName"]);
    let tasks = cluster().ctr(node, &["tasks", "ls"]);
    let task = tasks.lines().find(|it| it.starts_with(container));
    let pid = task.and_then(|it| it.split_whitespace().nth(1));
    let pid = pid.unwrap_or_else(|| panic!("no task of {container} in {tasks}"));
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
    let words: Vec<_> = command.split('\0').collect();
    assert!(words[0].ends_with("/prepull") && words[1] == "run", "{pid} is another: {words:?}");
    run(Command::new("kill").args(["-KILL", pid]), Duration::from_secs(5)).succeeded();
    until(
        &format!("the end of process {pid}"),
        Duration::from_secs(10),
        || match fs::read_to_string(format!("/proc/{pid}/cmdline")) {
            Ok(it) if it == command => Err(it),
            _ => Ok(()),
        },
    );
}

fn running_container(pod: &Value) -> Option<&str> {
    let status = items_of(&pod["status"]["containerStatuses"]).first()?;
    status["state"].get("running")?;
    text(&status["containerID"]).strip_prefix("containerd://")
}

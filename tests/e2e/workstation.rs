//! Runs from outside the cluster.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use prepull::puller::EXPIRES_ANNOTATION;
use serde_json::{Value, json};

use crate::audit::Mark;
use crate::binary::{RUN, lines, only_on};
use crate::cluster::{cluster, moment};
use crate::command::start;
use crate::gate::{Gate, KubectlProxy};
use crate::puller_changed::puller;
use crate::scenario::{Scenario, expect_line, verdict};
use crate::schema::{Check, schema};
use crate::turn::ReservedNodes;

#[test]
fn a_namespace_that_does_not_exist_is_named() {
    let scenario = Scenario::without_helm("nowhere");
    let image = scenario.image("one");
    let ns = format!("{}-missing", scenario.ns);
    let mark = Mark::now();

    let ended = scenario.prepull(&["run", "--namespace", &ns, &image]);

    assert_eq!(ended.code, Some(2), "{}", ended.said());
    let said = ended.said();
    let lines: Vec<_> = said.lines().collect();
    let [line] = lines.as_slice() else { panic!("not one line: {said}") };
    let words = format!("namespace `{ns}` does not exist: create it or choose another");
    assert!(line.ends_with(&words), "{line}");
    assert!(cluster().names(&["daemonsets", "--namespace", &ns]).is_empty());
    assert_eq!(mark.nodes_of_pods(&ns), [""; 0]);
}

#[test]
fn check_looks_and_changes_nothing() {
    let scenario = Scenario::without_helm("check");
    let image = scenario.image("one");
    let proxy = KubectlProxy::start();
    let mut gate = Gate::before(&proxy);

    let check = ["check", "--output=json", &image];
    let mut check = start(&mut scenario.prepull_at(&gate.url(), &check));
    while let Some(request) = gate.next(&mut check, RUN) {
        gate.pass(request).give();
    }
    let ended = scenario.end(check);

    assert_eq!(ended.code, Some(1), "{}", ended.said());
    let report: Value = serde_json::from_str(&ended.stdout).expect("it is the report alone");
    let mut check = Check::default();
    check.value(&schema(), &report, "");
    assert!(check.faults.is_empty(), "{:#?} in {report:#}", check.faults);
    assert_eq!(report["outcome"], "missing");
    assert_eq!(report["nodes"]["eligible"], 3);
    assert_eq!(report["images"][0]["present"], 0);
    let requests = &gate.passed;
    assert!(
        !requests.is_empty() && requests.iter().all(|it| it.starts_with("GET ")),
        "{requests:?}"
    );

    // What every node has is present; kubelet would not run without it.
    let pause = "registry.k8s.io/pause:3.10";
    let ended = scenario.prepull(&["check", pause]).succeeded();
    assert_eq!(verdict(&lines(&ended)), format!("present: 3 nodes had `{pause}` already"));
}

#[test]
fn a_run_that_nothing_owns_says_so_and_leaves_nothing() {
    let scenario = Scenario::without_helm("unowned");
    let image = scenario.image("one");

    let ended = scenario.prepull(&["run", &image]).succeeded();

    cluster().expect_held(&cluster().all_nodes(), &[&format!("docker.io/{image}")]);
    let report = lines(&ended);
    let verdict = verdict(&report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 3 nodes after ")), "{verdict}");
    expect_line(&report, &["nothing owns the puller: "]);
    scenario.until_only(&[], Duration::from_secs(30));
}

#[test]
fn a_run_that_is_told_to_stop_cleans_up() {
    let node = ReservedNodes::one();
    let scenario = Scenario::without_helm("stopped");
    let image = scenario.slow_image("slow", 12);
    let running = scenario.start_prepull(&["run", &only_on(&[node.name()]), &image]);
    scenario.until_event("Pulling", &format!("\"{image}\""));

    running.terminate();
    let ended = running.wait(Duration::from_secs(15));

    assert_eq!(ended.code, Some(143), "{}", ended.said());
    let report = lines(&ended);
    assert!(verdict(&report).starts_with("stopped by a signal after "), "{report:?}");
    assert!(scenario.names(&["daemonsets"]).is_empty());
    scenario.until_only(&[], Duration::from_secs(60));
}

#[test]
fn what_a_killed_run_left_goes_with_the_next_of_its_name_when_it_has_expired() {
    let scenario = Scenario::without_helm("leftover");
    let image = format!("{}/one:latest", scenario.ns);
    scenario.push(&image, &[]);
    let here = only_on(&cluster().all_nodes()[..1]);
    // Under this tag each run asks for it again.
    let run = |name| lines(&scenario.prepull(&["run", name, &here, &image]).succeeded());
    let never_there = scenario.unavailable_image("one");
    let killed = scenario.start_prepull(&["run", "--name=demo", &here, &never_there]);
    let left = puller(&scenario);
    scenario.heard(killed.kill());

    run("--name=demo");
    let is_left = BTreeSet::from([left.clone()]);
    assert_eq!(scenario.names(&["daemonsets"]), is_left, "it has not expired");

    // Its time is moved, rather than waited for.
    let expires = moment(&scenario.get(&[&left])["metadata"]["annotations"][EXPIRES_ANNOTATION]);
    assert!(expires > SystemTime::now(), "{expires:?}");
    let expired = humantime::format_rfc3339_seconds(SystemTime::now() - Duration::from_secs(60));
    let expired = json!({"metadata": {"annotations": {EXPIRES_ANNOTATION: expired.to_string()}}});
    let patch = ["patch", &left, "--patch", &expired.to_string(), "--namespace", &scenario.ns];
    cluster().kubectl(&patch);
    run("--name=other");
    assert_eq!(scenario.names(&["daemonsets"]), is_left, "it is another's");

    let report = run("--name=demo");
    let (_, name) = left.split_once('/').expect("a kind and a name");
    expect_line(&report, &[&format!("removed DaemonSet `{name}`, left by an earlier run")]);
    scenario.until_only(&[], Duration::from_secs(60));
}

//! Others lay hands on the puller and its pods while a run waits.

use std::time::Duration;

use serde_json::json;

use crate::binary::{lines, only_on};
use crate::cluster::{cluster, text};
use crate::command::{Finished, until};
use crate::registry_faults::{faulty, mend};
use crate::scenario::{OURS, Scenario, expect_line, verdict};
use crate::turn::ReservedNodes;

/// A moment in which a run or a controller acts.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_puller_that_is_deleted_is_made_again() {
    let node = ReservedNodes::one();
    let scenario = Scenario::without_helm("remade");
    let image = scenario.slow_image("slow", 6);
    let run = scenario.start_prepull(&["run", &only_on(&[node.name()]), &image]);
    scenario.until_event("Pulling", &format!("\"{image}\""));

    delete_puller(&scenario);

    let report = lines(&scenario.end(run).succeeded());
    expect_line(&report, &["was deleted by someone else: making it again"]);
    expect_ready(&scenario, &report, &image, &[node.name()]);
}

#[test]
fn a_puller_that_is_deleted_again_and_again_is_given_up() {
    let scenario = Scenario::without_helm("given-up");
    let image = scenario.unavailable_image("one");
    let run = scenario.start_prepull(&["run", "--interval", "200ms", &image]);

    for _ in 0..3 {
        delete_puller(&scenario);
    }

    let report = lines(&scenario.end(run).failed());
    let verdict = verdict(&report);
    assert!(verdict.contains("was deleted by someone else, and made again 2 times"), "{verdict}");
    scenario.until_only(&[], Duration::from_secs(30));
}

#[test]
fn a_puller_that_is_edited_is_made_anew() {
    let node = ReservedNodes::one();
    let scenario = Scenario::without_helm("edited");
    let image = scenario.slow_image("slow", 6);
    let other = scenario.image("other");
    let run = scenario.start_prepull(&["run", &only_on(&[node.name()]), &image]);
    scenario.until_event("Pulling", &format!("\"{image}\""));

    let name = puller(&scenario);
    let patch = json!([
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": other}
    ]);
    let patch = patch.to_string();
    let arguments = ["patch", &name, "--type=json", "--patch", &patch];
    cluster().kubectl(&[&arguments[..], &["--namespace", &scenario.ns]].concat());
    // Under `OnDelete` pods of the new template are made in place of deleted ones alone.
    let pods = scenario.pods(OURS);
    delete_pod(&scenario, text(&pods[0]["metadata"]["name"]));

    let report = lines(&scenario.end(run).succeeded());
    expect_line(&report, &["was edited by someone else: making it again"]);
    expect_ready(&scenario, &report, &image, &[node.name()]);
}

#[test]
fn pods_that_are_deleted_and_evicted_are_made_again() {
    let reserved = ReservedNodes::two();
    let scenario = Scenario::without_helm("evicted");
    let [one, other] = reserved.names();
    let (image, ended) = run_with_ended_pods(&scenario, [one, other]);

    expect_ready(&scenario, &lines(&ended), &image, &[one, other]);
}

/// A run on two nodes, whose first pods are ended by others, and the image that it pulls.
pub fn run_with_ended_pods(scenario: &Scenario, nodes: [&str; 2]) -> (String, Finished) {
    // What the first pods pull would be proof enough to end the run before there are others.
    let image = faulty(scenario, "500");
    let run = scenario.start_prepull(&["run", &only_on(&nodes), &image]);
    scenario.until_failed_pulls(&image, 2);
    let pods = scenario.pods(OURS);
    let names: Vec<_> = pods.iter().map(|it| text(&it["metadata"]["name"])).collect();
    let [deleted, evicted] = names[..] else { panic!("a pod on each node, and not {names:?}") };

    delete_pod(scenario, deleted);
    evict(scenario, evicted);

    until("a pod in place of each", SOON, || {
        let made = scenario.events("SuccessfulCreate", "Created pod: ");
        if made.len() == 4 { Ok(()) } else { Err(format!("{made:?}")) }
    });
    mend(&image);
    (image, scenario.end(run).succeeded())
}

fn expect_ready(scenario: &Scenario, report: &[String], image: &str, nodes: &[&str]) {
    let verdict = verdict(report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on {} node", nodes.len())), "{verdict}");
    cluster().expect_held(nodes, &[&format!("docker.io/{image}")]);
    scenario.until_only(&[], Duration::from_secs(60));
}

/// The name `kind/name` of the puller, once it is there.
pub fn puller(scenario: &Scenario) -> String {
    until("the puller", SOON, || {
        let names = scenario.names(&["daemonsets"]);
        names.into_iter().next().ok_or_else(|| "none".into())
    })
}

/// Deletes the puller that is there, and no other one after it.
fn delete_puller(scenario: &Scenario) {
    let name = puller(scenario);
    let arguments = ["delete", &name, "--cascade=background", "--wait=true"];
    cluster().kubectl(&[&arguments[..], &["--namespace", &scenario.ns]].concat());
}

fn delete_pod(scenario: &Scenario, name: &str) {
    cluster().kubectl(&["delete", "pod", name, "--wait=false", "--namespace", &scenario.ns]);
}

/// As draining a node does it.
fn evict(scenario: &Scenario, pod: &str) {
    let ns = &scenario.ns;
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": ns},
    });
    let path = format!("/api/v1/namespaces/{ns}/pods/{pod}/eviction");
    scenario.create_at(&path, &eviction);
}

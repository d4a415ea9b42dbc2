//! What pods and hooks do on a real cluster, step by step, is what they do in the model of
//! `tests/run`, which has the proof of most rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prepull::evidence::{Pod, PodStatus};
use serde_json::{Deserializer, Value, json};

use crate::audit::Mark;
use crate::command::Finished;
use crate::puller_changed::run_with_ended_pods;
use crate::registry_faults::faulty;
use crate::scenario::{Helm, Scenario};
use crate::steps::steps;
use crate::turn::ReservedNodes;

#[test]
fn a_hook_that_pulls_does_what_the_model_allows() {
    let node = ReservedNodes::one();
    let scenario = Scenario::new("trace-pulls", Helm::Four);
    let images = [scenario.slow_image("slow", 6), scenario.image("quick")];
    install(&scenario, &images, &node, &[]).succeeded();
}

#[test]
fn a_hook_that_fails_does_what_the_model_allows() {
    let node = ReservedNodes::one();
    let scenario = Scenario::new("trace-fails", Helm::Four);
    let images = [scenario.image("there"), faulty(&scenario, "404")];
    install(&scenario, &images, &node, &["job.batch/", "pod/trace-fails"]).failed();
}

#[test]
fn pods_that_others_end_do_what_the_model_allows() {
    let reserved = ReservedNodes::two();
    let scenario = Scenario::without_helm("trace-ends");
    let watch = scenario.watch_pods();

    run_with_ended_pods(&scenario, reserved.names());
    scenario.until_only(&[], Duration::from_secs(60));

    expect(&steps_of_pods(&watch.said_as_yet()));
}

/// Installs a release, whose hook is to do what the model allows, and to leave these objects.
fn install(
    scenario: &Scenario,
    images: &[String; 2],
    node: &ReservedNodes,
    left: &[&str],
) -> Finished {
    let (mark, watch) = (Mark::now(), scenario.watch_pods());
    let selector = json!({"kubernetes.io/hostname": node.name()});
    let values = json!({"images": images, "puller": {"nodeSelector": selector}});

    let installed = scenario.helm("install", values, &[]);
    scenario.until_only(left, Duration::from_secs(60));

    let mut seen = steps_of_pods(&watch.said_as_yet());
    seen.extend(steps_of_hook(&mark, &scenario.ns));
    expect(&seen);
    installed
}

/// What the pods of pullers showed, by everything that a watch was told of them.
fn steps_of_pods(watched: &str) -> BTreeSet<String> {
    let mut shown: BTreeMap<String, PodStatus> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    // The last words of a watch may not be complete.
    let objects = Deserializer::from_str(watched).into_iter::<Value>().map_while(Result::ok);
    for object in objects.filter(|it| it["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet") {
        let ends = object["metadata"].get("deletionTimestamp").is_some();
        let pod: Pod = serde_json::from_value(object).expect("it is a pod");
        let new = || PodStatus { phase: "Pending".into(), ..PodStatus::default() };
        let before = shown.entry(pod.metadata.uid).or_insert_with(new);
        let kind = if ends { "pod that ends" } else { "pod" };
        seen.extend(steps(before, &pod.status, kind));
        *before = pod.status;
    }
    assert!(seen.len() > 5, "the watch saw next to nothing: {seen:?}");
    seen
}

/// What the hook asked for, one request after the other, in the model's words.
fn steps_of_hook(mark: &Mark, ns: &str) -> BTreeSet<String> {
    let requests = mark.requests_from(ns).into_iter().map(|(verb, resource, status)| {
        let one = resource.trim_end_matches('s');
        let request = match (verb.as_str(), resource.as_str()) {
            ("list", _) | (_, "events") => format!("{verb} {resource}"),
            _ => format!("{verb} {one}"),
        };
        if status < 400 { request } else { format!("{request}, in vain") }
    });
    // The last words come after the run.
    let requests: Vec<_> = requests.filter(|it| it != "create events").collect();
    assert!(requests.len() > 5, "the audit log has next to nothing: {requests:?}");
    requests.windows(2).map(|it| format!("run: {} -> {}", it[0], it[1])).collect()
}

fn expect(seen: &BTreeSet<String>) {
    let known = include_str!("../run/golden/steps.json");
    let known: BTreeSet<String> = serde_json::from_str(known).expect("tests/run wrote it");
    let new: Vec<_> = seen.difference(&known).collect();
    assert!(new.is_empty(), "the model never does this: {new:#?}");
}

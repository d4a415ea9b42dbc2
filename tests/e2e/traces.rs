//! What pods, DaemonSets and hooks do on a real cluster, step by step, and what events tell of it,
//! is what they do in the model of `tests/run`, which has the proof of most rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prepull::evidence::{Event, Pod, PodStatus};
use prepull::puller::Puller;
use serde::Deserialize;
use serde_json::{Deserializer, Value, json};

use crate::audit::Mark;
use crate::cluster::text;
use crate::command::{Finished, Running};
use crate::puller_changed::run_with_ended_pods;
use crate::registry_faults::faulty;
use crate::scenario::{Helm, Scenario};
use crate::steps::{Growth, Life, step_of_event, step_of_set, steps};
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
    let watches = Watches::start(&scenario);

    run_with_ended_pods(&scenario, reserved.names());
    scenario.until_only(&[], Duration::from_secs(60));

    expect(&watches.steps());
}

/// Installs a release, whose hook is to do what the model allows, and to leave these objects.
fn install(
    scenario: &Scenario,
    images: &[String; 2],
    node: &ReservedNodes,
    left: &[&str],
) -> Finished {
    let (mark, watches) = (Mark::now(), Watches::start(scenario));
    let selector = json!({"kubernetes.io/hostname": node.name()});
    let values = json!({"images": images, "puller": {"nodeSelector": selector}});

    let installed = scenario.helm("install", values, &[]);
    scenario.until_only(left, Duration::from_secs(60));

    let mut seen = watches.steps();
    seen.extend(steps_of_hook(&mark, &scenario.ns));
    expect(&seen);
    installed
}

/// What is written down of a namespace while a test goes on.
struct Watches {
    pods: Running,
    sets: Running,
    events: Running,
}

impl Watches {
    fn start(scenario: &Scenario) -> Self {
        let [pods, sets, events] = ["pods", "daemonsets", "events"].map(|it| scenario.watch(it));
        Self { pods, sets, events }
    }

    fn steps(&self) -> BTreeSet<String> {
        let pods = objects(&self.pods);
        let made_by_set =
            pods.iter().filter(|it| it["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet");
        let made_by_set: Vec<_> = made_by_set.cloned().collect();
        let uids: BTreeSet<_> = made_by_set.iter().map(|it| text(&it["metadata"]["uid"])).collect();
        let mut seen = steps_of_pods(&made_by_set);
        let in_numbers = steps_of_sets(&objects(&self.sets));
        assert!(seen.len() > 5, "the watch saw next to nothing of pods: {seen:?}");
        assert!(!in_numbers.is_empty(), "the watch saw nothing of DaemonSets");
        seen.extend(in_numbers);
        seen.extend(steps_of_events(&objects(&self.events), &uids));
        seen
    }
}

/// Everything that a watch was told of. Its last words may not be complete.
fn objects(watch: &Running) -> Vec<Value> {
    let said = watch.said_as_yet();
    Deserializer::from_str(&said).into_iter().map_while(Result::ok).collect()
}

/// What the pods of pullers showed.
fn steps_of_pods(watched: &[Value]) -> BTreeSet<String> {
    let mut shown: BTreeMap<String, PodStatus> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for object in watched {
        let ends = object["metadata"].get("deletionTimestamp").is_some();
        let pod = Pod::deserialize(object).expect("it is a pod");
        let new = || PodStatus { phase: "Pending".into(), ..PodStatus::default() };
        let before = shown.entry(pod.metadata.uid).or_insert_with(new);
        let life = if ends { Life::Ends } else { Life::Stays };
        seen.extend(steps(before, &pod.status, life));
        *before = pod.status;
    }
    seen
}

/// What the numbers of DaemonSets showed.
fn steps_of_sets(watched: &[Value]) -> BTreeSet<String> {
    let mut shown: BTreeMap<String, Puller> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for object in watched {
        let set = Puller::deserialize(object).expect("it is a DaemonSet");
        if let Some(before) = shown.insert(set.metadata.uid.clone(), set.clone()) {
            seen.extend(step_of_set(&before, &set));
        }
    }
    seen
}

/// The reasons that runs read. Others are the cluster's own, such as that it has no name server.
const REASONS: [&str; 4] = ["ErrImageNeverPull", "Failed", "FailedCreate", "InspectFailed"];

/// What warnings told of these pods, and of the DaemonSets that make them.
fn steps_of_events(watched: &[Value], pods: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for object in watched.iter().filter(|it| it["type"] == "Warning") {
        let about = text(&object["involvedObject"]["kind"]);
        let event = Event::deserialize(object).expect("it is an event");
        let is_meant = match about {
            "Pod" => pods.contains(event.involved_object.uid.as_str()),
            _ => about == "DaemonSet",
        };
        if !is_meant || !REASONS.contains(&event.reason.as_str()) {
            continue;
        }
        let growth = match counts.insert(event.metadata.uid, event.count) {
            None => Growth::New,
            Some(before) if before < event.count => Growth::Again,
            Some(_) => continue,
        };
        seen.insert(step_of_event(about, &event.reason, &event.message, growth));
    }
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

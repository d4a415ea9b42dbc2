//! What pods and hooks do on a real cluster, step by step, is what they do in the model of
//! `tests/run`, which has the proof of most rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prepull::evidence::{Pod, PodStatus};
use serde_json::{Deserializer, Value, json};

use crate::audit::Mark;
use crate::binary::only_on;
use crate::cluster::text;
use crate::command::until;
use crate::puller_changed::{delete_pod, evict};
use crate::registry_faults::{faulty, mend};
use crate::scenario::{Helm, OURS, Scenario};
use crate::steps::steps;
use crate::turn::ReservedNodes;

/// A moment in which a controller acts.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_hook_that_pulls_does_what_the_model_allows() {
    let node = ReservedNodes::one();
    let scenario = Scenario::new("trace-pulls", Helm::Four);
    let images = [scenario.slow_image("slow", 6), scenario.image("quick")];
    let (mark, watch) = (Mark::now(), scenario.watch_pods());

    scenario.helm("install", values(&images, &node), &[]).succeeded();
    scenario.until_only(&[], Duration::from_secs(60));

    let mut seen = steps_of_pods(&watch.said_as_yet());
    seen.extend(steps_of_hook(&mark, &scenario.ns));
    expect(&seen);
}

#[test]
fn a_hook_that_fails_does_what_the_model_allows() {
    let node = ReservedNodes::one();
    let scenario = Scenario::new("trace-fails", Helm::Four);
    let images = [scenario.image("there"), faulty(&scenario, "404")];
    let (mark, watch) = (Mark::now(), scenario.watch_pods());

    scenario.helm("install", values(&images, &node), &[]).failed();
    scenario.until_only(&["job.batch/", "pod/trace-fails"], Duration::from_secs(60));

    let mut seen = steps_of_pods(&watch.said_as_yet());
    seen.extend(steps_of_hook(&mark, &scenario.ns));
    expect(&seen);
}

#[test]
fn pods_that_others_end_do_what_the_model_allows() {
    let reserved = ReservedNodes::two();
    let scenario = Scenario::without_helm("trace-ends");
    let image = faulty(&scenario, "500");
    let watch = scenario.watch_pods();
    let run = scenario.start_prepull(&["run", &only_on(&reserved.names::<2>()), &image]);
    scenario.until_failed_pulls(&image, 2);
    let pods = scenario.pods(OURS);
    let names: Vec<_> = pods.iter().map(|it| text(&it["metadata"]["name"])).collect();
    let [deleted, evicted] = names[..] else { panic!("a pod on each node, and not {names:?}") };

    delete_pod(&scenario, deleted);
    evict(&scenario, evicted);
    until("a pod in place of each", SOON, || {
        let made = scenario.events("SuccessfulCreate", "Created pod: ");
        if made.len() == 4 { Ok(()) } else { Err(format!("{made:?}")) }
    });
    mend(&image);
    scenario.end(run).succeeded();
    scenario.until_only(&[], Duration::from_secs(60));

    expect(&steps_of_pods(&watch.said_as_yet()));
}

fn values(images: &[String; 2], node: &ReservedNodes) -> Value {
    let selector = json!({"kubernetes.io/hostname": node.name()});
    json!({"images": images, "puller": {"nodeSelector": selector}})
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

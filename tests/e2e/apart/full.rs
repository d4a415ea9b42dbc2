//! A node that has as many pods as it may have.

use std::time::Duration;

use serde_json::{Value, json};

use crate::apart::{Kubelet, states};
use crate::binary::{lines, only_on};
use crate::cluster::{items_of, text};
use crate::command::until;
use crate::scenario::{OURS, Scenario, expect_line};
use crate::turn::ReservedNodes;

/// Long enough for a scheduler or a kubelet to refuse a pod.
const REFUSAL: Duration = Duration::from_secs(20);

#[test]
fn a_full_node_is_forgiven_unless_asked_otherwise() {
    let reserved = ReservedNodes::one();
    let scenario = Scenario::apart("full");
    let node = reserved.name();
    let image = scenario.image("one");
    let kubelet = Kubelet::stop(node);
    kubelet.start(&["maxPods: 1"]);
    kubelet.until_ready("1");
    scenario.create(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "occupant"},
        "spec": {
            "containers": [{"image": "registry.k8s.io/pause:3.10", "name": "pause"}],
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
        },
    }));
    until_phase(&scenario, "occupant", "Running");

    let lenient = scenario.start_prepull(&["run", &only_on(&[node]), &image]);
    let strict = scenario.start_prepull(&["run", "--strict", &only_on(&[node]), &image]);
    let unscheduled = until("a pod that finds no room", REFUSAL, || {
        let pods = scenario.pods(OURS);
        let pod = pods.iter().find(|pod| {
            let conditions = items_of(&pod["status"]["conditions"]);
            conditions.iter().any(|it| text(&it["reason"]) == "Unschedulable")
        });
        pod.cloned().ok_or_else(|| format!("{} pods", pods.len()))
    });
    states::expect("too-many-pods", &[], &unscheduled, None);
    scenario.create(&states::bound("rejected", &image, node));
    let rejected = until_phase(&scenario, "rejected", "Failed");
    states::expect("out-of-pods", &[], &rejected, None);

    let report = lines(&scenario.end(lenient).succeeded());
    expect_line(&report, &["warning: 1 node may lack images: ", node, "no room for another pod"]);
    expect_line(&report, &["ready: ", &image, "but not on ", node, "forgiven"]);
    let report = lines(&scenario.end(strict).failed());
    expect_line(&report, &["failed", "--strict", node, "no room for another pod"]);
}

fn until_phase(scenario: &Scenario, name: &str, phase: &str) -> Value {
    until(&format!("the pod {name} to be {phase}"), REFUSAL, || {
        let pod = scenario.get(&["pod", name]);
        if pod["status"]["phase"] == phase { Ok(pod) } else { Err(pod["status"].to_string()) }
    })
}

//! Kubelets that stop, and nodes that go with them.

use std::time::Duration;

use serde_json::Value;

use crate::apart::{Kubelet, MOST_PODS, states};
use crate::binary::{lines, only_on};
use crate::cluster::{cluster, items_of, text};
use crate::command::until;
use crate::scenario::{OURS, Scenario, expect_line, verdict};
use crate::turn::ReservedNodes;

/// Until the controllers take a silent node for one that is not ready:
/// `--node-monitor-grace-period` of 50 s, and what they and we need to look at it.
const SILENCE: Duration = Duration::from_secs(90);
/// Slower than any of these runs.
const VERY_SLOW: u32 = 200;

#[test]
fn a_node_whose_kubelet_stops_is_not_waited_for() {
    let reserved = ReservedNodes::one();
    let scenario = Scenario::apart("silent");
    let node = reserved.name();
    let image = scenario.slow_image("slow", VERY_SLOW);
    let run = scenario.start_prepull(&["run", &only_on(&[node]), &image]);
    scenario.until_event("Pulling", &format!("\"{image}\""));

    let kubelet = Kubelet::stop(node);
    let silent = until(&format!("the controllers to miss {node}"), SILENCE, || {
        let found = cluster().get(&["node", node]);
        let conditions = items_of(&found["status"]["conditions"]);
        let ready = conditions.iter().find(|it| it["type"] == "Ready");
        match ready.is_some_and(|it| it["status"] == "Unknown") {
            true => Ok(found),
            false => Err(format!("{ready:?}")),
        }
    });
    states::expect("node-not-ready", &[], &pod_on(&scenario, node), Some(&silent));

    let report = lines(&scenario.end(run).succeeded());
    expect_line(&report, &["no longer waited for: ", &format!("{node} (not ready)")]);
    drop(kubelet);
    scenario.until_only(&[], Duration::from_secs(60));
}

#[test]
fn a_node_that_is_deleted_is_not_waited_for() {
    let reserved = ReservedNodes::one();
    let scenario = Scenario::apart("gone");
    let node = reserved.name();
    let image = scenario.slow_image("slow", VERY_SLOW);
    let run = scenario.start_prepull(&["run", &only_on(&[node]), &image]);
    scenario.until_event("Pulling", &format!("\"{image}\""));

    let kubelet = Kubelet::stop(node);
    cluster().kubectl(&["delete", "node", node]);

    let report = lines(&scenario.end(run).succeeded());
    expect_line(&report, &["no longer waited for: ", &format!("{node} (gone)")]);
    drop(kubelet);
    scenario.until_only(&[], Duration::from_secs(60));
}

/// The pod on it had proved the image, and may stay bound to the name and go on proving it.
#[test]
fn a_node_that_is_replaced_is_pulled_for_again() {
    let reserved = ReservedNodes::two();
    let scenario = Scenario::apart("replaced");
    let [replaced, other] = reserved.names();
    let image = scenario.slow_image_on("one", 25, replaced);
    let name = format!("docker.io/{image}");
    let run = scenario.start_prepull(&["run", &only_on(&[replaced, other]), &image]);
    let pod = until(&format!("the proof on {replaced}"), Duration::from_secs(20), || {
        let pod = pod_on(&scenario, replaced);
        match pod["status"]["containerStatuses"][0]["state"].get("running") {
            Some(_) => Ok(pod),
            None => Err(pod["status"].to_string()),
        }
    });

    let old = cluster().get(&["node", replaced]);
    let kubelet = Kubelet::stop(replaced);
    cluster().kubectl(&["delete", "node", replaced]);
    let left = pod_on(&scenario, replaced);
    assert_eq!(left["metadata"]["uid"], pod["metadata"]["uid"], "it stays bound for a while");
    states::expect("node-gone", &["01-one"], &left, Some(&old));
    cluster().hack(&["forget", replaced, "--", &image]);
    assert!(!cluster().images_on(replaced).contains(&name), "{name} is still there");
    kubelet.start(&[]);
    let new = kubelet.until_ready(MOST_PODS);
    assert_ne!(old["metadata"]["uid"], new["metadata"]["uid"]);
    let back = pod_on(&scenario, replaced);
    assert_eq!(back["metadata"]["uid"], pod["metadata"]["uid"], "it is bound to the name again");
    states::expect("node-back", &["01-one"], &back, Some(&new));

    let report = lines(&scenario.end(run).succeeded());
    cluster().expect_held(&[replaced, other], &[&name]);
    let verdict = verdict(&report);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 2 nodes after ")), "{verdict}");
    scenario.until_only(&[], Duration::from_secs(60));
}

fn pod_on(scenario: &Scenario, node: &str) -> Value {
    let on_node = |it: &Value| text(&it["spec"]["nodeName"]) == node;
    scenario.pods(OURS).into_iter().find(on_node).unwrap_or_default()
}

//! More nodes than a puller names one by one.

use std::collections::BTreeSet;
use std::time::Duration;

use prepull::node::Taint;
use serde_json::Value;

use crate::audit::{Mark, Request, nodes_of_pods, running_pods, terms_of};
use crate::cluster::Simulated;
use crate::node::SimulatedNode;

const N_NODES: usize = 1200;
/// Every kind of node is one in so many.
const N_KINDS: usize = 20;
const OF_A_KIND: usize = N_NODES / N_KINDS;

const APP: &str = "q.io/team/app:1";
const TOOL: &str = "q.io/team/tool:1";
const TOLERATED: &str =
    r#"{"puller": {"tolerations": [{"key": "team", "operator": "Equal", "value": "ours"}]}}"#;

/// A run, its own timeout included.
const RUN: Duration = Duration::from_secs(300);
const PODS_END: Duration = Duration::from_secs(120);

/// What a run may ask for: so much in any case, which is three pages of nodes at the beginning and
/// at the end and the first looks at the pods, and as much again in every minute, which is the
/// DaemonSet every 2 seconds and pages of pods and events every 10.
const MOST_REQUESTS: usize = 60;

/// The kinds of nodes; whatever is not named here lacks both images.
fn node(number: usize) -> SimulatedNode {
    let mut it = SimulatedNode::new(format!("n{number:04}"));
    let taint = |key: &str, value: &str, effect: &str| {
        vec![Taint { key: key.into(), value: value.into(), effect: effect.into() }]
    };
    match number % N_KINDS {
        0 => it.unschedulable = true,
        1 => it.taints = taint("dedicated", "gpu", "NoSchedule"),
        2 => _ = it.conditions.insert("Ready".into(), "False".into()),
        3 => _ = it.labels.insert("kubernetes.io/os".into(), "windows".into()),
        4 => it.taints = taint("team", "ours", "NoExecute"),
        5 => it.taints = taint("dedicated", "gpu", "PreferNoSchedule"),
        6 | 7 => it.images = vec![APP.into(), TOOL.into()],
        8 => it.images = vec![APP.into()],
        // Longer than all the pods take to be made and scheduled, so that these are waited for.
        9 => it.name += "-slow-40s",
        _ => {}
    }
    it
}

#[test]
fn every_eligible_one_of_1200_nodes_is_proved() {
    let cluster = Simulated::take();
    let nodes: Vec<_> = (0..N_NODES).map(node).collect();
    cluster.create_nodes(&nodes);
    let mark = Mark::now(&cluster);

    let arguments = ["run", "--output", "json", "--settings", TOLERATED, APP, TOOL];
    let ended = cluster.prepull(&arguments).wait(RUN).succeeded();

    let report: Value = serde_json::from_str(&ended.stdout).expect("the report is JSON");
    check_report(&report);
    let requests = mark.since(&cluster);
    check_puller(&requests);
    check_proofs(&requests);
    check_cost(&requests, &report);
    cluster.until_empty(PODS_END);
}

fn check_report(report: &Value) {
    println!("{}", report["verdict"]);
    let n_eligible = (N_KINDS - 4) * OF_A_KIND;
    let nodes = &report["nodes"];
    assert_eq!(nodes["total"], N_NODES);
    assert_eq!(nodes["eligible"], n_eligible);
    for (kind, reason) in [
        (0, "cordoned"),
        (1, "taint `dedicated` is not tolerated"),
        (2, "not ready"),
        (3, "node selector does not match"),
    ] {
        let wanted: Vec<_> = (kind..N_NODES).step_by(N_KINDS).map(|it| node(it).name).collect();
        assert_eq!(nodes["leftOut"][reason], Value::from(wanted), "{reason}");
    }
    assert_eq!(nodes["leftOut"].as_object().map_or(0, |it| it.len()), 4, "{nodes}");
    for field in ["dropped", "forgiven"] {
        assert_eq!(nodes[field].as_object().map_or(0, |it| it.len()), 0, "{nodes}");
    }
    for (i, image, n_kinds_present) in [(0, APP, 3), (1, TOOL, 2)] {
        let it = &report["images"][i];
        let n_present = n_kinds_present * OF_A_KIND;
        assert_eq!(it["image"], image);
        assert_eq!(it["present"], n_present, "{it}");
        assert_eq!(it["absent"], n_eligible - n_present, "{it}");
        assert_eq!(it["pulled"], n_eligible - n_present, "{it}");
        assert_eq!((&it["unknown"], &it["missing"]), (&Value::from(0), &Value::from(0)), "{it}");
    }
    assert_eq!(report["failures"].as_array().map(Vec::len), Some(0));
    let verdict = report["verdict"].as_str().unwrap_or_default();
    assert!(
        verdict.starts_with(&format!("ready: 2 images on {n_eligible} nodes after ")),
        "{verdict}"
    );
}

/// One DaemonSet, which goes where the group may go, and is never sent elsewhere.
fn check_puller(requests: &[Request]) {
    let ours: Vec<_> =
        requests.iter().filter(|it| it.is_ours() && it.resource == "daemonsets").collect();
    let of = |verb: &str| ours.iter().filter(|it| it.verb == verb).collect::<Vec<_>>();
    assert_eq!((of("create").len(), of("patch").len(), of("delete").len()), (1, 0, 1));
    let terms = terms_of(&of("create")[0].body);
    assert!(!terms.is_empty() && terms.iter().all(|it| it["matchFields"].is_null()), "{terms:?}");
}

/// Every node that lacked something had a pod whose containers ran before the puller went.
fn check_proofs(requests: &[Request]) {
    let deleted = requests.iter().find(|it| it.is_ours() && it.is("delete", "daemonsets"));
    let deleted = deleted.expect("the puller was deleted").received;
    let nodes = nodes_of_pods(requests);
    let ready = running_pods(requests).into_iter().filter(|(_, at)| *at < deleted);
    let proved: BTreeSet<_> = ready.map(|(pod, _)| nodes[pod]).collect();
    let lacking = (0..N_NODES).filter(|it| !matches!(it % N_KINDS, 0..=3 | 6 | 7)).map(node);
    let unproved: Vec<_> =
        lacking.map(|it| it.name).filter(|it| !proved.contains(it.as_str())).collect();
    assert!(unproved.is_empty(), "ready, but {unproved:?} had nothing to prove it");
}

fn check_cost(requests: &[Request], report: &Value) {
    let ours: Vec<_> = requests.iter().filter(|it| it.is_ours()).collect();
    let kinds: BTreeSet<_> = ours.iter().map(|it| (&it.verb, &it.resource)).collect();
    for (verb, resource) in kinds {
        let n = ours.iter().filter(|it| it.is(verb, resource)).count();
        println!("{n} times {verb} {resource}");
    }
    let milliseconds = report["elapsedMilliseconds"].as_u64().expect("a report says it");
    let most = MOST_REQUESTS + MOST_REQUESTS * milliseconds as usize / 60_000;
    assert!(ours.len() <= most, "{} requests in {milliseconds} ms", ours.len());
}

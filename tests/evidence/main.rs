//! What the program reads in pods as a real cluster showed them, in every state that they may be
//! in: captured of Kubernetes 1.36 and containerd 2.4 by `tests/e2e/apart/states.rs`, which also
//! asked containerd whether the images were there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use prepull::evidence::{ContainerState, ContainerStatus, Pod};
use prepull::node::{LeftOut, Node, Placement, eligible};
use prepull::run::{Added, Item, Obstacle, Targets};
use prepull::survey::{Lacking, Presence};
use serde::Deserialize;
use serde_json::Value;

/// A pod's state, and what it has to mean.
struct State {
    name: &'static str,
    /// The containers whose images it leaves unproved.
    unproved: &'static [&'static str],
    /// What is told of the node while something is unproved.
    waits_for: &'static str,
    /// What is told of a failed pull.
    failure: &'static str,
}

const PULLING: &str = "the pull has not ended";
const STATUS_503: &str = "503 Service Unavailable";

const STATES: [State; 16] = [
    proved("create-container-error"),
    unproved("evicted", &["02-away"], "its pod failed: Evicted: ", "invalid reference format"),
    unproved("hold-crashes", &["02-away"], PULLING, STATUS_503),
    unproved("invalid-image-name", &["02-away"], PULLING, "invalid reference format"),
    // The pod is of the machine before.
    unproved("node-back", &["01-one"], "its pod was made for another machine", ""),
    proved("node-gone"),
    unproved("node-not-ready", &["01-slow"], PULLING, ""),
    unproved("out-of-pods", &["01-one"], "its pod failed: OutOfpods: ", ""),
    unproved("pull-backs-off", &["02-away"], PULLING, STATUS_503),
    unproved("pull-failed", &["02-away"], PULLING, STATUS_503),
    unproved("pulling", &["01-good", "02-slow"], PULLING, ""),
    proved("running"),
    proved("sidecar-not-ready"),
    unproved("too-many-pods", &["01-one"], "its pod has no room: 0/3 nodes are available: ", ""),
    unproved(
        "unschedulable",
        &["01-good", "02-away"],
        "its pod has no room: 0/3 nodes are available: 1 Insufficient cpu",
        "",
    ),
    unproved("wrong-node", &["01-good"], "its pod failed: NodeAffinity: ", ""),
];

const fn proved(name: &'static str) -> State {
    unproved(name, &[], "", "")
}

const fn unproved(
    name: &'static str,
    unproved: &'static [&'static str],
    waits_for: &'static str,
    failure: &'static str,
) -> State {
    State { name, unproved, waits_for, failure }
}

/// What was captured.
#[derive(Deserialize)]
struct Captured {
    pod: Pod,
    /// The names of the containers that its spec has.
    containers: BTreeMap<String, Container>,
    #[serde(default)]
    node: Value,
}

#[derive(Deserialize)]
struct Container {
    /// By the node's containerd.
    held: bool,
    proved: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evidence")
}

fn raw(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn captured(name: &str) -> Captured {
    serde_json::from_value(raw(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

/// A node by this name that lacks the images of all containers that the program has put there.
fn lacking(captured: &Captured, name: &str) -> (Lacking, BTreeMap<String, usize>) {
    let ours = captured.containers.keys().filter(|it| it.starts_with(|c: char| c.is_ascii_digit()));
    let places: BTreeMap<_, _> = ours.cloned().zip(0..).collect();
    let images = places.values().map(|&it| (it, Presence::Absent)).collect();
    let text = |field| captured.node["metadata"][field].as_str().unwrap_or_default().to_owned();
    let created = text("creationTimestamp");
    (Lacking { name: name.into(), uid: text("uid"), created, images }, places)
}

#[test]
fn every_state_that_was_captured_is_in_the_table() {
    let files = fs::read_dir(folder()).unwrap().map(|it| it.unwrap().path());
    let names = files.filter(|it| it.extension().is_some_and(|it| it == "json"));
    let names: BTreeSet<_> =
        names.map(|it| it.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, STATES.iter().map(|it| it.name.to_owned()).collect());
}

/// The rule of proof errs on one side alone. What a pod showed of the machine before looks like
/// proof by itself, and [`evidence_of_a_replaced_node_does_not_count`].
#[test]
fn what_is_proved_was_there() {
    let mut n_proved = 0;
    for state in &STATES {
        let captured = captured(state.name);
        let statuses = captured.pod.status.container_statuses.iter();
        let proved: BTreeSet<_> =
            statuses.filter(|it| it.proves_image()).map(|it| it.name.as_str()).collect();
        for (name, container) in &captured.containers {
            let is_proved = proved.contains(name.as_str());
            assert_eq!(is_proved, container.proved, "{}: {name}", state.name);
            assert!(
                container.held || !is_proved || state.name == "node-back",
                "{}: {name} was not there",
                state.name
            );
            n_proved += usize::from(is_proved);
        }
    }
    assert!(n_proved > 10, "{n_proved} containers prove an image");
}

#[test]
fn targets_make_of_it_what_they_should() {
    for State { name, unproved, waits_for, failure } in &STATES {
        let captured = captured(name);
        let node = captured.pod.node_name().or(captured.pod.meant_for()).expect("it has one");
        let (lacking, places) = lacking(&captured, node);
        let mut targets = Targets::new(&[lacking], places.clone());
        targets.observe_pod(&captured.pod);
        let target = &targets.nodes[node];

        let is_lacking = |it: &&str| target.lacking.contains(&places[*it]);
        let left: Vec<_> = places.keys().map(String::as_str).filter(is_lacking).collect();
        assert_eq!(&left, unproved, "{name}");
        let failures = target.failures.iter();
        let failures: Vec<_> = failures.map(|(item, it)| (*item, it.message.as_str())).collect();
        match (failures.as_slice(), failure.is_empty()) {
            ([], true) => {}
            ([(Item::Image(place), message)], false) => {
                assert_eq!(*place, places[unproved[0]], "{name}");
                // The error itself, not that the kubelet pauses after it.
                let is_it = message.contains(failure) && !message.contains("Back-off");
                assert!(is_it, "{name}: {message}");
            }
            _ => panic!("{name}: {failures:?}"),
        }
        if !unproved.is_empty() {
            assert!(
                target.waiting_for().starts_with(waits_for),
                "{name}: {}",
                target.waiting_for()
            );
        }
        let is_full = matches!(target.obstacle, Some(Obstacle::NoRoom(_)));
        assert_eq!(is_full, ["out-of-pods", "too-many-pods"].contains(name), "{name}");
    }
}

/// What a sidecar does is nobody's business: it is by the names of our containers that a pod
/// proves something.
#[test]
fn a_pod_with_a_sidecar_is_not_ready_and_proves_everything() {
    let Captured { pod, .. } = captured("sidecar-not-ready");
    let ready = pod.status.conditions.iter().find(|it| it.kind == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ContainersNotReady"));
}

/// A container that could not be made has no `imageID`.
#[test]
fn what_comes_after_the_pull_proves_the_image_by_its_reason_alone() {
    let Captured { pod, .. } = captured("create-container-error");
    let [_, broken] = pod.status.container_statuses.as_slice() else { panic!("there are two") };
    assert_eq!(broken.state.waiting.as_ref().unwrap().reason, "CreateContainerError");
    assert_eq!(broken.image_id, "");
    assert!(broken.proves_image());
    let unreasoned = ContainerStatus { state: ContainerState::default(), ..broken.clone() };
    assert!(!unreasoned.proves_image());
}

#[test]
fn evidence_of_a_replaced_node_does_not_count() {
    let (before, after) = (captured("node-gone"), captured("node-back"));
    assert_eq!(before.pod, after.pod, "it stays bound to the name");
    let node = before.pod.node_name().unwrap();
    let (old, places) = lacking(&before, node);
    let (new, _) = lacking(&after, node);
    assert!(after.containers.values().any(|it| it.proved && !it.held), "the disk is not empty");

    let mut targets = Targets::new(&[old], places);
    targets.observe_pod(&before.pod);
    assert_eq!(targets.n_lacking(), 0);

    assert_eq!(targets.add(&new), Added::Replaced);
    assert_eq!(targets.n_lacking(), 1);
    targets.observe_pod(&after.pod);
    assert_eq!((targets.n_lacking(), targets.has_older_pods_than.is_some()), (1, true));
    // So it takes pods of another puller, which is younger than the node.
    let created = &raw("node-back")["pod"]["metadata"]["creationTimestamp"];
    assert!(!targets.are_older_than(created.as_str().unwrap()), "{created}");
}

#[test]
fn a_silent_node_is_not_ready() {
    let Captured { node, .. } = captured("node-not-ready");
    let node: Node = serde_json::from_value(node).unwrap();
    assert_eq!(eligible(&node, &Placement::default()), Err(LeftOut::NotReady));
}

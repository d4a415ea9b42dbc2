//! Eligibility is the DaemonSet controller's, but for the differences that are documented.
//!
//! The controller tolerates some taints for every DaemonSet, and has no eyes for readiness and
//! cordons but through taints. With that in mind, the pods that it makes are compared with ours
//! node by node. No scheduler has a part in it: a pod says for which node it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prepull::cluster::Cluster;
use prepull::image::ImageRef;
use prepull::node::{self, Node, Placement, Toleration, eligible, with_defaults};
use prepull::puller::{Destination, Plan, manifest};
use prepull::settings::PullerSettings;
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::cluster::{Simulated, every};
use crate::command::until;
use crate::forms::{Decisions, forms_of_taint, parts};
use crate::placements::{Sent, random_node, random_placement, toleration};

/// The seed where none is given: one that is known to reach everything.
const SEED: u64 = 4;
const N_NODES: u64 = 300;
/// With `PREPULL_LONG_TESTS=1`, which is a minute and a half on two processors.
const ALL_PLACEMENTS: usize = 200;
const SOME_PLACEMENTS: usize = 80;
/// Pairs of a placement and a node that each form must have decided of all placements, in each
/// way that it can.
const ENOUGH: usize = 50;

/// Until the controller has made some twenty thousand pods.
const PLACING: Duration = Duration::from_secs(300);

const LABEL: &str = "simulated-test";
const LABELLED: &str = "simulated-test=eligibility";

/// What the controller tolerates for every DaemonSet.
///
/// Source: `AddOrUpdateDaemonPodTolerations` in `pkg/controller/daemon/util/daemonset_util.go`.
const AUTOMATIC: [(&str, &str); 6] = [
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

#[test]
fn the_controller_makes_pods_for_the_nodes_that_are_eligible() {
    let mut chance = Chance::from_environment(SEED);
    let nodes: Vec<_> = (0..N_NODES).map(|it| random_node(it, &mut chance)).collect();
    let n_placements = match std::env::var("PREPULL_LONG_TESTS").is_ok_and(|it| it == "1") {
        true => ALL_PLACEMENTS,
        false => SOME_PLACEMENTS,
    };
    let placements = random_placements(n_placements, &mut chance);
    let cluster = Simulated::take();
    let nodes = cluster.create_nodes(&nodes);

    let daemon_sets: Vec<_> = placements
        .iter()
        .enumerate()
        .map(|(number, (sent, placement))| daemon_set(number, *sent, placement))
        .collect();
    cluster.create(&daemon_sets);
    let placed = placed_by_the_controller(&cluster, n_placements);

    // Both sides have seen the same.
    assert_eq!(cluster.nodes(), nodes);
    let n_pods: usize = placed.values().map(BTreeSet::len).sum();
    println!("{n_placements} placements, {N_NODES} nodes, {n_pods} pods");
    let mut disagreements = vec![];
    let mut decisions = Decisions::default();
    for (number, (sent, placement)) in placements.iter().enumerate() {
        let placed = &placed[&name(number)];
        disagreements.extend(nodes.iter().filter_map(|node| {
            let cause = disagreement(node, placement, placed.contains(&node.metadata.name))?;
            Some(format!("{cause}: {sent:?} {placement:?} on {node:?}"))
        }));
        count(&mut decisions, &nodes, placement, placed);
    }
    let n_disagreements = disagreements.len();
    disagreements.truncate(5);
    assert_eq!(n_disagreements, 0, "such as {disagreements:#?}");
    decisions.check(ENOUGH * n_placements / ALL_PLACEMENTS);
}

fn random_placements(n: usize, chance: &mut Chance) -> Vec<(Sent, Placement)> {
    let placements = (0..n).map(|number| {
        let sent = [Sent::AsWritten, Sent::ByThePuller][number % 2];
        let placement = random_placement(sent, N_NODES, chance);
        // Nothing may be refused that the API server takes, which takes all of them.
        node::check(&placement).unwrap_or_else(|err| panic!("{err}: {placement:?}"));
        match sent {
            Sent::AsWritten => (sent, placement),
            Sent::ByThePuller => (sent, with_defaults(placement)),
        }
    });
    placements.collect()
}

fn name(number: usize) -> String {
    format!("d{number:03}")
}

/// A DaemonSet whose pods nobody schedules, since it is enough that they are made.
fn daemon_set(number: usize, sent: Sent, placement: &Placement) -> Value {
    let settings = PullerSettings {
        labels: BTreeMap::from([(LABEL.into(), "eligibility".into())]),
        ..PullerSettings::default()
    };
    let image = ImageRef::parse("q.io/nothing:1").expect("a reference");
    let puller = manifest(&Plan {
        name: name(number),
        release: "eligibility",
        run: "eligibility",
        owner: None,
        expires: String::new(),
        own_image: "q.io/nothing:1",
        images: vec![(0, &image, image.default_pull_policy())],
        placement,
        destination: Destination::Everywhere,
        settings: &settings,
    });
    let mut it = serde_json::to_value(&puller).expect("a manifest is JSON");
    let spec = &mut it["spec"]["template"]["spec"];
    let affinity = match sent {
        Sent::AsWritten => json!({"nodeAffinity": placement.affinity}),
        Sent::ByThePuller => spec["affinity"].clone(),
    };
    let selector = match sent {
        Sent::AsWritten => json!(placement.node_selector),
        Sent::ByThePuller => spec["nodeSelector"].clone(),
    };
    // Twenty thousand pods are better small.
    *spec = json!({
        "schedulerName": "nobody",
        "containers": [{"name": "none", "image": "q.io/nothing:1"}],
        "affinity": affinity,
        "nodeSelector": selector,
        "tolerations": spec["tolerations"],
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
    });
    it
}

/// DaemonSets to the nodes that pods were made for, once the controller has nothing left to do.
fn placed_by_the_controller(
    cluster: &Simulated,
    n_placements: usize,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut api = cluster.api();
    until("the pods of all DaemonSets", PLACING, || {
        let daemon_sets = every(|from| api.list_pullers(LABELLED, from));
        let unfinished = daemon_sets.iter().filter(|it| {
            let status = it.status;
            status.observed_generation != it.metadata.generation
                || status.current_number_scheduled != status.desired_number_scheduled
        });
        match (daemon_sets.len(), unfinished.count()) {
            (n, 0) if n == n_placements => {}
            (n, unfinished) => return Err(format!("{unfinished} unfinished DaemonSets of {n}")),
        }
        let mut placed: BTreeMap<_, BTreeSet<_>> =
            daemon_sets.iter().map(|it| (it.metadata.uid.as_str(), BTreeSet::new())).collect();
        for pod in every(|from| api.list_pods(LABELLED, from)) {
            let fields = pod.spec.affinity.terms().iter().flat_map(|it| &it.match_fields);
            let mut names = fields.flat_map(|it| it.values.iter().cloned());
            let owner = pod.metadata.owner_references.first().map(|it| it.uid.as_str());
            let placed = placed.get_mut(owner.unwrap_or_default()).expect("it is one of ours");
            assert!(placed.insert(names.next().expect("a field names the node")));
        }
        let placed = daemon_sets.iter().map(|it| {
            let placed = &placed[it.metadata.uid.as_str()];
            match placed.len() == it.status.desired_number_scheduled as usize {
                true => Ok((it.metadata.name.clone(), placed.clone())),
                false => Err(format!("{} pods of {}", placed.len(), it.metadata.name)),
            }
        });
        placed.collect()
    })
}

/// What is wrong with our answer, given the controller's.
fn disagreement(node: &Node, placement: &Placement, is_placed: bool) -> Option<&'static str> {
    if is_placed != would_place(node, placement) {
        return Some(match is_placed {
            true => "the controller places a pod, and we would not",
            false => "we would place a pod, and the controller does not",
        });
    }
    let is_eligible = eligible(node, placement).is_ok();
    let is_ready = status_of(node, "Ready") == "True" && !node.spec.unschedulable;
    let is_automatic = |key: &str, effect: &str| AUTOMATIC.contains(&(key, effect));
    let n_automatic =
        node.spec.taints.iter().filter(|it| is_automatic(&it.key, &it.effect)).count();
    if is_eligible && !is_placed {
        Some("a node is eligible, and the controller places no pod there")
    } else if is_eligible && !is_ready {
        Some("a node is eligible that is cordoned or not ready")
    } else if is_placed && !is_eligible && is_ready && n_automatic == 0 {
        Some("the controller places a pod on a node that is not eligible, for no reason of its own")
    } else {
        None
    }
}

/// Eligibility with the controller's eyes: with its own tolerations, and without any for readiness
/// and cordons.
fn would_place(node: &Node, placement: &Placement) -> bool {
    eligible(&as_seen(node), &with_automatic(placement.clone())).is_ok()
}

fn as_seen(node: &Node) -> Node {
    let mut node = node.clone();
    node.spec.unschedulable = false;
    for condition in &mut node.status.conditions {
        if condition.kind == "Ready" {
            condition.status = "True".into();
        }
    }
    node
}

fn with_automatic(mut placement: Placement) -> Placement {
    let automatic = AUTOMATIC.iter().map(|(key, effect)| toleration(key, "Exists", "", effect));
    placement.tolerations.extend(automatic.collect::<Vec<Toleration>>());
    placement
}

fn status_of<'a>(node: &'a Node, kind: &str) -> &'a str {
    let mut conditions = node.status.conditions.iter();
    conditions.find(|it| it.kind == kind).map_or("", |it| &it.status)
}

/// Counts what decided, by the controller's answer.
fn count(
    decisions: &mut Decisions,
    nodes: &[Node],
    placement: &Placement,
    placed: &BTreeSet<String>,
) {
    let seen: Vec<_> = nodes.iter().map(as_seen).collect();
    for part in parts(placement) {
        let [met, unmet] = [&part.met, &part.unmet].map(|it| with_automatic(it.clone()));
        for node in &seen {
            if eligible(node, &met).is_ok() != eligible(node, &unmet).is_ok() {
                let is_placed = placed.contains(&node.metadata.name);
                part.forms(node).into_iter().for_each(|form| decisions.count(form, is_placed));
            }
        }
    }
    let automatic = with_automatic(placement.clone());
    for node in &seen {
        let is_placed = placed.contains(&node.metadata.name);
        for (i, taint) in node.spec.taints.iter().enumerate() {
            let mut without = node.clone();
            without.spec.taints.remove(i);
            if is_placed || eligible(&without, &automatic).is_ok() {
                forms_of_taint(taint).into_iter().for_each(|form| decisions.count(form, is_placed));
            }
        }
    }
}

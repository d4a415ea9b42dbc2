//! Nodes and placements made by chance, with everything in them that the API server takes.

use std::collections::BTreeMap;

use prepull::node::{
    ControlPlane, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Placement,
    Taint, Toleration,
};

use crate::chance::Chance;
use crate::node::SimulatedNode;

/// The label that every simulated node has.
pub const EVERYWHERE: &str = "kubernetes.io/os";

/// Labels and their values. `cores` is the one to compare; not all of its values are numbers that
/// fit 64 bits.
const LABELS: [(&str, &[&str]); 4] = [
    ("cores", &["2", "4", "4", "6", "8", "8", "16", "08", "many", "4.5", "9223372036854775808"]),
    ("pool", &["", "", "cpu", "gpu"]),
    ("tier", &["", "", "back", "front"]),
    ("zone", &["a", "b", "c"]),
];
/// Those with values more often: they have more forms.
const OPERATORS: [&str; 14] = [
    "DoesNotExist",
    "DoesNotExist",
    "Exists",
    "Exists",
    "Gt",
    "Gt",
    "Gt",
    "In",
    "In",
    "Lt",
    "Lt",
    "Lt",
    "NotIn",
    "NotIn",
];
/// What cores are compared with; not all of it can be.
const BOUNDS: [&str; 12] =
    ["3", "4", "4", "6", "8", "8", "08", "10", "", "4.5", "few", "9223372036854775808"];

/// Taints and their values. The level is the one to compare; the last two of its values are no
/// numbers to a toleration.
const TAINTS: [(&str, &[&str]); 4] = [
    ("dedicated", &["gpu", "web", ""]),
    (LEVEL, &["1", "5", "9", "05", "high"]),
    ("maintenance", &["", "now"]),
    (CONTROL_PLANE, &[""]),
];
/// What levels are compared with: the API server takes only numbers here.
const LEVELS: [&str; 4] = ["-1", "5", "5", "12"];
/// Taints that the node lifecycle controller makes, one of which the DaemonSet controller
/// tolerates with this effect and not with another.
const CONTROLLERS_TAINTS: [&str; 4] = [
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
const LEVEL: &str = "level";
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// The first one more often, because tolerations for some time are for it alone.
const EFFECTS: [&str; 4] = ["NoExecute", "NoExecute", "NoSchedule", "PreferNoSchedule"];

/// How a placement becomes the pod spec of a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sent {
    /// In the fields of the same names.
    AsWritten,
    /// As a puller has it: nodeSelector and `controlPlane` are expressions of its affinity.
    ByThePuller,
}

pub fn random_node(number: u64, chance: &mut Chance) -> SimulatedNode {
    let mut node = SimulatedNode::new(format!("n{number:03}"));
    for (key, values) in LABELS {
        if chance.percent(75) {
            node.labels.insert(key.into(), chance.pick(values).into());
        }
    }
    for (key, value, likelihood) in
        [(EVERYWHERE, "windows", 5), ("type", "virtual-kubelet", 5), (CONTROL_PLANE, "", 8)]
    {
        if chance.percent(likelihood) {
            node.labels.insert(key.into(), value.into());
        }
    }
    for (key, values) in TAINTS {
        let likelihood = if key == LEVEL { 35 } else { 15 };
        if chance.percent(likelihood) {
            node.taints.push(taint(key, chance.pick(values), chance.pick(&EFFECTS)));
        }
    }
    if chance.percent(5) {
        // Of the controller's making is only the one with the effect NoSchedule.
        node.taints.push(taint("node.kubernetes.io/disk-pressure", "", "NoExecute"));
    }
    for kind in ["DiskPressure", "MemoryPressure", "NetworkUnavailable", "PIDPressure"] {
        if chance.percent(5) {
            node.conditions.insert(kind.into(), "True".into());
        }
    }
    match chance.below(100) {
        0..5 => _ = node.conditions.insert("Ready".into(), "False".into()),
        5..10 => _ = node.conditions.insert("Ready".into(), "Unknown".into()),
        _ => {}
    }
    node.unschedulable = chance.percent(10);
    node
}

fn taint(key: &str, value: &str, effect: &str) -> Taint {
    Taint { key: key.into(), value: value.into(), effect: effect.into() }
}

/// A placement about a few things at a time: where everything is asked for at once, nothing is
/// left for any one thing to decide.
pub fn random_placement(sent: Sent, n_nodes: u64, chance: &mut Chance) -> Placement {
    let mut placement = Placement::default();
    match chance.below(20) {
        0..9 => placement.affinity = Some(random_affinity(n_nodes, chance)),
        9..16 => placement.tolerations = random_tolerations(chance),
        16 => placement.node_selector = random_selector(chance),
        17 => placement.affinity = Some(named_nodes(n_nodes, chance)),
        _ => {
            placement.affinity = Some(random_affinity(n_nodes, chance));
            placement.node_selector = random_selector(chance);
            placement.tolerations = random_tolerations(chance);
        }
    }
    // A toleration of everything gives the other parts the say, on all nodes.
    if placement.tolerations.is_empty() && chance.percent(50) {
        placement.tolerations.push(toleration("", "Exists", "", ""));
    }
    if sent == Sent::ByThePuller && chance.percent(30) {
        placement.control_plane = ControlPlane::Exclude;
    }
    placement
}

fn random_selector(chance: &mut Chance) -> BTreeMap<String, String> {
    let n_entries = 1 + chance.below(2);
    let entries = (0..n_entries).map(|_| {
        let (key, values) = chance.pick(&LABELS);
        (key.to_owned(), chance.pick(values).to_owned())
    });
    entries.collect()
}

fn required(terms: Vec<NodeSelectorTerm>) -> NodeAffinity {
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: terms,
        }),
    }
}

fn random_affinity(n_nodes: u64, chance: &mut Chance) -> NodeAffinity {
    let n_terms = 1 + chance.below(3);
    let terms = (0..n_terms).map(|_| match chance.percent(10) {
        true => NodeSelectorTerm::default(),
        false => random_term(n_nodes, chance),
    });
    required(terms.collect())
}

fn random_term(n_nodes: u64, chance: &mut Chance) -> NodeSelectorTerm {
    let [n_expressions, n_fields] = match chance.below(8) {
        0 => [0, 1 + chance.below(40)],
        1 => [1, 1 + chance.below(40)],
        _ => [1 + chance.below(3), 0],
    };
    NodeSelectorTerm {
        match_expressions: (0..n_expressions).map(|_| random_expression(chance)).collect(),
        match_fields: (0..n_fields).map(|_| not_this_node(n_nodes, chance)).collect(),
    }
}

fn random_expression(chance: &mut Chance) -> NodeSelectorRequirement {
    let operator = chance.pick(&OPERATORS);
    let (key, values) = match operator {
        "Gt" | "Lt" => LABELS[0],
        _ => chance.pick(&LABELS),
    };
    let values = match operator {
        "Gt" | "Lt" => vec![chance.pick(&BOUNDS)],
        "In" | "NotIn" => (0..1 + chance.below(3)).map(|_| chance.pick(values)).collect(),
        _ => vec![],
    };
    requirement(key, operator, &values)
}

pub fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values: values.iter().map(|it| (*it).to_owned()).collect(),
    }
}

fn not_this_node(n_nodes: u64, chance: &mut Chance) -> NodeSelectorRequirement {
    requirement("metadata.name", "NotIn", &[&format!("n{:03}", chance.below(n_nodes))])
}

/// What a puller is sent by: one term for each of some nodes.
fn named_nodes(n_nodes: u64, chance: &mut Chance) -> NodeAffinity {
    let n_terms = 20 + chance.below(40);
    let terms = (0..n_terms).map(|_| {
        let name = format!("n{:03}", chance.below(n_nodes));
        let match_expressions = match chance.percent(20) {
            true => vec![random_expression(chance)],
            false => vec![],
        };
        let match_fields = vec![requirement("metadata.name", "In", &[&name])];
        NodeSelectorTerm { match_expressions, match_fields }
    });
    required(terms.collect())
}

fn random_tolerations(chance: &mut Chance) -> Vec<Toleration> {
    (0..2 + chance.below(6)).map(|_| random_toleration(chance)).collect()
}

fn random_toleration(chance: &mut Chance) -> Toleration {
    let effect = match chance.percent(40) {
        true => "",
        false => chance.pick(&EFFECTS),
    };
    let operator = chance.pick(&["", "Equal", "Exists", "Gt", "Lt"]);
    let mut it = match operator {
        "Exists" if chance.percent(20) => toleration("", "Exists", "", effect),
        "Exists" if chance.percent(20) => {
            toleration(chance.pick(&CONTROLLERS_TAINTS), "Exists", "", effect)
        }
        "Exists" => toleration(chance.pick(&TAINTS).0, "Exists", "", effect),
        "Gt" | "Lt" => toleration(LEVEL, operator, chance.pick(&LEVELS), effect),
        _ => {
            let (key, values) = chance.pick(&TAINTS);
            toleration(key, operator, chance.pick(values), effect)
        }
    };
    // The API server takes seconds with this effect alone.
    if effect == "NoExecute" && chance.percent(50) {
        it.toleration_seconds = Some(chance.pick(&[0, 300]));
    }
    it
}

pub fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
    Toleration {
        key: key.into(),
        operator: operator.into(),
        value: value.into(),
        effect: effect.into(),
        toleration_seconds: None,
    }
}

//! What decided: the parts of a placement and the taints of a node, by their forms.
//!
//! A part decides about a placement on a node if the answer would change with the part alone:
//! with a requirement that is met against one that is not, a toleration that tolerates everything
//! against none, a taint that nothing tolerates against none at all.

use std::collections::BTreeMap;

use prepull::node::{
    ControlPlane, Node, NodeSelectorRequirement, NodeSelectorTerm, Placement, Taint, Toleration,
};

use crate::placements::{EVERYWHERE, requirement, toleration};
use Ways::{Against, Both, For};

/// The ways in which a form can decide about a pod on a node.
#[derive(Clone, Copy, PartialEq)]
enum Ways {
    Against,
    Both,
    For,
}

/// Everything that a pod spec and a node may say to decide, and the ways that it can.
const FORMS: [(&str, Ways); 55] = [
    ("nodeSelector", Both),
    ("In", Both),
    ("In, label absent", Against),
    ("In, empty value", Both),
    ("NotIn", Both),
    ("NotIn, label absent", For),
    ("NotIn, empty value", Both),
    ("Exists", Both),
    ("Exists, empty label", For),
    ("DoesNotExist", Both),
    ("DoesNotExist, empty label", Against),
    ("Gt", Both),
    ("Gt, equal", Against),
    ("Gt, label absent", Against),
    ("Gt, label no integer", Against),
    ("Gt, value no integer", Against),
    ("Lt", Both),
    ("Lt, equal", Against),
    ("Lt, label absent", Against),
    ("Lt, label no integer", Against),
    ("Lt, value no integer", Against),
    ("matchFields In", Both),
    ("matchFields NotIn", Both),
    ("empty term", Against),
    ("controlPlane: exclude", Against),
    ("toleration Equal", Both),
    ("toleration Exists", Both),
    ("toleration without operator", Both),
    ("toleration Gt", Both),
    ("toleration Gt, equal", Against),
    ("toleration Gt, taint no integer", Against),
    ("toleration Lt", Both),
    ("toleration Lt, equal", Against),
    ("toleration Lt, taint no integer", Against),
    ("toleration of every key", Both),
    ("toleration of every effect", Both),
    ("toleration of NoExecute", Both),
    ("toleration of NoSchedule", Both),
    ("toleration of PreferNoSchedule", Against),
    ("toleration of an empty value", Both),
    ("tolerationSeconds", Both),
    ("taint NoExecute", Both),
    ("taint NoSchedule", Both),
    ("taint PreferNoSchedule", For),
    ("taint without value", Both),
    ("node.kubernetes.io/disk-pressure:NoExecute", Both),
    ("node.kubernetes.io/disk-pressure:NoSchedule", For),
    ("node.kubernetes.io/memory-pressure:NoSchedule", For),
    ("node.kubernetes.io/network-unavailable:NoSchedule", Both),
    ("node.kubernetes.io/not-ready:NoExecute", For),
    ("node.kubernetes.io/not-ready:NoSchedule", Both),
    ("node.kubernetes.io/pid-pressure:NoSchedule", For),
    ("node.kubernetes.io/unreachable:NoExecute", For),
    ("node.kubernetes.io/unreachable:NoSchedule", Both),
    ("node.kubernetes.io/unschedulable:NoSchedule", For),
];

/// How often each form decided for a pod, and how often against it.
#[derive(Default)]
pub struct Decisions(BTreeMap<String, [usize; 2]>);

impl Decisions {
    pub fn count(&mut self, form: String, is_placed: bool) {
        self.0.entry(form).or_default()[usize::from(!is_placed)] += 1;
    }

    /// Prints every form, and fails unless each decided often enough, each way that it can.
    pub fn check(&self, enough: usize) {
        let mut rare = vec![];
        for (form, ways) in FORMS {
            let [placed, not_placed] = self.0.get(form).copied().unwrap_or_default();
            println!("{form:<50} for {placed:>6}, against {not_placed:>6}");
            if ways != Against && placed < enough || ways != For && not_placed < enough {
                rare.push(form);
            }
            assert!(ways != Against || placed == 0, "{form} never decides for a pod");
        }
        assert!(rare.is_empty(), "these decided fewer than {enough} pairs each way: {rare:?}");
        let unknown = self.0.keys().filter(|it| FORMS.iter().all(|(form, _)| form != it));
        let unknown: Vec<_> = unknown.collect();
        assert!(unknown.is_empty(), "these decided, and are in no list: {unknown:?}");
    }
}

/// A part of a placement, and what the placement would be with the part decided one way and the
/// other.
pub struct Part {
    kind: Kind,
    pub met: Placement,
    pub unmet: Placement,
}

enum Kind {
    ControlPlane,
    EmptyTerm,
    Expression(NodeSelectorRequirement),
    Field(NodeSelectorRequirement),
    NodeSelector,
    Toleration(Toleration),
}

pub fn parts(placement: &Placement) -> Vec<Part> {
    let mut parts = vec![];
    let mut add = |kind, met: &dyn Fn(&mut Placement), unmet: &dyn Fn(&mut Placement)| {
        let mut part = Part { kind, met: placement.clone(), unmet: placement.clone() };
        met(&mut part.met);
        unmet(&mut part.unmet);
        parts.push(part);
    };
    for key in placement.node_selector.keys() {
        add(Kind::NodeSelector, &|it| _ = it.node_selector.remove(key), &|it| {
            _ = it.node_selector.insert(key.clone(), "nobody-has-this".into());
        });
    }
    let terms = placement.required().map(|it| it.node_selector_terms.as_slice());
    for (t, term) in terms.unwrap_or_default().iter().enumerate() {
        let expressions = &term.match_expressions;
        if expressions.is_empty() && term.match_fields.is_empty() {
            let met = requirement(EVERYWHERE, "Exists", &[]);
            add(
                Kind::EmptyTerm,
                &|it| terms_of(it)[t].match_expressions.push(met.clone()),
                &|_| {},
            );
        }
        for (e, expression) in expressions.iter().enumerate() {
            let set = |operator: &'static str| {
                move |it: &mut Placement| {
                    terms_of(it)[t].match_expressions[e] = requirement(EVERYWHERE, operator, &[]);
                }
            };
            add(Kind::Expression(expression.clone()), &set("Exists"), &set("DoesNotExist"));
        }
        for (f, field) in term.match_fields.iter().enumerate() {
            let set = |operator: &'static str| {
                move |it: &mut Placement| {
                    let nobody = requirement("metadata.name", operator, &["nobody-is-called-this"]);
                    terms_of(it)[t].match_fields[f] = nobody;
                }
            };
            add(Kind::Field(field.clone()), &set("NotIn"), &set("In"));
        }
    }
    for (i, it) in placement.tolerations.iter().enumerate() {
        add(
            Kind::Toleration(it.clone()),
            &|it| it.tolerations[i] = toleration("", "Exists", "", ""),
            &|it| _ = it.tolerations.remove(i),
        );
    }
    if placement.control_plane == ControlPlane::Exclude {
        add(Kind::ControlPlane, &|it| it.control_plane = ControlPlane::Include, &|_| {});
    }
    parts
}

fn terms_of(placement: &mut Placement) -> &mut Vec<NodeSelectorTerm> {
    let affinity = placement.affinity.as_mut().expect("the part is of one");
    let required = affinity.required_during_scheduling_ignored_during_execution.as_mut();
    &mut required.expect("the part is of one").node_selector_terms
}

impl Part {
    /// The forms of the part, as it meets this node.
    pub fn forms(&self, node: &Node) -> Vec<String> {
        match &self.kind {
            Kind::ControlPlane => vec!["controlPlane: exclude".into()],
            Kind::EmptyTerm => vec!["empty term".into()],
            Kind::Expression(it) => forms_of_expression(it, node),
            Kind::Field(it) => vec![format!("matchFields {}", it.operator)],
            Kind::NodeSelector => vec!["nodeSelector".into()],
            Kind::Toleration(it) => forms_of_toleration(it, node),
        }
    }
}

fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn is_integer(text: &str) -> bool {
    integer(text).is_some()
}

fn forms_of_expression(it: &NodeSelectorRequirement, node: &Node) -> Vec<String> {
    let operator = &it.operator;
    let label = node.metadata.labels.get(&it.key);
    let says = |what: &str| vec![format!("{operator}, {what}")];
    match (operator.as_str(), label) {
        ("Gt" | "Lt", _) if !is_integer(&it.values[0]) => says("value no integer"),
        ("Gt" | "In" | "Lt" | "NotIn", None) => says("label absent"),
        ("Gt" | "Lt", Some(label)) if !is_integer(label) => says("label no integer"),
        ("Gt" | "Lt", Some(label)) if integer(label) == integer(&it.values[0]) => says("equal"),
        ("In" | "NotIn", Some(_)) if it.values.iter().any(String::is_empty) => says("empty value"),
        ("DoesNotExist" | "Exists", Some(label)) if label.is_empty() => says("empty label"),
        _ => vec![operator.clone()],
    }
}

/// None where the toleration is of another key than the node's taints.
fn forms_of_toleration(it: &Toleration, node: &Node) -> Vec<String> {
    let taints = &node.spec.taints;
    let mut about = taints.iter().filter(|taint| it.key.is_empty() || it.key == taint.key);
    let Some(taint) = about.next() else { return vec![] };
    let operator = match it.operator.as_str() {
        "" => "toleration without operator".into(),
        // A number with a leading zero is none here, as the API server would say of one of ours.
        operator @ ("Gt" | "Lt") if !is_integer(&taint.value) || taint.value.starts_with('0') => {
            format!("toleration {operator}, taint no integer")
        }
        operator @ ("Gt" | "Lt") if taint.value == it.value => {
            format!("toleration {operator}, equal")
        }
        operator => format!("toleration {operator}"),
    };
    let effect = match it.effect.as_str() {
        "" => "toleration of every effect".into(),
        effect => format!("toleration of {effect}"),
    };
    let mut forms = vec![operator, effect];
    if it.key.is_empty() {
        forms.push("toleration of every key".into());
    }
    if it.value.is_empty() && it.operator != "Exists" {
        forms.push("toleration of an empty value".into());
    }
    if it.toleration_seconds.is_some() {
        forms.push("tolerationSeconds".into());
    }
    forms
}

/// The forms of a taint.
pub fn forms_of_taint(taint: &Taint) -> Vec<String> {
    let Taint { key, value, effect } = taint;
    if key.starts_with("node.kubernetes.io/") {
        return vec![format!("{key}:{effect}")];
    }
    let mut forms = vec![format!("taint {effect}")];
    if value.is_empty() && effect != "PreferNoSchedule" {
        forms.push("taint without value".into());
    }
    forms
}

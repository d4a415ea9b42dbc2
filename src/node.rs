//! Which nodes may run the release: readiness, cordons, selectors, affinity and taints.
//!
//! The rules are those of the DaemonSet controller (`NodeShouldRunDaemonPod` in
//! `pkg/controller/daemon/daemon_controller.go`) with the *user's* tolerations only: the
//! controller adds tolerations of its own, which let a DaemonSet onto nodes that no workload
//! will be scheduled to.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// The label every kubelet sets to the operating system of its node.
///
/// Source: <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-os>
const OS_LABEL: &str = "kubernetes.io/os";

/// The label that marks a control-plane node. The one before it, `node-role.kubernetes.io/master`,
/// is set by no version since 1.24, and to ask for it makes the API server warn.
///
/// Source: `GetWarningsForNodeSelectorTerm` in `pkg/api/node/util.go`.
const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// What the node lifecycle controller makes of a node's readiness.
///
/// Source: `TaintNodeNotReady` and `TaintNodeUnreachable` in `api/core/v1/well_known_taints.go`.
const READINESS_TAINTS: [&str; 2] =
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Source: `LabelValueMaxLength` in `apimachinery/pkg/util/validation/validation.go`.
const LONGEST_LABEL_VALUE: usize = 63;

/// The part of a Node object that decides whether images must be on it, and which are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Node {
    pub metadata: NodeMetadata,
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

/// Who a node is, and what selectors go by.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeMetadata {
    pub creation_timestamp: String,
    pub name: String,
    pub uid: String,
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
}

/// What keeps pods off a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct NodeSpec {
    pub unschedulable: bool,
    #[serde(deserialize_with = "null_as_default")]
    pub taints: Vec<Taint>,
}

/// What the kubelet says of its node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<NodeCondition>,
    #[serde(deserialize_with = "null_as_default")]
    pub images: Vec<NodeImage>,
    pub node_info: NodeInfo,
}

/// One of a node's conditions, of which `Ready` decides.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct NodeCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

/// One entry of `node.status.images`: one image under all its names, at most five of them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct NodeImage {
    #[serde(deserialize_with = "null_as_default")]
    pub names: Vec<String>,
}

/// The software of a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeInfo {
    pub container_runtime_version: String,
}

/// Go clients may write `null` for an empty list or map.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Node {
    fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|it| it.kind == "Ready" && it.status == "True")
    }
}

/// A node taint.
///
/// Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

/// Where the pods of a group may go, in the words of a pod spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    pub node_selector: BTreeMap<String, String>,
    pub affinity: Option<NodeAffinity>,
    pub tolerations: Vec<Toleration>,
    pub control_plane: ControlPlane,
}

impl Placement {
    /// The required part of the affinity.
    pub fn required(&self) -> Option<&NodeSelector> {
        self.affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
    }

    /// The label that a node must not have.
    pub fn excluded_label(&self) -> Option<&'static str> {
        match self.control_plane {
            ControlPlane::Exclude => Some(CONTROL_PLANE_LABEL),
            ControlPlane::Include => None,
        }
    }
}

/// Whether nodes that carry the control-plane label count as nodes of the release.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum ControlPlane {
    Exclude,
    /// Taints alone decide, as they do for the release's own pods.
    #[default]
    Include,
}

/// A pod's node affinity, of which only the required part decides.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeAffinity {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
}

/// An affinity as an object of the cluster has it. Other parts than the one that is read, such as
/// preferences that an admission webhook added, are no fault.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct FoundAffinity {
    node_affinity: Option<FoundNodeAffinity>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct FoundNodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
}

impl FoundAffinity {
    /// The alternatives of the required part.
    pub fn terms(&self) -> &[NodeSelectorTerm] {
        self.node_affinity
            .as_ref()
            .and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref())
            .map(|it| it.node_selector_terms.as_slice())
            .unwrap_or_default()
    }
}

/// Alternatives: a node matches when it matches one term.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeSelector {
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

/// A node matches a term when it meets every requirement of it; an empty term matches nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeSelectorTerm {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<NodeSelectorRequirement>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_fields: Vec<NodeSelectorRequirement>,
}

/// One comparison with a label or a field of a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSelectorRequirement {
    pub key: String,
    pub operator: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Which taints a pod bears, in the words of a pod spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Toleration {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operator: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub effect: String,
    /// Has no say in eligibility: it only bounds how long a pod stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// The one reason under which a node is left out. The order is the order of the checks, from the
/// user's own choice of nodes to the state a node happens to be in.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LeftOut {
    Selector,
    ControlPlane,
    Affinity,
    Cordoned,
    NotReady,
    Tainted(String),
}

impl LeftOut {
    /// Whether it may be no more than that the node was not heard of for a while.
    pub fn may_be_for_want_of_news(&self) -> bool {
        match self {
            Self::NotReady => true,
            Self::Tainted(key) => READINESS_TAINTS.contains(&key.as_str()),
            _ => false,
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Affinity => f.write_str("affinity does not match"),
            Self::ControlPlane => f.write_str("control plane"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::NotReady => f.write_str("not ready"),
            Self::Selector => f.write_str("node selector does not match"),
            Self::Tainted(key) => write!(f, "taint `{key}` is not tolerated"),
        }
    }
}

/// Says whether pods placed so may start on the node, or why not.
///
/// Cordons and readiness are asked before taints, because the node lifecycle controller turns
/// both into taints whose keys would say less to a reader.
pub fn eligible(node: &Node, placement: &Placement) -> Result<(), LeftOut> {
    let labels = &node.metadata.labels;
    if placement.node_selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        return Err(LeftOut::Selector);
    }
    if placement.excluded_label().is_some_and(|it| labels.contains_key(it)) {
        return Err(LeftOut::ControlPlane);
    }
    if let Some(selector) = placement.required()
        && !selector.node_selector_terms.iter().any(|it| term_matches(it, node))
    {
        return Err(LeftOut::Affinity);
    }
    if node.spec.unschedulable {
        return Err(LeftOut::Cordoned);
    }
    if !node.is_ready() {
        return Err(LeftOut::NotReady);
    }
    let repelling = node.spec.taints.iter().find(|taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && !placement.tolerations.iter().any(|it| tolerates(it, taint))
    });
    match repelling {
        Some(taint) => Err(LeftOut::Tainted(taint.key.clone())),
        None => Ok(()),
    }
}

/// Adds what holds for every placement: our own binary needs Linux, and without an affinity of
/// the user's, nodes that no kubelet with an image store stands behind are left out.
///
/// Sources: the label `type=virtual-kubelet` of the virtual-kubelet project, and
/// `eks.amazonaws.com/compute-type=fargate` of Amazon EKS. A DaemonSet's pod on either stays
/// Pending for ever.
pub fn with_defaults(mut placement: Placement) -> Placement {
    placement.node_selector.entry(OS_LABEL.into()).or_insert_with(|| "linux".into());
    if placement.affinity.is_none() {
        let not_in = |key: &str, value: &str| NodeSelectorRequirement {
            key: key.into(),
            operator: "NotIn".into(),
            values: vec![value.into()],
        };
        let term = NodeSelectorTerm {
            match_expressions: vec![
                not_in("type", "virtual-kubelet"),
                not_in("eks.amazonaws.com/compute-type", "fargate"),
            ],
            match_fields: vec![],
        };
        placement.affinity = Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
        });
    }
    placement
}

/// Finds what the API server would refuse, or what would quietly match nothing: an unknown
/// operator or effect, and values that do not fit their operator.
///
/// Source: `ValidateNodeSelectorRequirement` and `ValidateTolerations` in
/// `pkg/apis/core/validation/validation.go`.
pub fn check(placement: &Placement) -> Result<(), String> {
    let terms = placement.required().map(|it| it.node_selector_terms.as_slice());
    for term in terms.unwrap_or_default() {
        for it in term.match_expressions.iter().chain(&term.match_fields) {
            let fits = match it.operator.as_str() {
                "In" | "NotIn" => !it.values.is_empty(),
                "DoesNotExist" | "Exists" => it.values.is_empty(),
                "Gt" | "Lt" => it.values.len() == 1,
                other => {
                    return Err(format!(
                        "operator `{other}` of key `{}` is unknown: use In, NotIn, Exists, \
                         DoesNotExist, Gt or Lt",
                        it.key
                    ));
                }
            };
            if !fits {
                return Err(format!(
                    "operator `{}` of key `{}` does not go with {} values",
                    it.operator,
                    it.key,
                    it.values.len()
                ));
            }
        }
    }
    for it in &placement.tolerations {
        if !matches!(it.operator.as_str(), "" | "Equal" | "Exists" | "Gt" | "Lt") {
            return Err(format!(
                "operator `{}` of a toleration is unknown: use Equal or Exists",
                it.operator
            ));
        }
        if !matches!(it.effect.as_str(), "" | "NoExecute" | "NoSchedule" | "PreferNoSchedule") {
            return Err(format!(
                "effect `{}` of a toleration is unknown: use NoSchedule, PreferNoSchedule or \
                 NoExecute",
                it.effect
            ));
        }
        if it.key.is_empty() && it.operator != "Exists" {
            return Err("a toleration without a key needs the operator `Exists`".into());
        }
    }
    Ok(())
}

/// Source: `LazyErrorNodeSelector.Match` in `component-helpers/scheduling/corev1/nodeaffinity`.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    if term.match_expressions.is_empty() && term.match_fields.is_empty() {
        return false;
    }
    // What can not be parsed spoils the whole term, also where a NotIn of it would be met. API
    // servers take such values no more, but older ones did.
    if !term.match_expressions.iter().flat_map(|it| &it.values).all(|it| is_label_value(it)) {
        return false;
    }
    term.match_expressions.iter().all(|it| expression_matches(it, node))
        && term.match_fields.iter().all(|it| field_matches(it, node))
}

/// Source: `Requirement.Matches` in `apimachinery/pkg/labels/selector.go`.
fn expression_matches(requirement: &NodeSelectorRequirement, node: &Node) -> bool {
    let label = node.metadata.labels.get(&requirement.key);
    let values = &requirement.values;
    match requirement.operator.as_str() {
        "DoesNotExist" => label.is_none(),
        "Exists" => label.is_some(),
        "Gt" => compare(label, values).is_some_and(|(label, value)| label > value),
        "In" => label.is_some_and(|it| values.contains(it)),
        "Lt" => compare(label, values).is_some_and(|(label, value)| label < value),
        "NotIn" => label.is_none_or(|it| !values.contains(it)),
        _ => false,
    }
}

/// Source: `IsValidLabelValue` in `apimachinery/pkg/util/validation/validation.go`.
fn is_label_value(text: &str) -> bool {
    let is_inner = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_');
    let is_outer = |it: Option<&u8>| it.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LONGEST_LABEL_VALUE
        && is_outer(bytes.first())
        && is_outer(bytes.last())
        && bytes.iter().all(|it| is_inner(*it))
}

fn compare(label: Option<&String>, values: &[String]) -> Option<(i64, i64)> {
    let [value] = values else { return None };
    Some((label?.parse().ok()?, value.parse().ok()?))
}

/// Source: `nodeSelectorRequirementsAsFieldSelector` in the same package: one value, and only
/// the field `metadata.name` is known of a node.
fn field_matches(requirement: &NodeSelectorRequirement, node: &Node) -> bool {
    let [value] = requirement.values.as_slice() else { return false };
    if requirement.key != "metadata.name" {
        return false;
    }
    match requirement.operator.as_str() {
        "In" => *value == node.metadata.name,
        "NotIn" => *value != node.metadata.name,
        _ => false,
    }
}

/// Source: `Toleration.ToleratesTaint` in `staging/src/k8s.io/api/core/v1/toleration.go`.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    if !toleration.effect.is_empty() && toleration.effect != taint.effect {
        return false;
    }
    if !toleration.key.is_empty() && toleration.key != taint.key {
        return false;
    }
    match toleration.operator.as_str() {
        "" | "Equal" => toleration.value == taint.value,
        "Exists" => true,
        "Gt" => numbers(taint, toleration).is_some_and(|(taint, bound)| taint > bound),
        "Lt" => numbers(taint, toleration).is_some_and(|(taint, bound)| taint < bound),
        _ => false,
    }
}

fn numbers(taint: &Taint, toleration: &Toleration) -> Option<(i64, i64)> {
    Some((decimal(&taint.value)?, decimal(&toleration.value)?))
}

/// A number in the one form that it has: without a plus sign, without leading zeros. Labels are
/// compared with less rigour.
///
/// Source: `IsDecimalInteger` in `apimachinery/pkg/api/validate/content/decimal_int.go`.
fn decimal(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, labels: &[(&str, &str)]) -> Node {
        let mut node = Node::default();
        node.metadata.name = name.into();
        node.metadata.labels =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        node.status.conditions =
            vec![NodeCondition { kind: "Ready".into(), status: "True".into() }];
        node
    }

    fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
        NodeSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: values.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    fn terms(terms: Vec<NodeSelectorTerm>) -> Placement {
        let selector = NodeSelector { node_selector_terms: terms };
        Placement {
            affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(selector),
            }),
            ..Placement::default()
        }
    }

    fn expressions(requirements: Vec<NodeSelectorRequirement>) -> NodeSelectorTerm {
        NodeSelectorTerm { match_expressions: requirements, match_fields: vec![] }
    }

    #[test]
    fn every_operator_decides() {
        let node = node("n1", &[("zone", "a"), ("cores", "8"), ("word", "x")]);
        for (key, operator, values, matches) in [
            ("zone", "In", &["a", "b"][..], true),
            ("zone", "In", &["b"], false),
            ("none", "In", &["a"], false),
            ("zone", "NotIn", &["b"], true),
            ("zone", "NotIn", &["a"], false),
            ("none", "NotIn", &["a"], true),
            ("zone", "Exists", &[], true),
            ("none", "Exists", &[], false),
            ("zone", "DoesNotExist", &[], false),
            ("none", "DoesNotExist", &[], true),
            ("cores", "Gt", &["7"], true),
            ("cores", "Gt", &["8"], false),
            ("cores", "Lt", &["9"], true),
            ("cores", "Lt", &["8"], false),
            ("none", "Lt", &["8"], false),
            ("word", "Gt", &["1"], false),
            ("cores", "Gt", &["x"], false),
            ("cores", "Gt", &["07"], true),
            ("cores", "Lt", &["9223372036854775808"], false),
            ("cores", "Gt", &["-1"], false),
            ("none", "NotIn", &["not a value"], false),
            ("none", "NotIn", &["b", "-b"], false),
            ("none", "NotIn", &["b."], false),
            ("none", "NotIn", &[""], true),
            ("none", "NotIn", &["B.b_b-b"], true),
            ("none", "NotIn", &[&"b".repeat(63)], true),
            ("none", "NotIn", &[&"b".repeat(64)], false),
            ("cores", "Gt", &["1", "2"], false),
            ("zone", "Near", &["a"], false),
        ] {
            let placement = terms(vec![expressions(vec![requirement(key, operator, values)])]);
            let found = eligible(&node, &placement).is_ok();
            assert_eq!(found, matches, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn terms_are_alternatives_and_requirements_are_not() {
        let node = node("n1", &[("a", "1")]);
        let yes = || requirement("a", "Exists", &[]);
        let no = || requirement("b", "Exists", &[]);
        assert!(
            eligible(&node, &terms(vec![expressions(vec![no()]), expressions(vec![yes()])]))
                .is_ok()
        );
        for refused in [
            terms(vec![expressions(vec![yes(), no()])]),
            terms(vec![NodeSelectorTerm::default()]),
            terms(vec![]),
        ] {
            assert_eq!(eligible(&node, &refused), Err(LeftOut::Affinity));
        }
    }

    #[test]
    fn fields_match_the_name_alone() {
        let node = node("n1", &[]);
        let fields = |key: &str, operator: &str, values: &[&str]| {
            terms(vec![NodeSelectorTerm {
                match_expressions: vec![],
                match_fields: vec![requirement(key, operator, values)],
            }])
        };
        assert!(eligible(&node, &fields("metadata.name", "In", &["n1"])).is_ok());
        assert!(eligible(&node, &fields("metadata.name", "NotIn", &["n2"])).is_ok());
        for refused in [
            fields("metadata.name", "In", &["n2"]),
            fields("metadata.name", "NotIn", &["n1"]),
            fields("metadata.name", "In", &["n1", "n2"]),
            fields("metadata.name", "Exists", &["n1"]),
            fields("metadata.uid", "In", &["n1"]),
        ] {
            assert!(eligible(&node, &refused).is_err());
        }
    }

    #[test]
    fn taints_repel_unless_they_are_tolerated() {
        let taint = |key: &str, value: &str, effect: &str| Taint {
            key: key.into(),
            value: value.into(),
            effect: effect.into(),
        };
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
            key: key.into(),
            operator: operator.into(),
            value: value.into(),
            effect: effect.into(),
            toleration_seconds: None,
        };
        let gpu = || taint("gpu", "yes", "NoSchedule");
        for (taint, toleration, tolerated) in [
            (gpu(), toleration("other", "Exists", "", ""), false),
            (gpu(), toleration("gpu", "Exists", "", ""), true),
            (gpu(), toleration("gpu", "Exists", "", "NoSchedule"), true),
            (gpu(), toleration("gpu", "Exists", "", "NoExecute"), false),
            (gpu(), toleration("gpu", "", "yes", ""), true),
            (gpu(), toleration("gpu", "Equal", "no", ""), false),
            (gpu(), toleration("", "Exists", "", ""), true),
            (gpu(), toleration("gpu", "Near", "yes", ""), false),
            (taint("n", "5", "NoExecute"), toleration("n", "Gt", "4", ""), true),
            (taint("n", "5", "NoExecute"), toleration("n", "Gt", "5", ""), false),
            (taint("n", "5", "NoExecute"), toleration("n", "Lt", "6", ""), true),
            (taint("n", "x", "NoExecute"), toleration("n", "Lt", "6", ""), false),
            (taint("n", "05", "NoExecute"), toleration("n", "Lt", "6", ""), false),
            (taint("n", "05", "NoExecute"), toleration("n", "Gt", "4", ""), false),
            (taint("n", "5", "NoExecute"), toleration("n", "Gt", "+4", ""), false),
            (taint("n", "5", "NoExecute"), toleration("n", "Gt", "-4", ""), true),
            (taint("n", "0", "NoExecute"), toleration("n", "Gt", "-0", ""), false),
            (taint("p", "", "PreferNoSchedule"), toleration("other", "Exists", "", ""), true),
        ] {
            let mut node = node("n1", &[]);
            node.spec.taints = vec![taint.clone()];
            let placement =
                Placement { tolerations: vec![toleration.clone()], ..Default::default() };
            let found = eligible(&node, &placement);
            assert_eq!(found.is_ok(), tolerated, "{taint:?} {toleration:?}");
            if let Err(reason) = found {
                assert_eq!(reason, LeftOut::Tainted(taint.key));
            }
        }
    }

    #[test]
    fn a_node_is_left_out_for_what_a_reader_would_name_first() {
        let mut it = node("n1", &[]);
        it.spec.taints = vec![Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            value: String::new(),
            effect: "NoSchedule".into(),
        }];
        it.spec.unschedulable = true;
        assert_eq!(eligible(&it, &Placement::default()), Err(LeftOut::Cordoned));
        it.spec.unschedulable = false;
        it.status.conditions[0].status = "Unknown".into();
        assert_eq!(eligible(&it, &Placement::default()), Err(LeftOut::NotReady));
        it.status.conditions.clear();
        assert_eq!(eligible(&it, &Placement::default()), Err(LeftOut::NotReady));
        let picky = Placement {
            node_selector: BTreeMap::from([("a".into(), "b".into())]),
            ..Placement::default()
        };
        assert_eq!(eligible(&it, &picky), Err(LeftOut::Selector));
    }

    #[test]
    fn control_plane_nodes_can_be_excluded() {
        let node = node("n1", &[("node-role.kubernetes.io/control-plane", "")]);
        assert!(eligible(&node, &Placement::default()).is_ok());
        let excluded = Placement { control_plane: ControlPlane::Exclude, ..Placement::default() };
        assert_eq!(eligible(&node, &excluded), Err(LeftOut::ControlPlane));
    }

    #[test]
    fn defaults_ask_for_linux_and_for_real_kubelets() {
        let linux = [("kubernetes.io/os", "linux")];
        let placement = with_defaults(Placement::default());
        assert!(eligible(&node("n1", &linux), &placement).is_ok());
        for other in [
            &[("kubernetes.io/os", "windows")][..],
            &[],
            &[linux[0], ("type", "virtual-kubelet")],
            &[linux[0], ("eks.amazonaws.com/compute-type", "fargate")],
        ] {
            assert!(eligible(&node("n1", other), &placement).is_err(), "{other:?}");
        }
        let own = terms(vec![expressions(vec![requirement("type", "Exists", &[])])]);
        let virtual_node = node("n1", &[linux[0], ("type", "virtual-kubelet")]);
        assert!(eligible(&virtual_node, &with_defaults(own)).is_ok());
    }
}

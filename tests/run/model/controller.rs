//! DaemonSets and their controller.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prepull::evidence::{PodCondition, PodStatus};
use prepull::node::{FoundAffinity, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};
use prepull::puller::{EXPIRES_ANNOTATION, Puller, PullerStatus};
use serde::Deserialize;
use serde_json::{Value, json};

use super::kubelet::{Container, Stage};
use super::steps::step_of_set;
use super::{Admission, ModelNode, ModelPod, World};

/// Pods that can not be made are tried again after so long, and then after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Where the alternatives of the required node affinity stand in a DaemonSet.
pub const NODE_SELECTOR_TERMS: &str = "/spec/template/spec/affinity/nodeAffinity/\
                                       requiredDuringSchedulingIgnoredDuringExecution/\
                                       nodeSelectorTerms";

/// A DaemonSet.
#[derive(Clone, Debug)]
pub struct Set {
    pub object: Value,
    pub numbers: Numbers,
    pub sync_at: Option<Duration>,
    /// What the object says, read once for each change of it.
    read: Rc<Read>,
    /// How often in a row its pods were refused.
    n_refused: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    observed_generation: i64,
    desired: u32,
    current: u32,
    ready: u32,
}

#[derive(Debug, Default)]
struct Read {
    /// The object as a client has it, but for its status.
    puller: Puller,
    tolerations: Vec<Toleration>,
    /// The nodes that it names, if it names them all.
    names: Option<BTreeSet<String>>,
    containers: Vec<Container>,
    labels: Rc<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Template {
    metadata: TemplateMetadata,
    spec: TemplateSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateMetadata {
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TemplateSpec {
    init_containers: Vec<TemplateContainer>,
    containers: Vec<TemplateContainer>,
    tolerations: Vec<Toleration>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TemplateContainer {
    name: String,
    image: String,
    image_pull_policy: String,
}

impl World {
    pub fn sync_soon(&mut self) {
        let soon = self.now + self.pace.controller;
        for set in self.sets.values_mut() {
            set.sync_at = Some(set.sync_at.map_or(soon, |it| it.min(soon)));
        }
    }

    pub fn sync(&mut self, name: &str) {
        let Some(mut set) = self.sets.remove(name) else { return };
        set.sync_at = None;
        if set.object["metadata"]["deletionTimestamp"].is_string() {
            self.sets.insert(name.into(), set);
            return;
        }
        let mut pods: BTreeMap<&str, &ModelPod> = BTreeMap::new();
        let is_there = |it: &&ModelPod| !(it.ends && it.is_terminal());
        for pod in self.pods.values().filter(|it| it.set == set.uid()).filter(is_there) {
            // Of several on a node the oldest one that is not being deleted counts.
            let known = pods.entry(&pod.node).or_insert(pod);
            if known.ends {
                *known = pod;
            }
        }
        let mut numbers = Numbers { observed_generation: set.generation(), ..Numbers::default() };
        let mut leave = BTreeSet::new();
        let mut need = vec![];
        for node in self.nodes.values() {
            let pod = pods.get(node.name.as_str()).copied();
            if !set.goes_to(node) {
                leave.extend(pod.map(|it| it.uid.clone()));
                continue;
            }
            // A pod stays on a node that it would not be made for any more.
            let may_start = set.tolerates(node, "NoSchedule");
            numbers.desired += u32::from(may_start);
            match pod {
                Some(pod) if may_start => {
                    numbers.current += 1;
                    numbers.ready += u32::from(pod.is_ready());
                }
                Some(_) => {}
                None if may_start => need.push(node.name.clone()),
                None => {}
            }
        }
        let before = self.steps.is_some().then(|| set.puller());
        set.numbers = numbers;
        before.into_iter().for_each(|it| self.note_numbers(&it, &set.puller()));
        self.end_pods(|it| leave.contains(&it.uid));
        match self.refuses_pods {
            _ if need.is_empty() => {}
            Some(words) => {
                let retry = FIRST_RETRY.saturating_mul(1 << set.n_refused.min(10));
                set.sync_at = Some(self.now + retry.min(LONGEST_RETRY));
                set.n_refused += 1;
                self.refuse_pod(&set, words);
            }
            None => {
                set.n_refused = 0;
                set.sync_at = Some(self.now + self.pace.controller);
                for node in need {
                    let pod = self.new_pod(&set, &node);
                    self.pods.insert(pod.uid.clone(), pod);
                }
            }
        }
        self.sets.insert(name.into(), set);
    }

    /// Keeps what the numbers of a DaemonSet show now and have not shown before.
    pub(super) fn note_numbers(&mut self, before: &Puller, after: &Puller) {
        self.steps.iter_mut().for_each(|it| it.extend(step_of_set(before, after)));
    }

    /// Changes every DaemonSet, as somebody who is no run.
    pub(super) fn edit_sets(&mut self, change: impl Fn(&mut Set)) {
        for name in self.sets.keys().cloned().collect::<Vec<_>>() {
            let set = self.sets.get_mut(&name).expect("just named");
            let before = set.puller();
            change(set);
            let after = set.puller();
            self.note_numbers(&before, &after);
        }
    }

    fn refuse_pod(&mut self, set: &Set, words: &str) {
        let message = format!("Error creating: pods \"{}-\" is forbidden: {words}", set.name());
        self.event("DaemonSet", set.uid(), "", "FailedCreate", message);
    }

    fn new_pod(&mut self, set: &Set, node: &str) -> ModelPod {
        let uid = self.uid();
        let mut containers = set.read.containers.clone();
        for admission in &self.admission {
            match admission {
                Admission::RewritePods(from, to) => {
                    if containers.iter().any(|it| it.image.contains(from)) {
                        self.noted.insert(admission.name());
                    }
                    containers.iter_mut().for_each(|it| it.image = it.image.replace(from, to));
                }
                Admission::Sidecar(name) => {
                    self.noted.insert(admission.name());
                    let image = "q.io/sidecar:1".into();
                    containers.push(Container {
                        name: (*name).into(),
                        image,
                        ..Container::default()
                    });
                }
                _ => {}
            }
        }
        let start = self.now + self.pace.start + Duration::from_millis(self.chance(100));
        let machine = &self.nodes[node];
        let mut pod = ModelPod {
            name: format!("{}-{}", set.name(), &uid[4..]),
            uid,
            set: set.uid().into(),
            labels: Rc::clone(&set.read.labels),
            created: self.wall() + self.pace.ahead,
            node: node.into(),
            affinity: affinity_to(node),
            is_bound: false,
            is_initialised: false,
            ends: false,
            containers,
            stage: Stage::Look(0),
            next: None,
            published: PodStatus { phase: "Pending".into(), ..PodStatus::default() },
        };
        if machine.has_room {
            pod.bind(start);
        } else {
            pod.published.conditions = vec![PodCondition {
                kind: "PodScheduled".into(),
                status: "False".into(),
                reason: "Unschedulable".into(),
                message: format!("0/3 nodes are available: {}", machine.lack),
            }];
        }
        pod
    }
}

impl Set {
    pub fn new(object: Value, sync_at: Duration) -> Self {
        let mut set = Self {
            object,
            numbers: Numbers::default(),
            sync_at: Some(sync_at),
            read: Rc::default(),
            n_refused: 0,
        };
        set.read_anew();
        set
    }

    pub fn name(&self) -> &str {
        &self.read.puller.metadata.name
    }

    pub fn uid(&self) -> &str {
        &self.read.puller.metadata.uid
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.read.puller.metadata.labels
    }

    /// When others may remove it.
    pub fn expires(&self) -> Option<SystemTime> {
        let expires = self.read.puller.metadata.annotations.get(EXPIRES_ANNOTATION)?;
        humantime::parse_rfc3339_weak(expires).ok()
    }

    /// The uid of the object that owns it.
    pub fn owner(&self) -> Option<&str> {
        self.object["metadata"]["ownerReferences"][0]["uid"].as_str()
    }

    fn generation(&self) -> i64 {
        self.read.puller.metadata.generation
    }

    /// The required node affinity of its pods.
    pub fn terms(&self) -> Vec<Value> {
        match self.object.pointer(NODE_SELECTOR_TERMS) {
            Some(Value::Array(terms)) => terms.clone(),
            _ => vec![],
        }
    }

    /// The images of its regular containers.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.read.containers.iter().filter(|it| !it.is_init).map(|it| it.image.as_str())
    }

    /// Changes it as a client would.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.object);
        self.object["metadata"]["generation"] = (self.generation() + 1).into();
        self.read_anew();
    }

    /// Takes the node out of those that it names.
    pub fn leave_out(&mut self, node: &str) {
        self.edit(|it| {
            let Some(Value::Array(terms)) = it.pointer_mut(NODE_SELECTOR_TERMS) else { return };
            terms.retain(|it| it["matchFields"][0]["values"][0] != node);
            if terms.is_empty() {
                // A list of terms must not be empty; an empty term matches nothing.
                terms.push(json!({}));
            }
        });
    }

    fn read_anew(&mut self) {
        let template = Template::deserialize(&self.object["spec"]["template"]).unwrap_or_default();
        let container = |it: TemplateContainer, is_init| Container {
            name: it.name,
            image: it.image,
            is_init,
            always_pull: it.image_pull_policy == "Always",
            never_pull: it.image_pull_policy == "Never",
            ..Container::default()
        };
        let init = template.spec.init_containers.into_iter().map(|it| container(it, true));
        let regular = template.spec.containers.into_iter().map(|it| container(it, false));
        let containers = init.chain(regular).collect();
        let puller = Puller::deserialize(&self.object).expect("a DaemonSet can be read as one");
        let terms = puller.spec.template.spec.affinity.terms();
        let name = |it: &NodeSelectorTerm| match it.match_fields.as_slice() {
            [field] if it.match_expressions.is_empty() => field.values.first().cloned(),
            _ => None,
        };
        self.read = Rc::new(Read {
            names: terms.iter().map(name).collect(),
            puller,
            tolerations: template.spec.tolerations,
            containers,
            labels: Rc::new(template.metadata.labels),
        });
    }

    /// Whether pods that run may run on there.
    pub fn goes_to(&self, node: &ModelNode) -> bool {
        let is_meant = match &self.read.names {
            Some(names) => names.contains(&node.name),
            None => {
                let mut terms = self.read.puller.spec.template.spec.affinity.terms().iter();
                terms.any(|it| term_matches(it, node))
            }
        };
        is_meant && self.tolerates(node, "NoExecute")
    }

    /// Whether the user's tolerations and those of the DaemonSet controller cover every taint of
    /// this effect.
    pub fn tolerates(&self, node: &ModelNode, effect: &str) -> bool {
        let automatic = match effect {
            "NoExecute" => &["not-ready", "unreachable"][..],
            _ => &["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"],
        };
        let is_automatic = |key: &str| {
            key.strip_prefix("node.kubernetes.io/").is_some_and(|it| automatic.contains(&it))
        };
        let is_tolerated = |taint: &Taint| {
            is_automatic(&taint.key)
                || self.read.tolerations.iter().any(|it| {
                    (it.key.is_empty() || it.key == taint.key)
                        && (it.effect.is_empty() || it.effect == taint.effect)
                        && (it.operator == "Exists" || it.value == taint.value)
                })
        };
        if node.taints.is_empty() && node.ready && !node.cordoned {
            return true;
        }
        node.all_taints().iter().filter(|it| it.effect == effect).all(is_tolerated)
    }

    pub fn puller(&self) -> Puller {
        let mut puller = self.read.puller.clone();
        if let Some(time) = self.object["metadata"]["deletionTimestamp"].as_str() {
            puller.metadata.deletion_timestamp = time.into();
        }
        puller.status = PullerStatus {
            observed_generation: self.numbers.observed_generation,
            desired_number_scheduled: self.numbers.desired,
            current_number_scheduled: self.numbers.current,
            number_ready: self.numbers.ready,
        };
        puller
    }
}

/// As the DaemonSet controller writes it into a pod that is for this node.
fn affinity_to(node: &str) -> FoundAffinity {
    serde_json::from_value(json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        ]}
    }}))
    .expect("an affinity can be read as one")
}

fn term_matches(term: &NodeSelectorTerm, node: &ModelNode) -> bool {
    let expression = |it: &NodeSelectorRequirement| {
        let label = node.labels.get(&it.key);
        match it.operator.as_str() {
            "DoesNotExist" => label.is_none(),
            "Exists" => label.is_some(),
            "In" => label.is_some_and(|value| it.values.contains(value)),
            "NotIn" => label.is_none_or(|value| !it.values.contains(value)),
            other => panic!("the model knows no operator `{other}`"),
        }
    };
    let (expressions, fields) = (&term.match_expressions, &term.match_fields);
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(expression)
        && fields.iter().all(|it| it.key == "metadata.name" && it.values.contains(&node.name))
}

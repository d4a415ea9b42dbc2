//! DaemonSets and their controller.

use std::time::Duration;

use prepull::evidence::{PodCondition, PodStatus};
use prepull::node::Taint;
use prepull::puller::Puller;
use serde_json::{Value, json};

use super::kubelet::{Container, Inside, Stage};
use super::{Admission, ModelNode, ModelPod, World};

/// A DaemonSet.
#[derive(Clone, Debug)]
pub struct Set {
    pub object: Value,
    pub numbers: Numbers,
    pub sync_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    observed_generation: i64,
    desired: u32,
    current: u32,
    ready: u32,
}

impl World {
    pub fn sync_soon(&mut self) {
        let soon = self.now + self.pace.controller;
        for set in self.sets.values_mut() {
            set.sync_at = Some(set.sync_at.map_or(soon, |it| it.min(soon)));
        }
    }

    pub fn sync(&mut self, name: &str) {
        let mut set = self.sets.remove(name).expect("just found");
        set.sync_at = None;
        if set.object["metadata"]["deletionTimestamp"].is_string() {
            self.sets.insert(name.into(), set);
            return;
        }
        let uid = set.uid().to_owned();
        let mut numbers = Numbers {
            observed_generation: set.object["metadata"]["generation"].as_i64().unwrap_or_default(),
            ..Numbers::default()
        };
        let mut leave = vec![];
        let mut need = vec![];
        for node in self.nodes.values() {
            let pod = self.pods.values().find(|it| it.set == uid && it.node == node.name);
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
        set.numbers = numbers;
        self.drop_pods(|it| leave.contains(&it.uid));
        for node in need {
            let pod = self.new_pod(&set, &node);
            self.pods.insert(pod.uid.clone(), pod);
            set.sync_at = Some(self.now + self.pace.controller);
        }
        self.sets.insert(name.into(), set);
    }

    fn new_pod(&mut self, set: &Set, node: &str) -> ModelPod {
        let template = &set.object["spec"]["template"];
        let uid = self.uid();
        let list = |key: &str| template["spec"][key].as_array().cloned().unwrap_or_default();
        let container = |it: &Value, is_init| Container {
            name: it["name"].as_str().unwrap_or_default().into(),
            image: it["image"].as_str().unwrap_or_default().into(),
            is_init,
            always_pull: it["imagePullPolicy"] == "Always",
            state: Inside::New,
        };
        let mut containers: Vec<_> =
            list("initContainers").iter().map(|it| container(it, true)).collect();
        containers.extend(list("containers").iter().map(|it| container(it, false)));
        for admission in &self.admission {
            if let Admission::Sidecar(name) = admission {
                let (name, image) = ((*name).into(), "q.io/sidecar:1".into());
                let state = Inside::New;
                let always_pull = false;
                containers.push(Container { name, image, is_init: false, always_pull, state });
            }
        }
        let jitter = self.chance(100);
        let mut pod = ModelPod {
            name: format!("{}-{}", set.name(), &uid[4..]),
            uid,
            set: set.uid().into(),
            labels: template["metadata"]["labels"].clone(),
            node: node.into(),
            is_bound: self.nodes[node].has_room,
            is_initialised: false,
            containers,
            stage: Stage::Look(0),
            next: None,
            published: PodStatus { phase: "Pending".into(), ..PodStatus::default() },
        };
        if pod.is_bound {
            pod.next = Some(self.now + self.pace.start + Duration::from_millis(jitter));
        } else {
            pod.published.conditions = vec![PodCondition {
                kind: "PodScheduled".into(),
                status: "False".into(),
                reason: "Unschedulable".into(),
                message: format!("0/3 nodes are available: {}", self.nodes[node].lack),
            }];
        }
        pod
    }
}

impl Set {
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// The required node affinity of its pods.
    pub fn terms(&self) -> Vec<Value> {
        let affinity = &self.object["spec"]["template"]["spec"]["affinity"]["nodeAffinity"];
        let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
        required["nodeSelectorTerms"].as_array().cloned().unwrap_or_default()
    }

    /// The images of its regular containers.
    pub fn images(&self) -> Vec<String> {
        let containers = self.object["spec"]["template"]["spec"]["containers"].as_array();
        let image = |it: &Value| it["image"].as_str().unwrap_or_default().to_owned();
        containers.into_iter().flatten().map(image).collect()
    }

    /// Changes it as a client would.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.object);
        let generation = self.object["metadata"]["generation"].as_i64().unwrap_or_default();
        self.object["metadata"]["generation"] = (generation + 1).into();
    }

    /// Whether pods that run may run on there.
    pub fn goes_to(&self, node: &ModelNode) -> bool {
        self.terms().iter().any(|it| term_matches(it, node)) && self.tolerates(node, "NoExecute")
    }

    /// Whether the user's tolerations and those of the DaemonSet controller cover every taint of
    /// this effect.
    fn tolerates(&self, node: &ModelNode, effect: &str) -> bool {
        let automatic = match effect {
            "NoExecute" => &["not-ready", "unreachable"][..],
            _ => &["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"],
        };
        let tolerations = &self.object["spec"]["template"]["spec"]["tolerations"];
        let own = tolerations.as_array().cloned().unwrap_or_default();
        let is_tolerated = |taint: &Taint| {
            automatic.iter().any(|it| taint.key == format!("node.kubernetes.io/{it}"))
                || own.iter().any(|it| {
                    (it["key"].is_null() || it["key"] == taint.key.as_str())
                        && (it["effect"].is_null() || it["effect"] == taint.effect.as_str())
                        && (it["operator"] == "Exists" || it["value"] == taint.value.as_str())
                })
        };
        node.all_taints().iter().filter(|it| it.effect == effect).all(is_tolerated)
    }

    pub fn puller(&self) -> Puller {
        let mut object = self.object.clone();
        object["status"] = json!({
            "observedGeneration": self.numbers.observed_generation,
            "desiredNumberScheduled": self.numbers.desired,
            "currentNumberScheduled": self.numbers.current,
            "numberReady": self.numbers.ready,
        });
        serde_json::from_value(object).expect("a DaemonSet can be read as one")
    }
}

fn term_matches(term: &Value, node: &ModelNode) -> bool {
    let list = |key: &str| term[key].as_array().cloned().unwrap_or_default();
    let (expressions, fields) = (list("matchExpressions"), list("matchFields"));
    let label = |it: &Value| node.labels.get(it["key"].as_str().unwrap_or_default());
    let names = |it: &Value, value: &str| {
        it["values"].as_array().is_some_and(|values| values.iter().any(|it| it == value))
    };
    let expression = |it: &Value| match it["operator"].as_str().unwrap_or_default() {
        "DoesNotExist" => label(it).is_none(),
        "Exists" => label(it).is_some(),
        "In" => label(it).is_some_and(|value| names(it, value)),
        "NotIn" => label(it).is_none_or(|value| !names(it, value)),
        other => panic!("the model knows no operator `{other}`"),
    };
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(expression)
        && fields.iter().all(|it| it["key"] == "metadata.name" && names(it, &node.name))
}

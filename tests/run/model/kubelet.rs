//! Pods and their kubelets.

use std::collections::BTreeMap;
use std::time::Duration;

use prepull::evidence::{
    ContainerState, ContainerStatus, Event, EventMetadata, ObjectReference, Pod, PodMetadata,
    PodOwner, PodSpec, PodStatus, Running, Stopped,
};
use serde_json::{Value, json};

use super::{Stored, World};

/// The kubelet's first pause after a failed pull, and the longest one.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// A pod that failed is removed by the DaemonSet controller after so long, and made again.
const FAILED_POD_STAYS: Duration = Duration::from_secs(15);

/// What becomes of a pull.
#[derive(Clone, Debug)]
pub struct Pull {
    pub takes: Duration,
    /// The container runtime's words, if it fails.
    pub failure: Option<String>,
    /// What the container waits with after the pull in place of running.
    pub waits_with: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct ModelPod {
    pub name: String,
    pub uid: String,
    /// The uid of its DaemonSet.
    pub set: String,
    pub labels: Value,
    pub node: String,
    pub is_bound: bool,
    pub is_initialised: bool,
    pub containers: Vec<Container>,
    pub stage: Stage,
    pub next: Option<Duration>,
    /// What the API shows.
    pub published: PodStatus,
}

#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub is_init: bool,
    pub always_pull: bool,
    pub state: Inside,
}

/// What the kubelet knows of a container.
#[derive(Clone, Debug, PartialEq)]
pub enum Inside {
    Failing {
        message: String,
        n_tries: u32,
        retry_at: Duration,
        is_backing_off: bool,
    },
    New,
    /// Its image is on the node, and it was started.
    Started,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// In a pass, about to look at this container.
    Look(usize),
    Publish,
    Pulling(usize),
    Remove,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    Goes,
    Stays,
}

#[derive(Clone, Debug)]
pub struct ModelEvent {
    pub at: Duration,
    pub kind: &'static str,
    pub event: Event,
}

impl Pull {
    pub fn after(seconds: u64) -> Self {
        Self { takes: Duration::from_secs(seconds), failure: None, waits_with: None }
    }

    pub fn fails(message: &str) -> Self {
        let takes = Duration::from_millis(300);
        Self { takes, failure: Some(message.into()), waits_with: None }
    }
}

impl World {
    /// The next thing that the pod's kubelet does for it.
    pub fn step_pod(&mut self, pod: &mut ModelPod) -> Fate {
        let Some(node) = self.nodes.get(&pod.node) else { return Fate::Goes };
        if !node.ready {
            pod.next = Some(self.now + Duration::from_secs(1));
            return Fate::Stays;
        }
        match pod.stage {
            Stage::Look(from) => self.look(pod, from),
            Stage::Publish => {
                pod.publish(&self.registry);
                let wait = self.pace.sync.as_millis() as u64;
                let wait = Duration::from_millis(wait + self.chance(wait / 2 + 1));
                pod.next = pod.is_waiting().then_some(self.now + wait);
                pod.stage = Stage::Look(0);
                self.sync_soon();
            }
            Stage::Pulling(place) => self.end_pull(pod, place),
            Stage::Remove => {
                self.sync_soon();
                return Fate::Goes;
            }
        }
        Fate::Stays
    }

    /// Goes on with a pass over the pod's containers.
    fn look(&mut self, pod: &mut ModelPod, from: usize) {
        let now = self.now;
        let n_init = pod.containers.iter().filter(|it| it.is_init).count();
        // A pass that began with init containers ends with them.
        let (first, end) =
            if pod.is_initialised { (n_init, pod.containers.len()) } else { (0, n_init) };
        for place in from.max(first)..end {
            let container = &mut pod.containers[place];
            match &mut container.state {
                Inside::Started => continue,
                Inside::Failing { retry_at, is_backing_off, .. } if *retry_at > now => {
                    *is_backing_off = true;
                    if container.is_init {
                        break;
                    }
                    continue;
                }
                _ => {}
            }
            let node = self.nodes.get_mut(&pod.node).expect("looked up before");
            let is_there = node.holds(&container.image) && !container.always_pull;
            if is_there {
                container.state = Inside::Started;
                continue;
            }
            if node.busy_until > now {
                (pod.stage, pod.next) = (Stage::Look(place), Some(node.busy_until));
                return;
            }
            let takes = self.answer(&pod.node, &pod.containers[place].image).takes;
            self.node(&pod.node.clone()).busy_until = now + takes;
            (pod.stage, pod.next) = (Stage::Pulling(place), Some(now + takes));
            return;
        }
        let is_started = |it: &Container| it.state == Inside::Started;
        if !pod.is_initialised && pod.containers[..n_init].iter().all(is_started) {
            pod.is_initialised = true;
            pod.publish(&self.registry);
            (pod.stage, pod.next) = (Stage::Look(0), Some(now + self.pace.publish));
        } else {
            (pod.stage, pod.next) = (Stage::Publish, Some(now + self.pace.publish));
        }
    }

    /// What the registry has for this node.
    pub fn answer(&self, node: &str, image: &str) -> Pull {
        let own = self.registry_at.get(&(node.into(), image.into()));
        own.or_else(|| self.registry.get(image)).cloned().unwrap_or_else(|| Pull::after(1))
    }

    fn end_pull(&mut self, pod: &mut ModelPod, place: usize) {
        let now = self.now;
        let answer = self.answer(&pod.node, &pod.containers[place].image);
        let container = &mut pod.containers[place];
        pod.stage = Stage::Look(place + 1);
        pod.next = Some(now);
        let Some(failure) = answer.failure else {
            container.state = Inside::Started;
            let stored = Stored::new(&container.image, now + self.pace.listing);
            self.node(&pod.node.clone()).images.push(stored);
            return;
        };
        let n_tries = match container.state {
            Inside::Failing { n_tries, .. } => n_tries + 1,
            _ => 1,
        };
        let backoff = FIRST_BACKOFF.saturating_mul(1 << (n_tries - 1).min(5)).min(LONGEST_BACKOFF);
        let retry_at = now + backoff;
        let message = format!("Failed to pull image \"{}\": {failure}", container.image);
        container.state =
            Inside::Failing { message: failure, n_tries, retry_at, is_backing_off: false };
        if container.is_init {
            pod.stage = Stage::Publish;
            pod.next = Some(now + self.pace.publish);
        }
        let list = if container.is_init { "initContainers" } else { "containers" };
        let field_path = format!("spec.{list}{{{}}}", container.name);
        self.event(pod, &field_path, "Failed", message);
        self.event(pod, &field_path, "Failed", "Error: ErrImagePull".into());
    }

    /// Records a warning, or counts it once more.
    fn event(&mut self, pod: &ModelPod, field_path: &str, reason: &str, message: String) {
        let involved_object =
            ObjectReference { uid: pod.uid.clone(), field_path: field_path.into() };
        let metadata = EventMetadata { uid: format!("event-{}", self.events.len()) };
        let new = Event { metadata, involved_object, reason: reason.into(), message, count: 1 };
        let same = |it: &&mut ModelEvent| {
            it.event.involved_object == new.involved_object && it.event.message == new.message
        };
        match self.events.iter_mut().find(same) {
            Some(it) => it.event.count += 1,
            None => self.events.push(ModelEvent { at: self.now, kind: "Warning", event: new }),
        }
    }
}

impl ModelPod {
    fn is_waiting(&self) -> bool {
        self.containers.iter().any(|it| it.state != Inside::Started)
    }

    /// As the DaemonSet controller counts: an injected container never becomes ready.
    pub fn is_ready(&self) -> bool {
        let statuses = &self.published.container_statuses;
        !statuses.is_empty()
            && statuses.iter().all(|it| it.state.running.is_some() && it.image_id != "sidecar")
    }

    /// The kubelet of a new machine finds the pod bound to it, and nothing of it there.
    pub fn restart(&mut self, at: Duration) {
        self.containers.iter_mut().for_each(|it| it.state = Inside::New);
        self.is_initialised = false;
        (self.stage, self.next) = (Stage::Look(0), Some(at));
    }

    /// The kubelet ends the pod, and writes over what never started.
    pub fn evict(&mut self, now: Duration) {
        self.published = PodStatus {
            phase: "Failed".into(),
            reason: "Evicted".into(),
            message: "The node was low on resource: memory.".into(),
            ..PodStatus::default()
        };
        for container in &self.containers {
            let reason = match container.state {
                Inside::Started => "Error",
                _ => "ContainerStatusUnknown",
            };
            let stopped = Stopped { reason: reason.into(), message: String::new() };
            let state = ContainerState { terminated: Some(stopped), ..Default::default() };
            let status =
                ContainerStatus { name: container.name.clone(), image_id: String::new(), state };
            match container.is_init {
                false => self.published.container_statuses.push(status),
                true => self.published.init_container_statuses.push(status),
            }
        }
        (self.stage, self.next) = (Stage::Remove, Some(now + FAILED_POD_STAYS));
    }

    /// Writes the pod's status as the kubelet knows it now.
    fn publish(&mut self, registry: &BTreeMap<String, Pull>) {
        self.published.phase = if self.is_waiting() { "Pending" } else { "Running" }.into();
        let status = |it: &Container| {
            let waits_with = registry.get(&it.image).and_then(|it| it.waits_with);
            ContainerStatus {
                name: it.name.clone(),
                image_id: match (&it.state, waits_with) {
                    (Inside::Started, None) if it.image.contains("sidecar") => "sidecar".into(),
                    (Inside::Started, None) => "sha256:1".into(),
                    _ => String::new(),
                },
                state: it.shown(waits_with),
            }
        };
        let list = |is_init| {
            self.containers.iter().filter(move |it| it.is_init == is_init).map(status).collect()
        };
        (self.published.init_container_statuses, self.published.container_statuses) =
            (list(true), list(false));
    }

    pub fn object(&self) -> Pod {
        let owner = PodOwner { uid: self.set.clone(), controller: true };
        Pod {
            metadata: PodMetadata {
                name: self.name.clone(),
                uid: self.uid.clone(),
                owner_references: vec![owner],
            },
            spec: PodSpec {
                node_name: if self.is_bound { self.node.clone() } else { String::new() },
                // As the DaemonSet controller writes it.
                affinity: serde_json::from_value(json!({"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchFields": [
                            {"key": "metadata.name", "operator": "In", "values": [self.node]}
                        ]}
                    ]}
                }}))
                .expect("an affinity can be read as one"),
            },
            status: self.published.clone(),
        }
    }
}

impl Container {
    fn shown(&self, waits_with: Option<&str>) -> ContainerState {
        let stopped =
            |reason: &str, message: String| Some(Stopped { reason: reason.into(), message });
        let mut state = ContainerState::default();
        match (&self.state, waits_with) {
            (Inside::Failing { message, is_backing_off: false, .. }, _) => {
                state.waiting = stopped("ErrImagePull", message.clone());
            }
            (Inside::Failing { message, .. }, _) => {
                let text =
                    format!("Back-off pulling image \"{}\": ErrImagePull: {message}", self.image);
                state.waiting = stopped("ImagePullBackOff", text);
            }
            (Inside::New, _) => state.waiting = stopped("PodInitializing", String::new()),
            (Inside::Started, Some(reason)) => {
                state.waiting = stopped(reason, "the container does not start".into());
            }
            (Inside::Started, None) if self.is_init => {
                state.terminated = stopped("Completed", String::new());
            }
            (Inside::Started, None) => state.running = Some(Running {}),
        }
        state
    }
}

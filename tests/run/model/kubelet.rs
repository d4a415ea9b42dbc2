//! Pods and their kubelets.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prepull::evidence::{
    ContainerState, ContainerStatus, Event, EventMetadata, ObjectReference, Pod, PodContainer,
    PodMetadata, PodOwner, PodSpec, PodStatus, Running, Stopped,
};
use prepull::node::FoundAffinity;

use super::steps::{Growth, step_of_event};
use super::{Pulls, World, timestamp};

/// The kubelet's first pause after a failed pull, and the longest one.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// A pull that takes so long is one that nobody waits for.
const FOR_EVER: Duration = Duration::from_secs(1000);

/// The kubelet's reason for what it has lost sight of, or never started.
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

/// How a pull that the pull policy forbids is kept among those that failed.
pub const NEVER_PULLED: &str = "pull policy Never";

/// A pull that failed, as it was.
#[derive(Clone, Debug)]
pub struct FailedPull {
    pub at: Duration,
    pub node: String,
    pub image: String,
    /// What the runtime said.
    pub words: String,
}

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
    pub labels: Rc<BTreeMap<String, String>>,
    pub created: SystemTime,
    pub node: String,
    /// As the DaemonSet controller writes it: to this node alone.
    pub affinity: FoundAffinity,
    pub is_bound: bool,
    pub is_initialised: bool,
    /// Whether it is being deleted.
    pub ends: bool,
    pub containers: Vec<Container>,
    pub stage: Stage,
    pub next: Option<Duration>,
    /// What the API shows.
    pub published: PodStatus,
}

#[derive(Clone, Debug, Default)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub is_init: bool,
    pub always_pull: bool,
    pub never_pull: bool,
    pub state: Inside,
    /// What the image's tag stood for when its pull began.
    pub version: u32,
}

/// What the kubelet knows of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Inside {
    /// An init container that has done its work.
    Ended,
    Failing {
        message: String,
        n_tries: u32,
        retry_at: Duration,
        is_backing_off: bool,
    },
    #[default]
    New,
    /// Its image is not there, and may not be pulled.
    Refused {
        message: String,
    },
    /// Its image is on the node, and it was started.
    Started,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// It is being deleted, and what the kubelet knew of failed pulls is forgotten.
    Forget {
        removed_at: Duration,
    },
    /// The init containers run.
    Initialise,
    /// In a pass, about to look at this container.
    Look(usize),
    Publish,
    Pulling(usize),
    Remove,
    /// It is being deleted, and its containers have ended.
    Terminate {
        removed_at: Duration,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    Goes,
    Stays,
}

/// A pull that goes on whatever becomes of its pod.
pub struct PullUnderWay {
    pub image: String,
    pub ends: Duration,
}

#[derive(Clone, Debug)]
pub struct ModelEvent {
    pub at: Duration,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// The kind of the object that it is about.
    pub about: &'static str,
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
        // The garbage collector of pods, whose nodes are gone.
        let Some(node) = self.nodes.get(&pod.node) else { return Fate::Goes };
        // It takes no kubelet to remove a pod that has failed.
        let has_failed = pod.published.phase == "Failed";
        if node.is_dead() && !has_failed {
            pod.next = None;
            return Fate::Stays;
        }
        match pod.stage {
            Stage::Look(0) if !pod.ends && pod.is_new() && node.refuses.is_some() => {
                let reason = node.refuses.unwrap_or_default();
                pod.refuse(reason, self.now + self.pace.failed_pod);
                self.sync_soon();
            }
            Stage::Forget { removed_at } | Stage::Terminate { removed_at } => {
                if node.is_cut_off() {
                    pod.next = None;
                    return Fate::Stays;
                }
                pod.show_end();
                pod.next = Some(self.now + removed_at.saturating_sub(self.now) / 2);
                pod.stage = match pod.stage {
                    Stage::Forget { .. } => Stage::Terminate { removed_at },
                    _ => Stage::Remove,
                };
                self.sync_soon();
            }
            Stage::Initialise => {
                let init = pod.containers.iter_mut().filter(|it| it.is_init);
                init.for_each(|it| it.state = Inside::Ended);
                pod.is_initialised = true;
                if !node.is_cut_off() {
                    pod.publish(&self.registry);
                }
                (pod.stage, pod.next) = (Stage::Look(0), Some(self.now + self.pace.publish / 2));
            }
            Stage::Look(from) => {
                // The kubelet tells that it has the pod before it looks at any image.
                if pod.is_new() && !node.is_cut_off() {
                    pod.publish(&self.registry);
                }
                self.look(pod, from);
            }
            Stage::Publish if node.is_cut_off() => pod.next = None,
            Stage::Publish => {
                pod.publish(&self.registry);
                let wait = self.pace.sync.as_millis() as u64;
                let wait = Duration::from_millis(wait + self.chance(wait / 2 + 1));
                pod.next = pod.is_waiting().then_some(self.now + wait);
                pod.stage = Stage::Look(0);
                self.sync_soon();
            }
            Stage::Pulling(place) => self.end_pull(pod, place),
            // The API server is told when the containers have ended.
            Stage::Remove if node.is_cut_off() && !has_failed => pod.next = None,
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
                Inside::Ended | Inside::Started => continue,
                Inside::Failing { retry_at, is_backing_off, .. } if *retry_at > now => {
                    *is_backing_off = true;
                    let is_init = container.is_init;
                    self.warn(pod, place, "Failed", "Error: ImagePullBackOff".into());
                    if is_init {
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
            if container.never_pull {
                self.refuse_to_pull(pod, place);
                continue;
            }
            let node = self.nodes.get_mut(&pod.node).expect("looked up before");
            if node.pulls == Pulls::OneByOne && node.busy_until > now {
                (pod.stage, pod.next) = (Stage::Look(place), Some(node.busy_until));
                return;
            }
            if node.holds(&container.image) {
                self.noted.insert("pull policy: Always");
            }
            pod.containers[place].version = self.version(&pod.containers[place].image);
            let takes = self.answer(&pod.node, &pod.containers[place].image).takes;
            if takes >= FOR_EVER {
                self.noted.insert("pull: takes for ever");
            }
            let node = self.nodes.get_mut(&pod.node).expect("looked up before");
            node.busy_until = now + takes;
            (pod.stage, pod.next) = (Stage::Pulling(place), Some(now + takes));
            return;
        }
        if !pod.is_initialised && pod.containers[..n_init].iter().all(Container::is_started) {
            if !self.nodes[&pod.node].is_cut_off() {
                pod.publish(&self.registry);
            }
            (pod.stage, pod.next) = (Stage::Initialise, Some(now + self.pace.publish / 2));
        } else {
            (pod.stage, pod.next) = (Stage::Publish, Some(now + self.pace.publish));
        }
    }

    /// The image is not there, and must not be pulled.
    fn refuse_to_pull(&mut self, pod: &mut ModelPod, place: usize) {
        let container = &mut pod.containers[place];
        let image = &container.image;
        let message =
            format!("Container image \"{image}\" is not present with pull policy of Never");
        container.state = Inside::Refused { message: message.clone() };
        self.count_failure(pod, place, NEVER_PULLED);
        self.noted.insert("pull policy: Never");
        self.warn(pod, place, "ErrImageNeverPull", message);
        self.warn(pod, place, "Failed", "Error: ErrImageNeverPull".into());
    }

    /// The kubelet tells of a container, if it reaches the API server.
    fn warn(&mut self, pod: &ModelPod, place: usize, reason: &str, message: String) {
        if self.nodes[&pod.node].is_cut_off() {
            return;
        }
        let container = &pod.containers[place];
        let list = if container.is_init { "initContainers" } else { "containers" };
        let field_path = format!("spec.{list}{{{}}}", container.name);
        self.event("Pod", &pod.uid, &field_path, reason, message);
    }

    /// Keeps the truth about a failure.
    fn count_failure(&mut self, pod: &ModelPod, place: usize, words: &str) {
        self.failed.push(FailedPull {
            at: self.now,
            node: pod.node.clone(),
            image: pod.containers[place].image.clone(),
            words: words.into(),
        });
    }

    /// What the registry has for this node.
    pub fn answer(&self, node: &str, image: &str) -> Pull {
        let own = match self.registry_at.is_empty() {
            true => None,
            false => self.registry_at.get(&(node.into(), image.into())),
        };
        own.or_else(|| self.registry.get(image)).cloned().unwrap_or_else(|| Pull::after(1))
    }

    fn end_pull(&mut self, pod: &mut ModelPod, place: usize) {
        let now = self.now;
        let answer = self.answer(&pod.node, &pod.containers[place].image);
        let container = &mut pod.containers[place];
        pod.stage = Stage::Look(place + 1);
        pod.next = Some(now);
        let listed_at = now + self.pace.listing;
        let node = self.nodes.get_mut(&pod.node).expect("looked up before");
        let Some(failure) = answer.failure else {
            container.state = Inside::Started;
            node.store(&container.image, container.version, listed_at);
            self.last_change = now;
            return;
        };
        let image = container.image.clone();
        self.count_failure(pod, place, &failure);
        let container = &mut pod.containers[place];
        let n_tries = match container.state {
            Inside::Failing { n_tries, .. } => n_tries + 1,
            _ => 1,
        };
        let backoff = FIRST_BACKOFF.saturating_mul(1 << (n_tries - 1).min(5)).min(LONGEST_BACKOFF);
        let retry_at = now + backoff;
        let message = format!("Failed to pull image \"{image}\": {failure}");
        container.state =
            Inside::Failing { message: failure, n_tries, retry_at, is_backing_off: false };
        if container.is_init {
            pod.stage = Stage::Publish;
            pod.next = Some(now + self.pace.publish);
        }
        self.warn(pod, place, "Failed", message);
        self.warn(pod, place, "Failed", "Error: ErrImagePull".into());
    }

    /// Records a warning, or counts it once more.
    pub fn event(
        &mut self,
        about: &'static str,
        uid: &str,
        field_path: &str,
        reason: &str,
        message: String,
    ) {
        let involved_object = ObjectReference { uid: uid.into(), field_path: field_path.into() };
        let known = self.event_places.entry(uid.into()).or_default();
        let is_same = |it: &Event| it.involved_object == involved_object && it.message == message;
        let same = known.iter().copied().find(|it| is_same(&self.events[*it].event));
        if let Some(steps) = &mut self.steps {
            let again = if same.is_some() { Growth::Again } else { Growth::New };
            steps.insert(step_of_event(about, reason, &message, again));
        }
        if let Some(place) = same {
            self.events[place].event.count += 1;
            return;
        }
        known.push(self.events.len());
        let metadata = EventMetadata { uid: format!("event-{}", self.events.len()) };
        let event = Event { metadata, involved_object, reason: reason.into(), message, count: 1 };
        self.events.push(ModelEvent { at: self.now, kind: "Warning", about, event });
    }
}

impl ModelPod {
    fn is_waiting(&self) -> bool {
        !self.containers.iter().all(Container::is_started)
    }

    fn is_new(&self) -> bool {
        self.containers.iter().all(|it| it.state == Inside::New)
    }

    /// As the DaemonSet controller counts: an injected container never becomes ready.
    pub fn is_ready(&self) -> bool {
        let statuses = &self.published.container_statuses;
        !statuses.is_empty()
            && statuses.iter().all(|it| it.state.running.is_some() && it.image_id != "sidecar")
    }

    /// The scheduler has found a place for it.
    pub fn bind(&mut self, start: Duration) {
        self.is_bound = true;
        self.published.conditions.clear();
        self.next = Some(start);
    }

    /// The kubelet of a new machine finds the pod bound to it, and nothing of it there.
    pub fn restart(&mut self, at: Duration) {
        self.containers.iter_mut().for_each(|it| it.state = Inside::New);
        self.is_initialised = false;
        self.next = Some(at);
        if self.stage != Stage::Remove {
            self.stage = Stage::Look(0);
        }
    }

    /// It is deleted, and the kubelet takes so long to end it.
    pub fn end(&mut self, now: Duration, takes: Duration) {
        self.ends = true;
        let removed_at = now + takes;
        (self.stage, self.next) = (Stage::Forget { removed_at }, Some(now + takes / 2));
    }

    /// Whether the kubelet has ended it for good.
    pub fn is_terminal(&self) -> bool {
        ["Failed", "Succeeded"].contains(&self.published.phase.as_str())
    }

    /// The pull that goes on at the moment.
    pub fn pull(&self) -> Option<PullUnderWay> {
        let (Stage::Pulling(place), Some(ends)) = (self.stage, self.next) else { return None };
        Some(PullUnderWay { image: self.containers[place].image.clone(), ends })
    }

    /// The kubelet ends the pod, and writes over what never started.
    pub fn evict(&mut self, removed_at: Duration) {
        self.published = PodStatus {
            phase: "Failed".into(),
            reason: "Evicted".into(),
            message: "The node was low on resource: memory.".into(),
            ..PodStatus::default()
        };
        for container in &self.containers {
            let reason = if container.is_started() { "Error" } else { STATUS_UNKNOWN };
            let stopped = Stopped { reason: reason.into(), message: String::new() };
            let state = ContainerState { terminated: Some(stopped), ..Default::default() };
            let status =
                ContainerStatus { name: container.name.clone(), image_id: String::new(), state };
            match container.is_init {
                false => self.published.container_statuses.push(status),
                true => self.published.init_container_statuses.push(status),
            }
        }
        (self.stage, self.next) = (Stage::Remove, Some(removed_at));
    }

    /// Writes what the kubelet says of a pod that it ends: first that what has not started waits,
    /// whatever was said of its pull before, and then that it has ended in ways unknown.
    fn show_end(&mut self) {
        let is_over = matches!(self.stage, Stage::Terminate { .. });
        let all_ran = !self.is_waiting();
        if is_over {
            self.published.phase = if all_ran { "Succeeded" } else { "Failed" }.into();
        }
        let published = &mut self.published;
        let statuses =
            published.init_container_statuses.iter_mut().chain(&mut published.container_statuses);
        for status in statuses {
            let container = self.containers.iter().find(|it| it.name == status.name);
            let has_started = container.is_some_and(Container::is_started);
            let stopped =
                |reason: &str| Some(Stopped { reason: reason.into(), message: String::new() });
            status.state = match (has_started, is_over) {
                (true, true) => {
                    ContainerState { terminated: stopped("Completed"), ..Default::default() }
                }
                (true, false) => continue,
                (false, true) => {
                    ContainerState { terminated: stopped(STATUS_UNKNOWN), ..Default::default() }
                }
                (false, false) => {
                    ContainerState { waiting: stopped("PodInitializing"), ..Default::default() }
                }
            };
        }
    }

    /// The kubelet does not take the pod in.
    fn refuse(&mut self, reason: &str, removed_at: Duration) {
        self.published = PodStatus {
            phase: "Failed".into(),
            reason: reason.into(),
            message: "Pod was rejected".into(),
            ..PodStatus::default()
        };
        (self.stage, self.next) = (Stage::Remove, Some(removed_at));
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
                    (Inside::Ended | Inside::Started, None) => "sha256:1".into(),
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
        let containers = |is_init| {
            let some = self.containers.iter().filter(move |it| it.is_init == is_init);
            some.map(|it| PodContainer { image: it.image.clone(), name: it.name.clone() }).collect()
        };
        Pod {
            metadata: PodMetadata {
                name: self.name.clone(),
                uid: self.uid.clone(),
                creation_timestamp: timestamp(self.created),
                owner_references: vec![owner],
            },
            spec: PodSpec {
                node_name: if self.is_bound { self.node.clone() } else { String::new() },
                affinity: self.affinity.clone(),
                containers: containers(false),
                init_containers: containers(true),
            },
            status: self.published.clone(),
        }
    }
}

impl Container {
    /// Whether its image was there to start it.
    fn is_started(&self) -> bool {
        matches!(self.state, Inside::Ended | Inside::Started)
    }

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
            (Inside::Refused { message }, _) => {
                state.waiting = stopped("ErrImageNeverPull", message.clone());
            }
            (Inside::New, _) => state.waiting = stopped("PodInitializing", String::new()),
            (Inside::Ended, _) => state.terminated = stopped("Completed", String::new()),
            (Inside::Started, Some(reason)) => {
                state.waiting = stopped(reason, "the container does not start".into());
            }
            (Inside::Started, None) => state.running = Some(Running {}),
        }
        state
    }
}

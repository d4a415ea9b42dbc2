//! A deterministic model of a cluster: nodes, the DaemonSet controller, kubelets and the API
//! server in front of them, as far as a run can tell them apart from real ones.
//!
//! Everything is plain data and virtual time. Nothing happens but by [`World::advance`], which
//! the cost of every request and every sleep of the run call; chance comes from one seed. The
//! rules of the kubelet and of the controllers are those that upstream's source has:
//!
//! - A pod's images are pulled one after the other, init containers first, then the regular ones
//!   in the order of the spec, where a failure does not stop the next one. A node pulls one image
//!   at a time, unless it is told otherwise.
//! - Events are there at once. A pod's status is written when its whole pass over the images has
//!   ended, and not before.
//! - A failed pull is tried again after 10 s, doubled each time, at the pod's next sync.
//! - A node lists its images late, at most 50 of them, each under at most 5 names.
//! - The DaemonSet controller counts cordoned nodes in and nodes that are not ready out. It makes
//!   no pod for a node while one that is being deleted is still there, and makes those anew that
//!   failed.
//! - Pods go some time after what made them, and a pod that is bound to a node's name is taken over
//!   by the next machine of that name.
//! - No image goes from a disk: the pods that hold it keep the kubelet from collecting it.
//!
//! In reading order: this file is the world and its time, [`happening`] what happens by itself,
//! [`node`] what nodes are and say, [`controller`] and [`kubelet`] what makes pods and pulls for
//! them, [`steps`] what they show of it, [`api`] what a run asks and may be answered, [`fault`]
//! what goes wrong with that, and [`clock`] the time of one process.

mod api;
mod clock;
mod controller;
mod fault;
mod happening;
mod kubelet;
mod node;
mod steps;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prepull::evidence::PodStatus;
use prepull::run::Signal;
use serde_json::Value;

pub use api::{Admission, Change, Killed, ModelCluster, Request, Verb};
pub use clock::ModelClock;
pub use controller::Set;
pub use fault::{Fault, FaultKind, Outage};
pub use happening::{Happening, PodsOnReplace};
pub use kubelet::{FailedPull, ModelEvent, ModelPod, NEVER_PULLED, Pull};
use kubelet::{Fate, PullUnderWay};
pub use node::{Lost, ModelNode, Pulls, Stored, listed_name};
use steps::Life;

const RUN_LABEL: &str = "prepull.dev/run";

/// The whole cluster.
#[derive(Clone)]
pub struct World {
    pub pace: Pace,
    /// Since the world began.
    pub now: Duration,
    pub nodes: BTreeMap<String, ModelNode>,
    /// What a registry answers, by image as it is written in a pod.
    pub registry: BTreeMap<String, Pull>,
    /// The same for one node alone, by node and image.
    pub registry_at: BTreeMap<(String, String), Pull>,
    /// How often the tag of an image has moved.
    pub moves: BTreeMap<String, u32>,
    moves_meanwhile: BTreeMap<String, u32>,
    /// Whether the pull of a pod that is deleted ends with it. The kubelet cancels its request,
    /// which older ones do not, and which not every runtime heeds.
    pub breaks_pulls_off: bool,
    /// By name.
    pub sets: BTreeMap<String, Set>,
    /// By uid.
    pub pods: BTreeMap<String, ModelPod>,
    pub events: Vec<ModelEvent>,
    /// Where the events about an object are, by its uid.
    event_places: HashMap<String, Vec<usize>>,
    /// When each Job started.
    pub jobs: BTreeMap<String, SystemTime>,
    /// The uids of owners that are gone: what they own goes too.
    pub gone_owners: BTreeSet<String>,
    /// What will happen, by time.
    pub script: Vec<(Duration, Happening)>,
    pub faults: Vec<Fault>,
    pub outages: Vec<Outage>,
    /// The requests that were to go wrong and did, as they are called and as the fault has it.
    pub faulty: BTreeSet<&'static str>,
    /// Requests that are answered with 403.
    pub denied: BTreeSet<String>,
    /// Whether every request is answered with 401.
    pub are_tokens_revoked: bool,
    /// The words in which the API server refuses to make pods.
    pub refuses_pods: Option<&'static str>,
    pub admission: Vec<Admission>,
    pub namespace_exists: bool,
    pub requests: Vec<Request>,
    /// What the API server did to DaemonSets when a process asked for it.
    pub changes: Vec<Change>,
    /// Events about the owners of runs.
    pub told: Vec<String>,
    /// The most unfinished nodes that DaemonSets were sent to at a time.
    pub most_unfinished: usize,
    /// When something last happened by itself, or an image arrived.
    pub last_change: Duration,
    /// The pulls that failed, in their order.
    pub failed: Vec<FailedPull>,
    /// Names of everything out of the ordinary that has come to pass.
    pub seen: BTreeSet<&'static str>,
    /// The same of what is in order, and worth counting nevertheless.
    pub noted: BTreeSet<&'static str>,
    /// The names of nodes that were in a state, at some time, in which they are no targets.
    pub troubled: BTreeSet<String>,
    /// How long each node has been without room for one more pod, and since when it is so now.
    crowded: BTreeMap<String, (Duration, Option<Duration>)>,
    /// The names that another machine has had before.
    pub replaced: BTreeSet<String>,
    /// What came to pass, for people to read; kept on demand.
    pub trace: Option<Vec<String>>,
    /// What pods and runs did, one thing after the other; kept on demand.
    pub steps: Option<BTreeSet<String>>,
    /// Requests since the present process started.
    pub n_asked: usize,
    /// A signal comes in after so many requests of a process, or the process is killed.
    pub signal_after: Option<usize>,
    pub kill_after: Option<usize>,
    pub signal: Signal,
    pub warnings: Vec<String>,
    /// How long the next request may take, as the run has it.
    pub patience: Duration,
    /// Objects on a page of a LIST.
    pub page: usize,
    pub seed: u64,
    /// Whether what is asked now is done later, and by how much.
    straggles_for: Option<Duration>,
    n_uids: usize,
}

/// How long things take.
#[derive(Clone, Debug)]
pub struct Pace {
    pub request: Duration,
    /// Of the DaemonSet controller, from a change to its next sync and to its numbers.
    pub controller: Duration,
    /// From a pod's creation to the kubelet's first pass.
    pub start: Duration,
    /// From the end of a kubelet's pass to the status in the API.
    pub publish: Duration,
    /// From an image's arrival to its place in the node's list: up to 41 s.
    pub listing: Duration,
    /// Between two syncs of a pod that waits, before the jitter of 1 to 1.5.
    pub sync: Duration,
    /// From the end of a DaemonSet to that of its pods, by the garbage collector.
    pub collection: Duration,
    /// From the deletion of a pod to its end.
    pub termination: Duration,
    /// From the end of a node to that of the pods that are bound to it.
    pub orphans: Duration,
    /// A pod that failed is removed by the DaemonSet controller after so long, and made again.
    pub failed_pod: Duration,
    /// How far the clock that dates pods is ahead of that for nodes: each API server has its own.
    pub ahead: Duration,
}

/// The world as the run and the clock share it.
pub type Shared = Rc<RefCell<World>>;

impl Default for Pace {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            request: ms(10),
            controller: ms(200),
            start: ms(800),
            publish: ms(1000),
            listing: ms(35_000),
            sync: ms(10_000),
            collection: ms(0),
            termination: ms(0),
            orphans: ms(0),
            failed_pod: ms(15_000),
            ahead: Duration::ZERO,
        }
    }
}

impl World {
    /// A world of these nodes.
    pub fn of(nodes: Vec<ModelNode>) -> Self {
        let mut world = Self {
            pace: Pace::default(),
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            registry: BTreeMap::new(),
            registry_at: BTreeMap::new(),
            moves: BTreeMap::new(),
            moves_meanwhile: BTreeMap::new(),
            breaks_pulls_off: false,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            events: vec![],
            event_places: HashMap::new(),
            jobs: BTreeMap::new(),
            gone_owners: BTreeSet::new(),
            script: vec![],
            faults: vec![],
            outages: vec![],
            faulty: BTreeSet::new(),
            denied: BTreeSet::new(),
            are_tokens_revoked: false,
            refuses_pods: None,
            admission: vec![],
            namespace_exists: true,
            requests: vec![],
            changes: vec![],
            told: vec![],
            most_unfinished: 0,
            last_change: Duration::ZERO,
            failed: vec![],
            seen: BTreeSet::new(),
            noted: BTreeSet::new(),
            troubled: BTreeSet::new(),
            crowded: BTreeMap::new(),
            replaced: BTreeSet::new(),
            trace: None,
            steps: None,
            n_asked: 0,
            signal_after: None,
            kill_after: None,
            signal: Signal::None,
            warnings: vec![],
            patience: Duration::MAX,
            page: 500,
            seed: 1,
            straggles_for: None,
            n_uids: 0,
        };
        nodes.into_iter().for_each(|it| world.join(it));
        world
    }

    pub fn share(self) -> Shared {
        Rc::new(RefCell::new(self))
    }

    pub fn at(&mut self, seconds: u64, happening: Happening) -> &mut Self {
        self.then(Duration::from_secs(seconds), happening);
        self
    }

    /// Lets something happen later, and after what was to happen at the same time.
    pub fn then(&mut self, at: Duration, happening: Happening) {
        let place = self.script.partition_point(|it| it.0 <= at);
        self.script.insert(place, (at, happening));
    }

    /// The DaemonSets of runs, ours or not, by name.
    pub fn pullers(&self) -> Vec<&str> {
        let is_puller = |it: &&Set| it.object["metadata"]["labels"][RUN_LABEL].is_string();
        self.sets.values().filter(is_puller).map(Set::name).collect()
    }

    pub fn wall(&self) -> SystemTime {
        epoch() + self.now
    }

    /// Nodes that a DaemonSet is sent to, and that lack an image of it.
    pub fn n_unfinished(&self) -> usize {
        let lacks = |node: &&ModelNode| {
            self.sets
                .values()
                .any(|set| set.goes_to(node) && set.images().any(|image| !node.holds(image)))
        };
        self.nodes.values().filter(lacks).count()
    }

    /// How often a request was sent.
    pub fn count(&self, request: &str) -> usize {
        self.requests.iter().filter(|it| it.request == request).count()
    }

    /// Puts a DaemonSet there that somebody else made.
    pub fn plant(&mut self, mut object: Value) {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        object["metadata"]["uid"] = self.uid().into();
        object["metadata"]["generation"] = 1.into();
        object["metadata"]["creationTimestamp"] = timestamp(self.wall()).into();
        self.sets.insert(name, Set::new(object, self.now));
    }

    fn uid(&mut self) -> String {
        self.n_uids += 1;
        format!("uid-{}", self.n_uids)
    }

    /// A number below `bound`: xorshift64*.
    fn chance(&mut self, bound: u64) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    /// The image that pods which ask for this one are given.
    pub fn admitted(&self, image: &str) -> String {
        self.admission.iter().fold(image.to_owned(), |image, it| match it {
            Admission::RewriteImages(from, to) | Admission::RewritePods(from, to) => {
                image.replace(from, to)
            }
            _ => image,
        })
    }

    /// Adds a line to the trace, if there is one.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now.as_millis();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>7}.{:03} {}", now / 1000, now % 1000, line()));
        }
    }

    // === Time ===

    /// Lets everything happen that is due within this time.
    pub fn advance(&mut self, by: Duration) {
        self.advance_to(self.now + by);
    }

    pub fn advance_to(&mut self, until: Duration) {
        while let Some(due) = self.next_due().filter(|it| *it <= until) {
            self.now = self.now.max(due);
            self.act();
        }
        self.now = self.now.max(until);
    }

    /// When something happens next.
    pub fn next_due(&self) -> Option<Duration> {
        let happening = self.script.first().map(|it| it.0);
        let sync = self.sets.values().filter_map(|it| it.sync_at).min();
        let pod = self.pods.values().filter_map(|it| it.next).min();
        [happening, sync, pod].into_iter().flatten().min()
    }

    fn act(&mut self) {
        let now = self.now;
        while self.script.first().is_some_and(|it| it.0 <= now) {
            let (_, happening) = self.script.remove(0);
            self.happen(happening);
        }
        let is_due = |it: &Option<Duration>| it.is_some_and(|it| it <= now);
        let due = self.sets.iter().filter(|(_, it)| is_due(&it.sync_at));
        for name in due.map(|it| it.0.clone()).collect::<Vec<_>>() {
            self.sync(&name);
        }
        let due = self.pods.iter().filter(|(_, it)| is_due(&it.next));
        for uid in due.map(|it| it.0.clone()).collect::<Vec<_>>() {
            let Some(mut pod) = self.pods.remove(&uid) else { continue };
            let before = self.steps.is_some().then(|| pod.published.clone());
            let fate = self.step_pod(&mut pod);
            before.into_iter().for_each(|it| self.note_steps(&it, &pod));
            if fate == Fate::Stays {
                self.pods.insert(uid, pod);
            }
        }
    }

    /// Keeps what a pod shows now and has not shown before.
    fn note_steps(&mut self, before: &PodStatus, pod: &ModelPod) {
        let Some(known) = &mut self.steps else { return };
        let life = if pod.ends { Life::Ends } else { Life::Stays };
        known.extend(steps::steps(before, &pod.published, life));
    }

    /// Deletes pods. No new pull begins for them.
    fn end_pods(&mut self, is_meant: impl Fn(&ModelPod) -> bool) {
        let (now, after) = (self.now, self.pace.termination);
        let uids = self.pods.values().filter(|it| !it.ends && is_meant(it));
        for uid in uids.map(|it| it.uid.clone()).collect::<Vec<_>>() {
            let pod = self.pods.get_mut(&uid).expect("just found");
            let (node, pull) = (pod.node.clone(), pod.pull());
            pod.end(now, after);
            // A pod that no kubelet has seen needs none to end.
            if after.is_zero() || !pod.is_bound {
                self.pods.remove(&uid);
            }
            pull.into_iter().for_each(|it| self.let_arrive(&node, it));
        }
        self.sync_soon();
    }

    /// What becomes of a pull whose pod ends.
    fn let_arrive(&mut self, node: &str, pull: PullUnderWay) {
        if self.breaks_pulls_off {
            return;
        }
        let Some(node_uid) = self.nodes.get(node).map(|it| it.uid.clone()) else { return };
        let PullUnderWay { image, ends } = pull;
        if self.answer(node, &image).failure.is_none() {
            self.then(ends, Happening::Arrive { node_uid, image });
        }
    }

    /// How often the tag of an image has moved up to now.
    pub fn version(&self, image: &str) -> u32 {
        self.moves.get(image).copied().unwrap_or_default()
    }

    /// The same before anything happened.
    pub fn version_at_first(&self, image: &str) -> u32 {
        self.version(image) - self.moves_meanwhile.get(image).copied().unwrap_or_default()
    }

    /// Whether something that was asked for was done, or may be, after nobody waited any more.
    pub fn has_stragglers(&self) -> bool {
        self.seen.contains("fault: timed out, and done later")
    }

    fn node(&mut self, name: &str) -> &mut ModelNode {
        self.nodes.get_mut(name).expect("scripts name nodes that are there")
    }

    pub fn join(&mut self, mut node: ModelNode) {
        node.uid = self.uid();
        node.opened_at = self.now;
        if !self.now.is_zero() {
            node.created = self.wall();
        }
        let start = self.now + self.pace.start;
        let bound = self.pods.values_mut().filter(|it| it.node == node.name && it.is_bound);
        bound.for_each(|it| it.restart(start));
        let (name, has_room) = (node.name.clone(), node.has_room);
        self.nodes.insert(name.clone(), node);
        self.note_room(&name);
        if has_room {
            self.bind_pods(&name);
        }
    }

    /// Keeps the truth about how full a node is.
    fn note_room(&mut self, name: &str) {
        let now = self.now;
        let is_full = self.nodes.get(name).is_some_and(ModelNode::is_full);
        let (total, since) = self.crowded.entry(name.into()).or_default();
        match (is_full, *since) {
            (true, None) => *since = Some(now),
            (false, Some(start)) => {
                *total += now - start;
                *since = None;
            }
            _ => {}
        }
    }

    /// How long the nodes of this name were full in all.
    pub fn was_full_for(&self, name: &str) -> Duration {
        let (total, since) = self.crowded.get(name).copied().unwrap_or_default();
        total + since.map(|it| self.now - it).unwrap_or_default()
    }
}

/// When every world begins: 2024-01-01 00:00:00 UTC.
pub fn epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200)
}

/// As the API server writes times.
fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

//! A deterministic model of a cluster: nodes, the DaemonSet controller, kubelets and the API
//! server in front of them, as far as a run can tell them apart from real ones.
//!
//! Everything is plain data and virtual time. Nothing happens but by [`World::advance`], which
//! the cost of every request and every sleep of the run call; chance comes from one seed. The
//! rules of the kubelet and of the controllers are those that upstream's source has:
//!
//! - A pod's images are pulled one after the other, init containers first, then the regular ones
//!   in the order of the spec, where a failure does not stop the next one. A node pulls one image
//!   at a time.
//! - Events are there at once. A pod's status is written when its whole pass over the images has
//!   ended, and not before.
//! - A failed pull is tried again after 10 s, doubled each time, at the pod's next sync.
//! - A node lists its images late, at most 50 of them, each under at most 5 names.
//! - The DaemonSet controller counts cordoned nodes in and nodes that are not ready out.
//!
//! In reading order: this file is the world and its time, [`node`] what nodes are and say,
//! [`controller`] and [`kubelet`] what makes pods and pulls for them, [`api`] what a run asks and
//! may be answered, [`clock`] the time of one process.

mod api;
mod clock;
mod controller;
mod kubelet;
mod node;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prepull::node::Taint;
use prepull::run::Signal;
use serde_json::Value;

pub use api::{Admission, Fault, FaultKind, Killed, ModelCluster};
pub use clock::ModelClock;
use controller::Numbers;
pub use controller::Set;
use kubelet::{Fate, Stage};
pub use kubelet::{ModelEvent, ModelPod, Pull};
pub use node::{ModelNode, Stored};

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
    /// By name.
    pub sets: BTreeMap<String, Set>,
    /// By uid.
    pub pods: BTreeMap<String, ModelPod>,
    pub events: Vec<ModelEvent>,
    /// When each Job started.
    pub jobs: BTreeMap<String, SystemTime>,
    /// What will happen, by time.
    pub script: Vec<(Duration, Happening)>,
    pub faults: Vec<Fault>,
    /// Requests that are answered with 403.
    pub denied: BTreeSet<String>,
    pub admission: Vec<Admission>,
    pub namespace_exists: bool,
    pub requests: Vec<Request>,
    /// The most unfinished nodes that DaemonSets were sent to at a time.
    pub most_unfinished: usize,
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
}

/// Something that happens by itself.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A pull ends whose pod is gone: no kubelet breaks a pull off.
    Arrive {
        node_uid: String,
        image: String,
    },
    Cordon(&'static str),
    DeletePod(&'static str),
    DeleteSets,
    /// Somebody edits every DaemonSet to run this image in the first container.
    EditSets(&'static str),
    Evict(&'static str),
    Join(Box<ModelNode>),
    Label(&'static str, &'static str, &'static str),
    /// The registry answers differently from now on.
    Registry(&'static str, Pull),
    Remove(&'static str),
    /// A machine of the same name takes the node's place, with an empty disk. The pods that were
    /// bound to the name are made again, or stay, and the new kubelet starts them anew.
    Replace(&'static str, PodsOnReplace),
    SetReady(&'static str, bool),
    Signal,
    /// The node repels what does not tolerate the key.
    Taint(&'static str, &'static str),
    Uncordon(&'static str),
    WithdrawRights,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodsOnReplace {
    AreMadeAgain,
    Stay,
}

/// One line of the API server's audit log.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Duration,
    pub request: &'static str,
    pub about: String,
    pub is_ok: bool,
    pub patience: Duration,
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
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            events: vec![],
            jobs: BTreeMap::new(),
            script: vec![],
            faults: vec![],
            denied: BTreeSet::new(),
            admission: vec![],
            namespace_exists: true,
            requests: vec![],
            most_unfinished: 0,
            n_asked: 0,
            signal_after: None,
            kill_after: None,
            signal: Signal::None,
            warnings: vec![],
            patience: Duration::MAX,
            page: 500,
            seed: 1,
            n_uids: 0,
        };
        nodes.into_iter().for_each(|it| world.join(it));
        world
    }

    pub fn share(self) -> Shared {
        Rc::new(RefCell::new(self))
    }

    pub fn at(&mut self, seconds: u64, happening: Happening) -> &mut Self {
        self.script.push((Duration::from_secs(seconds), happening));
        self.script.sort_by_key(|it| it.0);
        self
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
                .any(|set| set.goes_to(node) && set.images().iter().any(|image| !node.holds(image)))
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
        let sync_at = Some(self.now);
        self.sets.insert(name, Set { object, numbers: Numbers::default(), sync_at });
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
            Admission::RewriteImages(from, to) => image.replace(from, to),
            _ => image,
        })
    }

    // === Time ===

    /// Lets everything happen that is due within this time.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(due) = self.next_due().filter(|it| *it <= until) {
            self.now = self.now.max(due);
            self.act();
        }
        self.now = until;
    }

    fn next_due(&self) -> Option<Duration> {
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
            let mut pod = self.pods.remove(&uid).expect("just found");
            if self.step_pod(&mut pod) == Fate::Stays {
                self.pods.insert(uid, pod);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        let open = |node: &mut ModelNode| node.opened_at = now;
        match happening {
            Happening::Arrive { node_uid, image } => {
                let listed_at = now + self.pace.listing;
                if let Some(node) = self.nodes.values_mut().find(|it| it.uid == node_uid) {
                    node.images.push(Stored::new(&image, listed_at));
                }
            }
            Happening::Cordon(node) => self.node(node).cordoned = true,
            Happening::DeletePod(node) => self.drop_pods(|it| it.node == node),
            Happening::DeleteSets => {
                self.sets.clear();
                self.drop_pods(|_| true);
            }
            Happening::EditSets(image) => {
                for set in self.sets.values_mut() {
                    set.edit(|it| {
                        it["spec"]["template"]["spec"]["containers"][0]["image"] = image.into()
                    });
                }
                self.sync_soon();
            }
            Happening::Evict(node) => {
                self.pods.values_mut().filter(|it| it.node == node).for_each(|it| it.evict(now));
            }
            Happening::Join(node) => self.join(*node),
            Happening::Label(node, key, value) => {
                let node = self.node(node);
                node.labels.insert(key.into(), value.into());
                open(node);
            }
            Happening::Registry(image, pull) => _ = self.registry.insert(image.into(), pull),
            Happening::Remove(node) => {
                self.nodes.remove(node);
                self.drop_pods(|it| it.node == node);
            }
            Happening::Replace(node, pods) => {
                let labels = self.node(node).labels.clone();
                self.nodes.remove(node);
                match pods {
                    PodsOnReplace::AreMadeAgain => self.drop_pods(|it| it.node == node),
                    PodsOnReplace::Stay => {
                        let start = now + self.pace.start;
                        let pods = self.pods.values_mut().filter(|it| it.node == node);
                        pods.for_each(|it| it.restart(start));
                    }
                }
                self.join(ModelNode { labels, ..ModelNode::new(node) });
            }
            Happening::SetReady(node, ready) => {
                let node = self.node(node);
                node.ready = ready;
                open(node);
            }
            Happening::Signal => self.signal = Signal::Stop,
            Happening::Taint(node, key) => {
                let (key, effect) = (key.into(), "NoSchedule".into());
                self.node(node).taints.push(Taint { key, value: String::new(), effect });
            }
            Happening::Uncordon(node) => {
                let node = self.node(node);
                node.cordoned = false;
                open(node);
            }
            Happening::WithdrawRights => _ = self.denied.insert("*".into()),
        }
        self.sync_soon();
    }

    /// Removes pods. Their pulls go on without them.
    fn drop_pods(&mut self, is_meant: impl Fn(&ModelPod) -> bool) {
        let uids = self.pods.values().filter(|it| is_meant(it)).map(|it| it.uid.clone());
        for uid in uids.collect::<Vec<_>>() {
            let pod = self.pods.remove(&uid).expect("just found");
            let (Stage::Pulling(place), Some(at)) = (pod.stage, pod.next) else { continue };
            let image = pod.containers[place].image.clone();
            let Some(node) = self.nodes.get(&pod.node) else { continue };
            if self.answer(&pod.node, &image).failure.is_none() {
                let node_uid = node.uid.clone();
                self.script.push((at, Happening::Arrive { node_uid, image }));
                self.script.sort_by_key(|it| it.0);
            }
        }
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
        self.nodes.insert(node.name.clone(), node);
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

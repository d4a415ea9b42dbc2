//! The nodes a run waits for, and what pods and events have shown of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::evidence::{ContainerStatus, Event, Pod};
use crate::node::LeftOut;
use crate::puller::INSTALL;
use crate::survey::{Lacking, Presence};
use crate::verdict::{Outlook, Verdict, judge};

/// A permanent failure is certain after so many attempts on one node ...
const CERTAIN_ATTEMPTS: u32 = 2;
/// ... or on so many nodes: a registry or its permissions may lag behind for a moment, but not
/// for a back-off, nor for many nodes.
const CERTAIN_NODES: usize = 3;

/// The kubelet's waiting reasons of a pull that failed.
///
/// Source: `pkg/kubelet/images/types.go`.
const FAILED_PULL: [&str; 7] = [
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// What was to be pulled.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Item {
    /// Our own image, which every puller pod starts with.
    OwnImage,
    /// A wanted image, by its place in the list.
    Image(usize),
}

/// A failed pull on one node, in the kubelet's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub attempts: u32,
    pub message: String,
    pub verdict: Verdict,
}

/// A node that has to hold the images of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub uid: String,
    /// What has not been proved to be there, by place in the list of wanted images.
    pub lacking: BTreeSet<usize>,
    /// What a container of ours proved to be there.
    pub pulled: BTreeSet<usize>,
    pub failures: BTreeMap<Item, Failure>,
    /// What keeps the puller's pod from pulling at all, in the cluster's words.
    pub obstacle: Option<String>,
    /// Whether our own image is known to be there.
    has_own_image: bool,
    /// The pods seen on the node.
    pods: BTreeSet<String>,
}

/// The targets of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// By node name.
    pub nodes: BTreeMap<String, Target>,
    /// Nodes that ceased to be targets, and why.
    pub dropped: BTreeMap<String, Dropped>,
    /// Container name to the place of its image.
    containers: BTreeMap<String, usize>,
    /// The uid under which a name was a target last, whether it still is or was dropped.
    uids: BTreeMap<String, String>,
    /// When the youngest of the nodes was made, RFC 3339.
    youngest: String,
}

/// What a node was to the targets that it was added to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Added {
    Known,
    New,
    /// The name is a target's under another uid. What pods show of it can not be told from what
    /// they showed of the machine before: a pod names its node and not the node's uid, and may
    /// even stay bound to the name.
    Replaced,
}

/// Why a node is no longer waited for.
#[derive(Clone, Debug, PartialEq)]
pub enum Dropped {
    Gone,
    LeftOut(LeftOut),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("gone"),
            Self::LeftOut(why) => why.fmt(f),
        }
    }
}

impl Targets {
    pub fn new(lacking: &[Lacking], containers: BTreeMap<String, usize>) -> Self {
        let mut targets = Self { containers, ..Self::default() };
        for node in lacking {
            targets.add(node);
        }
        targets
    }

    /// Adds a node that is not a target yet, or is one under another uid: a node of the same name
    /// that was made anew has an empty disk.
    pub fn add(&mut self, node: &Lacking) -> Added {
        if self.nodes.get(&node.name).is_some_and(|it| it.uid == node.uid) {
            return Added::Known;
        }
        let added = match self.uids.insert(node.name.clone(), node.uid.clone()) {
            Some(uid) if uid != node.uid => Added::Replaced,
            _ => Added::New,
        };
        if node.created > self.youngest {
            self.youngest = node.created.clone();
        }
        let target = Target {
            uid: node.uid.clone(),
            lacking: node.images.keys().copied().collect(),
            pulled: BTreeSet::new(),
            failures: BTreeMap::new(),
            obstacle: None,
            has_own_image: false,
            pods: BTreeSet::new(),
        };
        self.nodes.insert(node.name.clone(), target);
        self.dropped.remove(&node.name);
        added
    }

    pub fn drop_node(&mut self, name: &str, why: Dropped) {
        if self.nodes.remove(name).is_some() {
            self.dropped.insert(name.into(), why);
        }
    }

    pub fn names(&self) -> Vec<&str> {
        self.nodes.keys().map(String::as_str).collect()
    }

    /// The targets that still lack something.
    pub fn unfinished(&self) -> impl Iterator<Item = (&str, &Target)> {
        self.nodes
            .iter()
            .filter(|(_, it)| !it.lacking.is_empty())
            .map(|(name, it)| (name.as_str(), it))
    }

    /// How much is not proved yet; every step of progress makes it smaller.
    pub fn n_lacking(&self) -> usize {
        self.nodes.values().map(|it| it.lacking.len()).sum()
    }

    /// Adds the node of a pod that is not known yet: where nodes may not be listed, the pods name
    /// them, and a uid is not to be had.
    pub fn discover(&mut self, pod: &Pod) {
        let Some(name) = pod.node_name() else { return };
        if !self.nodes.contains_key(name) {
            let images = self.containers.values().map(|it| (*it, Presence::Unknown)).collect();
            self.add(&Lacking {
                name: name.into(),
                uid: String::new(),
                created: String::new(),
                images,
            });
        }
    }

    /// Whether pods of a puller that was made then can tell nothing of machines before these: a
    /// node that is younger may have another's pod bound to its name.
    pub fn are_older_than(&self, puller_created: &str) -> bool {
        // The times are of one format and one zone, and have seconds alone.
        self.youngest.is_empty() || self.youngest.as_str() < puller_created
    }

    /// Takes in what a pod of the group's puller shows.
    pub fn observe_pod(&mut self, pod: &Pod) {
        let Some(target) = pod.node_name().and_then(|it| self.nodes.get_mut(it)) else { return };
        target.pods.insert(pod.metadata.uid.clone());
        target.obstacle = obstacle(pod);
        for status in &pod.status.container_statuses {
            // Containers that a webhook put into the pod are none of ours.
            let Some(&place) = self.containers.get(&status.name) else { continue };
            if status.proves_image() {
                if target.lacking.remove(&place) {
                    target.pulled.insert(place);
                }
                target.failures.remove(&Item::Image(place));
            } else {
                target.note_failure(Item::Image(place), status);
            }
        }
        let own = pod.status.init_container_statuses.iter().find(|it| it.name == INSTALL);
        match own {
            Some(status) if status.proves_image() => {
                target.has_own_image = true;
                target.failures.remove(&Item::OwnImage);
            }
            Some(status) => target.note_failure(Item::OwnImage, status),
            None => {}
        }
    }

    /// Takes in an event of one of the group's pods. Unlike a pod's status, which the kubelet
    /// writes only after its whole pass over the pod's images, events are immediate.
    pub fn observe_event(&mut self, event: &Event) {
        let Some(item) = self.item_of(event) else { return };
        let pod = &event.involved_object.uid;
        let Some(target) = self.nodes.values_mut().find(|it| it.pods.contains(pod)) else { return };
        let concerns = match item {
            Item::Image(place) => target.lacking.contains(&place),
            Item::OwnImage => !target.has_own_image,
        };
        if !concerns {
            return;
        }
        let cause = match event.reason.as_str() {
            // The same reason without these words only repeats the waiting reason.
            "Failed" => event.message.strip_prefix("Failed to pull image "),
            "ErrImageNeverPull" | "InspectFailed" => Some(event.message.as_str()),
            _ => None,
        };
        let Some(cause) = cause else { return };
        let message = without_image(cause);
        let failure = Failure {
            attempts: event.count.max(1),
            verdict: judge(&event.reason, message),
            message: message.into(),
        };
        target.note(item, failure);
    }

    fn item_of(&self, event: &Event) -> Option<Item> {
        match event.container()? {
            INSTALL => Some(Item::OwnImage),
            name => self.containers.get(name).map(|it| Item::Image(*it)),
        }
    }

    /// The pulls that will not succeed whatever is waited for.
    pub fn certain_failures(&self) -> BTreeSet<Item> {
        let mut nodes_failing: BTreeMap<Item, usize> = BTreeMap::new();
        let mut certain = BTreeSet::new();
        for (_, target) in self.unfinished() {
            for (item, failure) in &target.failures {
                if failure.verdict.outlook == Outlook::Transient {
                    continue;
                }
                let n_nodes = nodes_failing.entry(*item).or_default();
                *n_nodes += 1;
                if *n_nodes >= CERTAIN_NODES || failure.attempts >= CERTAIN_ATTEMPTS {
                    certain.insert(*item);
                }
            }
        }
        certain
    }
}

impl Target {
    fn note_failure(&mut self, item: Item, status: &ContainerStatus) {
        let Some(waiting) = &status.state.waiting else { return };
        if !FAILED_PULL.contains(&waiting.reason.as_str()) {
            return;
        }
        // Since Kubernetes 1.32 the message of a back-off ends with the error of the pull before
        // it; earlier ones only say that there is a back-off.
        let message = match waiting.reason.as_str() {
            "ImagePullBackOff" => match waiting.message.split_once(": ErrImagePull: ") {
                Some((_, cause)) => cause,
                None => return,
            },
            _ => waiting.message.as_str(),
        };
        let verdict = judge(&waiting.reason, message);
        self.note(item, Failure { attempts: 1, message: message.into(), verdict });
    }

    fn note(&mut self, item: Item, mut failure: Failure) {
        // What passed by itself is no attempt that failed for good.
        if let Some(before) = self.failures.get(&item)
            && before.verdict.outlook == failure.verdict.outlook
        {
            failure.attempts = failure.attempts.max(before.attempts);
        }
        self.failures.insert(item, failure);
    }
}

/// Strips the quoted image from `"x:1": cause`: the reader is told the image already.
fn without_image(cause: &str) -> &str {
    cause.strip_prefix('"').and_then(|it| it.split_once("\": ")).map_or(cause, |(_, cause)| cause)
}

/// What keeps a pod from pulling at all.
fn obstacle(pod: &Pod) -> Option<String> {
    if pod.status.phase == "Failed" {
        return Some(match pod.status.message.as_str() {
            "" => format!("its pod failed: {}", pod.status.reason),
            message => format!("its pod failed: {}: {message}", pod.status.reason),
        });
    }
    let install = pod.status.init_container_statuses.iter().find(|it| it.name == INSTALL)?;
    let waiting = install.state.waiting.as_ref()?;
    (install.proves_image() && !waiting.message.is_empty())
        .then(|| format!("our own binary does not run there: {}", waiting.message))
}

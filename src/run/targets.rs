//! The nodes a run waits for, and what pods and events have shown of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use crate::evidence::{ContainerStatus, Event, Named, Pod};
use crate::node::LeftOut;
use crate::puller::INSTALL;
use crate::survey::{Lacking, Presence};
use crate::verdict::{Outlook, Verdict, judge};
use crate::words::one_line;

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

/// The scheduler's words for a node that runs as many pods as it may.
///
/// Source: `Fit` in `pkg/scheduler/framework/plugins/noderesources/fit.go`.
const TOO_MANY_PODS: &str = "Too many pods";
/// The same plugin's words for a lack of anything else.
const INSUFFICIENT: &str = "Insufficient ";
/// What to do where a pod finds no room.
const MAKE_ROOM: &str = "make room there, or lower `puller.resources`";
/// What to do where prepull's own program does not run.
const KEEP_AWAY: &str = "leave the node out with `puller.nodeSelector`";
/// The kubelet's reason for refusing a pod that is one too many.
///
/// Source: `PredicateAdmitHandler` in `pkg/kubelet/lifecycle/predicate.go`.
const OUT_OF_PODS: &str = "OutOfpods";

/// The kubelet's reason for a pull secret that a pod names and that does not exist. Its message
/// has their names in brackets, and it goes on without them.
///
/// Source: `getPullSecretsForPod` in `pkg/kubelet/kubelet_pods.go`.
const NO_PULL_SECRET: &str = "FailedToRetrieveImagePullSecret";
/// The reasons of what keeps a pod from starting before any pull of ours, or from being pulled for
/// at all.
///
/// Source: `pkg/kubelet/events/event.go`.
const COMPLAINTS: [&str; 4] =
    ["FailedAttachVolume", "FailedCreatePodSandBox", "FailedMount", "NetworkNotReady"];

/// The waiting reason between two attempts.
const BACK_OFF: &str = "ImagePullBackOff";

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
    /// Attempts known to have failed with this outlook.
    pub attempts: u32,
    /// The cause on one line, without what is the same for every image.
    pub message: String,
    /// What the message means.
    pub verdict: Verdict,
    /// Attempts by the uid of the event that tells of them. The same failure in other words, such
    /// as one that says the time, is another event.
    events: BTreeMap<String, u32>,
    /// Whether the pod's status has shown the back-off after it.
    backed_off: bool,
}

/// A node that has to hold the images of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The node's, or nothing where nodes may not be looked at.
    pub uid: String,
    /// When it was made, RFC 3339; nothing where nodes may not be looked at.
    created: String,
    /// What has not been proved to be there, by place in the list of wanted images.
    pub lacking: BTreeSet<usize>,
    /// What a container of ours proved to be there.
    pub pulled: BTreeSet<usize>,
    /// The pulls that have failed there and have not succeeded since.
    pub failures: BTreeMap<Item, Failure>,
    /// What the runtime says that it pulled: each image that a container of ours proved, under a
    /// name with a digest, as far as it was told.
    pub digested_names: BTreeMap<usize, Rc<str>>,
    /// What keeps the puller's pod from pulling at all.
    pub obstacle: Option<Obstacle>,
    /// Whether our own image is known to be there.
    has_own_image: bool,
    /// The pod that was made for it.
    pub pod: Option<Named>,
    /// What the kubelet complains of that is no pull: a volume, a sandbox, the network.
    complaint: Option<String>,
    /// Whether our own image was pulled for the pod, so that what it complained of has passed.
    has_started: bool,
}

/// What keeps a pod from pulling, in the cluster's words where it has some.
#[derive(Clone, Debug, PartialEq)]
pub enum Obstacle {
    /// The node runs as many pods as it may.
    NoRoom(String),
    /// Anything else, which waiting alone may not mend.
    Other {
        /// What keeps it.
        words: String,
        /// What to do, or nothing.
        advice: &'static str,
    },
}

/// The targets of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// By node name.
    pub nodes: BTreeMap<String, Target>,
    /// Nodes that ceased to be targets, and why.
    pub dropped: BTreeMap<String, Dropped>,
    /// Pods on nodes that came to be not ready, by node: nobody is there to end them.
    pub stranded: BTreeMap<String, String>,
    /// Pull secrets that pods name and that do not exist.
    pub missing_secrets: BTreeSet<String>,
    /// Container name to the place of its image.
    containers: BTreeMap<String, usize>,
    /// The node of each pod that was seen.
    pods: BTreeMap<String, String>,
    /// The uid under which a name was a target last, whether it still is or was dropped.
    uids: BTreeMap<String, String>,
    /// When the youngest of the nodes was made, RFC 3339.
    youngest: String,
    /// When the youngest of the nodes was made whose pods are older than they are, RFC 3339.
    pub has_older_pods_than: Option<String>,
    /// Those names of the targets, each kept once.
    digested_names: BTreeSet<Rc<str>>,
}

/// What a node was to the targets that it was added to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Added {
    /// It is a target already.
    Known,
    /// No machine of its name was known.
    New,
    /// The name is a target's under another uid. What pods show of it can not be told from what
    /// they showed of the machine before: a pod names its node and not the node's uid, and may
    /// even stay bound to the name.
    Replaced,
}

/// Why a node is no longer waited for.
#[derive(Clone, Debug, PartialEq)]
pub enum Dropped {
    /// It lacks something that need not be everywhere (`--allow-missing`), for this reason.
    Allowed(String),
    /// The node is no more, or where nodes may not be looked at, its pod is not.
    Gone,
    /// It joined, or came back as another machine, when no more rounds were to be waited for.
    Late,
    /// It is not eligible any more.
    LeftOut(LeftOut),
    /// It runs as many pods as it may, and did so for a while. A pod of the release would find no
    /// room there either, but this is forgiven rather than known to be of no account.
    NoRoom,
    /// Another machine has the name now, and lists the images.
    Replaced,
}

impl Dropped {
    /// Whether the node lacks something although it is eligible.
    pub fn is_forgiven(&self) -> bool {
        matches!(self, Self::Allowed(_) | Self::Late | Self::NoRoom)
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(why) => f.write_str(why),
            Self::Gone => f.write_str("gone"),
            Self::Late => f.write_str("joined too late to be waited for"),
            Self::LeftOut(why) => why.fmt(f),
            Self::NoRoom => f.write_str("no room for another pod"),
            Self::Replaced => f.write_str("replaced by a node that holds the images"),
        }
    }
}

impl Targets {
    /// The targets of a group whose containers, by name, have the images at these places.
    pub fn new(lacking: &[Lacking], containers: BTreeMap<String, usize>) -> Self {
        let mut targets = Self { containers, ..Self::default() };
        for node in lacking {
            targets.add(node);
        }
        targets
    }

    /// Takes in under which uid a node is known that lacks nothing yet: should another machine come
    /// to have its name, pods may be bound to that which tell of this one.
    pub fn know(&mut self, name: &str, uid: &str) {
        self.uids.insert(name.into(), uid.into());
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
            created: node.created.clone(),
            lacking: node.images.keys().copied().collect(),
            pulled: BTreeSet::new(),
            failures: BTreeMap::new(),
            digested_names: BTreeMap::new(),
            obstacle: None,
            has_own_image: false,
            pod: None,
            complaint: None,
            has_started: false,
        };
        self.nodes.insert(node.name.clone(), target);
        self.dropped.remove(&node.name);
        self.stranded.remove(&node.name);
        added
    }

    /// Waits for a target no longer; what it showed is kept nowhere.
    pub fn drop_node(&mut self, name: &str, why: Dropped) {
        if let Dropped::LeftOut(why) = &why {
            self.note_left_out(name, why);
        }
        if self.nodes.remove(name).is_some() {
            self.dropped.insert(name.into(), why);
        }
    }

    /// Takes in that a target, finished or not, is none any more.
    pub fn note_left_out(&mut self, name: &str, why: &LeftOut) {
        let pod = self.nodes.get(name).and_then(|it| it.pod.as_ref());
        if let (LeftOut::NotReady, Some(pod)) = (why, pod) {
            self.stranded.insert(name.into(), pod.name.clone());
        }
    }

    /// Takes in that these are ready again.
    pub fn forget_stranded<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        for name in names {
            self.stranded.remove(name);
        }
    }

    /// Takes in that no others are eligible: there is nothing to forgive the rest.
    pub fn forget_forgiven_but<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let names: BTreeSet<_> = names.collect();
        for (name, why) in self.dropped.iter_mut().filter(|(_, why)| why.is_forgiven()) {
            if !names.contains(name) {
                *why = Dropped::Gone;
            }
        }
    }

    /// Whether this node was forgiven for what it lacks.
    pub fn is_forgiven(&self, node: &Lacking) -> bool {
        self.dropped.get(&node.name).is_some_and(Dropped::is_forgiven)
            && self.uids.get(&node.name) == Some(&node.uid)
    }

    /// How many nodes are targets, or were and are forgiven for what they lack.
    pub fn n_with_forgiven(&self) -> usize {
        self.nodes.len() + self.dropped.values().filter(|it| it.is_forgiven()).count()
    }

    /// Takes back what pods proved: they may have been made of something else.
    pub fn forget_proof(&mut self) {
        for target in self.nodes.values_mut() {
            target.lacking.append(&mut target.pulled);
            target.failures.clear();
            target.digested_names.clear();
        }
    }

    /// The others' pods were not among those that there are.
    pub fn keep_pods_of(&mut self, names: &BTreeSet<String>) {
        for (name, target) in &mut self.nodes {
            if !names.contains(name) {
                target.pod = None;
            }
        }
    }

    /// Other pods will be made; what these proved is proved.
    pub fn forget_pods(&mut self) {
        for target in self.nodes.values_mut() {
            (target.pod, target.obstacle, target.complaint) = (None, None, None);
        }
        self.pods.clear();
        self.has_older_pods_than = None;
    }

    /// The names of all targets, finished or not.
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

    /// Takes in that a node lists images that it lacked: somebody else pulled them.
    pub fn observe_list(&mut self, name: &str, lacking: Option<&Lacking>) {
        let Some(target) = self.nodes.get_mut(name) else { return };
        let listed = |it: &&usize| lacking.is_none_or(|lacking| !lacking.images.contains_key(it));
        for place in target.lacking.iter().filter(listed).copied().collect::<Vec<_>>() {
            target.lacking.remove(&place);
            target.failures.remove(&Item::Image(place));
            target.pulled.insert(place);
        }
    }

    /// Adds the node of a pod that is not known yet: where nodes may not be listed, the pods name
    /// them, and a uid is not to be had.
    pub fn discover(&mut self, pod: &Pod) {
        let Some(name) = pod.node_name().or(pod.meant_for()) else { return };
        if !self.nodes.contains_key(name)
            && !self.dropped.get(name).is_some_and(Dropped::is_forgiven)
        {
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
        let Some(name) = pod.node_name() else {
            if let Some(target) = pod.meant_for().and_then(|it| self.nodes.get_mut(it)) {
                target.pod = Some(pod.named());
                target.obstacle = pod.unschedulable().map(unschedulable);
            }
            return;
        };
        let Some(target) = self.nodes.get_mut(name) else { return };
        // It was made for another machine of this name, and tells of that one.
        if pod.metadata.creation_timestamp < target.created {
            target.pod = Some(pod.named());
            let words = "its pod was made for another machine of this name".into();
            target.obstacle = Some(Obstacle::Other { words, advice: "" });
            let created = Some(target.created.clone());
            self.has_older_pods_than = self.has_older_pods_than.take().max(created);
            return;
        }
        self.pods.insert(pod.metadata.uid.clone(), name.into());
        if target.pod.as_ref().is_none_or(|it| it.uid != pod.metadata.uid) {
            target.complaint = None;
        }
        target.pod = Some(pod.named());
        target.obstacle = obstacle(pod);
        for status in &pod.status.container_statuses {
            // Containers that a webhook put into the pod are none of ours.
            let Some(&place) = self.containers.get(&status.name) else { continue };
            if status.proves_image() {
                if target.lacking.remove(&place) {
                    target.pulled.insert(place);
                }
                // What was there already was counted by the survey.
                if let (true, Some(name)) = (target.pulled.contains(&place), status.digested_name())
                {
                    let name = match self.digested_names.get(name) {
                        Some(known) => Rc::clone(known),
                        None => Rc::from(name),
                    };
                    self.digested_names.insert(Rc::clone(&name));
                    target.digested_names.insert(place, name);
                }
                target.failures.remove(&Item::Image(place));
            } else {
                target.note_status(Item::Image(place), status);
            }
        }
        let own = pod.status.init_container_statuses.iter().find(|it| it.name == INSTALL);
        target.has_started = own.is_some_and(ContainerStatus::proves_image);
        match own {
            Some(status) if status.proves_image() => {
                target.has_own_image = true;
                target.failures.remove(&Item::OwnImage);
            }
            Some(status) => target.note_status(Item::OwnImage, status),
            None => {}
        }
    }

    /// Takes in an event of one of the group's pods. Unlike a pod's status, which the kubelet
    /// writes only after its whole pass over the pod's images, events are immediate.
    pub fn observe_event(&mut self, event: &Event) {
        if event.container().is_none() {
            self.observe_complaint(event);
            return;
        }
        let cause = match event.reason.as_str() {
            // The same reason without these words only repeats the waiting reason.
            "Failed" => event.message.strip_prefix("Failed to pull image "),
            "ErrImageNeverPull" | "InspectFailed" => Some(event.message.as_str()),
            _ => None,
        };
        let (Some(cause), Some(item)) = (cause, self.item_of(event)) else { return };
        let node = self.pods.get(&event.involved_object.uid);
        let Some(target) = node.and_then(|it| self.nodes.get_mut(it)) else { return };
        let concerns = match item {
            Item::Image(place) => target.lacking.contains(&place),
            Item::OwnImage => !target.has_own_image,
        };
        if !concerns {
            return;
        }
        let message = without_image(cause);
        let failure = target.note(item, judge(&event.reason, message), message);
        if let Some(failure) = failure {
            let count = u32::try_from(event.count.max(1)).unwrap_or(u32::MAX);
            failure.events.insert(event.metadata.uid.clone(), count);
            let told = failure.events.values().fold(0u32, |sum, it| sum.saturating_add(*it));
            failure.attempts = failure.attempts.max(told);
        }
    }

    /// Takes in an event about a pod as a whole.
    fn observe_complaint(&mut self, event: &Event) {
        let node = self.pods.get(&event.involved_object.uid);
        let Some(target) = node.and_then(|it| self.nodes.get_mut(it)) else { return };
        if event.reason == NO_PULL_SECRET {
            let secrets = event.message.split_once('(').and_then(|(_, it)| it.split_once(')'));
            let secrets = secrets.into_iter().flat_map(|(it, _)| it.split(", "));
            self.missing_secrets.extend(secrets.map(str::to_owned));
        } else if COMPLAINTS.contains(&event.reason.as_str())
            && target.pod.as_ref().is_some_and(|it| it.uid == event.involved_object.uid)
        {
            target.complaint = Some(one_line(&format!("{}: {}", event.reason, event.message)));
        }
    }

    fn item_of(&self, event: &Event) -> Option<Item> {
        match event.container()? {
            INSTALL => Some(Item::OwnImage),
            name => self.containers.get(name).map(|it| Item::Image(*it)),
        }
    }

    /// The nodes on which a pull of these fails for good, and whether everything that they still
    /// lack does.
    pub fn failing<'a>(
        &'a self,
        items: &'a BTreeSet<Item>,
    ) -> impl Iterator<Item = (&'a str, Failing)> {
        self.unfinished().filter_map(|(name, target)| {
            let fails = |it: &Item| {
                let failure = target.failures.get(it);
                items.contains(it) && failure.is_some_and(Failure::is_permanent)
            };
            if fails(&Item::OwnImage) {
                return Some((name, Failing::Wholly));
            }
            let n_failing = target.lacking.iter().filter(|it| fails(&Item::Image(**it))).count();
            match n_failing {
                0 => None,
                n if n == target.lacking.len() => Some((name, Failing::Wholly)),
                _ => Some((name, Failing::Partly)),
            }
        })
    }

    /// The pulls that will not succeed whatever is waited for.
    pub fn certain_failures(&self) -> BTreeSet<Item> {
        let mut nodes_failing: BTreeMap<Item, usize> = BTreeMap::new();
        let mut certain = BTreeSet::new();
        for (_, target) in self.unfinished() {
            for (item, failure) in &target.failures {
                if !failure.is_permanent() {
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

/// How much of what a node lacks fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failing {
    /// Something else that it lacks may come yet.
    Partly,
    /// All of it.
    Wholly,
}

impl Failure {
    fn is_permanent(&self) -> bool {
        self.verdict.outlook == Outlook::Permanent
    }
}

impl Target {
    /// What the node is waited for where a pod is meant for it, as far as no pull has failed.
    pub fn waiting_for(&self) -> &str {
        match &self.obstacle {
            Some(Obstacle::NoRoom(words) | Obstacle::Other { words, .. }) => words,
            None if self.pod.is_some() => {
                let complaint = self.complaint.as_deref().filter(|_| !self.has_started);
                complaint.unwrap_or("the pull has not ended")
            }
            None => "no pod was made there: look at the events of the DaemonSet",
        }
    }

    /// What to do about that, or nothing: most of it passes by itself.
    pub fn advice(&self) -> &'static str {
        match &self.obstacle {
            Some(Obstacle::Other { advice, .. }) => advice,
            // A node that runs as many pods as it may is forgiven, if there is time for it.
            Some(Obstacle::NoRoom(_)) | None => "",
        }
    }

    /// Whether something may be on its way there: a pod is on the node, and not every image that
    /// it lacks has failed. What the kubelet does at the moment, no status says.
    pub fn may_be_pulling(&self) -> bool {
        let has_failed = |it: &usize| self.failures.contains_key(&Item::Image(*it));
        self.pod.is_some()
            && self.obstacle.is_none()
            && !self.failures.contains_key(&Item::OwnImage)
            && !self.lacking.iter().all(has_failed)
    }

    fn note_status(&mut self, item: Item, status: &ContainerStatus) {
        let Some(waiting) = &status.state.waiting else { return };
        if !FAILED_PULL.contains(&waiting.reason.as_str()) {
            return;
        }
        // Since Kubernetes 1.32 the message of a back-off ends with the error of the pull before
        // it; earlier ones only say that there is a back-off.
        let message = match waiting.reason.as_str() {
            BACK_OFF => match waiting.message.split_once(": ErrImagePull: ") {
                Some((_, cause)) => cause,
                None => {
                    if let Some(failure) = self.failures.get_mut(&item) {
                        failure.backed_off = true;
                    }
                    return;
                }
            },
            _ => waiting.message.as_str(),
        };
        let Some(failure) = self.note(item, judge(&waiting.reason, message), message) else {
            return;
        };
        // An error after a back-off is that of the next attempt. The kubelet may have written no
        // event of it: it writes at most 25 about a pod, and then one in five minutes
        // (`EventSourceObjectSpamFilter` in `client-go/tools/record/events_cache.go`).
        if waiting.reason != BACK_OFF && failure.backed_off {
            failure.attempts = failure.attempts.saturating_add(1);
        }
        failure.backed_off = waiting.reason == BACK_OFF;
    }

    /// The failure of this outlook, new or known. A permanent one takes the place of a transient
    /// one with all that was known of that: what passed by itself is no attempt that failed for
    /// good. The other way round nothing changes, because events come in no order.
    fn note(&mut self, item: Item, verdict: Verdict, message: &str) -> Option<&mut Failure> {
        let known = self.failures.get(&item).map(|it| it.verdict.outlook);
        if known == Some(Outlook::Permanent) && verdict.outlook == Outlook::Transient {
            return None;
        }
        if known != Some(verdict.outlook) {
            self.failures.insert(
                item,
                Failure {
                    attempts: 1,
                    message: String::new(),
                    verdict,
                    events: BTreeMap::new(),
                    backed_off: false,
                },
            );
        }
        let failure = self.failures.get_mut(&item)?;
        failure.message = one_line(in_short(message));
        failure.verdict = verdict;
        Some(failure)
    }
}

/// The runtime's words without those that say nothing: how the kubelet asked it, and the image.
fn in_short(message: &str) -> &str {
    let message = match message.strip_prefix("rpc error: code = ") {
        Some(rest) => rest.split_once(" desc = ").map_or(message, |(_, cause)| cause),
        None => message,
    };
    message.strip_prefix("failed to pull and unpack image ").map_or(message, without_image)
}

/// Strips the quoted image from `"x:1": cause`: the reader is told the image already.
fn without_image(cause: &str) -> &str {
    cause.strip_prefix('"').and_then(|it| it.split_once("\": ")).map_or(cause, |(_, cause)| cause)
}

/// What keeps a pod from pulling at all.
fn obstacle(pod: &Pod) -> Option<Obstacle> {
    if pod.status.phase == "Failed" {
        let words = match pod.status.message.as_str() {
            "" => format!("its pod failed: {}", pod.status.reason),
            message => format!("its pod failed: {}: {message}", pod.status.reason),
        };
        return Some(match pod.status.reason.as_str() {
            OUT_OF_PODS => Obstacle::NoRoom(one_line(&words)),
            _ => Obstacle::Other { words: one_line(&words), advice: "" },
        });
    }
    let install = pod.status.init_container_statuses.iter().find(|it| it.name == INSTALL)?;
    let waiting = install.state.waiting.as_ref()?;
    (install.proves_image() && !waiting.message.is_empty())
        .then(|| format!("prepull's own program does not run there: {}", waiting.message))
        .map(|it| Obstacle::Other { words: one_line(&it), advice: KEEP_AWAY })
}

/// What the scheduler says of a pod that it finds no node for. The pod is meant for one node, so
/// that among the reasons for all nodes a lack of room is about this one.
fn unschedulable(message: &str) -> Obstacle {
    let words = one_line(&format!("its pod has no room: {message}"));
    if message.contains(INSUFFICIENT) {
        return Obstacle::Other { words, advice: MAKE_ROOM };
    }
    match message.contains(TOO_MANY_PODS) {
        true => Obstacle::NoRoom(words),
        false => Obstacle::Other { words, advice: "" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::Presence;

    const NOT_FOUND: &str = "Failed to pull image \"q.io/a:1\": rpc error: code = NotFound desc = \
                             failed to resolve image: q.io/a:1: not found";
    const TIMEOUT: &str = "Failed to pull image \"q.io/a:1\": dial tcp: i/o timeout";

    /// Nodes of a later uid are younger.
    fn created_of(uid: &str) -> String {
        let minute = if uid.contains("new") { 30 } else { 10 };
        format!("2024-01-01T00:{minute}:00Z")
    }

    fn lacking(name: &str, uid: &str) -> Lacking {
        let images = BTreeMap::from([(0, Presence::Absent), (1, Presence::Unknown)]);
        Lacking { name: name.into(), uid: uid.into(), created: created_of(uid), images }
    }

    fn targets(n_nodes: usize) -> Targets {
        let nodes: Vec<_> =
            (1..=n_nodes).map(|it| lacking(&format!("n{it}"), &format!("uid-n{it}"))).collect();
        Targets::new(&nodes, BTreeMap::from([("01-a".into(), 0), ("02-b".into(), 1)]))
    }

    /// A pod on a node, with these states of its containers.
    fn pod(node: &str, init: &str, containers: &[(&str, &str)]) -> Pod {
        let statuses: Vec<_> = containers
            .iter()
            .map(|(name, state)| format!(r#"{{"name": "{name}", "state": {state}}}"#))
            .collect();
        let json = format!(
            r#"{{
                "metadata": {{
                    "name": "p", "uid": "pod-{node}", "creationTimestamp": "2024-01-01T01:00:00Z"
                }},
                "spec": {{"nodeName": "{node}"}},
                "status": {{
                    "initContainerStatuses": [{{"name": "install", "state": {init}}}],
                    "containerStatuses": [{}]
                }}}}"#,
            statuses.join(",")
        );
        serde_json::from_str(&json).unwrap()
    }

    fn event(node: &str, container: &str, reason: &str, message: &str, count: i64) -> Event {
        let list = if container == INSTALL { "initContainers" } else { "containers" };
        let mut event =
            Event { reason: reason.into(), message: message.into(), count, ..Event::default() };
        event.involved_object.uid = format!("pod-{node}");
        event.involved_object.field_path = format!("spec.{list}{{{container}}}");
        event
    }

    const RUNS: &str = r#"{"running": {}}"#;
    const WAITS: &str = r#"{"waiting": {"reason": "PodInitializing"}}"#;
    const DONE: &str = r#"{"terminated": {"reason": "Completed"}}"#;

    #[test]
    fn a_pod_proves_images_by_the_names_of_its_containers() {
        let mut targets = targets(2);
        assert_eq!(targets.n_lacking(), 4);
        targets.observe_pod(&pod("n1", DONE, &[("istio", RUNS), ("02-b", RUNS), ("01-a", WAITS)]));
        assert_eq!(targets.nodes["n1"].lacking, BTreeSet::from([0]));
        assert_eq!(targets.nodes["n1"].pulled, BTreeSet::from([1]));
        assert_eq!(targets.n_lacking(), 3);
        // What was there once is there, whatever becomes of the pod.
        targets.observe_pod(&pod("n1", WAITS, &[("01-a", WAITS), ("02-b", WAITS)]));
        assert_eq!(targets.n_lacking(), 3);
        targets.observe_pod(&pod("n9", DONE, &[("01-a", RUNS)]));
        targets.observe_pod(&pod("", DONE, &[("01-a", RUNS)]));
        assert_eq!(targets.n_lacking(), 3);
        assert_eq!(targets.unfinished().count(), 2);
    }

    /// The kubelet calls a pod `Running` whose containers crash, whatever the others do.
    #[test]
    fn the_phase_of_a_pod_proves_nothing() {
        for phase in ["Running", "Succeeded", "Failed"] {
            let mut targets = targets(1);
            let mut pod = pod("n1", DONE, &[("01-a", WAITS), ("02-b", WAITS)]);
            pod.status.phase = phase.into();
            targets.observe_pod(&pod);
            assert_eq!(targets.n_lacking(), 2, "{phase}");
        }
    }

    #[test]
    fn one_node_is_certain_after_two_attempts() {
        let mut targets = targets(3);
        targets.observe_pod(&pod("n1", DONE, &[("01-a", WAITS), ("02-b", WAITS)]));
        targets.observe_event(&event("n1", "01-a", "Failed", NOT_FOUND, 1));
        assert_eq!(targets.certain_failures(), BTreeSet::new());
        targets.observe_event(&event("n1", "01-a", "Failed", NOT_FOUND, 2));
        assert_eq!(targets.certain_failures(), BTreeSet::from([Item::Image(0)]));
        let failure = &targets.nodes["n1"].failures[&Item::Image(0)];
        assert_eq!(failure.message, "failed to resolve image: q.io/a:1: not found");
        // It came after all.
        targets.observe_pod(&pod("n1", DONE, &[("01-a", RUNS), ("02-b", WAITS)]));
        assert_eq!(targets.certain_failures(), BTreeSet::new());
        targets.observe_event(&event("n1", "01-a", "Failed", NOT_FOUND, 2));
        assert_eq!(targets.certain_failures(), BTreeSet::new());
    }

    #[test]
    fn three_nodes_are_certain_at_once() {
        let mut targets = targets(3);
        for (node, certain) in [("n1", false), ("n2", false), ("n3", true)] {
            targets.observe_pod(&pod(node, WAITS, &[]));
            targets.observe_event(&event(node, INSTALL, "Failed", NOT_FOUND, 1));
            assert_eq!(targets.certain_failures().contains(&Item::OwnImage), certain, "{node}");
        }
    }

    #[test]
    fn transient_failures_are_never_certain() {
        let mut targets = targets(3);
        for node in ["n1", "n2", "n3"] {
            targets.observe_pod(&pod(node, DONE, &[]));
            targets.observe_event(&event(node, "01-a", "Failed", TIMEOUT, 50));
        }
        assert_eq!(targets.certain_failures(), BTreeSet::new());
    }

    #[test]
    fn events_of_other_pods_and_of_other_kinds_say_nothing() {
        let mut targets = targets(1);
        targets.observe_pod(&pod("n1", DONE, &[("01-a", WAITS)]));
        for event in [
            event("n2", "01-a", "Failed", NOT_FOUND, 9),
            event("n1", "istio", "Failed", NOT_FOUND, 9),
            event("n1", "01-a", "Failed", "Error: ErrImagePull", 9),
            event("n1", "01-a", "BackOff", "Back-off pulling image \"q.io/a:1\"", 9),
            event("n1", "01-a", "Unhealthy", NOT_FOUND, 9),
            // Our own image is there, or this container could not wait.
            event("n1", INSTALL, "Failed", NOT_FOUND, 9),
        ] {
            targets.observe_event(&event);
            assert!(targets.nodes["n1"].failures.is_empty(), "{event:?}");
        }
        targets.observe_event(&event("n1", "01-a", "ErrImageNeverPull", "never", 2));
        assert_eq!(targets.certain_failures(), BTreeSet::from([Item::Image(0)]));
    }

    #[test]
    fn a_waiting_reason_tells_the_failure_too() {
        for (reason, message, known) in [
            ("ErrImagePull", "x: not found", Some("x: not found")),
            (
                "ImagePullBackOff",
                r#"Back-off pulling image \"x\": ErrImagePull: x: not found"#,
                Some("x: not found"),
            ),
            ("ImagePullBackOff", r#"Back-off pulling image \"x\""#, None),
            ("InvalidImageName", "bad", Some("bad")),
            ("ContainerCreating", "", None),
        ] {
            let state =
                format!(r#"{{"waiting": {{"reason": "{reason}", "message": "{message}"}}}}"#);
            let mut targets = targets(1);
            targets.observe_pod(&pod("n1", DONE, &[("01-a", &state)]));
            let found = targets.nodes["n1"].failures.get(&Item::Image(0));
            assert_eq!(found.map(|it| it.message.as_str()), known, "{reason}: {message}");
        }
    }

    #[test]
    fn a_pod_that_can_not_pull_says_why() {
        let mut targets = targets(1);
        let obstacle = |targets: &Targets| match &targets.nodes["n1"].obstacle {
            Some(Obstacle::Other { words, .. }) => words.clone(),
            Some(Obstacle::NoRoom(_)) => panic!("there is room"),
            None => String::new(),
        };
        let mut failed = pod("n1", WAITS, &[]);
        failed.status.phase = "Failed".into();
        failed.status.reason = "Evicted".into();
        targets.observe_pod(&failed);
        assert_eq!(obstacle(&targets), "its pod failed: Evicted");
        failed.status.message = "no memory".into();
        targets.observe_pod(&failed);
        assert_eq!(obstacle(&targets), "its pod failed: Evicted: no memory");
        let state = r#"{"waiting": {"reason": "RunContainerError", "message": "exec format"}}"#;
        targets.observe_pod(&pod("n1", state, &[]));
        assert_eq!(obstacle(&targets), "prepull's own program does not run there: exec format");
        targets.observe_pod(&pod("n1", DONE, &[]));
        assert_eq!(obstacle(&targets), "");
    }

    #[test]
    fn a_node_that_was_dropped_may_come_back() {
        let mut targets = targets(2);
        targets.drop_node("n2", Dropped::Gone);
        targets.drop_node("n9", Dropped::Gone);
        assert_eq!(targets.names(), ["n1"]);
        assert_eq!(targets.dropped, BTreeMap::from([("n2".to_owned(), Dropped::Gone)]));
        targets.add(&lacking("n2", "uid-new"));
        assert_eq!(targets.names(), ["n1", "n2"]);
        assert!(targets.dropped.is_empty());
    }

    #[test]
    fn a_node_under_a_new_uid_has_nothing() {
        let mut targets = targets(1);
        targets.observe_pod(&pod("n1", DONE, &[("01-a", RUNS), ("02-b", RUNS)]));
        assert_eq!(targets.n_lacking(), 0);
        assert_eq!(targets.add(&lacking("n1", "uid-n1")), Added::Known);
        assert_eq!(targets.n_lacking(), 0);
        assert_eq!(targets.add(&lacking("n1", "uid-new")), Added::Replaced);
        assert_eq!(targets.n_lacking(), 2);
        assert_eq!(targets.add(&lacking("n2", "uid-n2")), Added::New);
        // It was replaced while it was no target.
        targets.drop_node("n2", Dropped::Gone);
        assert_eq!(targets.add(&lacking("n2", "uid-newer")), Added::Replaced);
    }

    #[test]
    fn a_puller_is_believed_that_is_younger_than_its_nodes() {
        let mut targets = targets(1);
        assert!(targets.are_older_than("2024-01-01T00:10:01Z"));
        assert!(!targets.are_older_than("2024-01-01T00:10:00Z"));
        targets.add(&lacking("n2", "uid-new"));
        assert!(!targets.are_older_than("2024-01-01T00:30:00Z"));
        assert!(targets.are_older_than("2024-01-01T01:00:00Z"));
        assert!(Targets::default().are_older_than(""));
    }

    /// A registry that comes up refuses connections first, and knows no images then.
    #[test]
    fn one_permanent_failure_after_transient_ones_is_one() {
        let mut targets = targets(1);
        targets.observe_pod(&pod("n1", DONE, &[("01-a", WAITS)]));
        targets.observe_event(&event("n1", "01-a", "Failed", TIMEOUT, 3));
        targets.observe_event(&event("n1", "01-a", "Failed", NOT_FOUND, 1));
        assert_eq!(targets.certain_failures(), BTreeSet::new());
    }

    fn attempts(targets: &Targets) -> u32 {
        targets.nodes["n1"].failures.get(&Item::Image(0)).map_or(0, |it| it.attempts)
    }

    /// A runtime whose words have the time or an id in them makes another event of every attempt.
    #[test]
    fn attempts_in_other_words_are_attempts() {
        let mut targets = targets(1);
        targets.observe_pod(&pod("n1", DONE, &[("01-a", WAITS)]));
        for (uid, message, n_attempts) in
            [("e1", "at 10:00", 1), ("e1", "at 10:00", 1), ("e2", "at 10:01", 2)]
        {
            let message = format!("{NOT_FOUND} {message}");
            let mut event = event("n1", "01-a", "Failed", &message, 1);
            event.metadata.uid = uid.into();
            targets.observe_event(&event);
            assert_eq!(attempts(&targets), n_attempts, "{uid}");
        }
        assert_eq!(targets.certain_failures(), BTreeSet::from([Item::Image(0)]));
    }

    /// The kubelet writes few events about one pod; its status goes on.
    #[test]
    fn an_error_after_a_back_off_is_another_attempt() {
        let error = r#"{"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}"#;
        let timeout = r#"{"waiting": {"reason": "ErrImagePull", "message": "i/o timeout"}}"#;
        let bare = r#"{"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}"#;
        let told = r#"{"waiting": {"reason": "ImagePullBackOff",
                       "message": "Back-off pulling: ErrImagePull: manifest unknown"}}"#;
        for (states, n_attempts) in [
            (&[error, bare, error][..], 2),
            (&[error, told, error], 2),
            (&[told, error], 2),
            (&[error, bare, bare, error, error, bare, error], 3),
            (&[error, error], 1),
            (&[error, told, told, bare], 1),
            (&[told, told, told], 1),
            (&[bare, bare], 0),
            // A server that was away, and then has no such image.
            (&[timeout, bare, error], 1),
        ] {
            let mut targets = targets(1);
            for state in states {
                targets.observe_pod(&pod("n1", DONE, &[("01-a", state)]));
            }
            assert_eq!(attempts(&targets), n_attempts, "{states:?}");
            let is_certain = !targets.certain_failures().is_empty();
            assert_eq!(is_certain, n_attempts > 1, "{states:?}");
        }
        let mut targets = targets(1);
        for state in [timeout, bare, timeout, bare, timeout] {
            targets.observe_pod(&pod("n1", DONE, &[("01-a", state)]));
            assert_eq!(targets.certain_failures(), BTreeSet::new());
        }
    }

    #[test]
    fn a_pod_without_a_node_is_an_obstacle_of_the_one_it_is_meant_for() {
        let mut targets = targets(2);
        let none = "no pod was made there: look at the events of the DaemonSet";
        assert_eq!(targets.nodes["n1"].waiting_for(), none);
        let pod: Pod = serde_json::from_str(
            r#"{
                "metadata": {"name": "p", "uid": "pod"},
                "spec": {"affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchFields": [
                            {"key": "metadata.name", "operator": "In", "values": ["n1"]}
                        ]}
                    ]}
                }}},
                "status": {"phase": "Pending", "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                     "message": "0/2 nodes are available: 1 Too many pods"}
                ]}
            }"#,
        )
        .unwrap();
        targets.observe_pod(&pod);
        let room = "its pod has no room: 0/2 nodes are available: 1 Too many pods";
        assert_eq!(targets.nodes["n1"].waiting_for(), room);
        assert_eq!(targets.nodes["n2"].waiting_for(), none);
        let mut scheduled = pod.clone();
        scheduled.status.conditions.clear();
        targets.observe_pod(&scheduled);
        assert_eq!(targets.nodes["n1"].waiting_for(), "the pull has not ended");
    }

    #[test]
    fn what_a_node_comes_to_list_is_there() {
        let mut targets = targets(2);
        targets.observe_pod(&pod("n1", DONE, &[("01-a", WAITS)]));
        targets.observe_event(&event("n1", "01-a", "Failed", NOT_FOUND, 2));
        let images = BTreeMap::from([(1, Presence::Absent)]);
        let rest = Lacking { images, ..lacking("n1", "uid-n1") };
        targets.observe_list("n1", Some(&rest));
        assert_eq!(targets.nodes["n1"].lacking, BTreeSet::from([1]));
        assert_eq!(targets.nodes["n1"].pulled, BTreeSet::from([0]));
        assert_eq!(targets.certain_failures(), BTreeSet::new());
        targets.observe_list("n2", None);
        assert_eq!(targets.n_lacking(), 1);
    }

    #[test]
    fn words_of_others_are_kept_on_one_line() {
        let mut targets = targets(1);
        targets.observe_pod(&pod("n1", DONE, &[("01-a", WAITS)]));
        let message = "Failed to pull image \"x\": first\nsecond: not found";
        targets.observe_event(&event("n1", "01-a", "Failed", message, 1));
        let failure = &targets.nodes["n1"].failures[&Item::Image(0)];
        assert_eq!(failure.message, "first second: not found");
    }
}

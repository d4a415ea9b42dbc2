//! Nodes, as they are and as they say they are.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prepull::image::ImageRef;
use prepull::node::{Node, NodeCondition, NodeImage, Placement, Taint, Toleration};

use super::{epoch, timestamp};

/// The scheduler's words for a node that runs as many pods as it may.
pub const TOO_MANY_PODS: &str = "1 Too many pods";
/// What a kubelet lists at most.
const LISTED_IMAGES: usize = 50;
const LISTED_NAMES: usize = 5;

#[derive(Clone, Debug)]
pub struct ModelNode {
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub cordoned: bool,
    pub ready: bool,
    /// What its kubelet does while it is not ready.
    pub lost: Lost,
    /// Whether the scheduler finds room for one more pod.
    pub has_room: bool,
    /// What there is not enough of, in the scheduler's words.
    pub lack: &'static str,
    /// The reason for which its kubelet refuses every new pod.
    pub refuses: Option<&'static str>,
    pub pulls: Pulls,
    pub images: Vec<Stored>,
    pub runtime: String,
    pub created: SystemTime,
    /// When it last came, or changed in a way that lets pods onto it.
    pub opened_at: Duration,
    pub busy_until: Duration,
}

/// Why nothing is heard of a node that is not ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lost {
    /// Its kubelet goes on, but reaches no API server.
    CutOff,
    /// Its kubelet does nothing.
    Dead,
}

/// The kubelet's `serializeImagePulls`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pulls {
    AtOnce,
    OneByOne,
}

/// An image on a node's disk.
#[derive(Clone, Debug)]
pub struct Stored {
    pub names: Vec<String>,
    pub size: u64,
    pub listed_at: Duration,
    /// What its tag stood for when it was pulled: every move of the tag adds one.
    pub version: u32,
}

impl Stored {
    pub fn new(image: &str, listed_at: Duration) -> Self {
        Self { names: vec![listed_name(image).to_string()], size: 1000, listed_at, version: 0 }
    }
}

impl ModelNode {
    /// A ready node with nothing on it but what every node has.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            uid: String::new(),
            labels: BTreeMap::from([("kubernetes.io/os".into(), "linux".into())]),
            taints: vec![],
            cordoned: false,
            ready: true,
            lost: Lost::Dead,
            has_room: true,
            lack: TOO_MANY_PODS,
            refuses: None,
            pulls: Pulls::OneByOne,
            images: vec![Stored::new("registry.k8s.io/pause:3.10", Duration::ZERO)],
            runtime: "containerd://2.1.0".into(),
            created: epoch() - Duration::from_secs(3600),
            opened_at: Duration::ZERO,
            busy_until: Duration::ZERO,
        }
    }

    pub fn with(mut self, images: &[&str]) -> Self {
        self.images.extend(images.iter().map(|it| Stored::new(it, Duration::ZERO)));
        self
    }

    /// The truth about the node's disk, whatever its list says.
    pub fn holds(&self, image: &str) -> bool {
        self.stored(&listed_name(image)).is_some()
    }

    /// The same by the name under which it would be listed.
    pub fn stored(&self, listed_name: &str) -> Option<&Stored> {
        self.images.iter().find(|it| it.names.iter().any(|name| name == listed_name))
    }

    /// Takes an image in that was pulled.
    pub fn store(&mut self, image: &str, version: u32, listed_at: Duration) {
        let name = listed_name(image);
        match self.images.iter_mut().find(|it| it.names.iter().any(|it| **it == *name)) {
            Some(known) => known.version = version,
            None => self.images.push(Stored { version, ..Stored::new(image, listed_at) }),
        }
    }

    /// Whether the release's own pods, placed so, may start on it.
    pub fn may_run(&self, placement: &Placement) -> bool {
        let selector = &placement.node_selector;
        let is_selected = selector.iter().all(|(key, value)| self.labels.get(key) == Some(value));
        let tolerates = |it: &Toleration, taint: &Taint| {
            (it.key.is_empty() || it.key == taint.key)
                && (it.effect.is_empty() || it.effect == taint.effect)
                && (it.operator == "Exists" || it.value == taint.value)
        };
        let is_tolerated =
            |taint: &Taint| placement.tolerations.iter().any(|it| tolerates(it, taint));
        self.ready && !self.cordoned && is_selected && self.taints.iter().all(is_tolerated)
    }

    /// Whether it runs as many pods as it may, and lacks nothing else.
    pub fn is_full(&self) -> bool {
        let is_short = !self.has_room && self.lack.contains("Too many pods");
        is_short && !self.lack.contains("Insufficient") || self.refuses == Some("OutOfpods")
    }

    pub fn is_dead(&self) -> bool {
        !self.ready && self.lost == Lost::Dead
    }

    pub fn is_cut_off(&self) -> bool {
        !self.ready && self.lost == Lost::CutOff
    }

    /// The Node object as the API server shows it.
    pub fn object(&self, now: Duration) -> Node {
        let mut node = Node::default();
        node.metadata.name = self.name.clone();
        node.metadata.uid = self.uid.clone();
        node.metadata.creation_timestamp = timestamp(self.created);
        node.metadata.labels = self.labels.clone();
        node.spec.unschedulable = self.cordoned;
        node.spec.taints = self.all_taints();
        let status = if self.ready { "True" } else { "Unknown" };
        node.status.conditions =
            vec![NodeCondition { kind: "Ready".into(), status: status.into() }];
        let mut images: Vec<_> = self.images.iter().filter(|it| it.listed_at <= now).collect();
        images.sort_by_key(|it| usize::MAX - it.size as usize);
        node.status.images = images
            .into_iter()
            .take(LISTED_IMAGES)
            .map(|it| NodeImage { names: it.names.iter().take(LISTED_NAMES).cloned().collect() })
            .collect();
        node.status.node_info.container_runtime_version = self.runtime.clone();
        node
    }

    /// Its own taints and those that the node lifecycle controller adds.
    pub fn all_taints(&self) -> Vec<Taint> {
        let taint = |key: &str, effect: &str| Taint {
            key: format!("node.kubernetes.io/{key}"),
            value: String::new(),
            effect: effect.into(),
        };
        let mut taints = self.taints.clone();
        if self.cordoned {
            taints.push(taint("unschedulable", "NoSchedule"));
        }
        if !self.ready {
            taints.extend([taint("unreachable", "NoSchedule"), taint("unreachable", "NoExecute")]);
        }
        taints
    }
}

/// The name under which a node lists an image.
pub fn listed_name(image: &str) -> Rc<str> {
    thread_local! {
        /// A few images are asked for again and again.
        static NAMES: RefCell<HashMap<String, Rc<str>>> = RefCell::default();
    }
    let parsed = || ImageRef::parse(image).expect("the model is given valid images").listed_name();
    NAMES.with_borrow_mut(|names| match names.get(image) {
        Some(name) => Rc::clone(name),
        None => Rc::clone(names.entry(image.into()).or_insert_with(|| parsed().into())),
    })
}

//! The survey: pages of nodes in, who lacks what out.
//!
//! A node's own list of images is a good proof of presence and no proof of absence: the kubelet
//! lists at most 50 images, the largest first, under at most five names each, up to 41 seconds
//! late. Hence three states. Only what a node lacks is kept of it, so that memory is one page of
//! nodes and not the cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::{ImageRef, PullPolicy};
use crate::node::{LeftOut, Node, NodeImage, Placement, eligible};
use crate::words::NAMES_SHOWN;

/// `nodeStatusMaxImages`: a list of so many images may have been cut.
///
/// Source: `SetDefaults_KubeletConfiguration` in `pkg/kubelet/apis/config/v1beta1/defaults.go`.
const LISTED_IMAGES: usize = 50;
/// `MaxNamesPerImageInNodeStatus`: an entry with so many names may have been cut.
///
/// Source: `pkg/kubelet/nodestatus/setters.go`.
const LISTED_NAMES: usize = 5;
/// How `status.nodeInfo.containerRuntimeVersion` of a CRI-O node starts.
const CRI_O: &str = "cri-o://";

/// An image that every node of its group must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which it is.
    pub image: ImageRef,
    /// With `Always` a node's list proves nothing.
    pub pull_policy: PullPolicy,
}

/// Images that go to the same nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Which nodes these are.
    pub placement: Placement,
    /// Places in the list of wanted images.
    pub images: Vec<usize>,
}

/// What one node's list says about one image.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Presence {
    /// Not listed, and the list is complete.
    Absent,
    /// Listed.
    Present,
    /// Not listed in a list that may have been cut, or to be asked of the registry in any case.
    Unknown,
}

/// What a survey found.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Those that were taken in, the ones left out among them.
    pub n_nodes: usize,
    /// One for each group, in the same order.
    pub groups: Vec<GroupSurvey>,
    /// The names of the nodes that no group may go to, by the reason the first group gives.
    pub left_out: BTreeMap<LeftOut, Vec<String>>,
    /// For each image with a tag, by its place: the digests under which nodes list it.
    pub digests: BTreeMap<usize, BTreeMap<String, Holders>>,
    /// Images that CRI-O nodes can not be asked for, because they name no registry.
    pub unmatchable: BTreeSet<usize>,
}

/// What a survey found for one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupSurvey {
    /// The eligible nodes: uid to name.
    pub eligible: BTreeMap<String, String>,
    /// The eligible nodes that lack something, in the order of the list.
    pub lacking: Vec<Lacking>,
    /// The others: name to reason.
    pub left_out: BTreeMap<String, LeftOut>,
}

/// Nodes that hold the same thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holders {
    /// All of them.
    pub n_nodes: usize,
    /// The first few of them.
    pub names: Vec<String>,
}

/// A node that lacks images.
#[derive(Clone, Debug, PartialEq)]
pub struct Lacking {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`, which another machine of the same name does not share.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: String,
    /// Each image that is not known to be present, by its place in the list of wanted images.
    pub images: BTreeMap<usize, Presence>,
}

impl Survey {
    /// A survey that has seen no node yet.
    pub fn new(groups: &[Group]) -> Self {
        Self {
            n_nodes: 0,
            groups: groups.iter().map(|_| GroupSurvey::default()).collect(),
            left_out: BTreeMap::new(),
            digests: BTreeMap::new(),
            unmatchable: BTreeSet::new(),
        }
    }

    /// Takes one node in.
    pub fn observe(&mut self, node: &Node, groups: &[Group], wanted: &[Wanted]) {
        self.n_nodes += 1;
        let mut list = None;
        let mut reason = None;
        for (group, found) in groups.iter().zip(&mut self.groups) {
            if let Err(left_out) = eligible(node, &group.placement) {
                found.left_out.insert(node.metadata.name.clone(), left_out.clone());
                reason.get_or_insert(left_out);
                continue;
            }
            let list = list.get_or_insert_with(|| NodeList::of(node));
            let meta = &node.metadata;
            found.eligible.insert(meta.uid.clone(), meta.name.clone());
            let mut images = BTreeMap::new();
            for &place in &group.images {
                let presence = list.presence(&wanted[place]);
                if presence != Presence::Present {
                    images.insert(place, presence);
                } else if let Some(digest) = list.digest(&wanted[place]) {
                    let digests = self.digests.entry(place).or_default();
                    digests.entry(digest).or_default().add(&meta.name);
                }
                if list.resolves_short_names && !wanted[place].image.has_domain() {
                    self.unmatchable.insert(place);
                }
            }
            if !images.is_empty() {
                found.lacking.push(Lacking {
                    name: meta.name.clone(),
                    uid: meta.uid.clone(),
                    created: meta.creation_timestamp.clone(),
                    images,
                });
            }
        }
        if let (None, Some(reason)) = (list, reason) {
            self.left_out.entry(reason).or_default().push(node.metadata.name.clone());
        }
    }

    /// The number of nodes that at least one group may go to.
    pub fn n_eligible(&self) -> usize {
        self.n_nodes - self.left_out.values().map(Vec::len).sum::<usize>()
    }

    /// Whether every eligible node is known to hold everything.
    pub fn is_complete(&self) -> bool {
        self.groups.iter().all(|it| it.lacking.is_empty())
    }
}

impl Holders {
    /// Counts a node, and keeps its name if it is one of the first.
    pub fn add(&mut self, name: &str) {
        self.n_nodes += 1;
        if self.names.len() < NAMES_SHOWN {
            self.names.push(name.to_owned());
        }
    }
}

/// A node's list of images under their normalised names.
struct NodeList<'a> {
    /// Name to entry of the list.
    names: BTreeMap<String, &'a NodeImage>,
    /// Whether the list may leave images or names out.
    may_be_cut: bool,
    /// Whether the runtime, and not the reference, decides about the registry of a short name.
    resolves_short_names: bool,
}

impl<'a> NodeList<'a> {
    fn of(node: &'a Node) -> Self {
        let images = &node.status.images;
        let names = images
            .iter()
            .flat_map(|entry| entry.names.iter().map(move |name| (name, entry)))
            .filter_map(|(name, entry)| Some((ImageRef::parse(name).ok()?.listed_name(), entry)))
            .collect();
        // A node that lists nothing at all has been told to list nothing: every node holds at
        // least the image of its pods' sandboxes.
        let may_be_cut = images.is_empty()
            || images.len() >= LISTED_IMAGES
            || images.iter().any(|it| it.names.len() >= LISTED_NAMES);
        let runtime = &node.status.node_info.container_runtime_version;
        Self { names, may_be_cut, resolves_short_names: runtime.starts_with(CRI_O) }
    }

    fn presence(&self, wanted: &Wanted) -> Presence {
        let short = self.resolves_short_names && !wanted.image.has_domain();
        if short || wanted.pull_policy == PullPolicy::Always {
            return Presence::Unknown;
        }
        if self.names.contains_key(&wanted.image.listed_name()) {
            return Presence::Present;
        }
        if self.may_be_cut { Presence::Unknown } else { Presence::Absent }
    }

    /// What the tag of an image that is listed stands for on this node.
    fn digest(&self, wanted: &Wanted) -> Option<String> {
        if wanted.image.digest().is_some() {
            return None;
        }
        let entry = self.names.get(&wanted.image.listed_name())?;
        entry.names.iter().find_map(|name| wanted.image.digest_in(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeCondition;

    /// Which digest a tag stands for is told by the entry that lists the tag, and by a name of the
    /// same repository.
    #[test]
    fn nodes_are_counted_by_what_their_tags_stand_for() {
        let (one, two) =
            (format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64)));
        let by_digest = format!("q.io/b@{one}");
        let wanted = [wanted("q.io/a:1"), wanted(&by_digest)];
        let placement = Placement::default();
        let groups = [Group { placement, images: vec![0, 1] }];
        let mut survey = Survey::new(&groups);
        for (name, digest) in [("n1", &one), ("n2", &two), ("n3", &one)] {
            let (here, mirror) = (format!("q.io/a@{digest}"), format!("mirror.io/a@{two}"));
            let it = node(name, &[&[&mirror, &here, "q.io/a:1"], &[&by_digest]]);
            survey.observe(&it, &groups, &wanted);
        }
        survey.observe(&node("n4", &[&["q.io/a:1"], &[&by_digest]]), &groups, &wanted);
        let holders = |n_nodes, names: &[&str]| Holders {
            n_nodes,
            names: names.iter().map(|it| (*it).to_owned()).collect(),
        };
        let digests =
            BTreeMap::from([(one, holders(2, &["n1", "n3"])), (two, holders(1, &["n2"]))]);
        assert_eq!(survey.digests, BTreeMap::from([(0, digests)]));
        assert!(survey.is_complete());
    }

    fn wanted(image: &str) -> Wanted {
        let image = ImageRef::parse(image).unwrap();
        let pull_policy = image.default_pull_policy();
        Wanted { image, pull_policy }
    }

    fn node(name: &str, images: &[&[&str]]) -> Node {
        let mut node = Node::default();
        node.metadata.name = name.into();
        node.metadata.uid = format!("uid-{name}");
        node.status.conditions =
            vec![NodeCondition { kind: "Ready".into(), status: "True".into() }];
        node.status.images = images
            .iter()
            .map(|names| NodeImage { names: names.iter().map(|it| (*it).to_owned()).collect() })
            .collect();
        node
    }

    fn presence(node: &Node, image: &str) -> Presence {
        NodeList::of(node).presence(&wanted(image))
    }

    #[test]
    fn both_sides_are_normalised() {
        let docker = node("n1", &[&["nginx:1.27"], &["docker.io/library/redis:7"]]);
        for image in
            ["nginx:1.27", "docker.io/nginx:1.27", "index.docker.io/library/nginx:1.27", "redis:7"]
        {
            assert_eq!(presence(&docker, image), Presence::Present, "{image}");
        }
        for image in ["nginx:1.2", "nginx:1.271", "quay.io/library/nginx:1.27", "x/nginx:1.27"] {
            assert_eq!(presence(&docker, image), Presence::Absent, "{image}");
        }
    }

    #[test]
    fn a_digest_counts_and_its_tag_does_not() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let by_digest = format!("docker.io/library/a@{digest}");
        let node = node("n1", &[&[&by_digest]]);
        assert_eq!(presence(&node, &format!("a@{digest}")), Presence::Present);
        assert_eq!(presence(&node, &format!("a:1@{digest}")), Presence::Present);
        assert_eq!(presence(&node, &format!("a@{other}")), Presence::Absent);
        assert_eq!(presence(&node, "a:1"), Presence::Absent);
    }

    #[test]
    fn a_list_that_may_be_cut_proves_no_absence() {
        let names: Vec<_> = (0..50).map(|it| format!("quay.io/x/{it}:1")).collect();
        let entries: Vec<_> = names.iter().map(|it| vec![it.as_str()]).collect();
        let lists: Vec<_> = entries.iter().map(Vec::as_slice).collect();
        assert_eq!(presence(&node("n1", &lists[..49]), "a:1"), Presence::Absent);
        assert_eq!(presence(&node("n1", &lists), "a:1"), Presence::Unknown);
        assert_eq!(presence(&node("n1", &lists), "quay.io/x/7:1"), Presence::Present);
        let five = ["q.io/a:1", "q.io/a:2", "q.io/a:3", "q.io/a:4", "q.io/a:5"];
        assert_eq!(presence(&node("n1", &[&five[..4]]), "a:1"), Presence::Absent);
        assert_eq!(presence(&node("n1", &[&five]), "a:1"), Presence::Unknown);
        assert_eq!(presence(&node("n1", &[]), "a:1"), Presence::Unknown);
    }

    #[test]
    fn a_tag_that_may_move_is_always_asked_for() {
        let node = node("n1", &[&["docker.io/library/a:latest", "docker.io/library/a:1"]]);
        assert_eq!(presence(&node, "a"), Presence::Unknown);
        let always = Wanted { pull_policy: PullPolicy::Always, ..wanted("a:1") };
        assert_eq!(NodeList::of(&node).presence(&always), Presence::Unknown);
    }

    #[test]
    fn short_names_are_cri_os_own_affair() {
        let mut node = node("n1", &[&["docker.io/library/a:1"]]);
        node.status.node_info.container_runtime_version = "cri-o://1.33.0".into();
        assert_eq!(presence(&node, "a:1"), Presence::Unknown);
        assert_eq!(presence(&node, "docker.io/library/a:1"), Presence::Present);
        let groups = [Group { placement: Placement::default(), images: vec![0, 1] }];
        let mut survey = Survey::new(&groups);
        survey.observe(&node, &groups, &[wanted("a:1"), wanted("docker.io/a:1")]);
        assert_eq!(survey.unmatchable, BTreeSet::from([0]));
    }

    #[test]
    fn nodes_are_counted_once_and_kept_only_for_what_they_lack() {
        let selector = |value: &str| BTreeMap::from([("pool".to_owned(), value.to_owned())]);
        let group = |value: &str, images| Group {
            placement: Placement { node_selector: selector(value), ..Placement::default() },
            images,
        };
        let groups = [group("cpu", vec![0]), group("gpu", vec![0, 1])];
        let images = [wanted("a:1"), wanted("b:1")];
        let mut survey = Survey::new(&groups);
        for (name, pool, held) in [
            ("n1", "cpu", &["docker.io/library/a:1"][..]),
            ("n2", "cpu", &["docker.io/library/c:1"]),
            ("n3", "gpu", &["docker.io/library/b:1"]),
            ("n4", "tpu", &["docker.io/library/a:1"]),
        ] {
            let mut node = node(name, &[held]);
            node.metadata.labels = selector(pool);
            survey.observe(&node, &groups, &images);
        }
        assert_eq!((survey.n_nodes, survey.n_eligible()), (4, 3));
        assert_eq!(survey.left_out, BTreeMap::from([(LeftOut::Selector, vec!["n4".to_owned()])]));
        let lacking = |group: usize| {
            let list = survey.groups[group].lacking.iter();
            list.map(|it| (it.uid.as_str(), it.images.clone())).collect::<Vec<_>>()
        };
        assert_eq!(lacking(0), [("uid-n2", BTreeMap::from([(0, Presence::Absent)]))]);
        assert_eq!(lacking(1), [("uid-n3", BTreeMap::from([(0, Presence::Absent)]))]);
        assert!(!survey.is_complete());
    }
}

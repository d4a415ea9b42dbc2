//! What a world is like and what befalls it, all by chance from one seed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use prepull::args::{self, Command, RunArgs};
use serde_json::{Value, json};

use super::chance::Chance;
use super::process::Interruption;
use crate::model::{
    Admission, Fault, FaultKind, Happening, Lost, ModelNode, Outage, PodsOnReplace, Pull, Pulls,
    Stored, World,
};

/// Troubles that pass are over after so long.
const TROUBLES_END: u64 = 90;
/// What a registry says for good, and what is tried again.
pub const PERMANENT: [&str; 3] = [
    "rpc error: code = NotFound desc = failed to resolve image: not found",
    "pull access denied, repository does not exist or may require authorization",
    "no match for platform in manifest: not found",
];
const TRANSIENT: [&str; 4] = [
    "dial tcp 10.0.0.9:443: i/o timeout",
    "429 Too Many Requests",
    "code = Canceled desc = context canceled",
    "something nobody has seen before",
];
const RBAC: &str = "User \"system:serviceaccount:default:demo\" cannot do this";
const QUOTA: &str = "exceeded quota: few, requested: count/daemonsets.apps=1";
/// Nodes that are described where a plan is shown.
const NODES_SHOWN: usize = 15;
pub const OWN_IMAGE: &str = "q.io/prepull:1";
/// Two of them are pulled anew in any case: by default, and by their tag.
const IMAGES: [&str; 6] = [
    "q.io/a:1",
    "q.io/b:1",
    "redis:7",
    "q.io/team/d",
    "q.io/e@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "quay.io/f:2.1",
];
const REQUESTS: [&str; 11] = [
    "",
    "create daemonset",
    "delete daemonset",
    "delete pod",
    "get daemonset",
    "get job",
    "get node",
    "list daemonsets",
    "list events",
    "list nodes",
    "list pods",
];
const LISTS: [&str; 4] = [
    "list daemonsets continue",
    "list events continue",
    "list nodes continue",
    "list pods continue",
];

static NAMES: LazyLock<Vec<String>> =
    LazyLock::new(|| (1..=900).map(|it| format!("n{it:03}")).collect());

/// The name of the node at this place.
fn node_name(place: u64) -> &'static str {
    &NAMES[place as usize]
}

/// Everything about one world.
pub struct Plan {
    pub seed: u64,
    pub weather: Weather,
    pub world: World,
    pub lives: Vec<Life>,
    /// The exit codes that the troubles may lead to, besides the one of a run that ends well.
    pub may_exit: BTreeSet<u8>,
    /// What it is worth counting.
    pub facts: BTreeSet<&'static str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Weather {
    /// Nothing goes wrong.
    Fair,
    /// Everything that goes wrong passes, so that the run has to end well.
    Passing,
    Foul,
}

/// The life of one Job, or of what else runs prepull.
pub struct Life {
    pub owner: Owner,
    pub args: RunArgs,
    /// When its Job starts.
    pub at: Duration,
    /// How long each attempt takes from then to the start of its process.
    pub start: Duration,
    /// What befalls each attempt in turn.
    pub attempts: Vec<Option<(When, Blow)>>,
    /// What becomes of the Job when it is at its end.
    pub after: After,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    Job,
    /// A shell on somebody's machine.
    Nobody,
    Pod,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// Helm deletes it when it has succeeded, and its time to live ends it otherwise.
    Helm,
    TimeToLive,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// So long after the start of the process.
    After(Duration),
    /// At its so-and-so-many-th request.
    Request(usize),
}

/// What befalls a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blow {
    /// Out of memory: a failure of the attempt.
    Crash(Interruption),
    /// The Job's node is drained: no failure of the attempt.
    Drain(Interruption),
    /// The Job is deleted with everything that it owns.
    JobDeleted,
    /// The same by a client that does not care for what it owns.
    JobOrphans,
    /// SIGINT in a shell.
    Interrupt,
}

struct Draft {
    chance: Chance,
    weather: Weather,
    world: World,
    n_nodes: u64,
    images: Vec<&'static str>,
    may_exit: BTreeSet<u8>,
    facts: BTreeSet<&'static str>,
    /// Whether nodes may not be listed.
    is_blind: bool,
    /// How often somebody deletes or edits DaemonSets.
    n_losses: u64,
    /// An upper bound of what all pulls of one node take, and of all nodes.
    longest_on_node: Duration,
    longest_of_all: Duration,
}

/// The world of a seed.
pub fn plan(seed: u64) -> Plan {
    let mut chance = Chance::of_seed(seed);
    let weather =
        chance.weighed(&[(25, Weather::Fair), (35, Weather::Passing), (40, Weather::Foul)]);
    // The path for more nodes than a DaemonSet can name is rare, because it is dear.
    let n_nodes = match seed % 4000 {
        77 => chance.between(501, 640),
        _ => match chance.weighed(&[(2, 0), (10, 1), (55, 2), (32, 3), (1, 4)]) {
            0 => 0,
            1 => 1,
            2 => chance.between(2, 5),
            3 => chance.between(6, 12),
            _ => chance.between(40, 60),
        },
    };
    let mut draft = Draft {
        chance,
        weather,
        world: World::of(vec![]),
        n_nodes,
        images: vec![],
        may_exit: BTreeSet::new(),
        facts: BTreeSet::new(),
        is_blind: false,
        n_losses: 0,
        longest_on_node: Duration::ZERO,
        longest_of_all: Duration::ZERO,
    };
    draft.world.seed = seed + 1;
    draft.pace();
    draft.nodes();
    let settings = draft.settings();
    draft.stores();
    draft.pulls();
    draft.admission();
    draft.changes();
    draft.faults();
    draft.leftovers();
    draft.lives(settings)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Draft {
    fn is_foul(&self) -> bool {
        self.weather == Weather::Foul
    }

    fn may(&mut self, exits: &[u8]) {
        self.may_exit.extend(exits);
    }

    fn node(&mut self) -> &'static str {
        node_name(self.chance.below(self.n_nodes.max(1)))
    }

    fn pace(&mut self) {
        let Self { chance, world, .. } = self;
        world.page = match self.n_nodes {
            0..=12 => chance.weighed(&[(3, 500), (1, 2), (1, 3), (1, 7)]),
            _ => chance.pick(&[20, 250, 500]),
        };
        world.breaks_pulls_off = chance.percent(50);
        let pace = &mut world.pace;
        pace.request = ms(chance.weighed(&[(3, 5), (3, 40), (1, 300)]) + chance.below(20));
        pace.controller = ms(50 + chance.weighed(&[(3, 200), (1, 3000)]));
        pace.start = ms(chance.between(300, 3000));
        pace.publish = ms(chance.between(100, 3000));
        pace.listing = ms(chance.below(41_000));
        pace.collection = ms(chance.pick(&[0, 200, 1500, 4000]));
        pace.termination = ms(chance.pick(&[0, 1000, 2500, 8000]));
        pace.orphans = ms(chance.pick(&[0, 20_000, 60_000]));
        pace.failed_pod = ms(chance.between(1000, 20_000));
    }

    fn nodes(&mut self) {
        let is_large = self.n_nodes > 12;
        for place in 0..self.n_nodes {
            let chance = &mut self.chance;
            let mut node = ModelNode::new(node_name(place));
            if chance.percent(40) {
                node.labels.insert("pool".into(), "gpu".into());
            }
            if chance.percent(12) {
                node.taints.push(taint("special"));
            }
            if chance.percent(15) {
                node.pulls = Pulls::AtOnce;
            }
            if chance.percent(8) {
                node.runtime = "cri-o://1.33.0".into();
            }
            if chance.percent(if is_large { 1 } else { 5 }) {
                node.cordoned = true;
            }
            if chance.percent(if is_large { 1 } else { 5 }) {
                node.ready = false;
                node.lost = chance.pick(&[Lost::CutOff, Lost::Dead]);
            }
            if chance.percent(3) {
                node.has_room = false;
            }
            let is_ready = node.ready && !node.cordoned;
            let name = node_name(place);
            if !node.has_room && chance.percent(40) {
                node.lack = "1 Insufficient cpu";
                if self.weather == Weather::Foul {
                    self.may_exit.insert(3);
                } else {
                    let at = chance.between(5, TROUBLES_END);
                    self.world.at(at, Happening::SetRoom(name, true));
                }
            }
            self.world.join(node);
            if !is_ready {
                self.world.troubled.insert(name.into());
            }
        }
    }

    /// The images, their groups and what else stands in the settings.
    fn settings(&mut self) -> Value {
        let chance = &mut self.chance;
        let n_images = chance.weighed(&[(35, 1), (30, 2), (15, 3), (10, 4), (10, 5)]);
        let n_groups = chance.weighed(&[(60, 1), (25, 2), (15, 3)]).min(n_images);
        self.facts.insert(["groups: 1", "groups: 2", "groups: 3"][n_groups - 1]);
        let mut rest = IMAGES.to_vec();
        let mut entries = vec![];
        for place in 0..n_images {
            let image = rest.remove(chance.below(rest.len() as u64) as usize);
            self.images.push(image);
            let group = if place < n_groups { place } else { chance.below(n_groups as u64) as usize };
            let mut entry = match group {
                0 => json!({"image": image}),
                1 => json!({"image": image, "nodeSelector": {"pool": "gpu"}}),
                _ => json!({"image": image, "tolerations": [
                    {"key": "special", "operator": "Exists"}
                ]}),
            };
            if chance.percent(8) {
                entry["pullPolicy"] = "Always".into();
                self.facts.insert("image: Always");
            }
            if self.weather == Weather::Foul && chance.percent(3) {
                entry["pullPolicy"] = "Never".into();
                self.facts.insert("image: Never");
                self.may_exit.extend([1, 3]);
            }
            if image == "q.io/team/d" {
                self.facts.insert("image: Always");
            }
            entries.push(entry);
        }
        json!({"images": entries})
    }

    /// What is on the nodes before anything is pulled.
    fn stores(&mut self) {
        let Self { chance, world, .. } = self;
        let percent = chance.weighed(&[(30, 0), (25, 30), (20, 80), (12, 97), (13, 100)]);
        let is_full = chance.percent(12);
        for node in world.nodes.values_mut() {
            for image in &self.images {
                if !chance.percent(percent) {
                    continue;
                }
                let listed_at = match chance.percent(4) {
                    true => ms(chance.below(41_000)),
                    false => Duration::ZERO,
                };
                node.images.push(Stored { size: 500, ..Stored::new(image, listed_at) });
            }
            if chance.percent(30) {
                node.images.push(Stored::new(OWN_IMAGE, Duration::ZERO));
            }
            if is_full && chance.percent(50) {
                let filler = (0..50).map(|it| Stored::new(&format!("q.io/filler/{it}:1"), Duration::ZERO));
                node.images.extend(filler);
                self.facts.insert("image: list of 50");
            }
        }
        for image in &self.images {
            if chance.percent(10) {
                world.moves.insert((*image).into(), 1);
            }
        }
    }

    fn pulls(&mut self) {
        let is_slow = self.chance.percent(20);
        let mut longest_own = Duration::ZERO;
        let images: Vec<_> = self.images.iter().copied().chain([OWN_IMAGE]).collect();
        let nodes: Vec<_> = (0..self.n_nodes).map(node_name).collect();
        for image in images {
            let chance = &mut self.chance;
            let takes = match is_slow {
                true => chance.between(5_000, 40_000),
                false => chance.between(50, 6_000),
            };
            let mut pull = Pull { takes: ms(takes), ..Pull::after(0) };
            let mut longest = pull.takes;
            if image != OWN_IMAGE && chance.percent(4) {
                pull.waits_with = Some(chance.pick(&["RunContainerError", "CrashLoopBackOff"]));
                self.facts.insert("pull: container does not start");
            }
            self.world.registry.insert(image.into(), pull.clone());
            if chance.percent(25) && !nodes.is_empty() {
                for _ in 0..chance.between(1, 3) {
                    let takes = ms(chance.between(1_000, 45_000));
                    longest = longest.max(takes);
                    let at = (chance.pick(&nodes).to_owned(), image.to_owned());
                    self.world.registry_at.insert(at, Pull { takes, ..pull.clone() });
                }
            }
            longest_own += longest;
            if self.weather == Weather::Passing && self.chance.percent(12) {
                self.fail_for_a_while(image, &pull);
            }
            if self.weather == Weather::Foul && self.chance.percent(14) {
                self.fail_for_good(image, &nodes, &pull);
            }
        }
        self.longest_on_node = longest_own;
        self.longest_of_all = longest_own * (self.n_nodes.max(1) as u32);
    }

    /// Every pull of the image fails at first, in a way that may pass.
    fn fail_for_a_while(&mut self, image: &'static str, pull: &Pull) {
        let words = self.chance.pick(&TRANSIENT);
        let heals = self.chance.between(5, TROUBLES_END);
        self.world.registry.insert(image.into(), Pull::fails(words));
        self.world.at(heals, Happening::Registry(image, pull.clone()));
        self.facts.insert("pull: fails for a while");
    }

    fn fail_for_good(&mut self, image: &'static str, nodes: &[&str], pull: &Pull) {
        let chance = &mut self.chance;
        if chance.percent(25) {
            // Never ends in time.
            let takes = seconds(2000);
            self.world.registry.insert(image.into(), Pull { takes, ..pull.clone() });
            self.facts.insert("pull: takes for ever");
            return self.may(&[3]);
        }
        let (words, exits) = match chance.percent(70) {
            true => (chance.pick(&PERMANENT), &[1, 3]),
            false => (chance.pick(&TRANSIENT), &[3, 3]),
        };
        let fails = Pull::fails(words);
        if chance.percent(50) || nodes.is_empty() {
            self.world.registry_at.retain(|(_, it), _| it != image);
            self.world.registry.insert(image.into(), fails);
        } else {
            for _ in 0..chance.between(1, 3) {
                let at = (chance.pick(nodes).to_owned(), image.to_owned());
                self.world.registry_at.insert(at, fails.clone());
            }
        }
        if chance.percent(20) {
            // A registry may heal, of which a run may have known too soon that it would not.
            let at = chance.between(3, TROUBLES_END);
            self.world.at(at, Happening::Registry(image, pull.clone()));
        }
        self.facts.insert(match words {
            it if PERMANENT.contains(&it) => "pull: fails for good",
            _ => "pull: fails again and again",
        });
        self.may(exits);
    }

    fn admission(&mut self) {
        if !self.chance.percent(10) {
            return;
        }
        let admission = match self.chance.below(if self.is_foul() { 6 } else { 5 }) {
            0 => Admission::Prefer,
            1 => Admission::RewriteImages("q.io/", "mirror.io/"),
            2 => Admission::RewritePods("q.io/", "mirror.io/"),
            3 | 4 => Admission::Sidecar("istio-proxy"),
            _ => {
                self.may(&[1]);
                Admission::DropContainer("01-a")
            }
        };
        self.facts.insert(match admission {
            Admission::DropContainer(_) => "webhook: drops a container",
            Admission::Prefer => "webhook: adds preferences",
            Admission::RewriteImages(..) => "webhook: rewrites DaemonSets",
            Admission::RewritePods(..) => "webhook: rewrites pods",
            Admission::Sidecar(_) => "webhook: adds a sidecar",
        });
        self.world.admission.push(admission);
    }

    /// Nodes, pods and DaemonSets that change meanwhile.
    fn changes(&mut self) {
        self.is_blind = self.weather != Weather::Fair && self.chance.percent(6);
        let n_changes = match self.weather {
            Weather::Fair => self.chance.weighed(&[(60, 0), (40, 1)]),
            _ => self.chance.weighed(&[(25, 0), (25, 1), (25, 2), (15, 4), (10, 7)]),
        };
        let most = if self.is_foul() { 120 } else { TROUBLES_END - 40 };
        for _ in 0..n_changes {
            let at = self.chance.between(1, most);
            self.change(at);
        }
    }

    fn change(&mut self, at: u64) {
        let node = self.node();
        let back = at + self.chance.between(2, 40);
        let has_node = self.n_nodes > 0;
        let comes_back = self.chance.percent(70);
        let Self { chance, world, .. } = self;
        let foul = if self.weather == Weather::Foul { 3 } else { 0 };
        let fair = self.weather == Weather::Fair;
        let what = match fair {
            true => chance.weighed(&[(3, 5), (1, 0), (1, 4), (1, 8)]),
            false => chance.weighed(&[
                (6, 0),
                (5, 1),
                (5, 2),
                (5, 3),
                (5, 4),
                (8, 5),
                (5, 6),
                (5, 7),
                (5, 8),
                (5, 9),
                (5, 10),
                (3, 11),
                (3, 12),
                (3, 13),
                (3, 14),
                (foul, 15),
                (3, 16),
                (3, 17),
            ]),
        };
        match what {
            5 => {
                let name = node_name(self.n_nodes + 1 + chance.below(30));
                let mut node = ModelNode::new(name);
                if chance.percent(40) {
                    node.labels.insert("pool".into(), "gpu".into());
                }
                let image = chance.pick(&self.images);
                if chance.percent(30) {
                    node.images.push(Stored::new(image, Duration::ZERO));
                }
                world.at(at, Happening::Join(Box::new(node)));
            }
            11..=13 if self.n_losses < 2 || self.weather == Weather::Foul => {
                self.n_losses += 1;
                world.at(at, match what {
                    11 => Happening::DeleteSets,
                    12 => Happening::EditSets("q.io/other:1"),
                    _ => Happening::NarrowSets(node),
                });
                if what == 12 {
                    // Pods that are made of it since show the other image under our names.
                    world.at(at, Happening::DeletePod(node));
                }
                if self.n_losses > 2 {
                    self.may(&[1]);
                }
            }
            14 => _ = world.at(at, Happening::RestartSets),
            15 => {
                world.at(at, Happening::RefusePods(Some(QUOTA)));
                if comes_back {
                    world.at(back, Happening::RefusePods(None));
                }
                self.may(&[1, 3]);
            }
            17 => _ = world.at(at, Happening::MoveTag(chance.pick(&self.images))),
            _ if !has_node => {}
            0 => {
                world.at(at, Happening::Cordon(node));
                if comes_back {
                    world.at(back, Happening::Uncordon(node));
                }
            }
            1 | 2 if self.is_blind && self.weather != Weather::Foul => {
                // Without a look at the nodes, one that is lost is waited for.
                world.at(at, Happening::CutOff(node)).at(back, Happening::SetReady(node, true));
            }
            1 => {
                world.at(at, Happening::SetReady(node, false));
                if comes_back {
                    world.at(back, Happening::SetReady(node, true));
                }
            }
            2 => {
                world.at(at, Happening::CutOff(node));
                if comes_back {
                    world.at(back, Happening::SetReady(node, true));
                }
            }
            3 => {
                world.at(at, Happening::Taint(node, "special"));
                if comes_back {
                    world.at(back, Happening::Untaint(node, "special"));
                }
            }
            4 => {
                world.at(at, Happening::Label(node, "pool", chance.pick(&["cpu", "gpu"])));
                if comes_back {
                    world.at(back, Happening::Label(node, "pool", "gpu"));
                }
            }
            6 => {
                world.at(at, Happening::Remove(node));
                if comes_back {
                    world.at(back, Happening::Join(Box::new(ModelNode::new(node))));
                }
            }
            7 => {
                let pods = chance.pick(&[PodsOnReplace::AreMadeAgain, PodsOnReplace::Stay]);
                world.at(at, Happening::Replace(node, pods));
            }
            8 => _ = world.at(at, Happening::DeletePod(node)),
            9 => _ = world.at(at, Happening::Evict(node)),
            10 => {
                world.at(at, Happening::SetRoom(node, false));
                if comes_back {
                    world.at(back, Happening::SetRoom(node, true));
                }
            }
            16 => {
                let reason = chance.pick(&["NodeAffinity", "OutOfpods", "OutOfcpu"]);
                world.at(at, Happening::SetRefusal(node, Some(reason)));
                world.at(at, Happening::DeletePod(node));
                world.at(back, Happening::SetRefusal(node, None));
            }
            _ => {}
        }
    }

    fn faults(&mut self) {
        if self.weather == Weather::Fair {
            return;
        }
        for _ in 0..self.chance.weighed(&[(30, 0), (25, 1), (20, 2), (15, 4), (10, 7)]) {
            let Self { chance, .. } = self;
            let request = chance.pick(&REQUESTS);
            let (skip, times) = (chance.below(7) as usize, chance.between(1, 3) as usize);
            let soon = seconds(chance.below(10));
            let status = |code, message, retry_after| FaultKind::Status { code, message, retry_after };
            let kind = match chance.below(if self.weather == Weather::Foul { 16 } else { 12 }) {
                0 => FaultKind::LostAnswer,
                1 => FaultKind::Transport,
                2 => FaultKind::Hang(seconds(chance.below(12))),
                3 => status(429, "slow down", Some(soon)),
                4 => status(429, "slow down", None),
                5 => status(500, "no leader", None),
                6 => status(503, "starting", Some(soon)),
                7 => status(503, "starting", None),
                8 => FaultKind::DoneBut(504),
                9 => FaultKind::Slow(seconds(chance.below(8))),
                10 => {
                    let (request, kind) = (chance.pick(&LISTS), status(410, "expired", None));
                    if self.n_nodes < 13 {
                        self.world.page = 2;
                    }
                    self.world.faults.push(Fault { request, skip: skip % 3, times: 1, kind });
                    continue;
                }
                11 => {
                    let kind = status(409, "it already exists", None);
                    let request = "create daemonset";
                    self.world.faults.push(Fault { request, skip: skip % 2, times, kind });
                    continue;
                }
                12 => {
                    let after = seconds(chance.between(20, 70));
                    let (request, kind) = (
                        chance.pick(&["create daemonset", "delete daemonset"]),
                        FaultKind::Straggler(after),
                    );
                    self.world.faults.push(Fault { request, skip: skip % 2, times: 1, kind });
                    self.may(&[3]);
                    continue;
                }
                13 => {
                    self.may(&[1, 3]);
                    status(401, "Unauthorized", None)
                }
                14 => {
                    self.may(&[1, 3]);
                    status(403, RBAC, None)
                }
                _ => {
                    self.may(&[1, 3]);
                    let (request, kind) = ("create daemonset", status(403, QUOTA, None));
                    self.world.faults.push(Fault { request, skip: 0, times, kind });
                    continue;
                }
            };
            self.world.faults.push(Fault { request, skip, times, kind });
        }
        self.outages();
        self.rights();
    }

    fn outages(&mut self) {
        if !self.chance.percent(10) {
            return;
        }
        let from = self.chance.below(60);
        let most = if self.is_foul() { 400 } else { 30 };
        let until = from + self.chance.between(3, most);
        if until > TROUBLES_END {
            self.may(&[3, 143]);
        }
        let kind = match self.chance.below(3) {
            0 => FaultKind::Transport,
            1 => FaultKind::Hang(seconds(30)),
            _ => FaultKind::Status { code: 503, message: "starting", retry_after: None },
        };
        self.world.outages.push(Outage { from: seconds(from), until: seconds(until), kind });
    }

    fn rights(&mut self) {
        let Self { chance, world, .. } = self;
        // A binding takes a moment to work, and some rights are not needed.
        if chance.percent(4) {
            let request = chance.pick(&["list nodes", "create daemonset", "get job"]);
            world.denied.insert(request.into());
            world.at(2, Happening::Grant(request));
        }
        if chance.percent(4) {
            let request = chance.pick(&["get node", "list daemonsets", "list events"]);
            world.denied.insert(request.into());
            self.facts.insert("rights: one that is not needed is missing");
        }
        if self.is_blind {
            world.denied.insert("list nodes".into());
            self.facts.insert("rights: blind");
            if self.weather == Weather::Foul {
                self.may_exit.insert(2);
            }
        }
        if self.weather != Weather::Foul {
            return;
        }
        if chance.percent(8) {
            let needed = [
                "create daemonset",
                "delete daemonset",
                "delete pod",
                "get daemonset",
                "get job",
                "list pods",
                "patch daemonset",
            ];
            let request = chance.pick(&needed);
            if chance.percent(60) {
                world.denied.insert(request.into());
                self.facts.insert("rights: one is missing");
            } else {
                world.at(chance.between(2, 100), Happening::Deny(request));
            }
            self.may(&[1, 3]);
        }
        if self.chance.percent(9) {
            let at = self.chance.between(1, 60);
            let how = self.chance.pick(&[Happening::RevokeTokens, Happening::WithdrawRights]);
            self.world.at(at, how);
            self.may(&[1, 3]);
        }
        if self.chance.percent(4) {
            self.world.namespace_exists = false;
            self.facts.insert("namespace: missing");
            self.may(&[2]);
        }
    }

    /// DaemonSets of earlier runs, of this release and of others.
    fn leftovers(&mut self) {
        if !self.chance.percent(12) {
            return;
        }
        for n in 0..self.chance.between(1, 3) {
            let release = self.chance.pick(&["demo", "other", "demo-2"]);
            let (expires, word) = self.chance.pick(&[
                ("2023-12-31T23:59:59Z", "expired"),
                ("2024-01-01T00:00:20Z", "expires-soon"),
                ("2024-01-01T02:00:00Z", "runs"),
            ]);
            self.world.plant(json!({
                "metadata": {
                    "name": format!("{release}-{word}-{n}"),
                    "labels": {"prepull.dev/name": release, "prepull.dev/run": format!("old-{n}")},
                    "annotations": {"prepull.dev/expires": expires},
                },
                "spec": {"template": {"metadata": {}, "spec": {
                    "containers": [], "initContainers": []
                }}},
            }));
            self.facts.insert(match word {
                "expired" => "leftover: expired",
                _ => "leftover: not expired",
            });
        }
    }

    fn lives(mut self, settings: Value) -> Plan {
        let line = self.line();
        let owner = self.chance.weighed(&[(86, Owner::Job), (4, Owner::Pod), (10, Owner::Nobody)]);
        let mut lives = vec![self.life(0, "demo", owner, &line, &settings, Duration::ZERO)];
        if self.chance.percent(8) {
            let (release, owner, fact) = self.chance.pick(&[
                ("demo", Owner::Job, "lives: two Jobs of a release"),
                ("demo", Owner::Nobody, "lives: a shell beside a Job"),
                ("other", Owner::Job, "lives: two releases"),
            ]);
            let at = ms(self.chance.below(60_000));
            self.facts.insert(fact);
            lives.push(self.life(1, release, owner, &line, &settings, at));
        }
        Plan {
            seed: self.world.seed - 1,
            weather: self.weather,
            world: self.world,
            lives,
            may_exit: self.may_exit,
            facts: self.facts,
        }
    }

    /// The options of the command line.
    fn line(&mut self) -> Vec<String> {
        let chance = &mut self.chance;
        let mut line = vec![];
        let interval = chance.weighed(&[(7, "2s"), (1, "1s"), (1, "5s"), (1, "10s")]);
        line.push(format!("--interval={interval}"));
        let window = chance.weighed(&[
            (50, None),
            (12, Some(("1", "window: 1"))),
            (13, Some(("2", "window: 2"))),
            (13, Some(("25%", "window: 25%"))),
            (12, Some(("100%", "window: 100%"))),
        ]);
        let window = window.filter(|_| !self.world.denied.contains("list nodes") || self.weather == Weather::Foul);
        self.facts.insert(window.map_or("window: none", |it| it.1));
        if let Some((window, _)) = window {
            line.push(format!("--max-nodes-at-once={window}"));
            // It needs the right to list nodes.
            if self.may_exit.contains(&1) {
                self.may(&[2]);
            }
        }
        let chance = &mut self.chance;
        let n_pods = chance.weighed(&[(75, 1), (15, 2), (10, 3)]);
        self.facts.insert(["pods per node: 1", "pods per node: 2", "pods per node: 3"][n_pods - 1]);
        line.push(format!("--pods-per-node={n_pods}"));
        if chance.percent(8) {
            line.push("--strict".into());
            self.may(&[1]);
        }
        let chance = &mut self.chance;
        if chance.percent(5) {
            line.push("--failure-policy=Ignore".into());
            self.facts.insert("failure policy: Ignore");
        }
        if chance.percent(8) {
            line.push(format!("--allow-missing={}", chance.pick(&["1", "2", "50%"])));
            self.facts.insert("allow missing");
        }
        if chance.percent(8) {
            line.push(format!("--stall-timeout={}", chance.pick(&["10s", "30s"])));
            self.facts.insert("stall timeout");
        }
        let timeout = match self.weather {
            Weather::Foul => {
                self.may(&[3]);
                self.chance.between(20, 290)
            }
            _ => self.enough(&line).as_secs(),
        };
        line.push(format!("--timeout={timeout}s"));
        line
    }

    /// A time within which a run must be able to end.
    fn enough(&self, line: &[String]) -> Duration {
        let has_window = line.iter().any(|it| it.starts_with("--max-nodes-at-once"));
        let pulls = match has_window {
            true => self.longest_of_all + seconds(30) * (self.n_nodes as u32 + 10),
            false => self.longest_on_node,
        };
        let troubles = match self.weather {
            Weather::Fair => Duration::ZERO,
            _ => seconds(TROUBLES_END),
        };
        troubles * 4 + pulls * 4 + seconds(240)
    }

    fn life(
        &mut self,
        place: u64,
        release: &str,
        owner: Owner,
        line: &[String],
        settings: &Value,
        at: Duration,
    ) -> Life {
        let uid = format!("{:08x}-{:04x}-4000-8000-{:012x}", self.chance.below(1 << 32), place, self.world.seed);
        let mut args = parse(release, owner, &uid, line, settings);
        args.config.id = uid;
        let n_attempts = match self.weather {
            Weather::Fair => 0,
            Weather::Passing => self.chance.weighed(&[(65, 0), (25, 1), (10, 2)]),
            Weather::Foul => self.chance.weighed(&[(55, 0), (35, 1), (10, 2)]),
        };
        let mut n_crashes = 0;
        let mut attempts = vec![];
        for _ in 0..n_attempts {
            let blow = self.blow(owner, &mut n_crashes);
            let request = self.chance.weighed(&[(3, 12), (2, 40), (1, 150)]);
            let when = match self.chance.percent(25) {
                true => When::After(ms(self.chance.below(90_000))),
                false => When::Request(self.chance.between(1, request) as usize),
            };
            attempts.push(blow.map(|it| (when, it)));
        }
        let start = ms(self.chance.weighed(&[(3, 500), (1, 8_000), (1, 30_000)]));
        let after = self.chance.weighed(&[(80, After::Helm), (20, After::TimeToLive)]);
        Life { owner, args, at, start, attempts, after }
    }

    fn blow(&mut self, owner: Owner, n_crashes: &mut u32) -> Option<Blow> {
        let is_foul = self.is_foul();
        let kill = self.chance.pick(&[Interruption::KillBefore, Interruption::KillAfter]);
        if owner != Owner::Job {
            // Nothing starts it again.
            if !is_foul {
                return None;
            }
            self.may(&[143]);
            return Some(match self.chance.percent(50) {
                true => Blow::Interrupt,
                false => Blow::Crash(kill),
            });
        }
        match self.chance.below(if is_foul { 6 } else { 3 }) {
            0 if is_foul || *n_crashes == 0 => {
                *n_crashes += 1;
                Some(Blow::Crash(kill))
            }
            0 | 1 => Some(Blow::Drain(kill)),
            2 => {
                self.may_exit.insert(143);
                Some(Blow::Drain(Interruption::Signal))
            }
            3 | 4 => {
                self.may(&[143]);
                Some(Blow::JobDeleted)
            }
            _ => {
                self.may(&[143]);
                Some(Blow::JobOrphans)
            }
        }
    }
}

fn taint(key: &str) -> prepull::node::Taint {
    prepull::node::Taint { key: key.into(), value: String::new(), effect: "NoSchedule".into() }
}

fn parse(release: &str, owner: Owner, uid: &str, line: &[String], settings: &Value) -> RunArgs {
    let env = |name: &str| match (owner, name) {
        (Owner::Job, "PREPULL_JOB_NAME") => Some(job_name(uid)),
        (Owner::Job, "PREPULL_JOB_UID") | (Owner::Pod, "PREPULL_POD_UID") => Some(uid.into()),
        (Owner::Pod, "PREPULL_POD_NAME") => Some("demo-pod".into()),
        _ => None,
    };
    let mut words = vec![
        format!("--puller-image={OWN_IMAGE}"),
        format!("--name={release}"),
        format!("--settings={settings}"),
    ];
    words.extend_from_slice(line);
    match args::parse(words.into_iter().map(Into::into).collect(), &env) {
        Ok(Command::Run(args)) => *args,
        other => panic!("not a run: {other:?}"),
    }
}

/// The name of the Job with this uid.
pub fn job_name(uid: &str) -> String {
    format!("job-{}", &uid[..13])
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?} weather, {:?}", self.seed, self.weather, self.world.pace)?;
        for node in self.world.nodes.values().take(NODES_SHOWN) {
            let images: Vec<_> = node.images.iter().map(|it| it.names.join(" ")).take(6).collect();
            let state = match (node.ready, node.cordoned, node.has_room) {
                (true, false, true) => "ready",
                (false, ..) => "not ready",
                (_, true, _) => "cordoned",
                _ => node.lack,
            };
            let pool = node.labels.get("pool").map_or("", String::as_str);
            let n_taints = node.taints.len();
            writeln!(f, "node {} {state} {pool} {n_taints} taints: {images:?}", node.name)?;
        }
        for (image, pull) in &self.world.registry {
            writeln!(f, "pull {image}: {pull:?}")?;
        }
        for (at, pull) in &self.world.registry_at {
            writeln!(f, "pull {at:?}: {pull:?}")?;
        }
        let World { admission, denied, faults, outages, script, .. } = &self.world;
        writeln!(f, "webhooks {admission:?}, denied {denied:?}")?;
        faults.iter().try_for_each(|it| writeln!(f, "{it:?}"))?;
        outages.iter().try_for_each(|it| writeln!(f, "{it:?}"))?;
        script.iter().try_for_each(|it| writeln!(f, "{:?} {:?}", it.0, it.1))?;
        for Life { owner, args, at, start, attempts, after } in &self.lives {
            writeln!(f, "life of {owner:?} at {at:?} after {start:?}, {after:?}: {attempts:?}")?;
            let config = &args.config;
            let images: Vec<_> =
                config.wanted.iter().map(|it| format!("{} {:?}", it.image, it.pull_policy)).collect();
            let groups: Vec<_> = config.groups.iter().map(|it| &it.images).collect();
            writeln!(f, "  {images:?} in groups {groups:?}")?;
            writeln!(
                f,
                "  timeout {:?}, interval {:?}, window {:?}, allow missing {:?}, stall {:?}, {:?}",
                config.timeout,
                config.interval,
                config.max_nodes_at_once,
                config.allow_missing,
                config.stall_timeout,
                args.judgement
            )?;
        }
        write!(f, "may exit {:?}", self.may_exit)
    }
}

//! The world before anything happens: how fast it is, its nodes and what they hold, and what a
//! registry and its webhooks make of the images.

use std::sync::LazyLock;
use std::time::Duration;

use prepull::image::ImageRef;
use prepull::node::Taint;
use prepull::puller::container_name;
use serde_json::{Value, json};

use super::plan::{Draft, TROUBLES_END, Weather, ms, seconds};
use crate::model::{Admission, Happening, Lost, ModelNode, Pull, Pulls, Stored};

/// What the runtime says where another try can not help, and where it can.
pub const PERMANENT: [&str; 3] = [
    "rpc error: code = NotFound desc = failed to resolve image: not found",
    "pull access denied, repository does not exist or may require authorization",
    "no match for platform in manifest: not found",
];
pub const TRANSIENT: [&str; 4] = [
    "dial tcp 10.0.0.9:443: i/o timeout",
    "429 Too Many Requests",
    "code = Canceled desc = context canceled",
    "something nobody has seen before",
];
/// What a container waits with whose image is there.
pub const DOES_NOT_START: [&str; 2] = ["RunContainerError", "CrashLoopBackOff"];
pub const OWN_IMAGE: &str = "q.io/prepull:1";
/// One has no tag, so that it is always pulled, one a digest, and one names no registry.
const IMAGES: [&str; 6] = [
    "q.io/a:1",
    "q.io/b:1",
    "q.io/e@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "q.io/team/d",
    "quay.io/f:2.1",
    "redis:7",
];
const UNTAGGED: &str = "q.io/team/d";

static NAMES: LazyLock<Vec<String>> =
    LazyLock::new(|| (1..=900).map(|it| format!("n{it:03}")).collect());

/// The name of the node at this place.
pub fn node_name(place: u64) -> &'static str {
    &NAMES[place as usize]
}

impl Draft {
    pub fn pace(&mut self) {
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

    pub fn nodes(&mut self) {
        for place in 0..self.n_nodes {
            self.node_at(place);
        }
    }

    fn node_at(&mut self, place: u64) {
        let out_of_order = if self.n_nodes > 12 { 1 } else { 5 };
        let name = node_name(place);
        let chance = &mut self.chance;
        let mut node = ModelNode::new(name);
        if chance.percent(40) {
            node.labels.insert("pool".into(), "gpu".into());
        }
        if chance.percent(12) {
            let (key, effect) = ("special".into(), "NoSchedule".into());
            node.taints.push(Taint { key, value: String::new(), effect });
        }
        if chance.percent(15) {
            node.pulls = Pulls::AtOnce;
        }
        if chance.percent(8) {
            node.runtime = "cri-o://1.33.0".into();
        }
        node.cordoned = chance.percent(out_of_order);
        if chance.percent(out_of_order) {
            node.ready = false;
            node.lost = chance.pick(&[Lost::CutOff, Lost::Dead]);
        }
        node.has_room = !chance.percent(3);
        if !node.has_room && chance.percent(40) {
            // Only a lack of places is forgiven.
            node.lack = "1 Insufficient cpu";
            let at = chance.between(5, TROUBLES_END);
            match self.weather {
                Weather::Foul => self.may(&[3]),
                _ => _ = self.world.at(at, Happening::SetRoom(name, true)),
            }
        }
        if !node.ready || node.cordoned {
            self.world.troubled.insert(name.into());
        }
        self.world.join(node);
    }

    /// The images and their groups, as structured settings.
    pub fn settings(&mut self) -> Value {
        let chance = &mut self.chance;
        let n_images = chance.weighed(&[(35, 1), (30, 2), (15, 3), (10, 4), (10, 5)]);
        let n_groups = chance.weighed(&[(60, 1), (25, 2), (15, 3)]).min(n_images);
        let mut rest = IMAGES.to_vec();
        let mut entries = vec![];
        for place in 0..n_images {
            let image = rest.remove(self.chance.below(rest.len() as u64) as usize);
            self.images.push(image);
            let group = match place < n_groups {
                true => place,
                false => self.chance.below(n_groups as u64) as usize,
            };
            entries.push(self.entry(image, group));
        }
        json!({"images": entries})
    }

    fn entry(&mut self, image: &str, group: usize) -> Value {
        let mut entry = match group {
            0 => json!({"image": image}),
            1 => json!({"image": image, "nodeSelector": {"pool": "gpu"}}),
            _ => json!({"image": image, "tolerations": [
                {"key": "special", "operator": "Exists"}
            ]}),
        };
        if self.chance.percent(8) {
            entry["pullPolicy"] = "Always".into();
        } else if image != UNTAGGED && self.is_foul() && self.chance.percent(5) {
            entry["pullPolicy"] = "Never".into();
            self.may(&[1, 3]);
        }
        entry
    }

    /// What is on the nodes before anything is pulled.
    pub fn stores(&mut self) {
        let Self { chance, world, .. } = self;
        let percent = chance.weighed(&[(30, 0), (25, 30), (20, 80), (12, 97), (13, 100)]);
        let are_long = chance.percent(12);
        for node in world.nodes.values_mut() {
            for image in &self.images {
                if !chance.percent(percent) {
                    continue;
                }
                let listed_at = match chance.percent(4) {
                    true => ms(chance.below(41_000)),
                    false => Duration::ZERO,
                };
                // Others, which are larger, push it out of a long list.
                node.images.push(Stored { size: 500, ..Stored::new(image, listed_at) });
            }
            if chance.percent(30) {
                node.images.push(Stored::new(OWN_IMAGE, Duration::ZERO));
            }
            if are_long && chance.percent(50) {
                let others = (0..50).map(|it| format!("q.io/other/{it}:1"));
                node.images.extend(others.map(|it| Stored::new(&it, Duration::ZERO)));
                self.facts.insert("node: lists 50 images");
            }
        }
        for image in &self.images {
            if chance.percent(10) {
                world.moves.insert((*image).into(), 1);
            }
        }
    }

    /// What becomes of each pull.
    pub fn pulls(&mut self) {
        let is_slow = self.chance.percent(20);
        let nodes: Vec<_> = (0..self.n_nodes).map(node_name).collect();
        for image in self.images.clone().into_iter().chain([OWN_IMAGE]) {
            let chance = &mut self.chance;
            let takes = match is_slow {
                true => chance.between(5_000, 40_000),
                false => chance.between(50, 6_000),
            };
            let mut pull = Pull { takes: ms(takes), ..Pull::after(0) };
            let mut longest = pull.takes;
            if image != OWN_IMAGE && chance.percent(4) {
                pull.waits_with = Some(chance.pick(&DOES_NOT_START));
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
            self.longest_on_node += longest;
            match self.weather {
                Weather::Passing if self.chance.percent(12) => self.fail_for_a_while(image, &pull),
                Weather::Foul if self.chance.percent(14) => {
                    self.fail_for_good(image, &nodes, &pull)
                }
                _ => continue,
            }
            self.events_expire();
        }
        self.longest_of_all = self.longest_on_node * (self.n_nodes.max(1) as u32);
    }

    /// Every pull of the image fails at first, in a way that may pass.
    fn fail_for_a_while(&mut self, image: &'static str, pull: &Pull) {
        let words = self.chance.pick(&TRANSIENT);
        let heals = self.chance.between(5, TROUBLES_END);
        self.world.registry.insert(image.into(), Pull::fails(words));
        self.world.at(heals, Happening::Registry(image, pull.clone()));
    }

    fn fail_for_good(&mut self, image: &'static str, nodes: &[&str], pull: &Pull) {
        let chance = &mut self.chance;
        if chance.percent(25) {
            let takes = seconds(2000);
            self.world.registry.insert(image.into(), Pull { takes, ..pull.clone() });
            return self.may(&[3]);
        }
        let is_permanent = chance.percent(60);
        let fails = match is_permanent {
            true => Pull::fails(chance.pick(&PERMANENT)),
            false => Pull::fails(chance.pick(&TRANSIENT)),
        };
        if chance.percent(35) || nodes.is_empty() {
            self.world.registry_at.retain(|(_, it), _| it != image);
            self.world.registry.insert(image.into(), fails);
        } else {
            for _ in 0..chance.between(1, 3) {
                let at = (chance.pick(nodes).to_owned(), image.to_owned());
                self.world.registry_at.insert(at, fails.clone());
            }
        }
        if chance.percent(20) {
            // A run that gives up too soon would not see it heal.
            let at = chance.between(3, TROUBLES_END);
            self.world.at(at, Happening::Registry(image, pull.clone()));
        }
        self.may(if is_permanent { &[1, 3] } else { &[3] });
    }

    pub fn admission(&mut self) {
        if !self.chance.percent(14) {
            return;
        }
        let admission = match self.chance.below(if self.is_foul() { 9 } else { 5 }) {
            0 => Admission::Prefer,
            1 => Admission::RewriteImages("q.io/", "mirror.io/"),
            2 => Admission::RewritePods("q.io/", "mirror.io/"),
            3 | 4 => Admission::Sidecar("istio-proxy"),
            _ => {
                self.may(&[1]);
                let place = self.chance.below(self.images.len() as u64) as usize;
                let image = ImageRef::parse(self.images[place]).expect("these are valid");
                Admission::DropContainer(container_name(place, &image))
            }
        };
        self.world.admission.push(admission);
    }
}

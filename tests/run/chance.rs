//! Worlds made by chance, each from one number.

use std::time::Duration;

use crate::bench::{args_with, attempt, check, nodes};
use crate::model::{Fault, FaultKind, Happening, ModelNode, PodsOnReplace, Pull, Shared, World};

const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
const REQUESTS: [&str; 9] = [
    "list nodes",
    "get node",
    "get job",
    "list daemonsets",
    "create daemonset",
    "get daemonset",
    "list pods",
    "list events",
    "patch daemonset",
];
const SETTINGS: &str =
    r#"{"images": ["q.io/a:1", {"image": "q.io/b:1", "nodeSelector": {"pool": "gpu"}}]}"#;

/// xorshift64*.
struct Chance(u64);

impl Chance {
    fn of(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn node(&mut self) -> &'static str {
        NODES[self.of(5) as usize]
    }
}

/// Five nodes whose troubles are all over after 100 s. Nothing in it is a reason to fail.
fn world(seed: u64) -> World {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut world = nodes(5);
    world.seed = seed;
    world.page = 2 + chance.of(5) as usize;
    world.pace.listing = Duration::from_secs(chance.of(41));
    world.pace.controller = Duration::from_millis(50 + chance.of(3000));
    world.pace.request = Duration::from_millis(5 + chance.of(300));
    for name in NODES {
        let node = world.nodes.get_mut(name).expect("one of five");
        if chance.of(2) == 0 {
            node.labels.insert("pool".into(), "gpu".into());
        }
        for image in ["q.io/a:1", "q.io/b:1"] {
            let pull = Pull::after(1 + chance.of(40));
            world.registry_at.insert((name.into(), image.into()), pull);
        }
    }
    for late in 0..chance.of(3) {
        let name = format!("late{late}");
        world.at(5 + chance.of(60), Happening::Join(Box::new(ModelNode::new(&name))));
    }
    // A third time would be a reason to fail.
    let mut n_deletions = 0;
    for _ in 0..chance.of(4) {
        let (at, node) = (2 + chance.of(60), chance.node());
        match chance.of(7) {
            0 => _ = world.at(at, Happening::Cordon(node)).at(at + 30, Happening::Uncordon(node)),
            1 => {
                let back = Happening::SetReady(node, true);
                world.at(at, Happening::SetReady(node, false)).at(at + 30, back);
            }
            2 => _ = world.at(at, Happening::Replace(node, PodsOnReplace::AreMadeAgain)),
            3 => _ = world.at(at, Happening::Replace(node, PodsOnReplace::Stay)),
            4 => _ = world.at(at, Happening::DeletePod(node)),
            5 => _ = world.at(at, Happening::Evict(node)),
            _ if n_deletions < 2 => {
                n_deletions += 1;
                world.at(at, Happening::DeleteSets);
            }
            _ => {}
        }
    }
    for _ in 0..chance.of(4) {
        let kind = match chance.of(5) {
            0 => FaultKind::LostAnswer,
            1 => FaultKind::Transport,
            2 => FaultKind::Hang(Duration::from_secs(chance.of(10))),
            3 => {
                let retry_after = Some(Duration::from_secs(chance.of(10)));
                FaultKind::Status { code: 429, message: "slow down", retry_after }
            }
            _ => FaultKind::Status { code: 500, message: "no leader", retry_after: None },
        };
        let request = REQUESTS[chance.of(REQUESTS.len() as u64) as usize];
        let (skip, times) = (chance.of(6) as usize, 1 + chance.of(3) as usize);
        world.faults.push(Fault { request, skip, times, kind });
    }
    world.kill_after = (chance.of(3) == 0).then(|| 1 + chance.of(60) as usize);
    world
}

fn run(seed: u64) -> (Shared, Vec<String>, u8) {
    let world = world(seed).share();
    // With a Job's time that helm's own patience does not bound.
    let args = args_with("--timeout 600s", SETTINGS);
    let mut ended = attempt(&world, &args);
    if ended.is_killed {
        world.borrow_mut().kill_after = None;
        world.borrow_mut().advance(Duration::from_secs(10));
        ended = attempt(&world, &args);
    }
    check(&world.borrow(), &args, &ended);
    (world, ended.lines, ended.exit)
}

#[test]
fn worlds_whose_troubles_pass_end_well() {
    for seed in 1..=300 {
        let (world, lines, exit) = run(seed);
        let world = world.borrow();
        assert_eq!(exit, 0, "seed {seed} at {:?}: {lines:#?}", world.now);
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 1..=5 {
        let log = || {
            let (world, lines, _) = run(seed);
            let requests = world.borrow().requests.clone();
            (lines, requests.iter().map(|it| (it.at, it.request)).collect::<Vec<_>>())
        };
        assert_eq!(log(), log());
    }
}

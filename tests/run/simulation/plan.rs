//! What a world is like and what befalls it, all by chance from one seed.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use prepull::args::{self, Command, RunArgs};
use serde_json::Value;

use super::process::Interruption;
use super::scene::OWN_IMAGE;
use crate::chance::Chance;
use crate::model::World;

/// Troubles that pass are over after so many seconds.
pub const TROUBLES_END: u64 = 90;
/// Nodes that are described where a plan is shown.
const NODES_SHOWN: usize = 15;
/// One world in so many has more nodes than a DaemonSet names.
const MANY_NODES_EVERY: u64 = 4000;

const STALL_TIMEOUT: &str = "--stall-timeout=";

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

/// A world in the making.
pub struct Draft {
    pub chance: Chance,
    pub weather: Weather,
    pub world: World,
    pub n_nodes: u64,
    pub images: Vec<&'static str>,
    pub may_exit: BTreeSet<u8>,
    pub facts: BTreeSet<&'static str>,
    /// Whether nodes may not be listed.
    pub is_blind: bool,
    /// How often somebody deletes or edits DaemonSets.
    pub n_losses: u64,
    /// What all pulls of one node take at most, and those of all nodes.
    pub longest_on_node: Duration,
    pub longest_of_all: Duration,
}

/// The world of a seed.
pub fn plan(seed: u64) -> Plan {
    let mut chance = Chance::of_seed(seed);
    let weather =
        chance.weighed(&[(25, Weather::Fair), (35, Weather::Passing), (40, Weather::Foul)]);
    // More nodes than a DaemonSet names are dear, and so is a big cluster.
    let (least, most) = match seed % MANY_NODES_EVERY {
        0 => (501, 640),
        _ => {
            chance.weighed(&[(2, (0, 0)), (10, (1, 1)), (55, (2, 5)), (32, (6, 12)), (1, (40, 60))])
        }
    };
    let n_nodes = chance.between(least, most);
    let is_blind = weather != Weather::Fair && chance.percent(6);
    let mut draft = Draft {
        chance,
        weather,
        world: World::of(vec![]),
        n_nodes,
        images: vec![],
        may_exit: BTreeSet::new(),
        facts: BTreeSet::new(),
        is_blind,
        n_losses: 0,
        longest_on_node: Duration::ZERO,
        longest_of_all: Duration::ZERO,
    };
    draft.world.seed = seed;
    draft.pace();
    draft.nodes();
    let settings = draft.settings();
    draft.stores();
    draft.pulls();
    draft.admission();
    draft.changes();
    draft.faults();
    draft.leftovers();
    draft.lives(&settings)
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Draft {
    pub fn is_foul(&self) -> bool {
        self.weather == Weather::Foul
    }

    /// Adds exit codes that a trouble may lead to.
    pub fn may(&mut self, exits: &[u8]) {
        self.may_exit.extend(exits);
    }

    fn lives(mut self, settings: &Value) -> Plan {
        let line = self.line();
        let owner = self.chance.weighed(&[(86, Owner::Job), (4, Owner::Pod), (10, Owner::Nobody)]);
        let mut lives = vec![self.life(0, "demo", owner, &line, settings)];
        if self.chance.percent(8) {
            let (release, owner, fact) = self.chance.pick(&[
                ("demo", Owner::Job, "lives: two Jobs of a release"),
                ("demo", Owner::Nobody, "lives: a shell beside a Job"),
                ("other", Owner::Job, "lives: two releases"),
            ]);
            self.facts.insert(fact);
            let at = ms(self.chance.below(60_000));
            lives.push(Life { at, ..self.life(1, release, owner, &line, settings) });
        }
        Plan {
            seed: self.world.seed,
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
        let interval = chance.weighed(&[(7, "2s"), (1, "1s"), (1, "5s"), (1, "10s")]);
        let n_pods = chance.weighed(&[(75, 1), (15, 2), (10, 3)]);
        let mut line = vec![format!("--interval={interval}"), format!("--pods-per-node={n_pods}")];
        let window = chance.weighed(&[
            (50, None),
            (12, Some("1")),
            (13, Some("2")),
            (13, Some("25%")),
            (12, Some("100%")),
        ]);
        // A window needs the right to list nodes.
        let n_at_once = window.filter(|_| !self.is_blind || self.is_foul());
        if let Some(window) = n_at_once {
            line.push(format!("--max-nodes-at-once={window}"));
            if self.may_exit.contains(&1) {
                self.may(&[2]);
            }
        }
        for (percent, option, values) in [
            (10, "--strict", &[""][..]),
            (7, "--failure-policy=Ignore", &[""]),
            (30, "--allow-missing=", &["1", "2", "50%"]),
            (14, STALL_TIMEOUT, &["10s", "30s"]),
        ] {
            if self.chance.percent(percent) {
                line.push(format!("{option}{}", self.chance.pick(values)));
                match option {
                    "--strict" => self.may(&[1]),
                    STALL_TIMEOUT => self.fault_of_a_rare_call("delete pod"),
                    _ => {}
                }
            }
        }
        let timeout = match self.weather {
            Weather::Foul => {
                self.may(&[3]);
                seconds(self.chance.between(20, 290))
            }
            _ => self.enough(n_at_once.is_some()),
        };
        line.push(format!("--timeout={}s", timeout.as_secs()));
        line
    }

    /// A time within which a run must be able to end.
    fn enough(&self, has_window: bool) -> Duration {
        let pulls = match has_window {
            // Nodes may have to wait for one another, and for looks at them.
            true => self.longest_of_all + seconds(30) * (self.n_nodes as u32 + 10),
            false => self.longest_on_node,
        };
        let troubles = match self.weather {
            Weather::Fair => Duration::ZERO,
            _ => seconds(TROUBLES_END),
        };
        4 * (troubles + pulls) + seconds(240)
    }

    fn life(
        &mut self,
        place: u64,
        release: &str,
        owner: Owner,
        line: &[String],
        settings: &Value,
    ) -> Life {
        let word = self.chance.below(1 << 32);
        let uid = format!("{word:08x}-{place:04x}-4000-8000-{:012x}", self.world.seed);
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
        Life { owner, args, at: Duration::ZERO, start, attempts, after }
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
            2 => Some(Blow::Drain(Interruption::Signal)),
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
            let images: Vec<_> = config
                .wanted
                .iter()
                .map(|it| format!("{} {:?}", it.image, it.pull_policy))
                .collect();
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

//! What must hold of every run, whatever the world does to it. What is true is what the model's
//! disks and objects say, and never what a run has noted down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prepull::cluster::Page;
use prepull::image::PullPolicy;
use prepull::node::Node;
use prepull::puller::RUN_LABEL;
use prepull::run::{Config, Item, Outcome};
use prepull::survey::Wanted;

use super::plan::{Owner, Plan, Weather};
use super::process::{Process, Told};
use super::scene::{OWN_IMAGE, PERMANENT};
use crate::model::{Change, ModelNode, NEVER_PULLED, Request, Verb, World, listed_name};

/// What a run may take beyond its deadline: a last look and the cleaning up. The Job's own
/// deadline is 20 s after the run's.
const OVERTIME: Duration = Duration::from_secs(20);
/// From a signal to the end: the cleaning up, and the last request of it.
const SIGNALLED_FOR: Duration = Duration::from_secs(15);
/// The longest that the client waits for an answer.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);
const LONGEST_LOG: usize = 40;
/// A full node is forgiven after 30 s; between two looks at it, every 10 s, it may have had room.
const SHORTEST_FULL: Duration = Duration::from_secs(20);

/// What a LIST of the nodes showed, held against the truth at the same moment.
#[derive(Default)]
pub struct Look {
    /// The eligible nodes by name, and what each does not hold.
    pub missing: BTreeMap<String, Vec<String>>,
    pub is_complete: bool,
}

impl Look {
    pub fn observe(&mut self, world: &World, page: &Page<Node>, config: &Config) {
        for listed in &page.items {
            let Some(node) = world.nodes.get(&listed.metadata.name) else { continue };
            let groups = config.groups.iter().filter(|it| node.may_run(&it.placement));
            let mut groups = groups.peekable();
            if groups.peek().is_none() {
                continue;
            }
            let wanted = groups.flat_map(|it| it.images.iter().map(|&place| &config.wanted[place]));
            let missing = wanted.filter(|it| !holds(world, node, it));
            let missing = missing.map(|it| it.image.to_string()).collect();
            self.missing.insert(node.name.clone(), missing);
        }
        self.is_complete = page.next.is_none();
    }
}

/// Whether the image is on the node's disk, under its own name or that which a webhook gives it,
/// and, if it is to be pulled in any case, as its tag stood when the world began.
pub fn holds(world: &World, node: &ModelNode, wanted: &Wanted) -> bool {
    let written = wanted.image.as_written();
    let names = [written.to_owned(), world.admitted(written)];
    names.iter().any(|name| {
        node.stored(&listed_name(name)).is_some_and(|it| {
            wanted.pull_policy != PullPolicy::Always || it.version >= world.version_at_first(name)
        })
    })
}

/// What is wrong with a process that has ended.
pub fn of_process(world: &World, plan: &Plan, process: &Process<'_>, told: &Told) -> Vec<String> {
    let mut faults = vec![];
    faults.extend(proof(world, process, told));
    faults.extend(certainty(world, process));
    faults.extend(exit(world, plan, process, told));
    faults.extend(left_behind(world, process, told));
    faults.extend(others(world, process));
    faults.extend(time(world, plan, process, told));
    faults.extend(requests(world, process));
    faults.extend(log(told));
    let place = process.place;
    faults.into_iter().map(|it| format!("process {place}: {it}")).collect()
}

/// The rule of proof.
fn proof(world: &World, process: &Process<'_>, told: &Told) -> Vec<String> {
    if !matches!(process.outcome(), Some(Outcome::Ready | Outcome::NoNodes)) {
        return vec![];
    }
    let nodes = &told.report["nodes"];
    let notes = told.report["notes"].to_string();
    let late: BTreeSet<_> = match notes.split_once("joined too late to be waited for: ") {
        Some((_, names)) => names.split(['"', ',', ' ']).collect(),
        None => BTreeSet::new(),
    };
    let mut faults = vec![];
    for (name, images) in process.seen_missing(world) {
        let is_forgiven = !nodes["forgiven"][&name].is_null();
        if !is_forgiven && !late.contains(name.as_str()) {
            faults.push(format!("ready, but {name} does not hold {images:?}, which nobody says"));
        }
    }
    for name in nodes["forgiven"].as_object().into_iter().flatten().map(|it| it.0) {
        let full = world.was_full_for(name);
        let may_lack = process.args.config.allow_missing.of(1000) > 0;
        if full < SHORTEST_FULL && !may_lack {
            faults.push(format!("{name} is forgiven, but was full for no more than {full:?}"));
        }
    }
    for (name, why) in nodes["dropped"].as_object().into_iter().flatten() {
        if !world.troubled.contains(name) && !process.is_blind() {
            faults.push(format!("{name} is no longer waited for ({why}), but was always eligible"));
        }
    }
    faults
}

/// A failure is certain only after two attempts on a node, or on three nodes.
fn certainty(world: &World, process: &Process<'_>) -> Vec<String> {
    let Some(Outcome::CannotPull(items)) = process.outcome() else { return vec![] };
    let mut faults = vec![];
    for item in items {
        let image = match item {
            Item::Image(place) => process.args.config.wanted[*place].image.as_written(),
            Item::OwnImage => OWN_IMAGE,
        };
        // A webhook may have rewritten it.
        let names = [image.to_owned(), world.admitted(image)];
        let failed = world.failed.iter().filter(|((_, it), _)| names.contains(it));
        let attempts = failed.map(|(_, by_words)| {
            let permanent = by_words.iter().filter(|(it, _)| is_permanent(it));
            permanent.map(|it| *it.1).sum::<u32>()
        });
        let attempts: Vec<_> = attempts.filter(|it| *it > 0).collect();
        if attempts.len() < 3 && attempts.iter().all(|it| *it < 2) {
            faults.push(format!("{image} is given up too soon, after {attempts:?} attempts"));
        }
    }
    faults
}

fn is_permanent(words: &str) -> bool {
    PERMANENT.contains(&words) || words == NEVER_PULLED
}

/// The exit code is one that the troubles explain.
fn exit(world: &World, plan: &Plan, process: &Process<'_>, told: &Told) -> Vec<String> {
    let mut faults = vec![];
    let exit = told.exit;
    let is_signalled = process.signalled.is_some();
    let may =
        exit == 0 || exit == 143 && is_signalled || plan.may_exit.contains(&exit) && exit != 143;
    if !may {
        faults.push(format!("exit code {exit} has no reason: {}", told.verdict()));
    }
    let is_well = matches!(process.outcome(), Some(Outcome::NoNodes | Outcome::Ready));
    if plan.weather != Weather::Foul && !is_well && !is_signalled {
        faults.push(format!("it did not end well: {}", told.verdict()));
    }
    if matches!(process.outcome(), Some(Outcome::Stopped)) && !is_signalled {
        faults.push("stopped without a signal".into());
    }
    let is_blind = ["*", "list nodes"].iter().any(|it| world.denied.contains(*it))
        || world.seen.contains("fault: 403");
    if matches!(process.outcome(), Some(Outcome::Usage { .. }))
        && world.namespace_exists
        && !is_blind
    {
        faults.push(format!("wrong usage without a reason: {}", told.verdict()));
    }
    faults
}

/// Nothing of the run is left, or it is said.
fn left_behind(world: &World, process: &Process<'_>, told: &Told) -> Vec<String> {
    let config = &process.args.config;
    let mut faults = vec![];
    let is_its = |labels: &BTreeMap<String, String>| labels.get(RUN_LABEL) == Some(&config.id);
    for set in world.sets.values().filter(|it| is_its(it.labels())) {
        let name = set.name();
        // What an earlier try of the same Job left, and this one had no need to know, goes with
        // the Job.
        if !process.known.contains(name) && config.owner.is_some() {
            continue;
        }
        let is_told = told.lines.iter().any(|it| it.contains(&format!("`{name}` may be left")));
        let was_refused = process.asked(world).iter().rev().take(40).any(|it| !it.is_ok);
        if !(is_told && was_refused) && !world.has_stragglers() {
            faults.push(format!("{name} is left, which nobody says"));
        }
        if set.owner().is_none() && config.owner.is_some() && world.gone_owners.is_empty() {
            faults.push(format!("{name} has no owner"));
        }
        if !set.annotations().contains_key("prepull.dev/expires") {
            faults.push(format!("{name} never expires"));
        }
    }
    faults
}

/// Nothing that is another's was touched, but for leftovers of the release that have expired.
fn others(world: &World, process: &Process<'_>) -> Vec<String> {
    let config = &process.args.config;
    let is_wrong = |it: &&Change| {
        let is_leftover = it.verb == Verb::Delete && it.has_expired && it.release == config.name;
        it.process == process.place && it.run != config.id && !is_leftover
    };
    let wrong = world.changes.iter().filter(is_wrong);
    wrong.map(|it| format!("it touched what is not its: {it:?}")).collect()
}

/// It ends in time, counted from the start of the Job as soon as that is known, and after a
/// signal.
fn time(world: &World, plan: &Plan, process: &Process<'_>, told: &Told) -> Vec<String> {
    let mut faults = vec![];
    let life = &plan.lives[process.life];
    let timeout = process.args.config.timeout;
    let deadline = match process.job_known {
        Some(known) => (life.at + timeout).max(known),
        None => process.started + timeout,
    };
    if world.now > deadline + OVERTIME {
        let late = world.now - deadline;
        faults.push(format!("it ended {late:?} after its deadline: {}", told.verdict()));
    }
    if let Some(at) = process.signalled {
        let in_flight =
            match process.asked(world).iter().all(|it| it.is_ok) && world.seen.is_empty() {
                true => Duration::ZERO,
                false => LONGEST_REQUEST,
            };
        if world.now > at + SIGNALLED_FOR + in_flight {
            faults.push(format!("it ended {:?} after a signal", world.now - at));
        }
    }
    if process.outcome() == Some(&Outcome::Deadline) && world.now < deadline {
        faults.push("time ran out before the deadline".into());
    }
    faults
}

/// It is sparing with requests: in every interval one for every DaemonSet, sometimes a look at
/// pods and events, and more only where nodes come and go.
fn requests(world: &World, process: &Process<'_>) -> Vec<String> {
    let config = &process.args.config;
    let took = (world.now - process.started).as_millis();
    let n_intervals = (took / config.interval.as_millis()) as usize + 1;
    let n_looks = (took / 3000) as usize + 1;
    let n_sets = config.groups.len();
    let n_nodes = world.nodes.len() + world.replaced.len();
    let n_pages = (n_nodes * n_sets).max(world.events.len()) / world.page + 1;
    let n_failed = process.asked(world).iter().filter(|it| !it.is_ok).count();
    let n_patches = match config.max_nodes_at_once {
        Some(_) => 2 * n_sets * n_nodes,
        None => 4 * n_sets,
    };
    let n_rechecks = (took / 30_000) as usize + 1;
    let most = 20
        + n_intervals * n_sets
        + (n_looks.min(n_intervals) + 4 * n_sets) * 3 * n_pages
        + n_rechecks * 11.max(n_pages)
        + n_patches
        + 8 * n_pages
        + n_failed;
    let most_failed = 40 + (took / 400) as usize;
    let mut faults = vec![];
    if process.n_asked > most {
        faults.push(format!("{} requests are more than {most}", process.n_asked));
    }
    if n_failed > most_failed {
        faults.push(format!("{n_failed} failed requests are more than {most_failed}"));
    }
    faults
}

/// The log can be read.
fn log(told: &Told) -> Vec<String> {
    let mut faults = vec![];
    if told.lines.len() > LONGEST_LOG {
        faults.push(format!("{} lines of log", told.lines.len()));
    }
    if told.lines.iter().any(|it| it.contains(['\n', '\r'])) {
        faults.push("a line of the log is several".into());
    }
    if told.report["verdict"] != told.verdict() {
        faults.push("the last line is not the verdict".into());
    }
    faults
}

/// What is wrong when everything is over, the Jobs included.
pub fn at_the_end(world: &World, plan: &Plan, processes: &[Process<'_>]) -> Vec<String> {
    let mut faults = vec![];
    for set in world.sets.values() {
        let run = set.labels().get(RUN_LABEL);
        let life = plan.lives.iter().find(|it| Some(&it.args.config.id) == run);
        let Some(life) = life else { continue };
        let is_orphan = life.owner == Owner::Job && set.owner().is_none();
        if life.owner != Owner::Nobody && !is_orphan {
            faults.push(format!("{} outlives its owner", set.name()));
        }
    }
    faults.extend(window(world, plan, processes));
    faults
}

/// No more nodes are unfinished at a time than was asked for.
fn window(_: &World, _: &Plan, processes: &[Process<'_>]) -> Vec<String> {
    let mut faults = vec![];
    for process in processes {
        let Some(most) = process.window_size() else { continue };
        if process.most_unfinished > most {
            let n = process.most_unfinished;
            faults.push(format!("process {}: {n} unfinished nodes, not {most}", process.place));
        }
    }
    faults
}

impl Process<'_> {
    /// Its requests.
    pub fn asked<'a>(&self, world: &'a World) -> Vec<&'a Request> {
        world.requests.iter().filter(|it| it.process == self.place).collect()
    }

    /// What the nodes lacked that it took for ready, at the moment it looked.
    fn seen_missing(&self, world: &World) -> Vec<(String, Vec<String>)> {
        if self.is_blind() {
            return self.blind_missing(world);
        }
        let missing = self.look.missing.iter().filter(|it| !it.1.is_empty());
        missing.map(|(name, images)| (name.clone(), images.clone())).collect()
    }

    /// The same where it may not look at nodes: of those where its pods were in the last look.
    fn blind_missing(&self, world: &World) -> Vec<(String, Vec<String>)> {
        let config = &self.args.config;
        let mut missing = vec![];
        for (name, groups) in &self.pod_nodes {
            let Some(node) = world.nodes.get(name).filter(|_| !world.replaced.contains(name))
            else {
                continue;
            };
            let wanted = groups.iter().flat_map(|&it| &config.groups[it].images);
            let wanted = wanted.map(|&it| &config.wanted[it]).filter(|it| !holds(world, node, it));
            let wanted: Vec<_> = wanted.map(|it| it.image.to_string()).collect();
            if !wanted.is_empty() {
                missing.push((name.clone(), wanted));
            }
        }
        missing
    }
}

impl Told {
    pub fn verdict(&self) -> &str {
        self.lines.last().map(String::as_str).unwrap_or_default()
    }
}

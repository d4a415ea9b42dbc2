//! What must hold of every run, whatever the world does to it. What is true is what the model's
//! disks and objects say, and never what a run has noted down.

use std::collections::BTreeMap;
use std::time::Duration;

use prepull::cluster::Page;
use prepull::image::PullPolicy;
use prepull::node::Node;
use prepull::puller::{NAME_LABEL, RUN_LABEL};
use prepull::run::{Config, Item, Outcome};
use prepull::survey::{Survey, Wanted};
use serde_json::Value;

use super::plan::{Owner, Plan, Weather};
use super::process::{Process, Told};
use super::scene::{OWN_IMAGE, PERMANENT};
use crate::bench::is_said_to_be_left;
use crate::model::{
    Change, ModelNode, NEVER_PULLED, Request, Set, Verb, World, epoch, listed_name,
};

/// What a run may take beyond its deadline: a last look and the cleaning up. The Job's own
/// deadline is 20 s after the run's.
const OVERTIME: Duration = Duration::from_secs(20);
/// From a signal to the end: the cleaning up, and the last request of it.
const SIGNALLED_FOR: Duration = Duration::from_secs(15);
/// The longest that the client waits for an answer.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);
const LONGEST_LOG: usize = 40;
/// Permanent failures are certain after so many attempts on a node, or on so many nodes.
const CERTAIN_ATTEMPTS: u32 = 2;
const CERTAIN_NODES: usize = 3;
/// A leftover that can not be removed is tried so often at least.
const TRIES_OF_A_LEFTOVER: usize = 3;
/// Pods are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The kubelet tells of a pull at its next sync, up to 15 s later; a node that is full is forgiven
/// after 30 s, and one that is none any more is found out after 30 s without progress.
const SOON: Duration = Duration::from_secs(60);
/// A DaemonSet may be removed by others so long after the deadline of its run.
const EXPIRY_GRACE: Duration = Duration::from_secs(120);
/// Times are written in whole seconds.
const EXPIRY_SLACK: Duration = Duration::from_secs(2);
/// So many tries of a request within a second are not those of somebody who pauses.
const BUSY: usize = 5;
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
    faults.extend(excuses(world, process, told));
    faults.extend(nothing_to_do(world, process));
    faults.extend(certainty(world, process));
    faults.extend(haste(world, plan, process, told));
    faults.extend(pace(world, plan, process));
    faults.extend(exit(world, plan, process, told));
    faults.extend(left_behind(world, process, told));
    faults.extend(leftovers(world, plan, process, told));
    faults.extend(writes(world, plan, process));
    faults.extend(time(world, plan, process, told));
    faults.extend(requests(world, process));
    faults.extend(log(told));
    let place = process.place;
    faults.into_iter().map(|it| format!("process {place}: {it}")).collect()
}

/// The rule of proof: every eligible node of the last look, by uid, held every image of its groups
/// at that moment, or is named.
fn proof(world: &World, process: &Process<'_>, told: &Told) -> Vec<String> {
    match process.outcome() {
        Some(Outcome::NoNodes) if !process.is_blind() => {
            let eligible = process.look.missing.keys();
            return eligible.map(|it| format!("no nodes, but {it} is eligible")).collect();
        }
        Some(Outcome::Ready) => {}
        _ => return vec![],
    }
    let forgiven = &told.report["nodes"]["forgiven"];
    let mut faults = vec![];
    if !process.is_blind() && !process.look.is_complete {
        faults.push("ready without a whole look".into());
    }
    for (name, images) in process.seen_missing(world) {
        if forgiven[&name].is_null() {
            faults.push(format!("ready, but {name} does not hold {images:?}, which nobody says"));
        }
    }
    faults
}

/// Who is forgiven or not waited for any more gave reason to it.
fn excuses(world: &World, process: &Process<'_>, told: &Told) -> Vec<String> {
    let nodes = &told.report["nodes"];
    let names = |key: &str| nodes[key].as_object().into_iter().flatten();
    let mut faults = vec![];
    let is_late = |why: &Value| why == "joined too late to be waited for";
    let had_room = |name: &&String| world.was_full_for(name) < SHORTEST_FULL;
    let in_time = names("forgiven").filter(|(_, why)| !is_late(why));
    let had_room: Vec<_> = in_time.map(|it| it.0).filter(had_room).collect();
    let n_eligible = process.run.survey().map_or(0, Survey::n_eligible);
    let n_eligible = n_eligible.max(process.look.missing.len()).max(process.pod_nodes.len());
    if had_room.len() > process.args.config.allow_missing.of(n_eligible) {
        faults.push(format!("{had_room:?} are forgiven, but had room"));
    }
    for (name, why) in names("dropped") {
        if !world.troubled.contains(name) && !process.is_blind() {
            faults.push(format!("{name} is no longer waited for ({why}), but was always eligible"));
        }
    }
    faults
}

/// A run that finds everything costs one look, but for one that a Pod owns: it may have run before.
fn nothing_to_do(world: &World, process: &Process<'_>) -> Option<String> {
    let is_idle = process.run.survey().is_some_and(|it| it.is_complete() && it.n_eligible() > 0);
    let is_owned_by_a_pod = process.args.config.owner.as_ref().is_some_and(|it| it.kind == "Pod");
    let ends = |request: &str| matches!(request, "get daemonset" | "delete daemonset");
    let is_allowed =
        |it: &&Request| it.request == "list nodes" || is_owned_by_a_pod && ends(it.request);
    let other = process.asked(world).find(|it| !is_allowed(it))?;
    is_idle.then(|| format!("nothing was missing, but it asked for {}", other.request))
}

/// A failure is certain only after two attempts on a node, or on three nodes.
fn certainty(world: &World, process: &Process<'_>) -> Vec<String> {
    let Some(Outcome::CannotPull(items)) = process.outcome() else { return vec![] };
    let too_soon =
        items.iter().filter(|it| certain_since(world, process, **it, |_| true).is_none());
    too_soon.map(|it| format!("{} is given up too soon", image_of(process, *it))).collect()
}

/// What is certain ends the run at its next look, where nothing else happens.
fn haste(world: &World, plan: &Plan, process: &Process<'_>, told: &Told) -> Option<String> {
    let config = &process.args.config;
    let is_alone = plan.lives.len() == 1 && process.place == 0;
    let is_quiet = world.seen.is_empty() && world.denied.is_empty() && is_alone;
    if !is_quiet || config.stall_timeout.is_some() || config.allow_missing.of(100) > 0 {
        return None;
    }
    let images = (0..config.wanted.len()).map(Item::Image);
    // The pods of several DaemonSets each try for themselves.
    let own = (config.groups.len() == 1).then_some(Item::OwnImage);
    let since = images.chain(own).filter_map(|item| {
        // One that healed may have done so before it was seen to fail.
        let names = names_of(world, process, item);
        let lacks = |node: &ModelNode| !names.iter().any(|it| node.holds(it));
        certain_since(world, process, item, lacks)
    });
    let since = since.min()?;
    let limit = since + LOOK_EVERY + config.interval * 2 + process.of_requests(world);
    (world.now > limit).then(|| {
        let late = world.now - since;
        format!("it ended {late:?} after a failure was certain: {}", told.verdict())
    })
}

/// Where nothing goes wrong, it ends soon after the last image came, or the last thing happened.
fn pace(world: &World, plan: &Plan, process: &Process<'_>) -> Option<String> {
    let config = &process.args.config;
    let is_free = config.max_nodes_at_once.is_none() && config.stall_timeout.is_none();
    if plan.weather != Weather::Fair || !is_free || plan.lives.len() > 1 {
        return None;
    }
    let since = world.last_change.max(process.started);
    let limit = since + SOON + config.interval * 2 + process.of_requests(world);
    (world.now > limit).then(|| format!("it ended {:?} after the last change", world.now - since))
}

/// When the failure of an image was certain, on nodes as asked for.
fn certain_since(
    world: &World,
    process: &Process<'_>,
    item: Item,
    counts: impl Fn(&ModelNode) -> bool,
) -> Option<Duration> {
    let names = names_of(world, process, item);
    let mut attempts: BTreeMap<&str, u32> = BTreeMap::new();
    for it in world.failed.iter().filter(|it| names.contains(&it.image)) {
        let node = world.nodes.get(&it.node);
        let is_permanent = PERMANENT.contains(&it.words.as_str()) || it.words == NEVER_PULLED;
        // One that went counted as long as it was there.
        if !is_permanent || !node.is_none_or(&counts) {
            continue;
        }
        let n = attempts.entry(&it.node).or_default();
        *n += 1;
        if *n >= CERTAIN_ATTEMPTS || attempts.len() >= CERTAIN_NODES {
            return Some(it.at);
        }
    }
    None
}

/// The names under which pods may have asked for it: a webhook may have rewritten it.
fn names_of(world: &World, process: &Process<'_>, item: Item) -> [String; 2] {
    let image = image_of(process, item);
    [image.to_owned(), world.admitted(image)]
}

fn image_of<'a>(process: &'a Process<'_>, item: Item) -> &'a str {
    match item {
        Item::Image(place) => process.args.config.wanted[place].image.as_written(),
        Item::OwnImage => OWN_IMAGE,
    }
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
    let may_not_list = process.asked(world).any(|it| it.request == "list nodes" && !it.is_ok);
    if matches!(process.outcome(), Some(Outcome::Usage { .. }))
        && world.namespace_exists
        && !may_not_list
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
        let is_told = is_said_to_be_left(name, &told.lines);
        let was_refused = process.asked(world).any(|it| !it.is_ok);
        if !(world.has_stragglers() || is_told && was_refused) {
            faults.push(format!("{name} is left, which nobody says"));
        }
    }
    faults
}

/// Expired leftovers of the release are removed by a run that makes something, or it is said that
/// one can not be after some tries.
fn leftovers(world: &World, plan: &Plan, process: &Process<'_>, told: &Told) -> Vec<String> {
    let rights = ["list daemonsets", "delete daemonset"];
    let may = !rights.iter().any(|it| world.denied.contains(*it));
    let has_made = world.changes.iter().any(|it| it.process == process.place);
    let is_ready = process.outcome() == Some(&Outcome::Ready);
    if plan.weather == Weather::Foul || !may || !has_made || !is_ready {
        return vec![];
    }
    let started = epoch() + process.started;
    let is_left = |set: &&Set| {
        set.labels().get(NAME_LABEL) == Some(&process.args.config.name)
            && set.expires().is_some_and(|it| it < started)
    };
    let n_tries = |name: &str| {
        let tries = process.asked(world).filter(|it| it.request == "delete daemonset");
        tries.filter(|it| it.about == name && !it.is_ok).count()
    };
    let is_told = told.says("note: cannot delete daemonset");
    let is_given_up = |it: &&Set| is_told && n_tries(it.name()) >= TRIES_OF_A_LEFTOVER;
    let left = world.sets.values().filter(is_left).filter(|it| !is_given_up(it));
    left.map(|it| format!("leftover {} is still there", it.name())).collect()
}

/// It writes what is its own, with its owner and the right expiry, and touches nothing that is
/// another's but leftovers of the release that have expired.
fn writes(world: &World, plan: &Plan, process: &Process<'_>) -> Vec<String> {
    let config = &process.args.config;
    let owner = config.owner.as_ref().map(|it| it.uid.as_str());
    let expires = epoch() + process.deadline(plan) + EXPIRY_GRACE;
    let is_fine = |it: &Change| match it.verb {
        Verb::Create => {
            let off = it.expires.map(|it| match it.duration_since(expires) {
                Ok(late) => late,
                Err(early) => early.duration(),
            });
            it.run == config.id
                && it.release == config.name
                && it.owner.as_deref() == owner
                && off.is_some_and(|it| it <= EXPIRY_SLACK)
        }
        Verb::Delete => it.run == config.id || it.has_expired && it.release == config.name,
        Verb::Patch => it.run == config.id,
    };
    let wrong = world.changes.iter().filter(|it| it.process == process.place && !is_fine(it));
    let mut faults: Vec<_> =
        wrong.map(|it| format!("it wrote what it should not: {it:?}")).collect();
    let deletes_pods = process.asked(world).any(|it| it.request == "delete pod");
    if deletes_pods && config.stall_timeout.is_none() {
        faults.push("it deleted a pod without `--stall-timeout`".into());
    }
    faults
}

/// It ends in time, counted from the start of the Job as soon as that is known, and after a
/// signal.
fn time(world: &World, plan: &Plan, process: &Process<'_>, told: &Told) -> Vec<String> {
    let mut faults = vec![];
    let deadline = process.deadline(plan).max(process.job_known.unwrap_or_default());
    if world.now > deadline + OVERTIME {
        let late = world.now - deadline;
        faults.push(format!("it ended {late:?} after its deadline: {}", told.verdict()));
    }
    if let Some(at) = process.signalled {
        let in_flight = match process.asked(world).all(|it| it.is_ok) && world.seen.is_empty() {
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
    let n_pages = process.n_pages(world);
    let n_failed = process.asked(world).filter(|it| !it.is_ok).count();
    let n_patches = match config.max_nodes_at_once {
        Some(_) => 2 * n_sets * n_nodes,
        None => 4 * n_sets,
    };
    let n_rechecks = (took / 30_000) as usize + 1;
    // A list that expires is read anew from its start.
    let is_expired = |it: &&Request| !it.is_ok && it.about == "continue";
    let n_expired = process.asked(world).filter(is_expired).count();
    let most = 20
        + n_intervals * n_sets
        + (n_looks.min(n_intervals) + 4 * n_sets) * 3 * n_pages
        + n_rechecks * 11.max(n_pages)
        + n_patches
        + 8 * n_pages
        + n_failed
        + n_expired * n_pages;
    let most_failed = 40 + (took / 400) as usize;
    let mut faults = vec![];
    if process.n_asked > most {
        faults.push(format!("{} requests are more than {most}", process.n_asked));
    }
    if n_failed > most_failed {
        faults.push(format!("{n_failed} failed requests are more than {most_failed}"));
    }
    let mut failed: BTreeMap<(&str, &str), Vec<Duration>> = BTreeMap::new();
    for it in process.asked(world).filter(|it| !it.is_ok) {
        failed.entry((it.request, &it.about)).or_default().push(it.at);
    }
    for ((request, about), at) in failed {
        let is_busy = |it: &[Duration]| it[BUSY - 1] - it[0] < Duration::from_secs(1);
        if at.windows(BUSY).any(is_busy) {
            faults.push(format!("`{request} {about}` failed {BUSY} times within a second"));
        }
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
    pub fn asked<'a>(&self, world: &'a World) -> impl Iterator<Item = &'a Request> {
        let place = self.place;
        world.requests.iter().filter(move |it| it.process == place)
    }

    /// When its time is over, as far as it can know.
    fn deadline(&self, plan: &Plan) -> Duration {
        let timeout = self.args.config.timeout;
        match self.job_known {
            Some(_) => plan.lives[self.life].at + timeout,
            None => self.started + timeout,
        }
    }

    /// What the requests of a look at everything, and of the cleaning up, take at most.
    fn of_requests(&self, world: &World) -> Duration {
        let n_sets = self.args.config.groups.len();
        world.pace.request * (20 + 6 * n_sets + 3 * self.n_pages(world)) as u32
    }

    /// An upper bound of the pages of a LIST.
    fn n_pages(&self, world: &World) -> usize {
        let n_nodes = world.nodes.len() + world.replaced.len();
        (n_nodes * self.args.config.groups.len()).max(world.events.len()) / world.page + 1
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
    pub fn says(&self, words: &str) -> bool {
        self.lines.iter().any(|it| it.contains(words))
    }

    pub fn verdict(&self) -> &str {
        self.lines.last().map(String::as_str).unwrap_or_default()
    }
}

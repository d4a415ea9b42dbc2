//! Runs over the model, and what must hold after every one of them.

use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use prepull::args::{self, Command, RunArgs};
use prepull::node::eligible;
use prepull::report::{Exit, Report, Verbosity};
use prepull::run::{Line, Run, Signal, drive};
use serde_json::{Value, json};

use crate::model::{
    FaultKind, Killed, ModelClock, ModelCluster, ModelNode, Pull, Request, Shared, World, epoch,
};

/// What the run may take beyond its deadline: a last look and the cleaning up. The Job's own
/// deadline is 20 s after the run's.
const OVERTIME: Duration = Duration::from_secs(20);
/// A fault that comes so often is there for good.
const MANY: usize = 1000;
pub const JOB_UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const OWN_IMAGE: &str = "q.io/prepull:1";

/// How one process ended.
pub struct Ended {
    pub exit: u8,
    /// The report's JSON.
    pub report: Value,
    /// The lines of the log, those of the report last.
    pub lines: Vec<String>,
    /// The event about the owner: kind, reason and message. What nobody owns has none.
    pub event: Option<String>,
    /// What the pod's status keeps of it.
    pub termination_message: String,
    pub took: Duration,
    pub is_killed: bool,
}

/// `n1`, `n2` and so on, ready and with nothing on them.
pub fn nodes(n_nodes: usize) -> World {
    let width = n_nodes.to_string().len();
    World::of((1..=n_nodes).map(|it| ModelNode::new(&format!("n{it:0width$}"))).collect())
}

/// Three nodes, on which this image takes so many seconds.
pub fn pulling_for(takes: u64) -> World {
    let mut world = nodes(3);
    world.registry.insert("q.io/a:1".into(), Pull::after(takes));
    world
}

/// A DaemonSet of this run that an earlier try made of something else.
pub fn of_an_earlier_try() -> Value {
    let name = format!("demo-{}-1", &JOB_UID.replace('-', "")[..10]);
    json!({
        "metadata": {
            "name": name,
            "labels": {"prepull.dev/name": "demo", "prepull.dev/run": JOB_UID},
            "ownerReferences": [{"uid": JOB_UID}],
        },
        "spec": {"template": {"metadata": {}, "spec": {"containers": [], "initContainers": []}}},
    })
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn answer(code: u16, message: &'static str, retry_after: Option<u64>) -> FaultKind {
    FaultKind::Status { code, message, retry_after: retry_after.map(Duration::from_secs) }
}

/// The arguments of a hook's Job.
pub fn args(line: &str) -> RunArgs {
    let line = format!("--puller-image {OWN_IMAGE} --name demo {line}");
    let env = |name: &str| match name {
        "PREPULL_JOB_NAME" => Some("demo-prepull".into()),
        "PREPULL_JOB_UID" => Some(JOB_UID.into()),
        _ => None,
    };
    parse(line.split_whitespace().collect(), &env)
}

/// The same with structured settings.
pub fn args_with(line: &str, settings: &str) -> RunArgs {
    let settings = settings.split_whitespace().collect::<String>();
    args(&format!("--settings {settings} {line}"))
}

/// The arguments of a process that no Job owns.
pub fn args_of_a_shell(line: &str) -> RunArgs {
    let line = format!("--puller-image {OWN_IMAGE} --name demo {line}");
    parse(line.split_whitespace().collect(), &|_| None)
}

fn parse(line: Vec<&str>, env: &dyn Fn(&str) -> Option<String>) -> RunArgs {
    // `check` stands first.
    let (first, rest): (Vec<_>, Vec<_>) = line.into_iter().partition(|it| *it == "check");
    match args::parse(first.into_iter().chain(rest).map(Into::into).collect(), env) {
        Ok(Command::Run(args)) => *args,
        other => panic!("not a run: {other:?}"),
    }
}

/// Runs one process to its end, or until it is killed, and holds the end against the world.
pub fn run(world: &Shared, args: &RunArgs) -> Ended {
    let ended = attempt(world, args);
    check(&world.borrow(), args, &ended);
    ended
}

/// The same without holding anything against anything.
pub fn attempt(world: &Shared, args: &RunArgs) -> Ended {
    {
        let mut world = world.borrow_mut();
        world.n_asked = 0;
        world.signal = Signal::None;
        let now = world.now;
        let job = args.config.owner.as_ref().map(|it| it.name.clone());
        job.map(|it| *world.jobs.entry(it).or_insert(epoch() + now));
    }
    let mut run = Run::new(&args.config);
    let mut cluster = ModelCluster::new(Shared::clone(world));
    let mut clock = ModelClock::start(world);
    let started = world.borrow().now;
    let mut lines = vec![];
    let driven = panic::catch_unwind(AssertUnwindSafe(|| {
        drive(&mut run, &mut cluster, &mut clock, &mut |line| match line {
            Line::Verbose(_) if args.verbosity == Verbosity::Normal => {}
            Line::Always(line) | Line::Verbose(line) => lines.push(line),
        });
    }));
    let is_killed = match driven {
        Ok(()) => false,
        Err(cause) if cause.is::<Killed>() => true,
        Err(cause) => panic::resume_unwind(cause),
    };
    let report = Report::new(&args.config, &run, args.judgement);
    match report.exit_code() {
        // As the command line is refused: this alone, on standard error.
        exit if exit == Exit::Usage as u8 => lines.push(report.verdict().into()),
        _ => lines.extend(report.lines(args.verbosity)),
    }
    let owner = args.config.owner.as_ref();
    Ended {
        exit: report.exit_code(),
        report: serde_json::from_str(&report.json()).expect("a report is JSON"),
        lines,
        event: owner
            .and(report.event())
            .map(|(kind, reason)| format!("{kind:?} {reason}: {}", report.event_message())),
        termination_message: report.termination_message(),
        took: world.borrow().now - started,
        is_killed,
    }
}

/// Whether it is told that this DaemonSet may be there still.
pub fn is_said_to_be_left(name: &str, lines: &[String]) -> bool {
    let name = format!("`{name}`");
    lines.iter().any(|it| it.contains(&name) && it.contains(" may be left: "))
}

impl Ended {
    pub fn verdict(&self) -> &str {
        self.lines.last().expect("a report has a verdict")
    }

    /// Whether the report or the log says so.
    pub fn says(&self, text: &str) -> bool {
        self.lines.iter().any(|it| it.contains(text))
    }

    #[track_caller]
    pub fn expect(&self, exit: u8, words: &[&str]) -> &Self {
        assert_eq!(self.exit, exit, "{:#?}", self.lines);
        for word in words {
            let verdict = self.verdict();
            assert!(verdict.contains(word), "`{word}` is not in the verdict: {verdict}");
        }
        self
    }
}

/// How many requests were sent in the busiest second.
pub fn busiest_second(world: &Shared) -> usize {
    let world = world.borrow();
    let at = || world.requests.iter().map(|it| it.at);
    let within = |start| at().filter(|it| (start..start + seconds(1)).contains(it)).count();
    at().map(within).max().unwrap_or_default()
}

/// What holds after every run.
#[track_caller]
pub fn check(world: &World, args: &RunArgs, ended: &Ended) {
    if ended.is_killed {
        return;
    }
    // What an earlier try of the same Job left, and this one had no need to know, goes with the
    // Job.
    let asked = &world.requests[world.requests.len() - world.n_asked..];
    let knows = |it: &&str| asked.iter().any(|asked| asked.request == *it && asked.is_ok);
    let knew_of_it = ["create daemonset", "get daemonset", "list daemonsets"].iter().any(knows);
    let may_not_delete = ["*", "delete daemonset"].iter().any(|it| world.denied.contains(*it))
        || world.faults.iter().any(|it| it.times > MANY);
    let told = format!("{:#?}", ended.lines);

    // The rule of proof.
    if ended.report["outcome"] == "ready" {
        let forgiven = forgiven(world, ended);
        for (node, image) in missing(world, args) {
            assert!(
                forgiven.contains(&node),
                "{image} is not on {node}, which nobody says: {told}"
            );
        }
    }

    // Nothing of ours is left, or the cluster removes it.
    for name in world.pullers() {
        let meta = &world.sets[name].object["metadata"];
        if meta["labels"]["prepull.dev/run"] != args.config.id.as_str() {
            continue;
        }
        assert!(may_not_delete || !knew_of_it, "{name} is left: {told}");
        let owner = args.config.owner.as_ref().map(|it| it.uid.as_str());
        assert_eq!(meta["ownerReferences"][0]["uid"].as_str(), owner);
    }

    // It ends in time, counted from the start of the Job.
    let job = args.config.owner.as_ref().and_then(|it| world.jobs.get(&it.name));
    let running_before = job.map_or(Duration::ZERO, |it| {
        (world.wall() - ended.took).duration_since(*it).unwrap_or_default()
    });
    let bound = args.config.timeout.saturating_sub(running_before) + OVERTIME;
    assert!(ended.took <= bound, "it took {:?}: {told}", ended.took);

    // It is sparing with requests: in every interval one for every DaemonSet, and sometimes a
    // look at pods and events.
    let most = world.nodes.len().max(world.events.len());
    let n_pages = most / world.page + 1;
    let n_intervals = (ended.took.as_millis() / args.config.interval.as_millis()) as usize + 1;
    let bound = 16 + 8 * n_pages + n_intervals * (args.config.groups.len() + 2 * n_pages);
    assert!(world.n_asked <= bound, "{} requests, not {bound}: {told}", world.n_asked);

    // The log can be read.
    assert!(ended.lines.len() <= 40, "{} lines: {told}", ended.lines.len());
    assert!(ended.lines.iter().all(|it| !it.contains(['\n', '\r'])), "{told}");
    assert_eq!(ended.report["verdict"], ended.verdict());
}

/// What the truth is: images that are not on nodes which are eligible now.
pub fn missing(world: &World, args: &RunArgs) -> Vec<(String, String)> {
    let mut missing = vec![];
    for node in world.nodes.values() {
        let object = node.object(world.now);
        for group in &args.config.groups {
            if eligible(&object, &group.placement).is_err() {
                continue;
            }
            let images = group.images.iter().map(|&it| args.config.wanted[it].image.as_written());
            let images = images.filter(|it| !node.holds(&world.admitted(it)));
            missing.extend(images.map(|it| (node.name.clone(), it.to_owned())));
        }
    }
    missing
}

/// Nodes whose missing images are no lie: the report names them, or they came, or were opened,
/// after the run's last look at the nodes.
fn forgiven(world: &World, ended: &Ended) -> BTreeSet<String> {
    let is_look = |it: &&Request| it.request == "list nodes" && it.about != "continue";
    let looked = world.requests.iter().rev().find(is_look);
    let looked = looked.map(|it| it.at).unwrap_or_default();
    let notes = ended.report["notes"].to_string();
    let is_named = |name: &str| notes.split(|c: char| !c.is_alphanumeric()).any(|it| it == name);
    let dropped = &ended.report["nodes"]["dropped"];
    let named = &ended.report["nodes"]["forgiven"];
    let nodes = world.nodes.values();
    nodes
        .filter(|it| {
            !dropped[&it.name].is_null()
                || !named[&it.name].is_null()
                || is_named(&it.name)
                || it.opened_at >= looked
        })
        .map(|it| it.name.clone())
        .collect()
}

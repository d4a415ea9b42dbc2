//! The run: what to ask the cluster next, given what it answered.
//!
//! [`Run::step`] takes one observation and returns one action. It has no clock, no socket and no
//! signal handler: time and signals come in with every step, so that whole runs, with everything
//! that may go wrong in them, can be driven over a model of a cluster. [`drive()`] is the loop that
//! performs the actions for real.
//!
//! A run is in one phase at a time, and goes through them like this: `begin` (the first look at the
//! nodes, leftovers), `place` (the pullers), `watch` (until everything is proved), `end` (the
//! clean-up); `faults` says what a request that failed means in each. `targets` are what is waited
//! for, and `window` is who of them is let in.

mod begin;
mod drive;
mod end;
mod faults;
mod place;
mod targets;
mod trouble;
mod watch;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::mem::{self, Discriminant};
use std::time::{Duration, SystemTime};

use crate::cluster::{ApiError, Deletion, Job, Page};
use crate::evidence::{Event, Named, Pod};
use crate::node::{LeftOut, Node};
use crate::puller::{
    DaemonSet, NAME_LABEL, OwnerReference, Puller, PullerPodSpec, PullerStatus, RUN_LABEL,
    destination_patch, named_nodes, rewritten,
};
use crate::settings::PullerSettings;
use crate::share::Share;
use crate::survey::{Group, GroupSurvey, Survey, Wanted};
use crate::words::one_line;
use begin::{leftovers, no_place};
use faults::is_for_want_of_an_api_server;
use window::Window;

pub use drive::{Clock, drive, perform};
pub use targets::{Added, Dropped, Failing, Failure, Item, Obstacle, Target, Targets};

/// Targets without progress for so long are looked at again: they may be gone or cordoned.
const RECHECK_AFTER: Duration = Duration::from_secs(30);
/// An API server that was away for so long has not heard from nodes either: controllers take them
/// for unready that have not reported for 40 s (`--node-monitor-grace-period`), and kubelets report
/// every 10 s. A single request that times out after 10 s is no such thing.
const LONG_AWAY: Duration = Duration::from_secs(15);
/// Nodes may be taken for unready for so long after that. What a kubelet patches is the difference
/// to the node that it last saw, and its watch of that pauses for up to a minute between tries:
/// 56 to 95 s were measured after a minute's outage.
///
/// Source: `tryUpdateNodeStatus` in `pkg/kubelet/kubelet_node_status.go`.
const UNHEARD_OF_FOR: Duration = Duration::from_secs(120);
/// At the deadline a last look may take so long.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// Cleaning up is given up after so long: the Job's own deadline is 20 s after the run's, in which
/// a request under way, the last look and the cleaning up have to end, and the owner reference does
/// the rest.
const CLEANUP: Duration = Duration::from_secs(9);
/// A request is given so long however late it is.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);
/// Lines of one kind that are said, before the rest needs `-v`.
const LINES_OF_A_KIND: usize = 3;
/// Pauses between tries of a request that failed, without a `Retry-After`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Events of pods that warn; the others are many and prove nothing that pods do not.
const WARNINGS_OF_PODS: &str = "involvedObject.kind=Pod,type=Warning";
/// Events of DaemonSets that warn: their controller tells of pods that it can not make.
const WARNINGS_OF_SETS: &str = "involvedObject.kind=DaemonSet,type=Warning";

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// How far it goes.
    pub mode: Mode,
    /// The images in the order in which they were named, once for each placement.
    pub wanted: Vec<Wanted>,
    /// The images by where they go, dealt over the pods of a node; each group has a DaemonSet of
    /// its own.
    pub groups: Vec<Group>,
    /// Prefix of the DaemonSets' names, and what tells one release's pullers from another's.
    pub name: String,
    /// Where the DaemonSets are made.
    pub namespace: String,
    /// The image of this program, which the pods of a puller copy it from.
    pub own_image: String,
    /// From the start of the Job, where there is one.
    pub timeout: Duration,
    /// Between two looks at the numbers of the DaemonSets.
    pub interval: Duration,
    /// So many nodes may be unfinished at a time; of the eligible ones, where it is a percentage.
    pub max_nodes_at_once: Option<Share>,
    /// So many nodes may end up without an image.
    pub allow_missing: Share,
    /// A pod that gets no further for so long is made anew, if others got further.
    pub stall_timeout: Option<Duration>,
    /// What all pods are given.
    pub puller: PullerSettings,
    /// Tells this run's pullers from those of any other: the owner's uid, or a random word.
    pub id: String,
    /// The Job that the DaemonSets go with; none for a run from a shell.
    pub owner: Option<OwnerReference>,
}

/// How far a run goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Only look.
    Check,
    /// Look, and say what would be made.
    DryRun,
    /// Look, and pull what is missing.
    Run,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// These can not be pulled, whatever is waited for.
    CannotPull(BTreeSet<Item>),
    /// Looked at, as asked.
    Checked,
    /// Time ran out.
    Deadline,
    /// It can not go on, for this cause.
    Failed { cause: String },
    /// No node may run the release.
    NoNodes,
    /// Looked at, as a dry run.
    Planned,
    /// Every target is proved.
    Ready,
    /// A signal came in.
    Stopped,
    /// What was asked can not be done as it was asked.
    Usage { cause: String },
}

/// The moment of a step, as the loop sees it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the process started.
    pub elapsed: Duration,
    /// By the API server's clock as far as it is known.
    pub server: SystemTime,
    /// Whether the process has been told to stop.
    pub signal: Signal,
}

/// What the process has been told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    None,
    /// SIGTERM or SIGINT came in.
    Stop,
}

/// What the loop is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this request, and come back with its answer.
    Call(Call),
    /// Sleep for so long, or until a signal comes in.
    Wait(Duration),
    /// End: nothing is left to be done.
    Finish,
}

/// A request, as [`crate::cluster::Cluster`] has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    CreatePuller(Box<DaemonSet>),
    DeletePod { name: String, uid: String },
    DeletePuller { name: String, uid: String },
    ListEvents { fields: String, from: Option<String> },
    ListNodes { from: Option<String> },
    ListPods { labels: String, from: Option<String> },
    ListPullers { labels: String, from: Option<String> },
    PatchPuller { name: String, patch: String },
    ReadJob { name: String },
    ReadNode { name: String },
    ReadPuller { name: String },
}

/// An answer to a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Deleted(Deletion),
    Events(Page<Event>),
    Job(Job),
    Node(Box<Node>),
    Nodes(Page<Node>),
    Pods(Page<Pod>),
    Puller(Box<Puller>),
    Pullers(Page<Puller>),
}

impl Answer {
    /// Whether it is a page of a list, and not the last one.
    fn is_to_be_continued(&self) -> bool {
        match self {
            Self::Events(page) => page.next.is_some(),
            Self::Nodes(page) => page.next.is_some(),
            Self::Pods(page) => page.next.is_some(),
            Self::Pullers(page) => page.next.is_some(),
            _ => false,
        }
    }
}

/// What happened since the last step.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// The request of the last action has its answer, or none.
    Answered(Result<Answer, ApiError>),
    /// Nothing yet.
    Started,
    /// The pause of the last action is over.
    Waited,
}

/// A run in progress.
pub struct Run<'a> {
    config: &'a Config,
    now: Now,
    phase: Phase,
    /// The phases whose request was granted before.
    worked: HashSet<Discriminant<Phase>>,
    /// What to wait before the phase's next request.
    pause: Option<Duration>,
    /// Failed tries of the phase's request, and what the last one said.
    n_failed: u32,
    fault: Option<String>,
    /// The same when the outcome was decided: cleaning up has faults of its own.
    fault_at_end: Option<String>,
    /// How often in a row the list that is being read was begun anew.
    n_expired: u32,
    /// How long the Job had been running when this process started.
    started_before: Duration,
    sight: Sight,
    survey: Option<Survey>,
    groups: Vec<GroupRun>,
    window: Option<Window>,
    /// Groups whose puller has to be made, or sent to other nodes.
    to_place: Vec<usize>,
    round: u32,
    may_restart: MayRestart,
    /// Pods that were made anew because they got no further.
    n_restarted: usize,
    /// The numbers changed in a way that makes a look at the pods worth it.
    look_wanted: LookWanted,
    /// By [`Now::elapsed`], as are all moments here.
    next_poll: Duration,
    n_looks: u32,
    last_look: Duration,
    last_progress: Duration,
    last_recheck: Duration,
    /// When the last request was sent.
    asked_at: Duration,
    /// Since when no request has been answered.
    away_since: Option<Duration>,
    /// Since when requests are answered.
    answers_since: Duration,
    /// Whether the last answer was that the run has no right to it.
    is_refused: bool,
    /// Since when the API server is back, if it was away for long.
    back_since: Option<Duration>,
    /// Whether nodes that were left out at the first look may have been for want of news.
    has_unheard_of: bool,
    /// Whether all pullers of this run are known that an earlier try of its Job may have made.
    knows_leftovers: bool,
    /// The pause between two lines doubles: runs may take hours.
    next_progress: Duration,
    /// Nodes dropped by the recheck under way.
    dropped: BTreeSet<String>,
    has_noted_rewrites: bool,
    /// How many lines there were of each kind that there may be many of.
    n_said: BTreeMap<LineKind, usize>,
    deadline_seen: Option<Duration>,
    cleanup_began: Option<Duration>,
    outcome: Option<Outcome>,
    lines: Vec<Line>,
    notes: Vec<String>,
    /// The pullers that may be there still at the end.
    left: Vec<String>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Whatever the verbosity.
    Always(String),
    /// With `-v`.
    Verbose(String),
}

/// Lines that there may be many of in one run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum LineKind {
    Dropped,
    Fault,
    Leftover,
    Lost,
    NoOwner,
    NoRoom,
    Placed,
}

impl LineKind {
    /// So many are said without `-v`: helm prints them all, before the report.
    fn most(self) -> usize {
        match self {
            Self::NoOwner => 1,
            _ => LINES_OF_A_KIND,
        }
    }
}

/// One group's puller and targets.
#[derive(Debug)]
pub struct GroupRun {
    /// The nodes that lack images of the group, and what is known of each.
    pub targets: Targets,
    puller: PullerState,
    /// What the API server made of it, to tell whether somebody edits it.
    made_as: PullerPodSpec,
    /// The nodes it was sent to, where there is a window.
    sent_to: BTreeSet<String>,
    seen: PullerStatus,
    n_remakes: u32,
    /// How often it was made anew because of pods that are older than their nodes.
    n_renewals: u32,
    /// Since when a node is known to run as many pods as it may.
    no_room_since: BTreeMap<String, Duration>,
    /// How many unfinished targets had no pod at the last look, and since when it is no fewer.
    n_short: usize,
    n_short_since: Duration,
    refusal: Option<Refusal>,
    /// The nodes that got no further, by name.
    stalls: BTreeMap<String, Stall>,
    /// The nodes that had a pod in the look under way, and how many pods were meant for none that
    /// is known.
    with_pod: BTreeSet<String>,
    n_unplaced: usize,
    /// Since when the DaemonSet is known to want no pod at all.
    empty_since: Option<Duration>,
    /// The containers whose images are known to be rewritten in pods alone.
    rewritten: BTreeSet<String>,
}

impl GroupRun {
    /// Without a look at nodes, one that has no pod in a whole look is none to wait for, and what
    /// its pod showed before counts no more.
    fn drop_without_pod(&mut self) {
        let with_pod = mem::take(&mut self.with_pod);
        let names: Vec<_> = self.targets.names().into_iter().map(str::to_owned).collect();
        for name in names.into_iter().filter(|it| !with_pod.contains(it)) {
            self.targets.drop_node(&name, Dropped::Gone);
        }
        // Nor is one that has gone forgiven: it would be counted in the place of one that came.
        self.targets.dropped.retain(|name, why| !why.is_forgiven() || with_pod.contains(name));
    }

    /// Why a target is not finished.
    pub fn why<'b>(&'b self, name: &str, target: &'b Target) -> &'b str {
        let failure = target.failures.values().next();
        failure.map_or_else(|| self.waiting_for(name, target), |it| it.message.as_str())
    }

    /// What a target is waited for, as far as no pull has failed.
    pub fn waiting_for<'b>(&'b self, name: &str, target: &'b Target) -> &'b str {
        let is_made = !self.made_as.containers.is_empty();
        let has_turn = is_made && (self.sent_to.is_empty() || self.sent_to.contains(name));
        match target.pod {
            None if target.obstacle.is_none() && !has_turn => "its turn has not come",
            _ => target.waiting_for(),
        }
    }

    /// What an admission webhook made of the images of a pod, as far as it is new. The release's
    /// pods will get the same.
    fn rewrites_in(&mut self, pod: &Pod) -> Vec<String> {
        let mut notes = vec![];
        let got: Vec<_> = pod.spec.init_containers.iter().chain(&pod.spec.containers).collect();
        for asked in self.made_as.init_containers.iter().chain(&self.made_as.containers) {
            let Some(got) = got.iter().find(|it| it.name == asked.name) else { continue };
            if got.image != asked.image && self.rewritten.insert(asked.name.clone()) {
                notes.push(rewritten(&asked.name, &asked.image, &got.image));
            }
        }
        notes
    }
}

/// That the DaemonSet can not make pods.
#[derive(Debug)]
struct Refusal {
    message: String,
    /// Since when it is known.
    since: Duration,
    /// How often it was told of by then, and how often up to now.
    n_at_first: Option<i64>,
    n_told: i64,
}

/// A node that gets no further.
#[derive(Clone, Copy, Debug)]
struct Stall {
    n_lacking: usize,
    since: Duration,
    /// How often its pod was made anew; each time it is given twice as long.
    n_restarts: u32,
}

/// What a run may look at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sight {
    Nodes,
    /// Nodes may not be listed: the pods of the puller name them.
    PodsAlone,
}

#[derive(Clone, Debug, PartialEq)]
enum PullerState {
    /// Asked for; whether it was made is not known.
    Asked,
    /// Never asked for, but an earlier try may have done so.
    Guessed,
    Made {
        uid: String,
    },
    /// Never asked for, or known to be gone.
    None,
    /// Its pods may show what another machine of the same name held: it has to be made anew.
    Stale {
        uid: String,
    },
}

/// What somebody else did to a puller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Loss {
    Deleted,
    Edited,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "deleted",
            Self::Edited => "edited",
        })
    }
}

/// Whether pods that stall may be made anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MayRestart {
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LookWanted {
    No,
    Yes,
}

/// Where a run is. A phase that asks something asks it again until it has an answer, so that
/// trying again is nothing but staying in a phase.
#[derive(Debug)]
enum Phase {
    Clean {
        group: usize,
        uid: Option<String>,
    },
    /// A puller that was deleted is still there.
    Confirm {
        group: usize,
        uid: String,
    },
    Create {
        group: usize,
    },
    Events {
        from: Option<String>,
    },
    /// Why the DaemonSets can not make pods.
    Refusals {
        from: Option<String>,
    },
    /// Pods that stall, to be made anew.
    Restart {
        pods: Vec<Named>,
    },
    Finished,
    Leftovers {
        from: Option<String>,
        expired: Vec<Named>,
    },
    Patch {
        group: usize,
    },
    Pods {
        from: Option<String>,
    },
    Poll {
        group: usize,
    },
    ReadJob {
        name: String,
    },
    Recheck {
        node: String,
        rest: Vec<String>,
    },
    RemoveLeftover {
        leftover: Named,
        rest: Vec<Named>,
    },
    Replace {
        group: usize,
        uid: String,
    },
    Survey {
        purpose: Purpose,
        from: Option<String>,
        survey: Survey,
    },
    TakeOver {
        group: usize,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    /// Everything is proved: has a node become eligible meanwhile?
    Closing,
    First,
    /// Nothing moves: are the targets still targets?
    Recheck,
}

impl<'a> Run<'a> {
    /// A run that has not begun; its first step is for [`Observation::Started`].
    pub fn new(config: &'a Config) -> Self {
        let zero = Duration::ZERO;
        Self {
            config,
            now: Now { elapsed: zero, server: SystemTime::UNIX_EPOCH, signal: Signal::None },
            phase: survey_for(Purpose::First, config),
            worked: HashSet::new(),
            pause: None,
            n_failed: 0,
            fault: None,
            fault_at_end: None,
            n_expired: 0,
            started_before: zero,
            sight: Sight::Nodes,
            survey: None,
            groups: vec![],
            window: None,
            to_place: vec![],
            round: 0,
            may_restart: MayRestart::Yes,
            n_restarted: 0,
            look_wanted: LookWanted::No,
            next_poll: zero,
            n_looks: 0,
            last_look: zero,
            last_progress: zero,
            last_recheck: zero,
            asked_at: zero,
            away_since: None,
            answers_since: zero,
            is_refused: false,
            back_since: None,
            has_unheard_of: false,
            knows_leftovers: false,
            next_progress: RECHECK_AFTER,
            dropped: BTreeSet::new(),
            has_noted_rewrites: false,
            n_said: BTreeMap::new(),
            deadline_seen: None,
            cleanup_began: None,
            outcome: None,
            lines: vec![],
            notes: vec![],
            left: vec![],
        }
    }

    /// Takes in what happened and says what to do next.
    pub fn step(&mut self, now: Now, observation: Observation) -> Action {
        self.now = now;
        if let Observation::Answered(answer) = &observation {
            self.note_whether_away(answer.as_ref().err());
        }
        match observation {
            Observation::Answered(Ok(answer)) => {
                self.worked.insert(mem::discriminant(&self.phase));
                self.n_failed = 0;
                // The start of a list is no news where its end can not be had.
                if self.n_expired == 0 || !answer.is_to_be_continued() {
                    self.n_expired = 0;
                    self.fault = None;
                }
                self.absorb(answer);
            }
            Observation::Answered(Err(err)) => self.absorb_error(&err),
            Observation::Started | Observation::Waited => {}
        }
        self.check_limits();
        self.next_action()
    }

    /// Keeps account of when the API server is away: whatever it answers, it is back.
    fn note_whether_away(&mut self, err: Option<&ApiError>) {
        // Events may be in a store of their own.
        let is_about_events = matches!(self.phase, Phase::Events { .. } | Phase::Refusals { .. });
        if is_about_events && err.is_some() {
            return;
        }
        let is_refused = err.is_some_and(|it| matches!(it.code(), Some(401 | 403)));
        if err.is_some_and(is_for_want_of_an_api_server) {
            self.away_since.get_or_insert(self.asked_at);
            return;
        }
        // Rights that are withdrawn do not come back with the next fault.
        let was_refused = mem::replace(&mut self.is_refused, is_refused);
        if let Some(since) = self.away_since.take() {
            if !was_refused {
                self.answers_since = self.now.elapsed;
            }
            if self.now.elapsed >= since + LONG_AWAY {
                self.back_since = Some(self.now.elapsed);
            }
        }
    }

    /// Whether controllers may still take nodes for unready that are not.
    fn may_be_for_want_of_news(&self, why: &LeftOut) -> bool {
        let is_back = |since| self.now.elapsed < since + UNHEARD_OF_FOR;
        self.back_since.is_some_and(is_back) && why.may_be_for_want_of_news()
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// What the first look at the nodes found.
    pub fn survey(&self) -> Option<&Survey> {
        self.survey.as_ref()
    }

    /// The groups, once something was missing.
    pub fn groups(&self) -> &[GroupRun] {
        &self.groups
    }

    /// What a reader of the report should know besides: first what there is to do.
    pub fn notes(&self) -> Vec<String> {
        let homeless = self.survey.iter().flat_map(|survey| {
            let groups = survey.groups.iter().enumerate();
            groups.filter_map(|(group, found)| self.without_nodes(survey, group, found))
        });
        self.left().into_iter().chain(homeless).chain(self.notes.iter().cloned()).collect()
    }

    /// Says that a group has no node, although others have.
    fn without_nodes(&self, survey: &Survey, group: usize, found: &GroupSurvey) -> Option<String> {
        let targets = self.groups.get(group).map(|it| &it.targets);
        let had_some = targets.is_some_and(|it| !it.nodes.is_empty() || !it.dropped.is_empty());
        let is_homeless = found.eligible.is_empty() && survey.n_eligible() > 0 && !had_some;
        is_homeless.then(|| no_place(self.config, group, found)).flatten()
    }

    /// What the API server said last, if it was a fault that lasts.
    pub fn fault(&self) -> Option<&str> {
        self.fault_at_end.as_deref()
    }

    /// How long the process had been running at the last step.
    pub fn elapsed(&self) -> Duration {
        self.now.elapsed
    }

    /// The lines of the log since the last call.
    pub fn take_lines(&mut self) -> Vec<Line> {
        mem::take(&mut self.lines)
    }

    // === What to do next ===

    fn next_action(&mut self) -> Action {
        if matches!(self.phase, Phase::Finished) {
            return Action::Finish;
        }
        if let Some(pause) = self.pause.take() {
            return Action::Wait(self.at_most_until_limit(pause));
        }
        if matches!(self.phase, Phase::Poll { .. }) && self.next_poll > self.now.elapsed {
            return Action::Wait(self.at_most_until_limit(self.next_poll - self.now.elapsed));
        }
        if let Phase::Create { group } = self.phase {
            self.groups[group].puller = PullerState::Asked;
        }
        self.asked_at = self.now.elapsed;
        match self.next_call() {
            Some(call) => Action::Call(call),
            None => Action::Finish,
        }
    }

    fn next_call(&self) -> Option<Call> {
        Some(match &self.phase {
            Phase::Clean { group, uid: Some(uid) } | Phase::Replace { group, uid } => {
                Call::DeletePuller { name: self.puller_name(*group), uid: uid.clone() }
            }
            Phase::Clean { group, uid: None }
            | Phase::Poll { group }
            | Phase::TakeOver { group } => Call::ReadPuller { name: self.puller_name(*group) },
            Phase::Confirm { group, .. } => Call::ReadPuller { name: self.puller_name(*group) },
            Phase::Create { group } => Call::CreatePuller(Box::new(self.manifest(*group))),
            Phase::Events { from } => {
                Call::ListEvents { fields: WARNINGS_OF_PODS.into(), from: from.clone() }
            }
            Phase::Refusals { from } => {
                Call::ListEvents { fields: WARNINGS_OF_SETS.into(), from: from.clone() }
            }
            Phase::Restart { pods } => {
                let pod = pods.last()?;
                Call::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() }
            }
            Phase::Finished => return None,
            Phase::Leftovers { from, .. } => {
                let labels = format!("{NAME_LABEL}={}", self.config.name);
                Call::ListPullers { labels, from: from.clone() }
            }
            Phase::Patch { group } => {
                let placement = &self.config.groups[*group].placement;
                let patch = destination_patch(placement, &self.destination(*group));
                Call::PatchPuller { name: self.puller_name(*group), patch }
            }
            Phase::Pods { from } => {
                let labels = format!("{RUN_LABEL}={}", self.config.id);
                Call::ListPods { labels, from: from.clone() }
            }
            Phase::ReadJob { name } => Call::ReadJob { name: name.clone() },
            Phase::Recheck { node, .. } => Call::ReadNode { name: node.clone() },
            Phase::RemoveLeftover { leftover, .. } => {
                Call::DeletePuller { name: leftover.name.clone(), uid: leftover.uid.clone() }
            }
            Phase::Survey { from, .. } => Call::ListNodes { from: from.clone() },
        })
    }

    // === Time ===

    /// What is left of the time, which counts from the start of the Job: a slow pull of our own
    /// image, or a first try that was killed, must not carry a run beyond helm's patience.
    fn until_deadline(&self) -> Duration {
        self.config.timeout.saturating_sub(self.started_before).saturating_sub(self.now.elapsed)
    }

    /// No wait lasts beyond the moment at which something else is to be done.
    fn at_most_until_limit(&self, wait: Duration) -> Duration {
        let limit = match (self.cleanup_began, self.deadline_seen) {
            (Some(began), _) => began + CLEANUP,
            (None, Some(seen)) => seen + LAST_LOOK,
            (None, None) => self.now.elapsed + self.until_deadline(),
        };
        wait.min(limit.saturating_sub(self.now.elapsed))
    }

    /// How long the next request may take: a little beyond the moment at which something else is
    /// to be done, since an answer that comes late is better than none.
    pub fn patience(&self) -> Duration {
        let left = self.at_most_until_limit(Duration::MAX);
        // A request that hangs while cleaning up must leave time for another try.
        let share = if self.cleanup_began.is_some() { left / 2 } else { left };
        share.max(SHORTEST_PATIENCE)
    }

    /// Acts on a signal, the deadline, and the bound of the cleaning up.
    fn check_limits(&mut self) {
        if matches!(self.phase, Phase::Finished) {
            return;
        }
        if let Some(began) = self.cleanup_began {
            if self.now.elapsed >= began + CLEANUP {
                self.give_up_cleaning();
            }
            return;
        }
        if self.now.signal == Signal::Stop {
            self.begin_cleanup(Outcome::Stopped);
            return;
        }
        if !self.until_deadline().is_zero() {
            return;
        }
        // The verdict is about pods, and about nodes that still count, so both are looked at once
        // more, but not for long.
        let seen = *self.deadline_seen.get_or_insert(self.now.elapsed);
        let is_late = self.now.elapsed >= seen + LAST_LOOK;
        if self.is_looking() && !is_late {
            return;
        }
        let may_look =
            matches!(self.phase, Phase::Patch { .. } | Phase::Poll { .. } | Phase::Restart { .. });
        if is_late || !may_look {
            return self.begin_cleanup(Outcome::Deadline);
        }
        if self.last_look < seen {
            self.phase = self.look();
        } else if self.last_recheck < seen && self.sight == Sight::Nodes {
            self.phase = self.recheck(self.unfinished_names());
        } else if self.may_end_unfinished() {
            self.phase = self.rest();
        }
        if !self.is_looking() && self.cleanup_began.is_none() {
            self.begin_cleanup(Outcome::Deadline);
        }
    }

    /// Whether the request that is due is one of those that a verdict is about.
    fn is_looking(&self) -> bool {
        matches!(
            self.phase,
            Phase::Events { .. }
                | Phase::Pods { .. }
                | Phase::Recheck { .. }
                | Phase::Refusals { .. }
                | Phase::Survey { purpose: Purpose::Closing | Purpose::Recheck, .. }
        )
    }

    // === Answers ===

    fn absorb(&mut self, answer: Answer) {
        let phase = mem::replace(&mut self.phase, Phase::Finished);
        self.phase = match (phase, answer) {
            (Phase::Survey { purpose, mut survey, .. }, Answer::Nodes(page)) => {
                for node in &page.items {
                    survey.observe(node, &self.config.groups, &self.config.wanted);
                }
                match page.next {
                    Some(_) => Phase::Survey { purpose, from: page.next, survey },
                    None => self.surveyed(purpose, survey),
                }
            }
            (Phase::ReadJob { .. }, Answer::Job(job)) => {
                let start = job.start_time.unwrap_or(self.now.server);
                let running = self.now.server.duration_since(start).unwrap_or_default();
                self.started_before = running.saturating_sub(self.now.elapsed);
                leftovers()
            }
            (Phase::Leftovers { mut expired, .. }, Answer::Pullers(page)) => {
                expired.extend(page.items.iter().filter_map(|it| self.expired(it)));
                // What an earlier try of the Job made is of use, or has to be cleaned up.
                for group in 0..self.groups.len() {
                    let name = self.puller_name(group);
                    let is_its = |it: &Puller| it.metadata.name == name && self.is_of_this_run(it);
                    if let Some(found) = page.items.iter().find(|it| is_its(it)) {
                        let names = named_nodes(found.spec.template.spec.affinity.terms());
                        self.groups[group].puller = PullerState::Asked;
                        self.window.iter_mut().for_each(|it| it.prefer(names.clone()));
                    }
                }
                match page.next {
                    Some(_) => Phase::Leftovers { from: page.next, expired },
                    None => {
                        self.knows_leftovers = true;
                        self.remove_leftovers(expired)
                    }
                }
            }
            (Phase::RemoveLeftover { leftover, rest }, Answer::Deleted(deletion)) => {
                let name = leftover.name;
                let line = match deletion {
                    Deletion::Done => format!("removed DaemonSet `{name}`, left by an earlier run"),
                    Deletion::UnderWay => {
                        format!("DaemonSet `{name}`, left by an earlier run, is being deleted")
                    }
                };
                self.say_if_few(LineKind::Leftover, line);
                self.remove_leftovers(rest)
            }
            (Phase::Create { group }, Answer::Puller(made)) => self.made(group, &made),
            (Phase::TakeOver { group }, Answer::Puller(found)) => self.take_over(group, &found),
            (Phase::Replace { group, .. }, Answer::Deleted(_)) => self.replaced(group),
            (Phase::Patch { group }, Answer::Puller(patched)) => self.patched(group, &patched),
            (Phase::Poll { group }, Answer::Puller(puller)) => self.polled(group, &puller),
            (Phase::Pods { .. }, Answer::Pods(page)) => self.saw_pods(&page),
            (Phase::Events { .. }, Answer::Events(page)) => {
                for event in &page.items {
                    for group in &mut self.groups {
                        group.targets.observe_event(event);
                    }
                }
                match page.next {
                    Some(_) => Phase::Events { from: page.next },
                    None => self.looked(),
                }
            }
            (Phase::Recheck { node: name, rest }, Answer::Node(node)) => {
                let mut survey = Survey::new(&self.config.groups);
                survey.observe(&node, &self.config.groups, &self.config.wanted);
                self.recheck_against(&survey, &name);
                self.recheck_next(rest)
            }
            (Phase::Clean { group, uid: None }, Answer::Puller(found)) => {
                match self.is_of_this_run(&found) {
                    true => {
                        let uid = found.metadata.uid;
                        self.groups[group].puller = PullerState::Made { uid: uid.clone() };
                        Phase::Clean { group, uid: Some(uid) }
                    }
                    false => self.cleaned(group),
                }
            }
            (Phase::Clean { group, uid: Some(uid) }, Answer::Deleted(Deletion::UnderWay)) => {
                self.confirm(group, uid)
            }
            (Phase::Clean { group, .. }, Answer::Deleted(_)) => self.cleaned(group),
            (Phase::Confirm { group, uid }, Answer::Puller(found)) => {
                match found.metadata.uid == uid {
                    true => self.confirm(group, uid),
                    false => self.cleaned(group),
                }
            }
            (Phase::Refusals { from }, Answer::Events(page)) => {
                if from.is_none() {
                    self.forget_count_of_refusals();
                }
                page.items.iter().for_each(|it| self.saw_refusal(it));
                match page.next {
                    Some(_) => Phase::Refusals { from: page.next },
                    None => self.judge_refusals(),
                }
            }
            (Phase::Restart { pods }, Answer::Deleted(_)) => self.restart_next(pods),
            // An answer to another question: the phase asks its own again.
            (phase, _) => phase,
        };
    }

    fn surveyed(&mut self, purpose: Purpose, survey: Survey) -> Phase {
        match purpose {
            Purpose::Closing => self.closing_look(&survey),
            Purpose::First => self.first_look(survey),
            Purpose::Recheck => {
                for name in self.unfinished_names() {
                    self.recheck_against(&survey, &name);
                }
                self.after_recheck()
            }
        }
    }

    fn say(&mut self, line: String) {
        self.lines.push(Line::Always(one_line(&line)));
    }

    /// Says a line of a kind that there may be many of.
    fn say_if_few(&mut self, kind: LineKind, line: String) {
        let n_said = self.n_said.entry(kind).or_default();
        *n_said += 1;
        match *n_said <= kind.most() {
            true => self.say(line),
            false => self.verbose(line),
        }
    }

    fn verbose(&mut self, line: String) {
        self.lines.push(Line::Verbose(one_line(&line)));
    }
}

fn survey_for(purpose: Purpose, config: &Config) -> Phase {
    Phase::Survey { purpose, from: None, survey: Survey::new(&config.groups) }
}

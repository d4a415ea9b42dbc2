//! The run: what to ask the cluster next, given what it answered.
//!
//! [`Run::step`] takes one observation and returns one action. It has no clock, no socket and no
//! signal handler: time and signals come in with every step, so that whole runs, with everything
//! that may go wrong in them, can be driven over a model of a cluster. [`drive()`] is the loop that
//! performs the actions for real.

mod drive;
mod targets;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::{self, Discriminant};
use std::time::{Duration, SystemTime};

use crate::cluster::{ApiError, Cause, Job, Page};
use crate::evidence::{Event, Pod};
use crate::node::{LeftOut, Node};
use crate::puller::{
    DaemonSet, Destination, EXPIRES_ANNOTATION, NAME_LABEL, OwnerReference, Plan, Puller,
    PullerPodSpec, PullerStatus, RUN_LABEL, changes, container_name, destination_patch,
    does_the_same, manifest,
};
use crate::settings::PullerSettings;
use crate::share::Share;
use crate::survey::{Group, GroupSurvey, Lacking, Survey, Wanted};
use crate::words::{nodes, some_of};
use window::{Pulling, Standing, Window};

pub use drive::{Clock, drive};
pub use targets::{Added, Dropped, Failure, Item, Obstacle, Target, Targets};

/// Pods are looked at this often while numbers do not say that it is worth it sooner, the first
/// few times after 3, 6 and 9 seconds: a misspelt image is known at once.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_SOONER: Duration = Duration::from_secs(3);
/// Up to so many targets, every change of the DaemonSet's numbers is worth a look at its pods.
const FEW_TARGETS: usize = 50;
/// Up to so many targets are named one by one; the DaemonSet controller parses every term again
/// for every node, so that more would cost it quadratic time.
const MOST_NAMED_NODES: usize = 500;
/// Without a look at the nodes, a DaemonSet that wants no pod for so long has no node to go to.
const EMPTY_FOR: Duration = Duration::from_secs(10);
/// Targets without progress for so long are looked at again: they may be gone or cordoned.
const RECHECK_AFTER: Duration = Duration::from_secs(30);
/// Up to so many such nodes are read one by one; for more a LIST is cheaper.
const RECHECK_ONE_BY_ONE: usize = 10;
/// How often late nodes are pulled for; later ones are named and not awaited.
const MOST_ROUNDS: u32 = 3;
/// A ClusterRoleBinding made moments ago takes a second to work.
const BINDING_DELAY: Duration = Duration::from_secs(5);
/// A puller may be removed by other runs of its name so long after the deadline of its own.
const EXPIRY_GRACE: Duration = Duration::from_secs(120);
/// At the deadline a last look may take so long.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// Cleaning up is given up after so long: the Job's own deadline is 20 s after the run's, and the
/// owner reference does the rest.
const CLEANUP: Duration = Duration::from_secs(12);
/// A request is given so long however late it is.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);
/// Pauses between tries of a request that failed, without a `Retry-After`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// How often a puller that somebody deletes or edits is made again.
const MOST_REMAKES: u32 = 2;
/// A node that runs as many pods as it may is forgiven after so long: others may end meanwhile.
const NO_ROOM_GRACE: Duration = Duration::from_secs(30);
/// So much of the run's id stands in a DaemonSet's name.
const ID_IN_NAME: usize = 10;
/// Events of pods that warn; the others are many and prove nothing that pods do not.
const WARNINGS_OF_PODS: &str = "involvedObject.kind=Pod,type=Warning";

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Config {
    pub mode: Mode,
    pub wanted: Vec<Wanted>,
    pub groups: Vec<Group>,
    /// Prefix of the DaemonSets' names, and what tells one release's pullers from another's.
    pub name: String,
    pub namespace: String,
    pub own_image: String,
    /// From the start of the Job, where there is one.
    pub timeout: Duration,
    pub interval: Duration,
    /// So many nodes may be unfinished at a time; of the eligible ones, where it is a percentage.
    pub max_nodes_at_once: Option<Share>,
    pub puller: PullerSettings,
    /// Tells this run's pullers from those of any other: the owner's uid, or a random word.
    pub id: String,
    pub owner: Option<OwnerReference>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Only look.
    Check,
    /// Look, and say what would be made.
    DryRun,
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
    Failed {
        cause: String,
    },
    /// No node may run the release.
    NoNodes,
    /// Looked at, as a dry run.
    Planned,
    /// Every target is proved.
    Ready,
    /// A signal came in.
    Stopped,
    /// What was asked can not be done as it was asked.
    Usage {
        cause: String,
    },
}

/// The moment of a step, as the loop sees it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the process started.
    pub elapsed: Duration,
    /// By the API server's clock as far as it is known.
    pub server: SystemTime,
    pub signal: Signal,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    None,
    /// SIGTERM or SIGINT came in.
    Stop,
}

/// What the loop is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Call(Call),
    Wait(Duration),
    Finish,
}

/// A request, as [`crate::cluster::Cluster`] has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    CreatePuller(Box<DaemonSet>),
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
    Deleted,
    Events(Page<Event>),
    Job(Job),
    Node(Box<Node>),
    Nodes(Page<Node>),
    Pods(Page<Pod>),
    Puller(Box<Puller>),
    Pullers(Page<Puller>),
}

/// What happened since the last step.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    Answered(Result<Answer, ApiError>),
    Started,
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
    /// How long the Job had been running when this process started.
    started_before: Duration,
    sight: Sight,
    survey: Option<Survey>,
    groups: Vec<GroupRun>,
    window: Option<Window>,
    /// Groups whose puller has to be made, or sent to other nodes.
    to_place: Vec<usize>,
    round: u32,
    /// The numbers changed in a way that makes a look at the pods worth it.
    look_wanted: LookWanted,
    /// By [`Now::elapsed`], as are all moments here.
    next_poll: Duration,
    n_looks: u32,
    last_look: Duration,
    last_progress: Duration,
    last_recheck: Duration,
    /// The pause between two lines doubles: runs may take hours.
    next_progress: Duration,
    /// Nodes dropped by the recheck under way.
    n_dropped: usize,
    deadline_seen: Option<Duration>,
    cleanup_began: Option<Duration>,
    outcome: Option<Outcome>,
    lines: Vec<Line>,
    notes: Vec<String>,
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
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Always(String),
    /// With `-v`.
    Verbose(String),
}

/// One group's puller and targets.
#[derive(Debug)]
pub struct GroupRun {
    pub targets: Targets,
    puller: PullerState,
    /// What the API server made of it, to tell whether somebody edits it.
    made_as: PullerPodSpec,
    /// The nodes it was sent to, where there is a window.
    sent_to: BTreeSet<String>,
    seen: PullerStatus,
    n_remakes: u32,
    /// Since when a node is known to run as many pods as it may.
    no_room_since: BTreeMap<String, Duration>,
    /// Where nodes may not be listed: the nodes that had a pod in the look under way, and how many
    /// pods had no node yet.
    with_pod: BTreeSet<String>,
    n_unplaced: usize,
    /// Since when the DaemonSet is known to want no pod at all.
    empty_since: Option<Duration>,
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

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LookWanted {
    No,
    Yes,
}

/// Where a run is. A phase that asks something asks it again until it has an answer, so that
/// trying again is nothing but staying in a phase.
#[derive(Debug)]
enum Phase {
    Clean { group: usize, uid: Option<String> },
    Create { group: usize },
    Events { from: Option<String> },
    Finished,
    Leftovers { from: Option<String>, expired: Vec<Leftover> },
    Patch { group: usize },
    Pods { from: Option<String> },
    Poll { group: usize },
    ReadJob { name: String },
    Recheck { node: String, rest: Vec<String> },
    RemoveLeftover { leftover: Leftover, rest: Vec<Leftover> },
    Replace { group: usize, uid: String },
    Survey { purpose: Purpose, from: Option<String>, survey: Survey },
    TakeOver { group: usize },
}

/// An expired puller of an earlier run.
#[derive(Clone, Debug)]
struct Leftover {
    name: String,
    uid: String,
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
            started_before: zero,
            sight: Sight::Nodes,
            survey: None,
            groups: vec![],
            window: None,
            to_place: vec![],
            round: 0,
            look_wanted: LookWanted::No,
            next_poll: zero,
            n_looks: 0,
            last_look: zero,
            last_progress: zero,
            last_recheck: zero,
            next_progress: RECHECK_AFTER,
            n_dropped: 0,
            deadline_seen: None,
            cleanup_began: None,
            outcome: None,
            lines: vec![],
            notes: vec![],
        }
    }

    /// Takes in what happened and says what to do next.
    pub fn step(&mut self, now: Now, observation: Observation) -> Action {
        self.now = now;
        match observation {
            Observation::Answered(Ok(answer)) => {
                self.worked.insert(mem::discriminant(&self.phase));
                self.n_failed = 0;
                self.fault = None;
                self.absorb(answer);
            }
            Observation::Answered(Err(err)) => self.absorb_error(&err),
            Observation::Started | Observation::Waited => {}
        }
        self.check_limits();
        self.next_action()
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

    /// What a reader of the report should know besides.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the API server said last, if it was a fault that lasts.
    pub fn fault(&self) -> Option<&str> {
        self.fault_at_end.as_deref()
    }

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
            Phase::Create { group } => Call::CreatePuller(Box::new(self.manifest(*group))),
            Phase::Events { from } => {
                Call::ListEvents { fields: WARNINGS_OF_PODS.into(), from: from.clone() }
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

    /// The DaemonSet's name: the release's, so that people know whose it is, and the run's, so
    /// that two runs never meet.
    fn puller_name(&self, group: usize) -> String {
        let id: String = self.config.id.chars().filter(char::is_ascii_alphanumeric).collect();
        let id = id.get(..ID_IN_NAME).unwrap_or(&id);
        format!("{}-{id}-{}", self.config.name, group + 1)
    }

    fn manifest(&self, group: usize) -> DaemonSet {
        let config = self.config;
        let expires = self.now.server + self.until_deadline() + EXPIRY_GRACE;
        manifest(&Plan {
            name: self.puller_name(group),
            release: &config.name,
            run: &config.id,
            owner: config.owner.as_ref(),
            expires: humantime::format_rfc3339_seconds(expires).to_string(),
            own_image: &config.own_image,
            images: config.groups[group]
                .images
                .iter()
                .map(|&place| {
                    (place, &config.wanted[place].image, config.wanted[place].pull_policy)
                })
                .collect(),
            placement: &config.groups[group].placement,
            destination: self.destination(group),
            settings: &config.puller,
        })
    }

    /// Few targets are named one by one, and those that a window lets in. For many, and where they
    /// are not known, the group's own selector and affinity stand.
    fn destination(&self, group: usize) -> Destination<'_> {
        if let Some(window) = &self.window {
            return Destination::Nodes(self.let_in(window, group).into_iter().collect());
        }
        let names = self.groups[group].targets.names();
        match self.sight {
            Sight::Nodes if names.len() <= MOST_NAMED_NODES => Destination::Nodes(names),
            _ => Destination::Everywhere,
        }
    }

    fn let_in<'b>(&'b self, window: &'b Window, group: usize) -> BTreeSet<&'b str> {
        let targets = &self.groups[group].targets.nodes;
        window.names(MOST_NAMED_NODES).filter(|it| targets.contains_key(*it)).collect()
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
        self.at_most_until_limit(Duration::MAX).max(SHORTEST_PATIENCE)
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
        // The verdict is about pods, so they are looked at once more, but not for long.
        let seen = *self.deadline_seen.get_or_insert(self.now.elapsed);
        let looked = self.last_look >= seen;
        match &self.phase {
            Phase::Poll { .. } if !looked => self.phase = self.look(),
            Phase::Events { .. }
            | Phase::Pods { .. }
            | Phase::Survey { purpose: Purpose::Closing, .. }
                if self.now.elapsed < seen + LAST_LOOK => {}
            _ => self.begin_cleanup(Outcome::Deadline),
        }
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
                    if page.items.iter().any(is_its) {
                        self.groups[group].puller = PullerState::Asked;
                    }
                }
                match page.next {
                    Some(_) => Phase::Leftovers { from: page.next, expired },
                    None => self.remove_leftovers(expired),
                }
            }
            (Phase::RemoveLeftover { leftover, rest }, Answer::Deleted) => {
                self.say(format!("removed DaemonSet `{}`, left by an earlier run", leftover.name));
                self.remove_leftovers(rest)
            }
            (Phase::Create { group }, Answer::Puller(made)) => self.made(group, &made),
            (Phase::TakeOver { group }, Answer::Puller(found)) => self.take_over(group, &found),
            (Phase::Replace { group, .. }, Answer::Deleted) => Phase::Create { group },
            (Phase::Patch { group }, Answer::Puller(patched)) => {
                self.placed(group, &patched);
                self.place_next()
            }
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
                    true => Phase::Clean { group, uid: Some(found.metadata.uid) },
                    false => self.cleaned(group),
                }
            }
            (Phase::Clean { group, .. }, Answer::Deleted) => self.cleaned(group),
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

    fn first_look(&mut self, survey: Survey) -> Phase {
        for place in &survey.unmatchable {
            self.notes.push(format!(
                "`{}` names no registry, so that CRI-O nodes can not be asked whether they have \
                 it: write the registry out",
                self.config.wanted[*place].image
            ));
        }
        let n_eligible = survey.n_eligible();
        for (index, found) in survey.groups.iter().enumerate() {
            if found.eligible.is_empty() && n_eligible > 0 {
                self.notes.extend(no_place(self.config, index, found));
            }
        }
        let complete = survey.is_complete();
        let groups = survey.groups.iter().enumerate();
        self.groups = groups.map(|(group, it)| self.group_run(group, &it.lacking)).collect();
        self.survey = Some(survey);
        if n_eligible == 0 {
            return self.finish(Outcome::NoNodes);
        }
        match self.config.mode {
            Mode::Check => return self.finish(Outcome::Checked),
            Mode::DryRun => return self.finish(Outcome::Planned),
            Mode::Run if complete => return self.finish(Outcome::Ready),
            Mode::Run => {}
        }
        self.window = self.config.max_nodes_at_once.map(|it| self.window_of(it.of(n_eligible)));
        self.before_placing()
    }

    fn window_of(&mut self, size: usize) -> Window {
        if size > MOST_NAMED_NODES {
            self.notes.push(format!(
                "no more than {MOST_NAMED_NODES} nodes are pulled for at once: a DaemonSet names \
                 them one by one"
            ));
        }
        Window::new(size.min(MOST_NAMED_NODES))
    }

    /// Without the right to list nodes: every node of the group gets a pod, and the pods tell the
    /// nodes' names.
    fn start_blind(&mut self, err: &ApiError) -> Phase {
        if self.config.mode != Mode::Run {
            return self.fail(with_advice(err));
        }
        if self.config.max_nodes_at_once.is_some() {
            let cause = format!(
                "{err}: `--max-nodes-at-once` needs the right to list nodes: grant it, or leave \
                 the option out"
            );
            return self.finish(Outcome::Usage { cause });
        }
        self.sight = Sight::PodsAlone;
        self.notes.push(format!(
            "{err}: the puller runs on every node that the DaemonSet controller chooses, cordoned \
             ones among them; which nodes it leaves out, and why, is not known"
        ));
        self.groups = (0..self.config.groups.len()).map(|it| self.group_run(it, &[])).collect();
        self.before_placing()
    }

    fn group_run(&self, group: usize, lacking: &[Lacking]) -> GroupRun {
        let wanted = &self.config.wanted;
        let places = self.config.groups[group].images.iter();
        let names = places.map(|&place| (container_name(place, &wanted[place].image), place));
        GroupRun {
            targets: Targets::new(lacking, names.collect()),
            puller: PullerState::None,
            made_as: PullerPodSpec::default(),
            sent_to: BTreeSet::new(),
            seen: PullerStatus::default(),
            n_remakes: 0,
            no_room_since: BTreeMap::new(),
            with_pod: BTreeSet::new(),
            n_unplaced: 0,
            empty_since: None,
        }
    }

    fn before_placing(&self) -> Phase {
        match &self.config.owner {
            Some(owner) if owner.kind == "Job" => Phase::ReadJob { name: owner.name.clone() },
            _ => leftovers(),
        }
    }

    /// An expired puller of the same name from another run.
    fn expired(&self, puller: &Puller) -> Option<Leftover> {
        let meta = &puller.metadata;
        let expires = meta.annotations.get(EXPIRES_ANNOTATION)?;
        let expires = humantime::parse_rfc3339_weak(expires).ok()?;
        (expires < self.now.server && !self.is_of_this_run(puller))
            .then(|| Leftover { name: meta.name.clone(), uid: meta.uid.clone() })
    }

    fn is_of_this_run(&self, puller: &Puller) -> bool {
        puller.metadata.labels.get(RUN_LABEL) == Some(&self.config.id)
    }

    fn remove_leftovers(&mut self, mut expired: Vec<Leftover>) -> Phase {
        if let Some(leftover) = expired.pop() {
            return Phase::RemoveLeftover { leftover, rest: expired };
        }
        if self.window.is_none() {
            self.to_place = (0..self.groups.len()).filter(|&it| !self.is_done(it)).collect();
        }
        self.fill_window();
        self.place_next()
    }

    /// Makes the next puller that is due, or sends it to more nodes.
    fn place_next(&mut self) -> Phase {
        match self.to_place.pop() {
            Some(group) if matches!(self.groups[group].puller, PullerState::Made { .. }) => {
                Phase::Patch { group }
            }
            Some(group) => match &self.groups[group].puller {
                PullerState::Asked => Phase::TakeOver { group },
                PullerState::Stale { uid } => Phase::Replace { group, uid: uid.clone() },
                _ => Phase::Create { group },
            },
            None => {
                self.last_progress = self.now.elapsed;
                self.last_look = self.now.elapsed;
                self.fill_window();
                if self.to_place.is_empty() { self.rest() } else { self.place_next() }
            }
        }
    }

    /// Lets further nodes in as others finish. Where a node that has not finished is to leave a
    /// DaemonSet, that comes first, so that there are never too many in all of them together.
    fn fill_window(&mut self) {
        let Some(mut window) = self.window.take() else { return };
        let now = self.now.elapsed;
        let standings = self.standings();
        window.observe(&standings, now);
        let is_to_leave = |run: &GroupRun, name: &str| {
            !window.is_at_work(name)
                && (standings.contains_key(name) || !run.targets.nodes.contains_key(name))
        };
        let has_one_to_leave =
            |run: &&GroupRun| run.sent_to.iter().any(|name| is_to_leave(run, name));
        if self.groups.iter().find(has_one_to_leave).is_none() {
            window.admit(&standings, now);
        }
        for group in 0..self.groups.len() {
            let names = self.let_in(&window, group);
            let run = &self.groups[group];
            let is_sent = names.iter().copied().eq(run.sent_to.iter().map(String::as_str));
            let is_for_nobody = names.is_empty() && run.puller == PullerState::None;
            if !is_sent && !is_for_nobody && !self.to_place.contains(&group) {
                self.to_place.push(group);
            }
        }
        self.window = Some(window);
    }

    /// The unfinished nodes, over all groups.
    fn standings(&self) -> BTreeMap<&str, Standing> {
        let mut standings = BTreeMap::new();
        for (name, target) in self.groups.iter().flat_map(|it| it.targets.unfinished()) {
            let standing =
                standings.entry(name).or_insert(Standing { n_lacking: 0, pulling: Pulling::No });
            standing.n_lacking += target.lacking.len();
            if target.may_be_pulling() {
                standing.pulling = Pulling::Perhaps;
            }
        }
        standings
    }

    /// Takes in what a puller is, and where it was sent, as the API server has it.
    fn placed(&mut self, group: usize, puller: &Puller) {
        let names = self.window.as_ref().map(|it| self.let_in(it, group)).unwrap_or_default();
        let names = names.into_iter().map(str::to_owned).collect();
        let run = &mut self.groups[group];
        run.sent_to = names;
        run.made_as = puller.spec.template.spec.clone();
    }

    /// Waits for the next round of polls. With nothing left to poll for, the run is at its end
    /// but for the closing look.
    fn rest(&mut self) -> Phase {
        self.next_poll = self.now.elapsed + self.config.interval;
        if let Some(phase) = self.poll_from(0) {
            return phase;
        }
        // Those that the window let in are no targets any more, and others wait.
        if (0..self.groups.len()).any(|it| !self.is_done(it)) {
            return self.place_next();
        }
        match self.sight {
            Sight::Nodes => survey_for(Purpose::Closing, self.config),
            Sight::PodsAlone => {
                let has_node = self.groups.iter().any(|it| !it.targets.nodes.is_empty());
                self.finish(if has_node { Outcome::Ready } else { Outcome::NoNodes })
            }
        }
    }

    /// The first puller from this one on that still has something to do.
    fn poll_from(&self, group: usize) -> Option<Phase> {
        let is_worth_it = |it: &usize| {
            matches!(self.groups[*it].puller, PullerState::Made { .. }) && !self.is_done(*it)
        };
        (group..self.groups.len()).find(is_worth_it).map(|group| Phase::Poll { group })
    }

    /// Whether nothing is left to wait for in a group. Where the targets are not known, there
    /// must be as many as the DaemonSet wants pods; a fresh one says that it wants none.
    fn is_done(&self, group: usize) -> bool {
        let run = &self.groups[group];
        let all_proved = run.targets.unfinished().next().is_none();
        match self.sight {
            Sight::Nodes => all_proved,
            Sight::PodsAlone => {
                let n_wanted = run.seen.desired_number_scheduled as usize;
                let n_placed = run.targets.nodes.len() + run.targets.n_forgiven();
                let is_full = n_wanted > 0 && n_placed >= n_wanted && run.n_unplaced == 0;
                let is_empty = run.empty_since.is_some_and(|it| self.now.elapsed >= it + EMPTY_FOR);
                all_proved && (is_full || is_empty)
            }
        }
    }

    fn made(&mut self, group: usize, made: &Puller) -> Phase {
        self.groups[group].puller = PullerState::Made { uid: made.metadata.uid.clone() };
        self.placed(group, made);
        let changes = changes(&self.manifest(group), made);
        self.notes.extend(changes.images.iter().map(|it| format!("on its way in, {it}")));
        if !changes.fatal.is_empty() {
            let changes = changes.fatal.join(", ");
            let name = &made.metadata.name;
            return self.fail(format!(
                "DaemonSet `{name}` was changed on its way into the cluster: {changes}: look for \
                 a mutating admission webhook or policy"
            ));
        }
        self.announce(group, "made");
        self.place_next()
    }

    /// Says, once for each group, that there is something to wait for.
    fn announce(&mut self, group: usize, how: &str) {
        let name = self.puller_name(group);
        let found = self.survey.as_ref().and_then(|it| it.groups.get(group));
        let place = match found {
            Some(found) => {
                let n_targets = self.groups[group].targets.nodes.len();
                let at_once = match &self.window {
                    Some(window) => format!(", {} at a time", window.size()),
                    None => String::new(),
                };
                format!("to pull on {n_targets} of {}{at_once}", nodes(found.eligible.len()))
            }
            None => "to pull wherever its pods are placed: nodes may not be listed".into(),
        };
        self.say(format!("{how} DaemonSet `{name}` {place}"));
        let note = "nothing owns the puller: a kill leaves its DaemonSet until the next run of the \
                    same name";
        if self.config.owner.is_none() && !self.notes.iter().any(|it| it == note) {
            self.notes.push(note.into());
        }
    }

    /// A puller of the same name is there already: an earlier try of this Job made it, if
    /// nobody else did.
    fn take_over(&mut self, group: usize, found: &Puller) -> Phase {
        if !self.is_of_this_run(found) {
            let name = &found.metadata.name;
            return self.fail(format!(
                "DaemonSet `{name}` exists and is not of this run: delete it or choose another \
                 `--name`"
            ));
        }
        if !found.metadata.deletion_timestamp.is_empty() {
            let name = &found.metadata.name;
            self.fault =
                Some(format!("DaemonSet `{name}` of an earlier try is still being deleted"));
            self.pause = Some(FIRST_PAUSE);
            return Phase::TakeOver { group };
        }
        let created = &found.metadata.creation_timestamp;
        let is_proof = self.groups[group].targets.are_older_than(created);
        if !is_proof || !does_the_same(&self.manifest(group), found) {
            return Phase::Replace { group, uid: found.metadata.uid.clone() };
        }
        self.groups[group].puller = PullerState::Made { uid: found.metadata.uid.clone() };
        self.placed(group, found);
        self.announce(group, "took over");
        // It may have been sent to more nodes than the window lets in now.
        if self.window.is_some() { Phase::Patch { group } } else { self.place_next() }
    }

    fn polled(&mut self, group: usize, puller: &Puller) -> Phase {
        let run = &mut self.groups[group];
        if run.puller != (PullerState::Made { uid: puller.metadata.uid.clone() }) {
            return self.puller_lost(group, Loss::Deleted);
        }
        if puller.spec.template.spec != run.made_as {
            // Pods that were made of it since may show other images under our containers' names.
            run.targets.forget_pods();
            return self.puller_lost(group, Loss::Edited);
        }
        let status = puller.status;
        let is_current = status.observed_generation >= puller.metadata.generation;
        let grew = status.number_ready > run.seen.number_ready;
        let is_full = status.number_ready >= status.desired_number_scheduled;
        if is_current && grew && (is_full || run.targets.nodes.len() <= FEW_TARGETS) {
            self.look_wanted = LookWanted::Yes;
        }
        run.seen = status;
        let is_empty = is_current && status.desired_number_scheduled == 0;
        run.empty_since = is_empty.then(|| run.empty_since.unwrap_or(self.now.elapsed));
        match self.poll_from(group + 1) {
            Some(phase) => phase,
            None => self.look_or_rest(),
        }
    }

    fn look(&mut self) -> Phase {
        for group in &mut self.groups {
            group.with_pod.clear();
            group.n_unplaced = 0;
        }
        Phase::Pods { from: None }
    }

    fn look_or_rest(&mut self) -> Phase {
        let pause = LOOK_EVERY.min(LOOK_SOONER * (self.n_looks + 1));
        let is_time = self.now.elapsed >= self.last_look + pause;
        match self.look_wanted {
            LookWanted::No if !is_time => self.rest(),
            _ => self.look(),
        }
    }

    /// Makes a puller again that somebody else deleted or edited.
    fn puller_lost(&mut self, group: usize, loss: Loss) -> Phase {
        let name = self.puller_name(group);
        let run = &mut self.groups[group];
        run.n_remakes += 1;
        let n_remakes = run.n_remakes;
        let left = match (loss, mem::replace(&mut run.puller, PullerState::None)) {
            (Loss::Edited, PullerState::Made { uid }) => {
                run.puller = PullerState::Made { uid: uid.clone() };
                Some(uid)
            }
            _ => None,
        };
        if n_remakes > MOST_REMAKES {
            return self.fail(format!(
                "DaemonSet `{name}` was {loss} by someone else, and made again {MOST_REMAKES} \
                 times before: the audit log of the API server says by whom"
            ));
        }
        self.say(format!("DaemonSet `{name}` was {loss} by someone else: making it again"));
        match left {
            Some(uid) => Phase::Replace { group, uid },
            None => Phase::Create { group },
        }
    }

    fn saw_pods(&mut self, page: &Page<Pod>) -> Phase {
        let before = self.n_lacking();
        for pod in &page.items {
            let Some(controller) = pod.controller() else { continue };
            let is_owner = |it: &&mut GroupRun| match &it.puller {
                PullerState::Made { uid } => uid == controller,
                _ => false,
            };
            let Some(group) = self.groups.iter_mut().find(is_owner) else { continue };
            if self.sight == Sight::PodsAlone {
                group.targets.discover(pod);
                match pod.node_name().or(pod.meant_for()) {
                    Some(name) => _ = group.with_pod.insert(name.into()),
                    None => group.n_unplaced += 1,
                }
            }
            group.targets.observe_pod(pod);
        }
        if self.n_lacking() < before {
            self.last_progress = self.now.elapsed;
        }
        if page.next.is_some() {
            return Phase::Pods { from: page.next.clone() };
        }
        if self.sight == Sight::PodsAlone {
            self.groups.iter_mut().for_each(GroupRun::drop_without_pod);
        }
        self.look_wanted = LookWanted::No;
        self.last_look = self.now.elapsed;
        self.n_looks += 1;
        match self.poll_from(0) {
            Some(_) => Phase::Events { from: None },
            None => self.rest(),
        }
    }

    /// Pods and events have been looked at, and not everything is proved.
    fn looked(&mut self) -> Phase {
        let certain: BTreeSet<_> =
            self.groups.iter().flat_map(|it| it.targets.certain_failures()).collect();
        if !certain.is_empty() {
            return self.finish(Outcome::CannotPull(certain));
        }
        self.forgive_without_room();
        if self.poll_from(0).is_none() {
            return self.rest();
        }
        if self.window.is_some() {
            self.release_stuck();
            self.fill_window();
            if !self.to_place.is_empty() {
                return self.place_next();
            }
        }
        let since = self.last_progress.max(self.last_recheck);
        if self.now.elapsed < since + RECHECK_AFTER {
            return self.rest();
        }
        if self.now.elapsed >= self.next_progress {
            self.next_progress = self.now.elapsed * 2;
            self.say_progress();
        }
        if self.sight == Sight::PodsAlone {
            return self.after_recheck();
        }
        let names = self.unfinished_names();
        if names.len() > RECHECK_ONE_BY_ONE {
            return survey_for(Purpose::Recheck, self.config);
        }
        self.recheck_next(names)
    }

    /// Forgives the nodes that have had no room for another pod for a while.
    fn forgive_without_room(&mut self) {
        let now = self.now.elapsed;
        let mut forgiven = BTreeSet::new();
        for group in &mut self.groups {
            let is_full = |it: &Target| matches!(it.obstacle, Some(Obstacle::NoRoom(_)));
            let full = group.targets.unfinished().filter(|(_, it)| is_full(it));
            let since = |name| group.no_room_since.get(name).copied().unwrap_or(now);
            let full: BTreeMap<_, _> =
                full.map(|(name, _)| (name.to_owned(), since(name))).collect();
            for (name, since) in &full {
                if now >= *since + NO_ROOM_GRACE {
                    group.targets.drop_node(name, Dropped::NoRoom);
                    forgiven.insert(name.clone());
                }
            }
            group.no_room_since = full;
        }
        if !forgiven.is_empty() {
            let names = some_of(forgiven.iter().map(String::as_str));
            self.say(format!("no longer waiting for {names}: no room for another pod"));
        }
    }

    fn release_stuck(&mut self) {
        let Some(mut window) = self.window.take() else { return };
        let n_released = window.release_stuck(&self.standings(), self.now.elapsed);
        if n_released > 0 {
            let released = nodes(n_released);
            self.verbose(format!("no progress on {released}: letting others go first"));
        }
        self.window = Some(window);
    }

    fn recheck_next(&mut self, mut rest: Vec<String>) -> Phase {
        match rest.pop() {
            Some(node) => Phase::Recheck { node, rest },
            None => self.after_recheck(),
        }
    }

    fn after_recheck(&mut self) -> Phase {
        if self.n_dropped > 0 {
            let dropped = nodes(mem::take(&mut self.n_dropped));
            self.say(format!("no longer waiting for {dropped}"));
        }
        self.last_recheck = self.now.elapsed;
        self.fill_window();
        if self.to_place.is_empty() { self.rest() } else { self.place_next() }
    }

    /// Holds the targets of this name against what the nodes say now.
    fn recheck_against(&mut self, survey: &Survey, name: &str) {
        for (group, found) in survey.groups.iter().enumerate() {
            let targets = &mut self.groups[group].targets;
            let Some(target) = targets.nodes.get(name) else { continue };
            if target.lacking.is_empty() {
                continue;
            }
            let lacking = found.lacking.iter().find(|it| it.name == name);
            if found.eligible.contains_key(&target.uid) {
                targets.observe_list(name, lacking);
                continue;
            }
            if let Some(again) = lacking {
                if targets.add(again) == Added::Replaced {
                    self.make_anew(group);
                }
                continue;
            }
            let why = match found.left_out.get(name) {
                Some(why) => Dropped::LeftOut(why.clone()),
                None if found.eligible.values().any(|it| it == name) => Dropped::Replaced,
                None => Dropped::Gone,
            };
            self.verbose(format!("no longer waiting for node {name}: {why}"));
            self.n_dropped += 1;
            self.groups[group].targets.drop_node(name, why);
        }
    }

    /// Sees to it that evidence comes from new pods alone: those of another DaemonSet.
    fn make_anew(&mut self, group: usize) {
        if let PullerState::Made { uid } = self.groups[group].puller.clone() {
            self.groups[group].puller = PullerState::Stale { uid };
        }
        if !self.to_place.contains(&group) {
            self.to_place.push(group);
        }
    }

    /// Adds the nodes that became eligible while the others were pulled for.
    fn closing_look(&mut self, survey: &Survey) -> Phase {
        let mut late = vec![];
        for (group, found) in survey.groups.iter().enumerate() {
            let targets = &mut self.groups[group].targets;
            let known =
                |it: &&Lacking| targets.nodes.get(&it.name).is_some_and(|t| t.uid == it.uid);
            let new = found.lacking.iter().filter(|it| !known(it) && !targets.is_forgiven(it));
            let new: Vec<_> = new.collect();
            if new.is_empty() {
                continue;
            }
            late.extend(new.iter().map(|it| it.name.clone()));
            if self.round < MOST_ROUNDS {
                let added: Vec<_> = new.into_iter().map(|it| targets.add(it)).collect();
                if self.window.is_none() {
                    self.to_place.push(group);
                }
                if added.contains(&Added::Replaced) {
                    self.make_anew(group);
                }
            }
        }
        if late.is_empty() {
            return self.finish(Outcome::Ready);
        }
        let names = some_of(late.iter().map(String::as_str));
        if self.round >= MOST_ROUNDS {
            self.notes.push(format!("joined too late to be waited for: {names}"));
            return self.finish(Outcome::Ready);
        }
        self.round += 1;
        self.say(format!("joined meanwhile: {names}: pulling there too"));
        self.fill_window();
        self.place_next()
    }

    // === Errors ===

    fn absorb_error(&mut self, err: &ApiError) {
        if err.is_transient() && matches!(self.phase, Phase::Events { .. }) {
            // Events may be in a store of their own, and prove nothing.
            self.verbose(format!("{err}: going on without events"));
            self.phase = self.looked();
            return;
        }
        if err.is_transient() {
            self.pause = Some(self.pause_after(err));
            self.n_failed += 1;
            self.fault = Some(err.to_string());
            // A single fault is nothing to talk about; one that lasts is, but once.
            match self.n_failed {
                2 => self.say(format!("{err}: trying again")),
                _ => self.verbose(format!("{err}: trying again")),
            }
            return;
        }
        let code = err.code().unwrap_or_default();
        let n_failed = mem::take(&mut self.n_failed);
        let phase = mem::replace(&mut self.phase, Phase::Finished);
        self.phase = match (phase, code) {
            // The continue token expired: what was read is of another moment than what remains.
            (Phase::Survey { purpose, from: Some(_), .. }, 410) => survey_for(purpose, self.config),
            (
                phase @ (Phase::Create { .. }
                | Phase::Leftovers { .. }
                | Phase::ReadJob { .. }
                | Phase::Survey { purpose: Purpose::First, .. }),
                401 | 403,
            ) if self.now.elapsed < BINDING_DELAY && is_for_want_of_rights(err) => {
                self.n_failed = n_failed;
                self.pause = Some(FIRST_PAUSE);
                phase
            }
            (Phase::Survey { purpose: Purpose::First, .. }, 403) => self.start_blind(err),
            (Phase::Pods { from: Some(_) }, 410) => self.look(),
            (Phase::Events { from: Some(_) }, 410) => Phase::Events { from: None },
            (Phase::Leftovers { from: Some(_), .. }, 410) => leftovers(),
            (Phase::ReadJob { .. }, 403 | 404) => {
                self.notes.push(format!("{err}: the deadline counts from now on"));
                leftovers()
            }
            (Phase::Leftovers { .. }, 403) => {
                self.notes.push(format!("{err}: leftovers of earlier runs are not looked for"));
                self.remove_leftovers(vec![])
            }
            (Phase::RemoveLeftover { rest, .. }, 404 | 409) => self.remove_leftovers(rest),
            (Phase::RemoveLeftover { rest, .. }, 403) => {
                self.notes.push(err.to_string());
                self.remove_leftovers(rest)
            }
            (Phase::Create { group }, 409) => {
                self.pause = Some(FIRST_PAUSE);
                Phase::TakeOver { group }
            }
            (Phase::Create { group }, 404) => {
                self.forget_if_never_made(group, n_failed);
                let ns = &self.config.namespace;
                let cause = format!("namespace `{ns}` does not exist: create it or choose another");
                self.finish(Outcome::Usage { cause })
            }
            (Phase::Create { group }, _) => {
                self.forget_if_never_made(group, n_failed);
                self.fail(with_advice(err))
            }
            (Phase::Replace { group, .. }, 404 | 409) | (Phase::TakeOver { group }, 404) => {
                Phase::Create { group }
            }
            (Phase::Poll { group } | Phase::Patch { group }, 404) => {
                self.puller_lost(group, Loss::Deleted)
            }
            (Phase::Recheck { node, rest }, 404) => {
                self.recheck_against(&Survey::new(&self.config.groups), &node);
                self.recheck_next(rest)
            }
            (Phase::Events { .. }, 403) => {
                let note = format!("{err}: causes and progress are read from pods alone");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                self.looked()
            }
            (Phase::Clean { group, .. }, 404 | 409) => self.cleaned(group),
            (Phase::Clean { .. }, _) => {
                self.notes.push(err.to_string());
                self.give_up_cleaning();
                Phase::Finished
            }
            // The right to read one node may be missing where the right to list them is there.
            (Phase::Recheck { .. }, 403) => survey_for(Purpose::Recheck, self.config),
            // What worked before does not any more: helm has given up and taken our
            // ServiceAccount or its rights. Cleaning up asks once, and the cluster's garbage
            // collection does the rest.
            (phase, 401 | 403) if self.worked.contains(&mem::discriminant(&phase)) => {
                self.fail(format!(
                    "the rights of this run were withdrawn, as helm does when it gives up waiting: \
                     {err}"
                ))
            }
            _ => self.fail(with_advice(err)),
        };
    }

    /// A first try that was refused made nothing; one that followed a lost answer may have.
    fn forget_if_never_made(&mut self, group: usize, n_failed: u32) {
        if n_failed == 0 {
            self.groups[group].puller = PullerState::None;
        }
    }

    /// Retries wait twice as long each time, and not all runs equally long.
    fn pause_after(&self, err: &ApiError) -> Duration {
        if let Cause::Status { retry_after: Some(pause), .. } = err.cause {
            return pause.max(FIRST_PAUSE);
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.n_failed.min(10));
        let mut hasher = DefaultHasher::new();
        (&self.config.id, self.n_failed, self.now.elapsed).hash(&mut hasher);
        let jitter = (hasher.finish() % 512) as u32;
        doubled.min(LONGEST_PAUSE) * (512 + jitter) / 1024
    }

    // === The end ===

    fn finish(&mut self, outcome: Outcome) -> Phase {
        self.outcome = Some(outcome);
        self.fault_at_end = self.fault.take();
        self.cleanup_began = Some(self.now.elapsed);
        self.clean_from(0)
    }

    fn fail(&mut self, cause: String) -> Phase {
        self.finish(Outcome::Failed { cause })
    }

    fn begin_cleanup(&mut self, outcome: Outcome) {
        self.pause = None;
        self.phase = self.finish(outcome);
    }

    fn clean_from(&mut self, group: usize) -> Phase {
        let left =
            (group..self.groups.len()).find(|&it| self.groups[it].puller != PullerState::None);
        match left.map(|it| (it, &self.groups[it].puller)) {
            Some((group, PullerState::Made { uid } | PullerState::Stale { uid })) => {
                Phase::Clean { group, uid: Some(uid.clone()) }
            }
            Some((group, _)) => Phase::Clean { group, uid: None },
            None => Phase::Finished,
        }
    }

    fn cleaned(&mut self, group: usize) -> Phase {
        self.groups[group].puller = PullerState::None;
        self.clean_from(group + 1)
    }

    fn give_up_cleaning(&mut self) {
        for group in 0..self.groups.len() {
            if self.groups[group].puller == PullerState::None {
                continue;
            }
            let name = self.puller_name(group);
            let ns = &self.config.namespace;
            self.notes.push(format!(
                "DaemonSet `{name}` may be left: it goes with the hook's Job, or by `kubectl \
                 --namespace {ns} delete daemonset {name}`"
            ));
        }
        self.phase = Phase::Finished;
    }

    // === Small helpers ===

    fn n_lacking(&self) -> usize {
        self.groups.iter().map(|it| it.targets.n_lacking()).sum()
    }

    fn unfinished_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .groups
            .iter()
            .flat_map(|it| it.targets.unfinished())
            .map(|(name, _)| name.to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn say_progress(&mut self) {
        let targets: BTreeSet<_> = self.groups.iter().flat_map(|it| it.targets.names()).collect();
        let n_targets = targets.len();
        let unfinished = self.unfinished_names();
        let n_done = n_targets.saturating_sub(unfinished.len());
        let names = some_of(unfinished.iter().map(String::as_str));
        self.say(format!("{n_done} of {} done; waiting for {names}", nodes(n_targets)));
    }

    fn say(&mut self, line: String) {
        self.lines.push(Line::Always(line));
    }

    fn verbose(&mut self, line: String) {
        self.lines.push(Line::Verbose(line));
    }
}

fn survey_for(purpose: Purpose, config: &Config) -> Phase {
    Phase::Survey { purpose, from: None, survey: Survey::new(&config.groups) }
}

/// Says that the images of a group have no node, and why; once for all groups that go to the same
/// nodes.
fn no_place(config: &Config, index: usize, found: &GroupSurvey) -> Option<String> {
    let placement = &config.groups[index].placement;
    if config.groups[..index].iter().any(|it| it.placement == *placement) {
        return None;
    }
    let alike = config.groups.iter().filter(|it| it.placement == *placement);
    let images: BTreeSet<_> = alike.flat_map(|it| it.images.iter().copied()).collect();
    let images: Vec<_> =
        images.into_iter().map(|place| format!("`{}`", config.wanted[place].image)).collect();
    let mut n_by_reason: BTreeMap<&LeftOut, usize> = BTreeMap::new();
    for why in found.left_out.values() {
        *n_by_reason.entry(why).or_default() += 1;
    }
    let reasons: Vec<_> =
        n_by_reason.iter().map(|(why, n_nodes)| format!("{}: {why}", nodes(*n_nodes))).collect();
    let images = some_of(images.iter().map(String::as_str));
    Some(format!("no node may run the pods of {images} ({})", reasons.join(", ")))
}

fn leftovers() -> Phase {
    Phase::Leftovers { from: None, expired: vec![] }
}

fn with_advice(err: &ApiError) -> String {
    match err.code() {
        Some(401) => format!("{err}: check the token"),
        Some(403) if is_for_want_of_rights(err) => {
            format!("{err}: grant this right to the ServiceAccount of the Job")
        }
        _ => err.to_string(),
    }
}

/// Quotas, Pod Security and webhooks refuse with the same status as RBAC, whose words are
/// `User "x" cannot list resource "nodes"` (`NewForbidden` in `endpoints/handlers/responsewriters`).
fn is_for_want_of_rights(err: &ApiError) -> bool {
    match &err.cause {
        Cause::Status { message, .. } => {
            message.is_empty() || message.contains("User \"") && message.contains(" cannot ")
        }
        _ => false,
    }
}

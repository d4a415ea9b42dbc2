//! One process of prepull among others.
//!
//! It does what [`prepull::run::drive`] does, but one step at a time, so that the rest of the world
//! goes on between its steps, and so that it may be killed there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use prepull::args::RunArgs;
use prepull::cluster::{ApiError, Cause, Cluster, Page};
use prepull::evidence::{ContainerStatus, Pod};
use prepull::puller::{EXPIRES_ANNOTATION, Puller, RUN_LABEL};
use prepull::report::{Report, Verbosity};
use prepull::run::{Action, Answer, Call, Line, Now, Observation, Outcome, Run, Signal, perform};
use serde_json::Value;

use super::rules::{Look, holds};
use super::scene::DOES_NOT_START;
use crate::model::{ModelCluster, ModelNode, Set, Shared};

/// A machine's clock may be wrong; the API server's counts.
const WRONG_BY: Duration = Duration::from_secs(1_000_000);

/// A DaemonSet names no more nodes than these.
const MOST_NAMED_NODES: usize = 500;

pub struct Process<'a> {
    /// Its place among all processes of the world.
    pub place: usize,
    /// Whose process it is.
    pub life: usize,
    pub args: &'a RunArgs,
    pub started: Duration,
    pub run: Run<'a>,
    pub lines: Vec<String>,
    pub n_asked: usize,
    pub n_steps: usize,
    /// When a signal came in.
    pub signalled: Option<Duration>,
    /// The last look at all nodes, as far as it got.
    pub look: Look,
    /// When the start of the Job became known.
    pub job_known: Option<Duration>,
    /// The names of the DaemonSets that it asked for, or was told of.
    pub known: BTreeSet<String>,
    /// Where it looks at pods: the nodes of those that it made, and the groups they are of.
    pub pod_nodes: BTreeMap<String, BTreeSet<usize>>,
    /// The groups that it made DaemonSets for.
    pub made: BTreeSet<usize>,
    /// Whether its window kept a node waiting.
    pub nodes_waited: bool,
    /// The most unfinished nodes that it had sent its DaemonSets to at a time.
    pub most_unfinished: usize,
    pub state: State,
    /// When it goes on.
    pub wake: Duration,
    world: Shared,
    cluster: ModelCluster,
    next: Next,
    /// It is killed or given a signal around this request.
    pub interruption: Option<(usize, Interruption)>,
    has_answer: bool,
}

/// What comes from outside while a process runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interruption {
    /// SIGKILL before the request is sent, after the cluster was told what to do by others.
    KillBefore,
    /// SIGKILL after the request was served and before its answer is read.
    KillAfter,
    /// SIGTERM while the request is under way.
    Signal,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Ended,
    Killed,
    Runs,
}

enum Next {
    /// It sleeps, or reads an answer.
    Step(Observation),
    /// The request arrives at the API server.
    Send(Call),
    Nothing,
}

/// The group that a DaemonSet of this name is for: the end of it says so.
fn group_in(name: &str) -> Option<usize> {
    let (_, number) = name.rsplit_once('-')?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

fn is_refused(answer: &Result<Answer, ApiError>) -> bool {
    answer.as_ref().is_err_and(|it| !it.is_transient())
}

fn does_not_start(status: &ContainerStatus) -> bool {
    let waiting = status.state.waiting.as_ref();
    waiting.is_some_and(|it| DOES_NOT_START.contains(&it.reason.as_str()))
}

/// What a process that has ended leaves to read.
pub struct Told {
    pub exit: u8,
    pub report: Value,
    /// The log, the report's lines last.
    pub lines: Vec<String>,
}

impl<'a> Process<'a> {
    pub fn start(world: &Shared, place: usize, life: usize, args: &'a RunArgs) -> Self {
        let now = world.borrow().now;
        Self {
            place,
            life,
            args,
            started: now,
            run: Run::new(&args.config),
            lines: vec![],
            n_asked: 0,
            n_steps: 0,
            signalled: None,
            look: Look::default(),
            job_known: None,
            known: BTreeSet::new(),
            pod_nodes: BTreeMap::new(),
            made: BTreeSet::new(),
            nodes_waited: false,
            most_unfinished: 0,
            state: State::Runs,
            wake: now,
            world: Rc::clone(world),
            cluster: ModelCluster::of_process(Rc::clone(world), place),
            next: Next::Step(Observation::Started),
            interruption: None,
            has_answer: false,
        }
    }

    pub fn runs(&self) -> bool {
        self.state == State::Runs
    }

    /// Does what is due now.
    pub fn go_on(&mut self) {
        self.n_steps += 1;
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Step(observation) => self.step(observation),
            Next::Send(call) => self.send(&call),
            Next::Nothing => {}
        }
    }

    pub fn signal(&mut self) {
        let now = self.world.borrow().now;
        self.world.borrow_mut().tell(|| format!("{} SIGTERM", self.place));
        if self.signalled.is_none() {
            self.signalled = Some(now);
            // A sleep ends with the signal, and a request does not.
            if let Next::Step(Observation::Waited) = self.next {
                self.wake = now;
            }
        }
    }

    pub fn kill(&mut self) {
        self.world.borrow_mut().tell(|| format!("{} SIGKILL", self.place));
        self.state = State::Killed;
        self.next = Next::Nothing;
    }

    fn step(&mut self, observation: Observation) {
        let (now, wall) = (self.world.borrow().now, self.world.borrow().wall());
        let moment = Now {
            elapsed: now - self.started,
            server: if self.has_answer { wall } else { wall + WRONG_BY },
            signal: if self.signalled.is_some() { Signal::Stop } else { Signal::None },
        };
        let action = self.run.step(moment, observation);
        for warning in self.cluster.take_warnings() {
            self.lines.push(format!("warning from the API server: {warning}"));
        }
        for line in self.run.take_lines() {
            match line {
                Line::Verbose(_) if self.args.verbosity == Verbosity::Normal => {}
                Line::Always(line) | Line::Verbose(line) => {
                    self.world.borrow_mut().tell(|| format!("{}   | {line}", self.place));
                    self.lines.push(line);
                }
            }
        }
        match action {
            Action::Call(call) => {
                let cost = self.world.borrow().pace.request;
                self.wake = now + cost;
                self.next = Next::Send(call);
            }
            Action::Finish => self.state = State::Ended,
            Action::Wait(pause) => {
                self.wake = now + pause;
                self.next = Next::Step(Observation::Waited);
            }
        }
    }

    fn send(&mut self, call: &Call) {
        self.n_asked += 1;
        let here = self.interruption.filter(|it| it.0 == self.n_asked).map(|it| it.1);
        if here == Some(Interruption::KillBefore) {
            return self.kill();
        }
        self.cluster.be_patient_for(self.run.patience());
        let sends_somewhere = matches!(call, Call::CreatePuller(_) | Call::PatchPuller { .. });
        let n_before = if sends_somewhere { self.n_unfinished() } else { 0 };
        let answered = perform(call, &mut self.cluster);
        if let (Err(err), Some(_)) = (&answered, self.run.outcome()) {
            self.note_fault_of_clean_up(err);
        }
        match here {
            Some(Interruption::KillAfter) => return self.kill(),
            Some(Interruption::Signal) => self.signal(),
            _ => {}
        }
        self.has_answer |= answered.as_ref().map_or_else(|it| it.code().is_some(), |_| true);
        match (call, &answered) {
            // One that was refused is none.
            (Call::CreatePuller(manifest), answer) if !is_refused(answer) => {
                self.known.insert(manifest.metadata.name.clone());
            }
            (_, Ok(Answer::Puller(it))) => _ = self.known.insert(it.metadata.name.clone()),
            (_, Ok(Answer::Pullers(page))) => {
                self.known.extend(page.items.iter().map(|it| it.metadata.name.clone()));
                self.note_leftovers(page);
            }
            _ => {}
        }
        if let (Call::CreatePuller(manifest), Ok(_)) = (call, &answered) {
            self.made.extend(group_in(&manifest.metadata.name));
        }
        let now = self.world.borrow().now;
        match (call, &answered) {
            (Call::ListNodes { from }, Ok(Answer::Nodes(page))) => {
                if from.is_none() {
                    self.look = Look::default();
                }
                self.look.observe(&self.world.borrow(), page, &self.args.config);
            }
            (Call::ReadJob { .. }, Ok(_)) => self.job_known = Some(now),
            (Call::ListPods { from, .. }, Ok(Answer::Pods(page))) => {
                if from.is_none() {
                    self.pod_nodes.clear();
                }
                self.saw_pods(page);
            }
            _ if sends_somewhere => {
                // What an earlier try left may be more, and only has to become less.
                let n_after = self.n_unfinished();
                if n_after > n_before {
                    self.most_unfinished = self.most_unfinished.max(n_after);
                }
                self.nodes_waited |= self.keeps_nodes_waiting();
            }
            _ => {}
        }
        self.wake = now + self.cluster.still();
        self.next = Next::Step(Observation::Answered(answered));
    }

    fn note_fault_of_clean_up(&self, err: &ApiError) {
        let fact = match err.cause {
            Cause::Unusable(_) => "clean-up: an answer that is unusable",
            _ if err.is_transient() => "clean-up: a fault that passes",
            _ => return,
        };
        self.world.borrow_mut().noted.insert(fact);
    }

    fn saw_pods(&mut self, page: &Page<Pod>) {
        let mut world = self.world.borrow_mut();
        for pod in &page.items {
            if pod.status.container_statuses.iter().any(does_not_start) {
                world.noted.insert("pull: the container does not start");
            }
            let (Some(node), Some(uid)) = (pod.node_name(), pod.controller()) else { continue };
            let Some(set) = world.sets.values().find(|it| it.uid() == uid) else { continue };
            if let Some(group) = self.group_of(set) {
                self.pod_nodes.entry(node.into()).or_default().insert(group);
            }
        }
    }

    /// The group that a DaemonSet is for, if it is this run's.
    fn group_of(&self, set: &Set) -> Option<usize> {
        let is_its = set.labels().get(RUN_LABEL) == Some(&self.args.config.id);
        group_in(set.name()).filter(|_| is_its)
    }

    /// Notes the DaemonSets of other runs that it has to leave.
    fn note_leftovers(&self, page: &Page<Puller>) {
        let now = self.world.borrow().wall();
        let is_in_use = |it: &Puller| {
            let expires = it.metadata.annotations.get(EXPIRES_ANNOTATION);
            let expires = expires.and_then(|it| humantime::parse_rfc3339_weak(it).ok());
            it.metadata.labels.get(RUN_LABEL) != Some(&self.args.config.id)
                && expires.is_some_and(|it| it > now)
        };
        if page.items.iter().any(is_in_use) {
            self.world.borrow_mut().noted.insert("leftover: not expired");
        }
    }

    /// Whether its window lets a DaemonSet not go yet to a node that lacks something of it.
    fn keeps_nodes_waiting(&self) -> bool {
        let (world, config) = (self.world.borrow(), &self.args.config);
        if config.max_nodes_at_once.is_none() {
            return false;
        }
        let mut sets = world.sets.values().filter_map(|it| Some((it, self.group_of(it)?)));
        sets.any(|(set, group)| {
            let group = &config.groups[group];
            world.nodes.values().any(|node| {
                let mut wanted = group.images.iter().map(|it| &config.wanted[*it]);
                node.may_run(&group.placement)
                    && !set.goes_to(node)
                    && wanted.any(|it| !holds(&world, node, it))
            })
        })
    }

    /// The nodes that its DaemonSets are sent to and that lack something, by their disks. One whose
    /// machine was replaced counts for what the one before held.
    fn n_unfinished(&self) -> usize {
        if self.args.config.max_nodes_at_once.is_none() {
            return 0;
        }
        let (world, config) = (self.world.borrow(), &self.args.config);
        let sets: Vec<_> =
            world.sets.values().filter_map(|it| Some((it, self.group_of(it)?))).collect();
        let lacks = |node: &&ModelNode| {
            sets.iter().any(|(set, group)| {
                let mut wanted = config.groups[*group].images.iter().map(|it| &config.wanted[*it]);
                set.goes_to(node) && wanted.any(|it| !holds(&world, node, it))
            })
        };
        let nodes = world.nodes.values().filter(|it| !world.replaced.contains(&it.name));
        nodes.filter(lacks).count()
    }

    /// How many nodes may be unfinished at a time.
    pub fn window_size(&self) -> Option<usize> {
        let share = self.args.config.max_nodes_at_once?;
        Some(share.of(self.run.survey()?.n_eligible()).clamp(1, MOST_NAMED_NODES))
    }

    /// Whether it could not look at nodes.
    pub fn is_blind(&self) -> bool {
        self.run.survey().is_none()
    }

    /// What it has to say in the end.
    pub fn told(&self) -> Told {
        let report = Report::new(&self.args.config, &self.run, self.args.judgement);
        let mut lines = self.lines.clone();
        lines.extend(report.lines(self.args.verbosity));
        Told {
            exit: report.exit_code(),
            report: serde_json::from_str(&report.json()).expect("a report is JSON"),
            lines,
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.run.outcome()
    }
}

//! The lives of Jobs: attempts that crash and are made again, nodes that are drained, helm and the
//! garbage collector.
//!
//! The Job is the chart's: `backoffLimit: 1`, a failure for good by our exit codes, none by a
//! disruption, never two pods at a time, and a deadline of its own 20 s after the run's.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use super::effects::effects;
use super::plan::{After, Blow, Life, Owner, Plan, When, job_name};
use super::process::{Interruption, Process, State, Told};
use super::rules;
use crate::model::{Shared, World, epoch};

/// `backoffLimit` of the chart's Job.
const BACKOFF_LIMIT: u32 = 1;
/// The exit codes at which its `podFailurePolicy` fails the Job.
const FAIL_JOB: [u8; 3] = [1, 2, 3];
/// The Job's own deadline, after the run's.
const JOB_GRACE: Duration = Duration::from_secs(20);
/// `terminationGracePeriodSeconds` of its pod.
const KILL_AFTER: Duration = Duration::from_secs(30);
/// `ttlSecondsAfterFinished` of the chart's Job.
const TIME_TO_LIVE: Duration = Duration::from_secs(300);
/// The Job controller's first pause before it makes a failed pod again.
const BACKOFF: Duration = Duration::from_secs(10);
/// The garbage collector's time to notice that an owner is gone.
const COLLECTOR: Duration = Duration::from_secs(2);
/// What was asked for has been done by then, however late, and collected.
const STRAGGLERS: Duration = Duration::from_secs(100);
/// More steps than any process makes: one that makes more goes round in circles.
const MANY_STEPS: usize = 200_000;

/// What came of a plan.
pub struct Lived {
    pub world: World,
    /// What each process said in the end, by its place; none of one that was killed.
    pub told: Vec<Option<Told>>,
    /// What came to pass of what it is worth counting.
    pub effects: BTreeSet<&'static str>,
    /// What should not be.
    pub faults: Vec<String>,
}

/// Something that happens to a Job.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// An attempt starts.
    Attempt,
    /// The objects that it owned go.
    Collect,
    /// `activeDeadlineSeconds` are over.
    Deadline,
    Delete,
    /// The process has not ended in time.
    Kill {
        process: usize,
    },
    /// What the plan has for the process.
    Strike {
        process: usize,
    },
}

/// What is known of a life.
#[derive(Default)]
struct Course {
    n_attempts: usize,
    n_failed: u32,
    process: Option<usize>,
    is_over: bool,
    is_deleted: bool,
}

struct Theatre<'a> {
    world: Shared,
    plan: &'a Plan,
    processes: Vec<Process<'a>>,
    courses: Vec<Course>,
    /// By time and by the order in which they were planned: what happens to which life.
    agenda: BTreeMap<(Duration, usize), (usize, Act)>,
    n_planned: usize,
    told: Vec<Option<Told>>,
    faults: Vec<String>,
}

/// Lets a plan come to pass, and uses its world up.
pub fn live(plan: &mut Plan, trace: Option<Vec<String>>) -> Lived {
    let mut world = mem::replace(&mut plan.world, World::of(vec![]));
    world.trace = trace;
    let plan = &*plan;
    let mut theatre = Theatre {
        world: world.share(),
        plan,
        processes: vec![],
        courses: plan.lives.iter().map(|_| Course::default()).collect(),
        agenda: BTreeMap::new(),
        n_planned: 0,
        told: vec![],
        faults: vec![],
    };
    for (life, it) in plan.lives.iter().enumerate() {
        theatre.plan_at(it.at + it.start, life, Act::Attempt);
        if it.owner == Owner::Job {
            theatre.plan_at(it.at + it.args.config.timeout + JOB_GRACE, life, Act::Deadline);
        }
    }
    while theatre.go_on() {}
    if theatre.world.borrow().has_stragglers() {
        theatre.world.borrow_mut().advance(STRAGGLERS);
    }
    theatre.faults.extend(rules::at_the_end(&theatre.world.borrow(), plan, &theatre.processes));
    let Theatre { world, told, faults, processes, .. } = theatre;
    let effects = effects(&world.borrow(), plan, &processes, &told);
    drop(processes);
    let world = Rc::into_inner(world).expect("no process is left").into_inner();
    Lived { world, told, effects, faults }
}

impl<'a> Theatre<'a> {
    fn plan_at(&mut self, at: Duration, life: usize, act: Act) {
        self.n_planned += 1;
        self.agenda.insert((at, self.n_planned), (life, act));
    }

    fn plan_in(&mut self, pause: Duration, life: usize, act: Act) {
        let now = self.world.borrow().now;
        self.plan_at(now + pause, life, act);
    }

    /// Does what is due next, if anything is.
    fn go_on(&mut self) -> bool {
        let running = self.processes.iter().filter(|it| it.runs());
        let process = running.min_by_key(|it| (it.wake, it.place)).map(|it| (it.wake, it.place));
        let act = self.agenda.first_key_value().map(|it| it.0.0);
        match (process, act) {
            (None, None) => false,
            (Some((wake, place)), act) if act.is_none_or(|it| wake < it) => {
                self.world.borrow_mut().advance_to(wake);
                self.let_go_on(place);
                true
            }
            _ => {
                let ((at, _), (life, act)) = self.agenda.pop_first().expect("there is one");
                self.world.borrow_mut().advance_to(at);
                self.act(life, act);
                true
            }
        }
    }

    fn let_go_on(&mut self, place: usize) {
        let process = &mut self.processes[place];
        let n_asked = process.n_asked;
        process.go_on();
        if process.n_steps > MANY_STEPS {
            self.faults.push(format!("process {place} goes round in circles"));
            process.kill();
        }
        let life = process.life;
        if process.n_asked > n_asked && process.interruption.is_some_and(|it| it.0 == n_asked + 1) {
            self.strike(life, place);
        }
        self.look_after(life, place);
    }

    /// What hit the process hits more than that.
    fn strike(&mut self, life: usize, place: usize) {
        let Some((_, blow)) = self.blow(life) else { return };
        match blow {
            Blow::Crash(_) | Blow::Interrupt => {}
            Blow::Drain(_) => self.plan_in(KILL_AFTER, life, Act::Kill { process: place }),
            Blow::JobDeleted => {
                self.delete(life);
                self.plan_in(KILL_AFTER, life, Act::Kill { process: place });
            }
            Blow::JobOrphans => {
                self.courses[life].is_deleted = true;
                let uid = &self.plan.lives[life].args.config.id;
                self.world.borrow_mut().orphan(uid);
                self.world.borrow_mut().jobs.remove(&job_name(uid));
                self.plan_in(KILL_AFTER, life, Act::Kill { process: place });
            }
        }
    }

    fn blow(&self, life: usize) -> Option<(When, Blow)> {
        let attempt = self.courses[life].n_attempts.checked_sub(1)?;
        self.plan.lives[life].attempts.get(attempt).copied().flatten()
    }

    /// Sees whether the process has ended, and what its Job makes of that.
    fn look_after(&mut self, life: usize, place: usize) {
        let process = &self.processes[place];
        if process.runs() || self.courses[life].process != Some(place) {
            return;
        }
        self.courses[life].process = None;
        let exit = match process.state {
            State::Killed => None,
            _ => {
                let told = process.told();
                let world = self.world.borrow();
                self.faults.extend(rules::of_process(&world, self.plan, process, &told));
                drop(world);
                let exit = told.exit;
                self.world.borrow_mut().tell(|| format!("{place} exit {exit}"));
                self.told[place] = Some(told);
                Some(exit)
            }
        };
        if self.plan.lives[life].owner != Owner::Job {
            self.courses[life].is_over = true;
            if self.plan.lives[life].owner == Owner::Pod {
                self.plan_in(TIME_TO_LIVE, life, Act::Delete);
            }
            return;
        }
        self.after_attempt(life, exit);
    }

    /// The Job controller's turn.
    fn after_attempt(&mut self, life: usize, exit: Option<u8>) {
        if self.courses[life].is_deleted || self.courses[life].is_over {
            return;
        }
        let is_disrupted =
            matches!(self.blow(life), Some((_, Blow::Drain(_)))) && exit.is_none_or(|it| it == 143);
        match exit {
            Some(0) => {
                let pause = match self.plan.lives[life].after {
                    After::Helm => Duration::from_secs(1),
                    After::TimeToLive => TIME_TO_LIVE,
                };
                self.courses[life].is_over = true;
                self.plan_in(pause, life, Act::Delete);
            }
            Some(code) if FAIL_JOB.contains(&code) => self.fail(life),
            _ if is_disrupted => self.plan_in(self.plan.lives[life].start, life, Act::Attempt),
            _ => {
                self.courses[life].n_failed += 1;
                match self.courses[life].n_failed > BACKOFF_LIMIT {
                    true => self.fail(life),
                    false => self.plan_in(BACKOFF, life, Act::Attempt),
                }
            }
        }
    }

    fn fail(&mut self, life: usize) {
        self.courses[life].is_over = true;
        self.plan_in(TIME_TO_LIVE, life, Act::Delete);
    }

    fn delete(&mut self, life: usize) {
        if mem::replace(&mut self.courses[life].is_deleted, true) {
            return;
        }
        let uid = &self.plan.lives[life].args.config.id;
        self.world.borrow_mut().jobs.remove(&job_name(uid));
        self.world.borrow_mut().gone_owners.insert(uid.clone());
        self.plan_in(COLLECTOR, life, Act::Collect);
    }

    fn act(&mut self, life: usize, act: Act) {
        self.world.borrow_mut().tell(|| format!("- life {life}: {act:?}"));
        let course = &mut self.courses[life];
        match act {
            Act::Attempt if course.is_deleted || course.is_over => {}
            Act::Attempt => self.attempt(life),
            Act::Collect => {
                let uid = &self.plan.lives[life].args.config.id;
                self.world.borrow_mut().collect_sets_of(uid);
            }
            Act::Deadline if course.is_over || course.is_deleted => {}
            Act::Deadline => {
                self.fail(life);
                if let Some(process) = self.courses[life].process {
                    self.processes[process].signal();
                    self.plan_in(KILL_AFTER, life, Act::Kill { process });
                }
            }
            Act::Delete => self.delete(life),
            Act::Kill { process } if self.processes[process].runs() => {
                self.processes[process].kill();
                self.look_after(life, process);
            }
            Act::Kill { .. } => {}
            Act::Strike { process } if !self.processes[process].runs() => {}
            Act::Strike { process } => {
                match self.blow(life).map(|it| it.1.interruption()) {
                    Some(Interruption::Signal) => self.processes[process].signal(),
                    _ => self.processes[process].kill(),
                }
                self.strike(life, process);
                self.look_after(life, process);
            }
        }
    }

    fn attempt(&mut self, life: usize) {
        let it: &'a Life = &self.plan.lives[life];
        let place = self.processes.len();
        {
            let mut world = self.world.borrow_mut();
            if it.owner == Owner::Job {
                let name = job_name(&it.args.config.id);
                world.jobs.entry(name).or_insert(epoch() + it.at);
            }
            world.tell(|| format!("- life {life}: process {place} starts"));
        }
        let mut process = Process::start(&self.world, place, life, &it.args);
        let course = &mut self.courses[life];
        course.n_attempts += 1;
        course.process = Some(place);
        match self.blow(life) {
            Some((When::Request(request), blow)) => {
                process.interruption = Some((request, blow.interruption()));
            }
            Some((When::After(pause), _)) => {
                self.plan_in(pause, life, Act::Strike { process: place });
            }
            None => {}
        }
        self.processes.push(process);
        self.told.push(None);
    }
}

impl Blow {
    fn interruption(self) -> Interruption {
        match self {
            Self::Crash(how) | Self::Drain(how) => how,
            Self::Interrupt | Self::JobDeleted | Self::JobOrphans => Interruption::Signal,
        }
    }
}

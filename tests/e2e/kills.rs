//! A run is stopped or killed at each kind of request that it makes: before the API server has
//! seen it, and before the run has seen the answer.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use prepull::puller::NAME_LABEL;
use serde_json::{Value, json};

use crate::binary::{RUN, as_pod_of, job, lines, only_on, waiting_job};
use crate::cluster::cluster;
use crate::command::{Finished, Running, start, until};
use crate::gate::{Gate, KubectlProxy, Request};
use crate::registry_faults::faulty_on;
use crate::scenario::{Scenario, verdict};

/// Namespaces at a time, each with one case after the other: most of their time is waiting.
const NAMESPACES: usize = 8;
/// What the cluster may take to remove what a Job owned.
const REMOVAL: Duration = Duration::from_secs(60);
/// A moment in which the API server shows what it was just told.
const SOON: Duration = Duration::from_secs(5);

/// A kind of request, as the method and a part of the path.
#[derive(Debug)]
struct Kind {
    method: &'static str,
    path: &'static str,
    comes_in: Comes,
}

/// In which run the request comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comes {
    /// That has nothing to wait for.
    Ending,
    /// That waits for an image which one node has, and which never comes to the other one.
    Stalling,
    /// That waits for an image which never comes.
    Waiting,
}

/// Those that take longest are first: nodes are looked at again when nothing moves for 30 s, and
/// a pod may stall for 10 s.
const KINDS: [Kind; 12] = [
    Kind { method: "GET", path: "/api/v1/nodes/", comes_in: Comes::Waiting },
    Kind { method: "DELETE", path: "/pods/", comes_in: Comes::Stalling },
    Kind { method: "GET", path: "/api/v1/nodes?", comes_in: Comes::Waiting },
    Kind { method: "GET", path: "/jobs/", comes_in: Comes::Waiting },
    Kind { method: "GET", path: "/daemonsets?", comes_in: Comes::Waiting },
    Kind { method: "POST", path: "/daemonsets?", comes_in: Comes::Waiting },
    Kind { method: "GET", path: "/daemonsets/", comes_in: Comes::Waiting },
    Kind { method: "GET", path: "/pods?", comes_in: Comes::Waiting },
    Kind { method: "GET", path: "/events?", comes_in: Comes::Waiting },
    Kind { method: "PATCH", path: "/daemonsets/", comes_in: Comes::Ending },
    Kind { method: "DELETE", path: "/daemonsets/", comes_in: Comes::Ending },
    Kind { method: "POST", path: "/events", comes_in: Comes::Ending },
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moment {
    BeforeTheAnswer,
    BeforeTheRequest,
}

/// A signal at a request.
struct Case<'a> {
    kind: &'static Kind,
    moment: Moment,
    proxy: &'a KubectlProxy,
    scenario: &'a Scenario,
    /// Of its Job, and of its DaemonSet.
    name: String,
    /// The Job whose pod the run would be.
    hook: Value,
}

/// How a case has ended.
struct End {
    finished: Finished,
    /// Whether the API server has been told of a DaemonSet, and not of its end.
    leaves_puller: bool,
}

#[test]
fn a_run_that_is_stopped_at_any_request_leaves_nothing() {
    each_case("stops", &["job.batch/"], |case| {
        let ended = case.run("TERM").finished;
        let report = lines(&ended);
        let (code, word) = match (case.kind.method, case.kind.path) {
            // It had its outcome.
            ("DELETE", "/daemonsets/") | ("POST", "/events") => (0, "ready: "),
            _ => (143, "stopped by a signal after "),
        };
        assert_eq!(ended.code, Some(code), "{:?}: {}", case.kind, ended.said());
        assert!(verdict(&report).starts_with(word), "{:?}: {report:?}", case.kind);
        assert!(!case.has_puller(), "{:?}: {}", case.kind, ended.said());
    });
}

#[test]
fn what_a_run_leaves_that_is_killed_at_any_request_goes_with_its_job() {
    each_case("kills", &[], |case| {
        let End { finished, leaves_puller } = case.run("KILL");
        assert_eq!(finished.code, None, "{:?}: {}", case.kind, finished.said());
        until(&format!("what {:?} leaves", case.kind), SOON, || {
            let has_puller = case.has_puller();
            if has_puller == leaves_puller { Ok(()) } else { Err(format!("{has_puller}")) }
        });
        case.delete_job();
    });
}

/// The request was on its way when the run was killed, and comes when its owner is gone.
#[test]
fn a_puller_that_is_made_without_a_job_goes_too() {
    let scenario = Scenario::without_helm("kill-late");
    let proxy = KubectlProxy::start();
    let is_create = |it: &&Kind| it.method == "POST" && it.path == "/daemonsets?";
    let kind = KINDS.iter().find(is_create).expect("there is one");
    let case = Case::new(kind, Moment::BeforeTheRequest, "late".into(), &scenario, &proxy);
    let mut gate = Gate::before(&proxy);
    let mut run = case.start(&gate);
    let create = loop {
        let request = gate.next(&mut run, RUN).expect("it makes a DaemonSet");
        if kind.is_of(&request) {
            break request;
        }
        gate.pass(request).give();
    };

    scenario.heard(run.kill());
    case.delete_job();
    let made = gate.pass(create);

    assert!(made.status().contains("201 Created"), "{}", made.status());
    scenario.until_only(&[], REMOVAL);
}

/// As it is when helm has been killed as well.
#[test]
fn what_a_killed_run_leaves_goes_with_a_job_that_nobody_deletes() {
    let scenario = Scenario::without_helm("kill-ttl");
    let image = scenario.unavailable_image("one");
    scenario
        .create(&job("hook", json!({"activeDeadlineSeconds": 8, "ttlSecondsAfterFinished": 2})));
    let hook = scenario.get(&["job", "hook"]);
    let mut command = scenario.prepull_command(&["run", &image]);
    let run = start(command.envs(as_pod_of(&hook)));
    until("the DaemonSet", Duration::from_secs(8), || {
        let names = scenario.names(&["daemonsets"]);
        if names.is_empty() { Err("nothing".into()) } else { Ok(()) }
    });

    scenario.heard(run.kill());

    assert_eq!(scenario.names(&["daemonsets"]).len(), 1);
    scenario.until_only(&[], REMOVAL);
}

/// Tries every case, in several namespaces at a time, each of which is to have no more than this
/// left in the end.
fn each_case(name: &str, left: &[&str], try_out: impl Fn(&Case<'_>) + Sync) {
    let proxy = KubectlProxy::start();
    let moments = [Moment::BeforeTheAnswer, Moment::BeforeTheRequest];
    let cases = KINDS.iter().flat_map(|kind| moments.map(|it| (kind, it)));
    let cases = Mutex::new(cases.enumerate());
    let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).next();
    let try_some = &|namespace: usize| {
        let scenario = Scenario::without_helm(&format!("{name}-{namespace}"));
        while let Some((number, (kind, moment))) = next() {
            try_out(&Case::new(kind, moment, format!("case-{number}"), &scenario, &proxy));
        }
        scenario.until_only(left, REMOVAL);
    };
    thread::scope(|scope| {
        for namespace in 0..NAMESPACES {
            scope.spawn(move || try_some(namespace));
        }
    });
}

impl<'a> Case<'a> {
    fn new(
        kind: &'static Kind,
        moment: Moment,
        name: String,
        scenario: &'a Scenario,
        proxy: &'a KubectlProxy,
    ) -> Self {
        scenario.create(&waiting_job(&name));
        let hook = scenario.get(&["job", &name]);
        Self { kind, moment, proxy, scenario, name, hook }
    }

    /// Runs the binary to its end, and sends it the signal in between.
    fn run(&self, signal: &str) -> End {
        let mut gate = Gate::before(self.proxy);
        let mut run = self.start(&gate);
        let mut is_over = false;
        while let Some(request) = gate.next(&mut run, RUN) {
            let is_now = |it| !is_over && self.moment == it && self.kind.is_of(&request);
            let [is_before, is_behind] =
                [Moment::BeforeTheRequest, Moment::BeforeTheAnswer].map(is_now);
            is_over |= is_before || is_behind;
            if is_before {
                run.signal(signal);
                if signal == "KILL" {
                    // What was never sent never arrives.
                    continue;
                }
            }
            let answer = gate.pass(request);
            if is_behind {
                run.signal(signal);
            }
            answer.give();
        }
        let finished = self.scenario.end(run);
        assert!(is_over, "there was no {:?}: {}", self.kind, finished.said());
        let n_passed = |method| {
            let is_it = |it: &&String| it.starts_with(method) && it.contains("/daemonsets");
            gate.passed.iter().filter(is_it).count()
        };
        End { finished, leaves_puller: n_passed("POST") > n_passed("DELETE") }
    }

    fn start(&self, gate: &Gate<'_>) -> Running {
        let nodes = cluster().all_nodes();
        let (image, nodes, option) = match self.kind.comes_in {
            // The DaemonSet is sent from one node to the next.
            Comes::Ending => {
                (self.scenario.image(&self.name), &nodes[..2], "--max-nodes-at-once=1")
            }
            Comes::Stalling => {
                let image = faulty_on(self.scenario, "500", nodes[1]);
                (image, &nodes[..2], "--stall-timeout=10s")
            }
            Comes::Waiting => {
                (self.scenario.unavailable_image("one"), &nodes[2..], "--max-nodes-at-once=1")
            }
        };
        let arguments = ["run", "--name", &self.name, option, &only_on(nodes), &image];
        let mut command = self.scenario.prepull_at(&gate.url(), &arguments);
        start(command.envs(as_pod_of(&self.hook)))
    }

    fn has_puller(&self) -> bool {
        let selector = format!("{NAME_LABEL}={}", self.name);
        !self.scenario.names(&["daemonsets", "--selector", &selector]).is_empty()
    }

    fn delete_job(&self) {
        let arguments = ["delete", "job", &self.name, "--cascade=background", "--wait=false"];
        cluster().kubectl(&[&arguments[..], &["--namespace", &self.scenario.ns]].concat());
    }
}

impl Kind {
    fn is_of(&self, request: &Request) -> bool {
        request.line.starts_with(self.method) && request.line.contains(self.path)
    }
}

//! A run is stopped or killed at each kind of request that it makes: before the API server has
//! seen it, and before the run has seen the answer.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use prepull::puller::NAME_LABEL;
use serde_json::{Value, json};

use crate::binary::{RUN, as_pod_of, job, lines, only_on, waiting_job};
use crate::cluster::{cluster, items, text};
use crate::command::{Finished, Running, start, until};
use crate::gate::{Gate, KubectlProxy, Request};
use crate::scenario::{Scenario, verdict};

/// Runs at a time: most of their time is waiting.
const AT_A_TIME: usize = 8;
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
    /// That waits for an image which never comes.
    Waiting,
}

/// The one that takes longest is first: nodes are looked at again when nothing moves for 30 s.
const KINDS: [Kind; 11] = [
    Kind { method: "GET", path: "/api/v1/nodes/", comes_in: Comes::Waiting },
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

struct Case {
    kind: &'static Kind,
    moment: Moment,
    /// Of its Job, and of its DaemonSet.
    name: String,
}

/// How a case has ended.
struct End {
    finished: Finished,
    /// Whether the API server has been told of a DaemonSet, and not of its end.
    leaves_puller: bool,
}

#[test]
fn a_run_that_is_stopped_at_any_request_leaves_nothing() {
    let scenario = Scenario::without_helm("stops");
    let bench = Bench::new(&scenario);
    bench.each_case(|case| {
        let ended = bench.run(case, "TERM").finished;
        let report = lines(&ended);
        let (code, word) = match (case.kind.method, case.kind.path) {
            // It had its outcome.
            ("DELETE", "/daemonsets/") | ("POST", "/events") => (0, "ready: "),
            _ => (143, "stopped by a signal after "),
        };
        assert_eq!(ended.code, Some(code), "{:?}: {}", case.kind, ended.said());
        assert!(verdict(&report).starts_with(word), "{:?}: {report:?}", case.kind);
        assert!(!bench.has_puller(case), "{:?}: {}", case.kind, ended.said());
    });
    scenario.until_only(&["job.batch/"], REMOVAL);
}

#[test]
fn what_a_run_leaves_that_is_killed_at_any_request_goes_with_its_job() {
    let scenario = Scenario::without_helm("kills");
    let bench = Bench::new(&scenario);
    bench.each_case(|case| {
        let End { finished, leaves_puller } = bench.run(case, "KILL");
        assert_eq!(finished.code, None, "{:?}: {}", case.kind, finished.said());
        until(&format!("what {:?} leaves", case.kind), SOON, || {
            let has_puller = bench.has_puller(case);
            if has_puller == leaves_puller { Ok(()) } else { Err(format!("{has_puller}")) }
        });
        let arguments = ["delete", "job", &case.name, "--cascade=background", "--wait=false"];
        cluster().kubectl(&[&arguments[..], &["--namespace", &bench.ns]].concat());
    });
    scenario.until_only(&[], REMOVAL);
}

/// The request was on its way when the run was killed, and comes when its owner is gone.
#[test]
fn a_puller_that_is_made_without_a_job_goes_too() {
    let scenario = Scenario::without_helm("kill-late");
    let bench = Bench::new(&scenario);
    let is_create = |it: &&Case| it.kind.method == "POST" && it.kind.path == "/daemonsets?";
    let case = bench.cases.iter().find(is_create).expect("there is one");
    let mut gate = Gate::before(&bench.proxy);
    let mut run = bench.start(case, &gate);
    let create = loop {
        let request = gate.next(&mut run, RUN).expect("it makes a DaemonSet");
        if case.kind.is_of(&request) {
            break request;
        }
        gate.pass(request).give();
    };

    scenario.heard(run.kill());
    cluster().kubectl(&["delete", "jobs", "--all", "--namespace", &scenario.ns]);
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

/// What all cases of a test share; each has a Job and a DaemonSet of its own name.
struct Bench {
    ns: String,
    proxy: KubectlProxy,
    cases: Vec<Case>,
    jobs: BTreeMap<String, Value>,
    never_there: String,
    quick: String,
}

impl Bench {
    fn new(scenario: &Scenario) -> Self {
        let moments = [Moment::BeforeTheAnswer, Moment::BeforeTheRequest];
        let cases = KINDS.iter().flat_map(|kind| moments.map(|it| (kind, it))).enumerate();
        let cases = cases.map(|(number, (kind, moment))| {
            let name = format!("case-{number}");
            Case { kind, moment, name }
        });
        let cases: Vec<_> = cases.collect();
        let jobs: Vec<_> = cases.iter().map(|it| waiting_job(&it.name)).collect();
        scenario.create(&json!({"apiVersion": "v1", "kind": "List", "items": jobs}));
        let made = scenario.get(&["jobs"]);
        let jobs = items(&made).iter().map(|it| (text(&it["metadata"]["name"]).into(), it.clone()));
        // Under this tag each run asks for it again.
        let quick = format!("{}/quick:latest", scenario.ns);
        scenario.push(&quick, &[]);
        Self {
            ns: scenario.ns.clone(),
            proxy: KubectlProxy::start(),
            cases,
            jobs: jobs.collect(),
            never_there: scenario.unavailable_image("one"),
            quick,
        }
    }

    /// Tries every case, several at a time.
    fn each_case(&self, try_out: impl Fn(&Case) + Sync) {
        let left = Mutex::new(self.cases.iter());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    while let Some(case) = next() {
                        try_out(case);
                    }
                });
            }
        });
    }

    /// Runs the binary to its end, and sends it the signal in between.
    fn run(&self, case: &Case, signal: &str) -> End {
        let Case { kind, moment, name } = case;
        let mut gate = Gate::before(&self.proxy);
        let mut run = self.start(case, &gate);
        let mut is_over = false;
        while let Some(request) = gate.next(&mut run, RUN) {
            let is_now = |it| !is_over && *moment == it && kind.is_of(&request);
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
        let finished = run.wait(RUN);
        assert!(is_over, "there was no {kind:?} in {name}: {}", finished.said());
        let n_passed = |method| {
            let is_it = |it: &&String| it.starts_with(method) && it.contains("/daemonsets");
            gate.passed.iter().filter(is_it).count()
        };
        End { finished, leaves_puller: n_passed("POST") > n_passed("DELETE") }
    }

    fn start(&self, case: &Case, gate: &Gate<'_>) -> Running {
        let nodes = cluster().all_nodes();
        let (image, nodes) = match case.kind.comes_in {
            // With one node at a time the DaemonSet is sent from one to the next.
            Comes::Ending => (&self.quick, &nodes[..2]),
            Comes::Waiting => (&self.never_there, &nodes[2..]),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepull"));
        command
            .args(["run", "--server", &gate.url(), "--namespace", &self.ns, "--name", &case.name])
            .args(["--puller-image", &format!("prepull:{}", cluster().tag)])
            .args(["--max-nodes-at-once=1", &only_on(nodes), image])
            .envs(as_pod_of(&self.jobs[&case.name]));
        start(&mut command)
    }

    fn has_puller(&self, case: &Case) -> bool {
        let selector = format!("{NAME_LABEL}={}", case.name);
        let arguments = ["daemonsets", "--selector", &selector, "--namespace", &self.ns];
        !cluster().names(&arguments).is_empty()
    }
}

impl Kind {
    fn is_of(&self, request: &Request) -> bool {
        request.line.starts_with(self.method) && request.line.contains(self.path)
    }
}

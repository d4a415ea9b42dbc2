//! A whole run over the server, in virtual time.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, SystemTime};

use prepull::args::{self, Command, RunArgs};
use prepull::cluster::{ApiError, Page};
use prepull::kube::{Access, KubeCluster};
use prepull::report::{Report, Verbosity};
use prepull::run::{Clock, Line, Outcome, Run, Signal, drive};
use prepull::tell::tell;
use serde_json::Value;

use crate::assert_one_line;
use crate::server::{Answers, JOB, Server};

/// The file of a token that nobody may see.
const TOKEN_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/token");
const TOKEN: &str = include_str!("../token");

/// What a report may be long at most, of however many nodes and faults it tells.
const MOST_LINES: usize = 40;

/// Bytes of a termination message that the kubelet keeps.
///
/// Source: <https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>
const TERMINATION_MESSAGE: usize = 4096;

/// How long one step of a run takes at least, so that no run stands still.
const STEP: Duration = Duration::from_millis(1);

/// A program and an API server that know each other.
pub struct Bench {
    server: Server,
    cluster: KubeCluster,
}

impl Bench {
    pub fn new() -> Self {
        let server = Server::start();
        let token = Path::new(TOKEN_FILE);
        let access = Access::at(&server.url, None, Some(token)).expect("a good address");
        let cluster = KubeCluster::open(&access, "default").expect("a good configuration");
        Self { server, cluster }
    }

    /// Whether an answer can be read, and has something in it. One that can not ends a run like
    /// any other fault.
    pub fn reads<T>(
        &mut self,
        answers: Answers,
        list: impl Fn(&mut KubeCluster) -> Result<Page<T>, ApiError>,
    ) -> bool {
        self.server.set(answers);
        match list(&mut self.cluster) {
            Ok(page) => !page.items.is_empty() || page.next.is_some(),
            Err(err) => {
                assert_can_be_shown(&err.to_string());
                false
            }
        }
    }

    /// Runs the program to its end, checks what it says, and gives back how it ended.
    pub fn run(&mut self, args: &RunArgs, answers: Answers) -> Outcome {
        self.server.set(answers);
        let mut run = Run::new(&args.config);
        let mut clock = VirtualClock(Cell::default());
        drive(&mut run, &mut self.cluster, &mut clock, &mut |line| match line {
            Line::Always(line) | Line::Verbose(line) => assert_can_be_shown(&line),
        });
        let report = Report::new(&args.config, &run, args.judgement);
        tell(&report, &args.config, &mut self.cluster);
        let lines = report.lines(Verbosity::Normal);
        assert!(lines.len() <= MOST_LINES, "{} lines", lines.len());
        lines.iter().for_each(|it| assert_can_be_shown(it));
        report.lines(Verbosity::Verbose).iter().for_each(|it| assert_can_be_shown(it));
        assert!(report.termination_message().len() <= TERMINATION_MESSAGE);
        let report: Value = serde_json::from_str(&report.json()).expect("a report is JSON");
        assert!(!report.to_string().contains(TOKEN.trim()), "the token is in the report");
        run.outcome().expect("a run that is over has an outcome").clone()
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

/// The arguments of a Job's run for the image `a:1`, with more options. It has the time to lose
/// patience with whatever it loses patience with, but looks rarely.
pub fn args(options: &[&str]) -> Result<RunArgs, String> {
    let words = ["a:1", "--timeout=90s", "--interval=10s", "--stall-timeout=10s"];
    let words = words.iter().chain(options).map(Into::into).collect();
    let env = |name: &str| match name {
        "PREPULL_JOB_NAME" => Some(JOB.into()),
        "PREPULL_JOB_UID" => Some("job-uid".into()),
        _ => None,
    };
    match args::parse(words, &env) {
        Ok(Command::Run(args)) => Ok(*args),
        Ok(_) => Err("another command".into()),
        Err(err) => Err(err.to_string()),
    }
}

fn assert_can_be_shown(line: &str) {
    assert_one_line(line);
    assert!(!line.contains(TOKEN.trim()), "the token is shown: {line:?}");
}

/// Goes on only while a run waits, and by a little at each look.
struct VirtualClock(Cell<Duration>);

impl Clock for VirtualClock {
    fn elapsed(&self) -> Duration {
        self.0.set(self.0.get() + STEP);
        self.0.get()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.get()
    }

    fn sleep(&mut self, duration: Duration, _known: Signal) {
        self.0.set(self.0.get() + duration);
    }

    fn signal(&self) -> Signal {
        Signal::None
    }
}

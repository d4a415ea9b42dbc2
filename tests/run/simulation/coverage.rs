//! What the seeds have covered, and how much of it there must be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// In how many of a hundred seeds each of these has to be, but for some.
const FLOOR_PERCENT: f64 = 1.0;

/// Every kind of ending, of trouble and of setting. A setting counts where it made a difference.
const FLOORS: &[&str] = &[
    "exit: 0",
    "exit: 1",
    "exit: 2",
    "exit: 3",
    "exit: 143",
    "exit: killed",
    "clean-up: a fault that passes",
    "clean-up: an answer that is unusable",
    "DaemonSet: affinity edited",
    "DaemonSet: deleted by someone else",
    "DaemonSet: image edited",
    "DaemonSet: restarted",
    "allow missing",
    "failure policy: Ignore",
    "fault at: create daemonset",
    "fault at: delete daemonset",
    "fault at: delete daemonset demo-expire",
    "fault at: delete pod",
    "fault at: get daemonset",
    "fault at: get job",
    "fault at: get node",
    "fault at: list daemonsets",
    "fault at: list daemonsets continue",
    "fault at: list events",
    "fault at: list events continue",
    "fault at: list events involvedObject.kind=DaemonSet",
    "fault at: list nodes",
    "fault at: list nodes continue",
    "fault at: list pods",
    "fault at: list pods continue",
    "fault at: patch daemonset",
    "fault: 401",
    "fault: 403",
    "fault: 409",
    "fault: 410",
    "fault: 410 for good",
    "fault: 429",
    "fault: 429 with Retry-After",
    "fault: 500",
    "fault: 503",
    "fault: 503 with Retry-After",
    "fault: API server away",
    "fault: answer lost",
    "fault: connection refused",
    "fault: done, but 504",
    "fault: late",
    "fault: slow answer",
    "fault: timed out",
    "fault: timed out, and done later",
    "fault: unusable",
    "fault: unusable for good",
    "groups: 1",
    "groups: 2",
    "groups: 3",
    "image: tag moved",
    "leftover: expired",
    "leftover: not expired",
    "lives: a shell beside a Job",
    "lives: two Jobs of a release",
    "lives: two releases",
    "namespace: missing",
    "node: cordoned",
    "node: cut off",
    "node: full",
    "node: gone",
    "node: joined",
    "node: lists 50 images",
    "node: not ready",
    "node: ready again",
    "node: relabelled",
    "node: replaced, pods made again",
    "node: replaced, pods stay",
    "node: room again",
    "node: tainted",
    "node: uncordoned",
    "node: untainted",
    "pod: deleted",
    "pod: evicted",
    "pod: refused by the API server",
    "pod: refused by the kubelet",
    "pods per node: 1",
    "pods per node: 2",
    "pods per node: 3",
    "pull policy: Always",
    "pull policy: Never",
    "pull: fails again and again",
    "pull: fails for a while",
    "pull: fails for good",
    "pull: takes for ever",
    "pull: the container does not start",
    "rights: all withdrawn",
    "rights: nodes may not be listed",
    "rights: one granted late",
    "rights: one is missing",
    "rights: one that is not needed is missing",
    "rights: one withdrawn",
    "rights: tokens revoked",
    "stall timeout",
    "strict",
    "webhook: adds a sidecar",
    "webhook: adds preferences",
    "webhook: drops a container",
    "webhook: rewrites DaemonSets",
    "webhook: rewrites pods",
    "window: 1",
    "window: 2",
    "window: 25%",
    "window: 100%",
    "window: none",
];

/// What is rare by its nature.
const LOWER_FLOORS: &[(&str, f64)] = &[
    // Nobody waits for a window of all nodes but those that come late.
    ("window: 100%", 0.5),
];

/// How many seeds had each thing in them.
#[derive(Default)]
pub struct Coverage {
    pub n_seeds: usize,
    counts: BTreeMap<Cow<'static, str>, usize>,
}

impl Coverage {
    pub fn add(&mut self, things: impl IntoIterator<Item = Cow<'static, str>>) {
        for thing in things {
            *self.counts.entry(thing).or_default() += 1;
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.n_seeds += other.n_seeds;
        for (thing, n) in other.counts {
            *self.counts.entry(thing).or_default() += n;
        }
    }

    fn percent(&self, n: usize) -> f64 {
        n as f64 * 100.0 / self.n_seeds.max(1) as f64
    }

    /// What there is too little of.
    pub fn gaps(&self) -> Vec<String> {
        let count = |it: &str| self.counts.get(it).copied().unwrap_or_default();
        let shares = FLOORS.iter().map(|it| (it, self.percent(count(it))));
        let low = shares.filter(|(it, percent)| *percent < floor(it));
        low.map(|(it, percent)| format!("{it}: {percent:.2} %")).collect()
    }
}

fn floor(thing: &str) -> f64 {
    let lower = LOWER_FLOORS.iter().find(|it| it.0 == thing);
    lower.map_or(FLOOR_PERCENT, |it| it.1)
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (thing, n) in &self.counts {
            writeln!(f, "{:>7.2} %  {thing}", self.percent(*n))?;
        }
        Ok(())
    }
}

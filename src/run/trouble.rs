//! Trouble that no pull is the cause of: pods that are not made, that find no room, that get no
//! further; and what is allowed to be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::evidence::{Event, Named};
use crate::run::{
    Dropped, Failing, GroupRun, Item, LineKind, MayRestart, Obstacle, Phase, PullerState, Refusal,
    Run, Sight, Stall, Target,
};
use crate::survey::Lacking;
use crate::verdict::refusal_advice;
use crate::words::{nodes, one_line, some_of};

/// A node that runs as many pods as it may is forgiven after so long: others may end meanwhile.
const NO_ROOM_GRACE: Duration = Duration::from_secs(30);
/// Pods that are fewer than they should be for so long are asked after ...
const SHORT_FOR: Duration = Duration::from_secs(10);
/// ... and not waited for when they have been refused for so long: the DaemonSet controller tries
/// again and again meanwhile.
const REFUSED_FOR: Duration = Duration::from_secs(20);
/// The DaemonSet controller's reason for a pod that it can not make.
///
/// Source: `RealPodControl.createPods` in `pkg/controller/controller_utils.go`.
const FAILED_CREATE: &str = "FailedCreate";

impl Run<'_> {
    /// Forgives the nodes that have had no room for another pod for a while.
    pub(super) fn forgive_without_room(&mut self) {
        let now = self.now.elapsed;
        let mut forgiven = BTreeSet::new();
        for group in &mut self.groups {
            let is_full = |it: &Target| matches!(it.obstacle, Some(Obstacle::NoRoom(_)));
            let full = group.targets.unfinished().filter(|(_, it)| is_full(it));
            let since = |name| group.no_room_since.get(name).copied().unwrap_or(now);
            let full: BTreeMap<_, _> =
                full.map(|(name, _)| (name.to_owned(), since(name))).collect();
            for (name, since) in &full {
                // A pod that the kubelet refuses is made again and again, and a single look may
                // miss it; one that is gone for good says nothing.
                let has_pod = group.targets.nodes.get(name).is_some_and(|it| it.pod.is_some());
                if has_pod && now >= *since + NO_ROOM_GRACE {
                    group.targets.drop_node(name, Dropped::NoRoom);
                    forgiven.insert(name.clone());
                }
            }
            group.no_room_since = full;
        }
        if !forgiven.is_empty() {
            let names = some_of(forgiven.iter().map(String::as_str));
            let line = format!("no longer waiting for {names}: no room for another pod");
            self.say_if_few(LineKind::NoRoom, line);
        }
    }

    // === What may be missing ===

    /// Takes in that these can not be pulled. Where no more nodes lack them than may, those that
    /// lack nothing else are not waited for any more.
    pub(super) fn may_be_missing(&mut self, certain: &BTreeSet<Item>) -> bool {
        let failing: BTreeMap<_, _> =
            self.groups.iter().flat_map(|it| it.targets.failing(certain)).collect();
        let names: BTreeSet<_> = failing.keys().map(|it| (*it).to_owned()).collect();
        if !self.may_lack(&names) {
            return false;
        }
        for group in &mut self.groups {
            let failing = group.targets.failing(certain);
            let wholly = failing.filter(|(_, how)| *how == Failing::Wholly);
            let names: Vec<_> = wholly.map(|(name, _)| name.to_owned()).collect();
            for name in names {
                let failures = &group.targets.nodes[&name].failures;
                let why = failures.values().next().map_or("", |it| it.message.as_str());
                let why = Dropped::Allowed(format!("allowed to lack images: {why}"));
                group.targets.drop_node(&name, why);
            }
        }
        true
    }

    /// At the deadline: whether the nodes that are unfinished may be.
    pub(super) fn may_end_unfinished(&mut self) -> bool {
        let names: BTreeSet<_> = self.unfinished_names().into_iter().collect();
        if names.is_empty() || !self.may_lack(&names) {
            return false;
        }
        for group in &mut self.groups {
            for name in &names {
                let why = match group.targets.nodes.get(name) {
                    Some(it) if !it.lacking.is_empty() => group.why(name, it).to_owned(),
                    _ => continue,
                };
                let why = Dropped::Allowed(format!("allowed to lack images: {why}"));
                group.targets.drop_node(name, why);
            }
        }
        true
    }

    /// Whether these nodes, and those that were allowed to before, may lack something.
    fn may_lack(&self, names: &BTreeSet<String>) -> bool {
        let n_eligible = match &self.survey {
            Some(survey) => survey.n_eligible(),
            // As many as there are to be pods.
            None => {
                let n_wanted = |it: &GroupRun| {
                    let n_pods = it.seen.desired_number_scheduled as usize;
                    n_pods.max(it.targets.n_with_forgiven())
                };
                self.groups.iter().map(n_wanted).max().unwrap_or_default()
            }
        };
        let dropped = self.groups.iter().flat_map(|it| &it.targets.dropped);
        let allowed = dropped.filter(|(_, why)| matches!(why, Dropped::Allowed(_)));
        let all: BTreeSet<_> = allowed.map(|(name, _)| name).chain(names).collect();
        all.len() <= self.config.allow_missing.of(n_eligible)
    }

    // === Pods that are not made ===

    /// Whether unfinished targets have been without pods for a while. Those that have everything
    /// may lose theirs: nothing is to be made in their place.
    pub(super) fn is_short_of_pods(&mut self) -> bool {
        let now = self.now.elapsed;
        let mut is_short = false;
        for group in 0..self.groups.len() {
            let n_short = self.n_short_of_pods(group);
            let run = &mut self.groups[group];
            if n_short < run.n_short || n_short == 0 {
                (run.n_short_since, run.refusal) = (now, None);
            }
            run.n_short = n_short;
            is_short |= n_short > 0 && now >= run.n_short_since + SHORT_FOR;
        }
        is_short
    }

    /// The nodes that a pod is meant for and has not been made for, as far as nodes are known.
    fn short_of_pods(&self, group: usize) -> impl Iterator<Item = &str> {
        let run = &self.groups[group];
        let is_meant = |name: &str| self.window.is_none() || run.sent_to.contains(name);
        let unfinished = run.targets.unfinished();
        unfinished
            .filter(move |(name, it)| it.pod.is_none() && is_meant(name))
            .map(|(name, _)| name)
    }

    fn n_short_of_pods(&self, group: usize) -> usize {
        let run = &self.groups[group];
        match (&run.puller, self.sight) {
            (PullerState::Made { .. }, Sight::Nodes) => self.short_of_pods(group).count(),
            // A node is a target by its pod.
            (PullerState::Made { .. }, Sight::PodsAlone) => {
                let n_pods = run.targets.n_with_forgiven() + run.n_unplaced;
                (run.seen.desired_number_scheduled as usize).saturating_sub(n_pods)
            }
            _ => 0,
        }
    }

    /// Every look counts the events from the beginning.
    pub(super) fn forget_count_of_refusals(&mut self) {
        for refusal in self.groups.iter_mut().filter_map(|it| it.refusal.as_mut()) {
            refusal.n_told = 0;
        }
    }

    pub(super) fn saw_refusal(&mut self, event: &Event) {
        if event.reason != FAILED_CREATE {
            return;
        }
        let is_its = |it: &PullerState| match it {
            PullerState::Made { uid } => *uid == event.involved_object.uid,
            _ => false,
        };
        let since = self.now.elapsed;
        let Some(run) = self.groups.iter_mut().find(|it| is_its(&it.puller)) else { return };
        let message = event.message.split_once("Error creating: ").map_or("", |(_, it)| it);
        let new = Refusal { message: String::new(), since, n_at_first: None, n_told: 0 };
        let refusal = run.refusal.get_or_insert(new);
        refusal.message = one_line(message);
        refusal.n_told = refusal.n_told.saturating_add(event.count.max(1));
    }

    /// Ends the run if pods have been refused for long enough.
    pub(super) fn judge_refusals(&mut self) -> Phase {
        let now = self.now.elapsed;
        for group in 0..self.groups.len() {
            let n_short = self.n_short_of_pods(group);
            let Some(refusal) = &mut self.groups[group].refusal else { continue };
            // An event stays for an hour, whatever became of its cause.
            let goes_on = refusal.n_told > *refusal.n_at_first.get_or_insert(refusal.n_told);
            if !goes_on || now < refusal.since + REFUSED_FOR {
                continue;
            }
            let message = refusal.message.clone();
            if self.sight == Sight::Nodes {
                let names: BTreeSet<_> = self.short_of_pods(group).map(str::to_owned).collect();
                if self.may_lack(&names) {
                    let why = Dropped::Allowed(format!("allowed to lack images: {message}"));
                    let targets = &mut self.groups[group].targets;
                    names.iter().for_each(|it| targets.drop_node(it, why.clone()));
                    continue;
                }
            }
            let name = self.puller_name(group);
            let cause = format!(
                "DaemonSet `{name}` cannot make its pods on {}: {message}: {}",
                nodes(n_short),
                refusal_advice(&message)
            );
            return self.fail(cause);
        }
        self.looked_for_trouble()
    }

    // === Pods that get no further ===

    /// Pods that have got no further for too long, on nodes that lack an image which others have:
    /// a new pod starts without the back-off of the old one.
    pub(super) fn stalled(&mut self) -> Vec<Named> {
        let now = self.now.elapsed;
        let Some(timeout) = self.config.stall_timeout else { return vec![] };
        if self.may_restart == MayRestart::No {
            return vec![];
        }
        let mut pods = vec![];
        for (group, run) in self.groups.iter_mut().enumerate() {
            let listed = self.survey.as_ref().and_then(|it| it.groups.get(group));
            let elsewhere = |place: &usize| {
                let pulled = |it: &Target| it.pulled.contains(place);
                let lacks = |it: &&Lacking| it.images.contains_key(place);
                let n_lacking = listed.map(|it| it.lacking.iter().filter(lacks).count());
                run.targets.nodes.values().any(pulled)
                    || listed.zip(n_lacking).is_some_and(|(it, n)| n < it.eligible.len())
            };
            let mut stalls = BTreeMap::new();
            for (name, target) in run.targets.unfinished() {
                let n_lacking = target.lacking.len();
                let known = run.stalls.get(name).copied();
                let n_restarts = known.map_or(0, |it| it.n_restarts);
                let mut stall = match known {
                    Some(it) if it.n_lacking == n_lacking && target.pod.is_some() => it,
                    _ => Stall { n_lacking, since: now, n_restarts },
                };
                let patience = timeout.saturating_mul(1 << n_restarts.min(10));
                let pod = target.pod.as_ref().filter(|_| target.obstacle.is_none());
                if now >= stall.since.saturating_add(patience)
                    && let Some(pod) = pod
                    && target.lacking.iter().any(elsewhere)
                {
                    pods.push(pod.clone());
                    stall = Stall { n_lacking, since: now, n_restarts: n_restarts + 1 };
                }
                stalls.insert(name.to_owned(), stall);
            }
            run.stalls = stalls;
        }
        if !pods.is_empty() {
            let names = some_of(pods.iter().map(|it| it.name.as_str()));
            self.verbose(format!("pods that get no further are made anew: {names}"));
            if self.n_restarted == 0 {
                self.say("some pods get no further, and are made anew".into());
            }
            self.n_restarted += pods.len();
        }
        pods
    }

    pub(super) fn restart_next(&mut self, mut pods: Vec<Named>) -> Phase {
        pods.pop();
        if pods.is_empty() { self.rest() } else { Phase::Restart { pods } }
    }
}

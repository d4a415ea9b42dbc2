//! Watching: polls, looks at pods and events, looks at targets again, and the closing look.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use crate::cluster::Page;
use crate::evidence::Pod;
use crate::puller::Puller;
use crate::run::{
    Added, Dropped, GroupRun, Item, LineKind, LookWanted, Loss, Outcome, Phase, PullerState,
    Purpose, RECHECK_AFTER, Run, Sight, survey_for,
};
use crate::survey::{Lacking, Survey};
use crate::words::{nodes, rfc3339, some_of};

/// Pods are looked at this often while numbers do not say that it is worth it sooner, the first
/// few times after 3, 6 and 9 seconds: a misspelt image is known at once.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_SOONER: Duration = Duration::from_secs(3);
/// Up to so many targets, every change of the DaemonSet's numbers is worth a look at its pods.
const FEW_TARGETS: usize = 50;
/// Without a look at the nodes, a DaemonSet that wants no pod for so long has no node to go to.
const EMPTY_FOR: Duration = Duration::from_secs(10);
/// Up to so many such nodes are read one by one; for more a LIST is cheaper.
const RECHECK_ONE_BY_ONE: usize = 10;
/// How often a puller is made anew because its pods are older than their nodes: clocks may differ.
const MOST_RENEWALS: u32 = 3;
/// How often late nodes are pulled for; later ones are named and not awaited.
const MOST_ROUNDS: u32 = 3;

impl Run<'_> {
    /// Waits for the next round of polls. With nothing left to poll for, the run is at its end
    /// but for the closing look.
    pub(super) fn rest(&mut self) -> Phase {
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
                let has_node = self.groups.iter().any(|it| it.targets.n_with_forgiven() > 0);
                self.finish(if has_node { Outcome::Ready } else { Outcome::NoNodes })
            }
        }
    }

    /// The first puller from this one on that still has something to do.
    pub(super) fn poll_from(&self, group: usize) -> Option<Phase> {
        let is_made = |it: usize| matches!(self.groups[it].puller, PullerState::Made { .. });
        let is_worth_it = |it: usize| is_made(it) && !self.is_done(it);
        // Where pods alone tell of nodes, new ones may turn up in any group, and count only if the
        // puller is still what it was.
        let are_all = self.sight == Sight::PodsAlone && (0..self.groups.len()).any(is_worth_it);
        let next = (group..self.groups.len()).find(|&it| is_worth_it(it) || are_all && is_made(it));
        next.map(|group| Phase::Poll { group })
    }

    /// Whether nothing is left to wait for in a group. Where the targets are not known, there
    /// must be as many as the DaemonSet wants pods; a fresh one says that it wants none.
    pub(super) fn is_done(&self, group: usize) -> bool {
        let run = &self.groups[group];
        let all_proved = run.targets.unfinished().next().is_none();
        match self.sight {
            Sight::Nodes => all_proved,
            Sight::PodsAlone => {
                let n_wanted = run.seen.desired_number_scheduled as usize;
                let n_placed = run.targets.n_with_forgiven();
                let is_full = n_wanted > 0 && n_placed >= n_wanted && run.n_unplaced == 0;
                let is_empty = run.empty_since.is_some_and(|it| self.now.elapsed >= it + EMPTY_FOR);
                all_proved && (is_full || is_empty)
            }
        }
    }

    pub(super) fn polled(&mut self, group: usize, puller: &Puller) -> Phase {
        let run = &mut self.groups[group];
        if run.puller != (PullerState::Made { uid: puller.metadata.uid.clone() }) {
            return self.puller_lost(group, Loss::Deleted);
        }
        if puller.spec.template.spec != run.made_as {
            // Pods that were made of it since may show other images under our containers' names.
            run.targets.forget_proof();
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

    pub(super) fn look(&mut self) -> Phase {
        for group in &mut self.groups {
            group.with_pod.clear();
            group.n_unplaced = 0;
        }
        Phase::Pods { from: None }
    }

    pub(super) fn look_or_rest(&mut self) -> Phase {
        let pause = LOOK_EVERY.min(LOOK_SOONER * (self.n_looks + 1));
        let is_time = self.now.elapsed >= self.last_look + pause;
        match self.look_wanted {
            LookWanted::No if !is_time => self.rest(),
            _ => self.look(),
        }
    }

    pub(super) fn saw_pods(&mut self, page: &Page<Pod>) -> Phase {
        let before = self.n_lacking();
        let mut rewrites = vec![];
        for pod in &page.items {
            let Some(controller) = pod.controller() else { continue };
            let is_owner = |it: &&mut GroupRun| match &it.puller {
                PullerState::Made { uid } => uid == controller,
                _ => false,
            };
            let Some(group) = self.groups.iter_mut().find(is_owner) else { continue };
            if self.sight == Sight::PodsAlone {
                group.targets.discover(pod);
            }
            match pod.node_name().or(pod.meant_for()) {
                Some(name) => _ = group.with_pod.insert(name.into()),
                None => group.n_unplaced += 1,
            }
            group.targets.observe_pod(pod);
            rewrites.extend(group.rewrites_in(pod));
        }
        self.note_rewrites(rewrites);
        if self.n_lacking() < before {
            self.last_progress = self.now.elapsed;
        }
        if page.next.is_some() {
            return Phase::Pods { from: page.next.clone() };
        }
        for group in &mut self.groups {
            match self.sight {
                Sight::Nodes => group.targets.keep_pods_of(&group.with_pod),
                Sight::PodsAlone => group.drop_without_pod(),
            }
        }
        self.look_wanted = LookWanted::No;
        self.last_look = self.now.elapsed;
        self.n_looks += 1;
        self.renew_older();
        if !self.to_place.is_empty() {
            return self.place_next();
        }
        match self.poll_from(0) {
            Some(_) => Phase::Events { from: None },
            None => self.rest(),
        }
    }

    /// Makes pullers anew whose pods are older than their nodes: they prove nothing of these.
    fn renew_older(&mut self) {
        let now = rfc3339(self.now.server);
        for group in 0..self.groups.len() {
            let run = &mut self.groups[group];
            let Some(created) = run.targets.has_older_pods_than.take() else { continue };
            // Before that, the next pods would be older as well.
            if now > created && run.n_renewals < MOST_RENEWALS {
                run.n_renewals += 1;
                self.make_anew(group);
            }
        }
    }

    /// Tells once of a webhook that rewrites images: it is likely to rewrite them all.
    pub(super) fn note_rewrites(&mut self, mut rewrites: Vec<String>) {
        if rewrites.is_empty() {
            return;
        }
        let first = rewrites.remove(0);
        rewrites.iter().for_each(|it| self.verbose(it.clone()));
        if mem::replace(&mut self.has_noted_rewrites, true) {
            return self.verbose(first);
        }
        self.notes.push(match rewrites.len() {
            0 => first,
            n => format!("{first}, and so on: {n} more with `-v`"),
        });
    }

    /// Pods and events have been looked at, and not everything is proved.
    pub(super) fn looked(&mut self) -> Phase {
        if let Some(certain) = self.failed_for_good() {
            // They may be nodes to wait for no more: one whose disk is full gets a taint.
            return match self.sight {
                Sight::Nodes => self.recheck(self.names_failing(&certain)),
                Sight::PodsAlone => self.finish(Outcome::CannotPull(certain)),
            };
        }
        self.forgive_without_room();
        if self.poll_from(0).is_none() {
            return self.rest();
        }
        match self.is_short_of_pods() {
            true => Phase::Refusals { from: None },
            false => self.looked_for_trouble(),
        }
    }

    /// What can not be pulled, and has to be there.
    fn failed_for_good(&mut self) -> Option<BTreeSet<Item>> {
        let certain: BTreeSet<_> =
            self.groups.iter().flat_map(|it| it.targets.certain_failures()).collect();
        (!certain.is_empty() && !self.may_be_missing(&certain)).then_some(certain)
    }

    fn names_failing(&self, items: &BTreeSet<Item>) -> Vec<String> {
        let failing = self.groups.iter().flat_map(|it| it.targets.failing(items));
        let names: BTreeSet<_> = failing.map(|(name, _)| name.to_owned()).collect();
        names.into_iter().collect()
    }

    /// Nothing keeps the pods from being made.
    pub(super) fn looked_for_trouble(&mut self) -> Phase {
        if self.deadline_seen.is_some() {
            return self.rest();
        }
        let stalled = self.stalled();
        if !stalled.is_empty() {
            return Phase::Restart { pods: stalled };
        }
        if self.window.is_some() {
            self.release_stuck();
            self.fill_window();
            if !self.to_place.is_empty() {
                return self.place_next();
            }
        }
        // A few are looked at again although others make progress: they may be none any more.
        let has_few = self.unfinished_names().len() <= RECHECK_ONE_BY_ONE;
        let since = if has_few { self.last_recheck } else { self.last_progress };
        if self.now.elapsed < since.max(self.last_recheck) + RECHECK_AFTER {
            return self.rest();
        }
        let is_silent = self.now.elapsed >= self.last_progress + RECHECK_AFTER;
        if is_silent && self.now.elapsed >= self.next_progress {
            self.next_progress = self.now.elapsed * 2;
            self.say_progress();
        }
        if self.sight == Sight::PodsAlone {
            return self.after_recheck();
        }
        self.recheck(self.unfinished_names())
    }

    /// Looks at these targets again.
    pub(super) fn recheck(&mut self, names: Vec<String>) -> Phase {
        if names.len() > RECHECK_ONE_BY_ONE {
            return survey_for(Purpose::Recheck, self.config);
        }
        self.recheck_next(names)
    }

    pub(super) fn release_stuck(&mut self) {
        let Some(mut window) = self.window.take() else { return };
        let n_released = window.release_stuck(&self.standings(), self.now.elapsed);
        if n_released > 0 {
            let released = nodes(n_released);
            self.verbose(format!("no progress on {released}: letting others go first"));
        }
        self.window = Some(window);
    }

    pub(super) fn recheck_next(&mut self, mut rest: Vec<String>) -> Phase {
        match rest.pop() {
            Some(node) => Phase::Recheck { node, rest },
            None => self.after_recheck(),
        }
    }

    pub(super) fn after_recheck(&mut self) -> Phase {
        if !self.dropped.is_empty() {
            let dropped = nodes(mem::take(&mut self.dropped).len());
            self.say_if_few(LineKind::Dropped, format!("no longer waiting for {dropped}"));
        }
        self.last_recheck = self.now.elapsed;
        if let Some(certain) = self.failed_for_good() {
            return self.finish(Outcome::CannotPull(certain));
        }
        self.fill_window();
        if self.to_place.is_empty() { self.rest() } else { self.place_next() }
    }

    /// Holds the targets of this name against what the nodes say now.
    pub(super) fn recheck_against(&mut self, survey: &Survey, name: &str) {
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
                Some(why) if self.may_be_for_want_of_news(why) => continue,
                Some(why) => Dropped::LeftOut(why.clone()),
                None if found.eligible.values().any(|it| it == name) => Dropped::Replaced,
                None => Dropped::Gone,
            };
            self.verbose(format!("no longer waiting for node {name}: {why}"));
            self.dropped.insert(name.into());
            self.groups[group].targets.drop_node(name, why);
        }
    }

    /// Adds the nodes that became eligible while the others were pulled for.
    pub(super) fn closing_look(&mut self, survey: &Survey) -> Phase {
        let mut late = BTreeSet::new();
        for (group, found) in survey.groups.iter().enumerate() {
            let targets = &mut self.groups[group].targets;
            for (name, why) in &found.left_out {
                targets.note_left_out(name, why);
            }
            targets.forget_stranded(found.eligible.values());
            targets.forget_forgiven_but(found.eligible.values());
            let known =
                |it: &&Lacking| targets.nodes.get(&it.name).is_some_and(|t| t.uid == it.uid);
            let new = found.lacking.iter().filter(|it| !known(it) && !targets.is_forgiven(it));
            let new: Vec<_> = new.collect();
            if new.is_empty() {
                continue;
            }
            late.extend(new.iter().map(|it| it.name.clone()));
            if self.round >= MOST_ROUNDS {
                for node in new {
                    // What the machine before it had counts no more.
                    targets.add(node);
                    targets.drop_node(&node.name, Dropped::Late);
                }
            } else {
                let added: Vec<_> = new.into_iter().map(|it| targets.add(it)).collect();
                if self.window.is_none() {
                    self.to_place.push(group);
                }
                if added.contains(&Added::Replaced) {
                    self.make_anew(group);
                }
            }
        }
        if late.is_empty() || self.round >= MOST_ROUNDS {
            return match self.has_unheard_of && self.leaves_out_unheard_of(survey) {
                true => self.wait_for_news(Purpose::Closing),
                false => self.finish(Outcome::Ready),
            };
        }
        let names = some_of(late.iter().map(String::as_str));
        self.round += 1;
        self.say(format!("joined meanwhile: {names}: pulling there too"));
        self.fill_window();
        self.place_next()
    }

    pub(super) fn say_progress(&mut self) {
        let targets: BTreeSet<_> = self.groups.iter().flat_map(|it| it.targets.names()).collect();
        let n_targets = targets.len();
        let unfinished = self.unfinished_names();
        let n_done = n_targets.saturating_sub(unfinished.len());
        let names = some_of(unfinished.iter().map(String::as_str));
        let why = self
            .groups
            .iter()
            .flat_map(|group| group.targets.unfinished().map(|(name, it)| group.why(name, it)))
            .next()
            .unwrap_or_default();
        let seconds = Duration::from_secs(self.now.elapsed.as_secs());
        let time = humantime::format_duration(seconds);
        let n_targets = nodes(n_targets);
        self.say(format!("{n_done} of {n_targets} done after {time}; waiting for {names}: {why}"));
    }

    pub(super) fn unfinished_names(&self) -> Vec<String> {
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

    pub(super) fn n_lacking(&self) -> usize {
        self.groups.iter().map(|it| it.targets.n_lacking()).sum()
    }
}

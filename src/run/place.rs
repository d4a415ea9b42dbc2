//! Placing: the pullers are made, taken over from an earlier try, and sent to nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use crate::puller::{
    DaemonSet, Destination, Plan, Puller, changes, does_the_same, manifest, named_nodes, reaches,
};
use crate::run::window::{Pulling, Standing, Window};
use crate::run::{FIRST_PAUSE, GroupRun, LineKind, Loss, Phase, PullerState, Run, Sight};
use crate::words::{nodes, rfc3339};

/// Up to so many targets are named one by one; the DaemonSet controller parses every term again
/// for every node, so that more would cost it quadratic time.
pub(super) const MOST_NAMED_NODES: usize = 500;
/// A puller may be removed by other runs of its name so long after the deadline of its own.
const EXPIRY_GRACE: Duration = Duration::from_secs(120);
/// How often a puller that somebody deletes or edits is made again.
const MOST_REMAKES: u32 = 2;
/// So much of the run's id stands in a DaemonSet's name.
const ID_IN_NAME: usize = 10;

impl Run<'_> {
    /// Makes the next puller that is due, or sends it to more nodes.
    pub(super) fn place_next(&mut self) -> Phase {
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
    pub(super) fn fill_window(&mut self) {
        // Where an earlier try sent its pullers has to be known before anything goes to more nodes.
        let is_found = |it: &usize| self.groups[*it].puller == PullerState::Asked;
        let found: Vec<_> = (0..self.groups.len()).filter(is_found).collect();
        if self.window.is_some() && !found.is_empty() {
            self.to_place = found;
            return;
        }
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
    pub(super) fn standings(&self) -> BTreeMap<&str, Standing> {
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

    /// A patch changes where a puller goes, and nothing else: other changes are somebody else's.
    pub(super) fn patched(&mut self, group: usize, patched: &Puller) -> Phase {
        let run = &mut self.groups[group];
        let (made, found) = (&run.made_as, &patched.spec.template.spec);
        let is_ours =
            made.containers == found.containers && made.init_containers == found.init_containers;
        if !is_ours {
            run.targets.forget_proof();
            return self.puller_lost(group, Loss::Edited);
        }
        self.placed(group, patched);
        self.place_next()
    }

    /// Takes in what a puller is, and where it was sent, as the API server has it.
    pub(super) fn placed(&mut self, group: usize, puller: &Puller) {
        let names = self.window.as_ref().map(|it| self.let_in(it, group)).unwrap_or_default();
        let names = names.into_iter().map(str::to_owned).collect();
        let run = &mut self.groups[group];
        (run.n_short, run.n_short_since, run.refusal) = (0, self.now.elapsed, None);
        run.sent_to = names;
        run.made_as = puller.spec.template.spec.clone();
    }

    pub(super) fn made(&mut self, group: usize, made: &Puller) -> Phase {
        self.groups[group].puller = PullerState::Made { uid: made.metadata.uid.clone() };
        self.groups[group].targets.forget_pods();
        self.placed(group, made);
        let changes = changes(&self.manifest(group), made);
        self.note_rewrites(changes.images);
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
    pub(super) fn announce(&mut self, group: usize, how: &str) {
        let name = self.puller_name(group);
        let found = self.survey.as_ref().and_then(|it| it.groups.get(group));
        let place = match found {
            Some(found) => {
                let n_targets = self.groups[group].targets.nodes.len();
                let at_once = match &self.window {
                    Some(window) => format!(", {} at a time", window.size()),
                    None => String::new(),
                };
                // Nodes may have joined since.
                let n_eligible = found.eligible.len().max(n_targets);
                format!("to pull on {n_targets} of {}{at_once}", nodes(n_eligible))
            }
            None => "to pull wherever its pods are placed: nodes may not be listed".into(),
        };
        self.say_if_few(LineKind::Placed, format!("{how} DaemonSet `{name}` {place}"));
        if self.config.owner.is_none() {
            let line = "nothing owns the puller: a kill leaves its DaemonSet until the next run of \
                        the same name";
            self.say_if_few(LineKind::NoOwner, line.into());
        }
    }

    /// A puller of the same name is there already: an earlier try of this Job made it, if
    /// nobody else did.
    pub(super) fn take_over(&mut self, group: usize, found: &Puller) -> Phase {
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
        let manifest = self.manifest(group);
        // With a window it is sent elsewhere later.
        let is_enough = self.window.is_some() || reaches(&manifest, found);
        if !is_proof || !is_enough || !does_the_same(&manifest, found) {
            return Phase::Replace { group, uid: found.metadata.uid.clone() };
        }
        self.groups[group].puller = PullerState::Made { uid: found.metadata.uid.clone() };
        self.placed(group, found);
        self.announce(group, "took over");
        if self.window.is_some() {
            // It may have been sent to more nodes than the window lets in now.
            let terms = found.spec.template.spec.affinity.terms();
            self.groups[group].sent_to = named_nodes(terms).into_iter().collect();
        }
        self.place_next()
    }

    /// A puller is gone that was to be replaced. Under a window another one is made when it is
    /// known where all others of an earlier try go.
    pub(super) fn replaced(&mut self, group: usize) -> Phase {
        let run = &mut self.groups[group];
        if self.window.is_none() || run.puller != PullerState::Asked {
            return Phase::Create { group };
        }
        run.puller = PullerState::None;
        run.sent_to.clear();
        self.place_next()
    }

    /// Makes a puller again that somebody else deleted or edited.
    pub(super) fn puller_lost(&mut self, group: usize, loss: Loss) -> Phase {
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
        let line = format!("DaemonSet `{name}` was {loss} by someone else: making it again");
        self.say_if_few(LineKind::Lost, line);
        match left {
            Some(uid) => Phase::Replace { group, uid },
            None => Phase::Create { group },
        }
    }

    /// Sees to it that evidence comes from new pods alone: those of another DaemonSet.
    pub(super) fn make_anew(&mut self, group: usize) {
        if let PullerState::Made { uid } = self.groups[group].puller.clone() {
            self.groups[group].puller = PullerState::Stale { uid };
        }
        if !self.to_place.contains(&group) {
            self.to_place.push(group);
        }
    }

    pub(super) fn let_in<'b>(&'b self, window: &'b Window, group: usize) -> BTreeSet<&'b str> {
        let targets = &self.groups[group].targets.nodes;
        window.names(MOST_NAMED_NODES).filter(|it| targets.contains_key(*it)).collect()
    }

    /// Few targets are named one by one, and those that a window lets in. For many, and where they
    /// are not known, the group's own selector and affinity stand.
    pub(super) fn destination(&self, group: usize) -> Destination<'_> {
        if let Some(window) = &self.window {
            return Destination::Nodes(self.let_in(window, group).into_iter().collect());
        }
        let names = self.groups[group].targets.names();
        match self.sight {
            Sight::Nodes if names.len() <= MOST_NAMED_NODES => Destination::Nodes(names),
            _ => Destination::Everywhere,
        }
    }

    pub(super) fn manifest(&self, group: usize) -> DaemonSet {
        let config = self.config;
        let expires = self.now.server + self.until_deadline() + EXPIRY_GRACE;
        manifest(&Plan {
            name: self.puller_name(group),
            release: &config.name,
            run: &config.id,
            owner: config.owner.as_ref(),
            expires: rfc3339(expires),
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

    /// The DaemonSet's name: the release's, so that people know whose it is, and the run's, so
    /// that two runs never meet.
    pub(super) fn puller_name(&self, group: usize) -> String {
        let id: String = self.config.id.chars().filter(char::is_ascii_alphanumeric).collect();
        let id = id.get(..ID_IN_NAME).unwrap_or(&id);
        format!("{}-{id}-{}", self.config.name, group + 1)
    }
}

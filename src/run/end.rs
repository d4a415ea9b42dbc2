//! The end: the outcome is fixed, and what was made is removed.

use std::collections::BTreeSet;
use std::mem;

use crate::puller::RUN_LABEL;
use crate::run::{FIRST_PAUSE, Mode, Outcome, Phase, PullerState, Run};
use crate::words::some_of;

impl Run<'_> {
    pub(super) fn finish(&mut self, outcome: Outcome) -> Phase {
        self.outcome = Some(outcome);
        self.fault_at_end = self.fault.take();
        self.cleanup_began = Some(self.now.elapsed);
        self.expect_leftovers();
        self.note_stranded();
        self.clean_from(0)
    }

    pub(super) fn fail(&mut self, cause: String) -> Phase {
        self.finish(Outcome::Failed { cause })
    }

    pub(super) fn begin_cleanup(&mut self, outcome: Outcome) {
        self.pause = None;
        self.phase = self.finish(outcome);
    }

    pub(super) fn clean_from(&mut self, group: usize) -> Phase {
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

    /// Asks again in a moment whether a deleted puller is gone.
    pub(super) fn confirm(&mut self, group: usize, uid: String) -> Phase {
        self.pause = Some(FIRST_PAUSE);
        Phase::Confirm { group, uid }
    }

    pub(super) fn cleaned(&mut self, group: usize) -> Phase {
        self.groups[group].puller = PullerState::None;
        self.clean_from(group + 1)
    }

    /// Takes it that an earlier try of the same owner has made pullers, where that is not known. A
    /// hook that is successful needs no request for it: helm deletes its Job.
    fn expect_leftovers(&mut self) {
        let Some(owner) = &self.config.owner else { return };
        let is_deleted =
            owner.kind == "Job" && matches!(self.outcome, Some(Outcome::Ready | Outcome::NoNodes));
        let is_reached = !self.worked.is_empty();
        if self.config.mode != Mode::Run || self.knows_leftovers || is_deleted || !is_reached {
            return;
        }
        if self.groups.is_empty() {
            let n_groups = self.config.groups.len();
            self.groups = (0..n_groups).map(|it| self.group_run(it, &[])).collect();
        }
        for group in self.groups.iter_mut().filter(|it| it.puller == PullerState::None) {
            group.puller = PullerState::Guessed;
        }
    }

    /// Names the pods that no kubelet is there to end.
    fn note_stranded(&mut self) {
        let stranded = self.groups.iter().flat_map(|it| &it.targets.stranded);
        let names: BTreeSet<_> = stranded.map(|(node, pod)| format!("{pod} on {node}")).collect();
        if names.is_empty() {
            return;
        }
        let names = some_of(names.iter().map(String::as_str));
        let (ns, id) = (&self.config.namespace, &self.config.id);
        self.notes.push(format!(
            "pods on nodes that are not ready stay until their nodes are back: {names}: remove \
             them with `kubectl --namespace {ns} delete pods --selector {RUN_LABEL}={id} \
             --grace-period 0 --force`"
        ));
    }

    pub(super) fn give_up_cleaning(&mut self) {
        let phase = mem::replace(&mut self.phase, Phase::Finished);
        if let Phase::Clean { group, .. } | Phase::Confirm { group, .. } = phase {
            self.leave_from(group);
        }
    }

    /// Gives up on this group's puller and on all that come after it.
    pub(super) fn leave_from(&mut self, group: usize) {
        for group in group..self.groups.len() {
            if self.groups[group].puller != PullerState::None {
                self.note_left(group);
            }
        }
    }

    pub(super) fn note_left(&mut self, group: usize) {
        if self.groups[group].puller != PullerState::Guessed {
            self.left.push(self.puller_name(group));
        }
    }

    /// Names the pullers that may be there still, and how to remove them.
    pub(super) fn left(&self) -> Option<String> {
        let command = format!("kubectl --namespace {} delete daemonset", self.config.namespace);
        let (names, list) = (self.left.join("`, `"), self.left.join(" "));
        Some(match (self.left.len(), &self.config.owner) {
            (0, _) => return None,
            (1, Some(owner)) => format!(
                "DaemonSet `{names}` may be left: it goes with the {} `{}`, or by `{command} \
                 {list}`",
                owner.kind, owner.name
            ),
            (1, None) => {
                format!("DaemonSet `{names}` may be left: remove it with `{command} {list}`")
            }
            (_, Some(owner)) => format!(
                "DaemonSets `{names}` may be left: they go with the {} `{}`, or by `{command} \
                 {list}`",
                owner.kind, owner.name
            ),
            (_, None) => {
                format!("DaemonSets `{names}` may be left: remove them with `{command} {list}`")
            }
        })
    }
}

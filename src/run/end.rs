//! The end: the outcome is fixed, and what was made is removed.

use crate::run::{Outcome, Phase, PullerState, Run};

impl Run<'_> {
    pub(super) fn finish(&mut self, outcome: Outcome) -> Phase {
        self.outcome = Some(outcome);
        self.fault_at_end = self.fault.take();
        self.cleanup_began = Some(self.now.elapsed);
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

    pub(super) fn cleaned(&mut self, group: usize) -> Phase {
        self.groups[group].puller = PullerState::None;
        self.clean_from(group + 1)
    }

    pub(super) fn give_up_cleaning(&mut self) {
        for group in 0..self.groups.len() {
            if self.groups[group].puller == PullerState::None {
                continue;
            }
            let name = self.puller_name(group);
            let ns = &self.config.namespace;
            self.notes.push(format!(
                "DaemonSet `{name}` may be left: it goes with the hook's Job, or by `kubectl \
                 --namespace {ns} delete daemonset {name}`"
            ));
        }
        self.phase = Phase::Finished;
    }
}

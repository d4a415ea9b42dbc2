//! Requests that failed: which are sent again, which are part of life, and which end the run.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::time::Duration;

use crate::cluster::{ApiError, Cause};
use crate::run::begin::leftovers;
use crate::run::{
    FIRST_PAUSE, LineKind, Loss, MayRestart, Outcome, Phase, PullerState, Purpose, Run, survey_for,
};
use crate::survey::Survey;

/// A ClusterRoleBinding made moments ago takes a second to work, and so does every one where the
/// API server has just started.
const BINDING_DELAY: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A leftover or a stalled pod that can not be deleted keeps nothing else from being done.
const MOST_RETRIES_OF_WHAT_CAN_WAIT: u32 = 3;

impl Run<'_> {
    pub(super) fn absorb_error(&mut self, err: &ApiError) {
        if let Some(phase) = self.list_anew(err) {
            self.pause = Some(self.pause_after(err, self.n_expired));
            self.n_expired += 1;
            self.fault = Some(err.to_string());
            self.verbose(format!("{err}: reading the list again from its start"));
            self.phase = phase;
            return;
        }
        if err.is_transient() && matches!(self.phase, Phase::Events { .. } | Phase::Refusals { .. })
        {
            // Events may be in a store of their own, and prove nothing.
            self.verbose(format!("{err}: going on without events"));
            self.phase = match self.phase {
                // Of a list that was not read to its end, nothing is counted.
                Phase::Refusals { .. } => self.looked_for_trouble(),
                _ => self.looked(),
            };
            return;
        }
        if err.is_transient() && self.n_failed >= MOST_RETRIES_OF_WHAT_CAN_WAIT {
            match &mut self.phase {
                Phase::RemoveLeftover { rest, .. } => {
                    let rest = mem::take(rest);
                    self.notes.push(err.to_string());
                    self.n_failed = 0;
                    self.phase = self.remove_leftovers(rest);
                    return;
                }
                // It stalls on, and is tried again when it has stalled for longer.
                Phase::Restart { pods } => {
                    let pods = mem::take(pods);
                    self.n_failed = 0;
                    self.phase = self.restart_next(pods);
                    return;
                }
                _ => {}
            }
        }
        if err.is_transient() {
            self.pause = Some(self.pause_after(err, self.n_failed));
            self.n_failed += 1;
            self.fault = Some(err.to_string());
            // A single fault is nothing to talk about; one that lasts is, but once.
            match self.n_failed {
                2 => self.say_if_few(LineKind::Fault, format!("{err}: trying again")),
                _ => self.verbose(format!("{err}: trying again")),
            }
            return;
        }
        let code = err.code().unwrap_or_default();
        let n_failed = mem::take(&mut self.n_failed);
        let phase = mem::replace(&mut self.phase, Phase::Finished);
        self.phase = match (phase, code) {
            (phase, 401 | 403) if is_about_rights(err) && self.may_be_in_force_soon(&phase) => {
                self.n_failed = n_failed;
                self.pause = Some(FIRST_PAUSE);
                phase
            }
            (Phase::Survey { purpose: Purpose::First, .. }, 403) => self.start_blind(err),
            (Phase::ReadJob { .. }, 403 | 404) => {
                self.notes.push(format!("{err}: the deadline counts from now on"));
                leftovers()
            }
            (Phase::Leftovers { .. }, 403) => {
                self.notes.push(format!("{err}: leftovers of earlier runs are not looked for"));
                self.knows_leftovers = true;
                self.remove_leftovers(vec![])
            }
            (Phase::RemoveLeftover { rest, .. }, 404 | 409) => self.remove_leftovers(rest),
            // Policies deny with one status, and webhooks with any.
            (Phase::RemoveLeftover { rest, .. }, code) if code != 401 => {
                self.notes.push(err.to_string());
                self.remove_leftovers(rest)
            }
            (Phase::Create { group }, 409) => {
                self.pause = Some(FIRST_PAUSE);
                Phase::TakeOver { group }
            }
            (Phase::Create { group }, 404) => {
                self.forget_if_never_made(group, n_failed);
                let ns = &self.config.namespace;
                let cause = format!("namespace `{ns}` does not exist: create it or choose another");
                self.finish(Outcome::Usage { cause })
            }
            (Phase::Create { group }, _) => {
                self.forget_if_never_made(group, n_failed);
                self.fail(self.with_advice(err))
            }
            (Phase::Replace { group, .. }, 404 | 409) | (Phase::TakeOver { group }, 404) => {
                self.replaced(group)
            }
            (Phase::Poll { group } | Phase::Patch { group }, 404) => {
                self.puller_lost(group, Loss::Deleted)
            }
            (Phase::Recheck { node, rest }, 404) => {
                self.recheck_against(&Survey::new(&self.config.groups), &node);
                self.recheck_next(rest)
            }
            (Phase::Refusals { .. }, _) => self.looked_for_trouble(),
            (Phase::Restart { pods }, 404 | 409) => self.restart_next(pods),
            (Phase::Restart { .. }, code) if code != 401 => {
                self.notes.push(format!("{err}: pods that stall are left as they are"));
                self.may_restart = MayRestart::No;
                self.rest()
            }
            (Phase::Events { .. }, 403) => {
                let note = format!("{err}: causes and progress are read from pods alone");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                self.looked()
            }
            (Phase::Events { .. }, code) if code != 401 => {
                self.verbose(format!("{err}: going on without events"));
                self.looked()
            }
            (Phase::Clean { group, .. } | Phase::Confirm { group, .. }, 404)
            | (Phase::Clean { group, .. }, 409) => self.cleaned(group),
            (Phase::Clean { group, .. } | Phase::Confirm { group, .. }, _) => {
                let note = err.to_string();
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                // A webhook may mind this one alone; without the right there is no use in asking.
                if is_about_rights(err) {
                    self.leave_from(group);
                    Phase::Finished
                } else {
                    self.note_left(group);
                    self.clean_from(group + 1)
                }
            }
            // The right to read one node may be missing where the right to list them is there.
            (Phase::Recheck { .. }, 403) => survey_for(Purpose::Recheck, self.config),
            // What worked before does not any more: helm has given up and taken our
            // ServiceAccount or its rights. Cleaning up asks once, and the cluster's garbage
            // collection does the rest.
            (phase, 401 | 403)
                if self.worked.contains(&mem::discriminant(&phase)) && is_about_rights(err) =>
            {
                let advice = match self.owning_job() {
                    Some(_) => ": raise helm's `--timeout` to 25 s above `timeoutSeconds`",
                    None => "",
                };
                self.fail(format!(
                    "the rights of this run were withdrawn, as helm does when it gives up waiting: \
                     {err}{advice}"
                ))
            }
            _ => self.fail(self.with_advice(err)),
        };
    }

    /// Whether a right may be there that is not in force yet: that of a binding made moments ago,
    /// or any, where the API server is back and has yet to read who may do what.
    fn may_be_in_force_soon(&self, phase: &Phase) -> bool {
        let is_early = self.asked_at < self.answers_since + BINDING_DELAY;
        let was_away = !self.answers_since.is_zero();
        let is_of_the_beginning = matches!(
            phase,
            Phase::Create { .. }
                | Phase::Leftovers { .. }
                | Phase::ReadJob { .. }
                | Phase::Survey { purpose: Purpose::First, .. }
        );
        is_early && (was_away || is_of_the_beginning)
    }

    /// The list from its start, where its continue token has expired: what was read of it is of
    /// another moment than what remains.
    fn list_anew(&mut self, err: &ApiError) -> Option<Phase> {
        if err.code() != Some(410) {
            return None;
        }
        match self.phase {
            Phase::Survey { purpose, from: Some(_), .. } => Some(survey_for(purpose, self.config)),
            Phase::Pods { from: Some(_) } => Some(self.look()),
            Phase::Leftovers { from: Some(_), .. } => Some(leftovers()),
            _ => None,
        }
    }

    /// A first try that was refused made nothing; one that followed a lost answer may have.
    pub(super) fn forget_if_never_made(&mut self, group: usize, n_failed: u32) {
        if n_failed == 0 {
            self.groups[group].puller = PullerState::None;
        }
    }

    pub(super) fn with_advice(&self, err: &ApiError) -> String {
        match (err.code(), &self.config.owner) {
            (Some(401), _) => format!("{err}: check the token"),
            (Some(403), Some(owner)) if is_for_want_of_rights(err) => {
                format!("{err}: grant this right to the ServiceAccount of the {}", owner.kind)
            }
            (Some(403), None) if is_for_want_of_rights(err) => {
                format!("{err}: grant this right to the user of the token")
            }
            _ => err.to_string(),
        }
    }

    /// Retries wait twice as long each time, and not all runs equally long.
    pub(super) fn pause_after(&self, err: &ApiError, n_failed: u32) -> Duration {
        if let Cause::Status { retry_after: Some(pause), .. } = err.cause {
            return pause.max(FIRST_PAUSE);
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << n_failed.min(10));
        let mut hasher = DefaultHasher::new();
        (&self.config.id, n_failed, self.now.elapsed).hash(&mut hasher);
        let jitter = (hasher.finish() % 512) as u32;
        doubled.min(LONGEST_PAUSE) * (512 + jitter) / 1024
    }
}

/// Whether the API server itself had no answer: it is not a limit that refuses, nor a webhook that
/// it waits for.
pub(super) fn is_for_want_of_an_api_server(err: &ApiError) -> bool {
    err.is_transient() && err.code() != Some(429) && !err.is_for_want_of_a_webhook()
}

/// Whether it is the token, or what may be done with it.
fn is_about_rights(err: &ApiError) -> bool {
    err.code() == Some(401) || is_for_want_of_rights(err)
}

/// Quotas, Pod Security and webhooks refuse with the same status as RBAC, whose words are
/// `User "x" cannot list resource "nodes"`.
///
/// Source: `forbiddenMessage` in `apiserver/pkg/endpoints/handlers/responsewriters/errors.go`.
pub(super) fn is_for_want_of_rights(err: &ApiError) -> bool {
    match &err.cause {
        Cause::Status { message, .. } => {
            message.is_empty() || message.contains("User \"") && message.contains(" cannot ")
        }
        _ => false,
    }
}

//! What goes wrong between a run and the API server.

use std::time::Duration;

use prepull::cluster::Cause;

use super::World;

/// A fault is late after so many requests.
const LATE: usize = 50;

/// Requests that go wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Such as `list nodes`; with `continue` behind it, the pages after the first.
    pub request: &'static str,
    /// So many of them go well before.
    pub skip: usize,
    pub times: usize,
    pub kind: FaultKind,
}

/// A time during which every request goes wrong.
#[derive(Clone, Debug)]
pub struct Outage {
    pub from: Duration,
    pub until: Duration,
    pub kind: FaultKind,
}

#[derive(Clone, Debug)]
pub enum FaultKind {
    /// What was asked is done, but the answer says otherwise.
    DoneBut(u16),
    /// No answer for so long, or for as long as the run is patient, and then none at all.
    Hang(Duration),
    /// What was asked is done, but the answer is lost.
    LostAnswer,
    /// The answer takes so long, or comes too late for the run's patience.
    Slow(Duration),
    Status {
        code: u16,
        message: &'static str,
        retry_after: Option<Duration>,
    },
    /// No answer within the run's patience, and what was to be written is written after so long.
    Straggler(Duration),
    Transport,
    /// No connection that can be trusted, as where a certificate has gone bad.
    Unusable,
}

impl World {
    pub(super) fn fault(&mut self, request: &'static str, about: &str) -> Option<FaultKind> {
        let now = self.now;
        let away = self.outages.iter().find(|it| (it.from..it.until).contains(&now));
        if let Some(outage) = away {
            self.seen.insert("fault: API server away");
            return Some(outage.kind.clone());
        }
        if self.faults.is_empty() {
            return None;
        }
        let asked = format!("{request} {about}");
        let fault = self
            .faults
            .iter_mut()
            .find(|it| it.times > 0 && asked.trim_end().starts_with(it.request))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        self.seen.insert(fault.name());
        fault.times -= 1;
        // A fault may be about some requests of a kind alone.
        self.faulty.extend([request, fault.request]);
        if self.requests.len() >= LATE {
            self.seen.insert("fault: late");
        }
        Some(fault.kind.clone())
    }
}

impl Fault {
    /// What those who count call it.
    fn name(&self) -> &'static str {
        match self.kind {
            FaultKind::Status { code: 410, .. } if self.times == usize::MAX => {
                "fault: 410 for good"
            }
            FaultKind::Unusable if self.times == usize::MAX => "fault: unusable for good",
            _ => self.kind.name(),
        }
    }
}

impl FaultKind {
    fn name(&self) -> &'static str {
        match self {
            Self::DoneBut(_) => "fault: done, but 504",
            Self::Hang(_) => "fault: timed out",
            Self::LostAnswer => "fault: answer lost",
            Self::Slow(_) => "fault: slow answer",
            Self::Status { code, retry_after: None, .. } => match code {
                401 => "fault: 401",
                403 => "fault: 403",
                409 => "fault: 409",
                410 => "fault: 410",
                429 => "fault: 429",
                500 => "fault: 500",
                503 => "fault: 503",
                _ => "fault: other status",
            },
            Self::Status { code: 429, .. } => "fault: 429 with Retry-After",
            Self::Status { code: 503, .. } => "fault: 503 with Retry-After",
            Self::Status { .. } => "fault: other status with Retry-After",
            Self::Straggler(_) => "fault: timed out, and done later",
            Self::Transport => "fault: connection refused",
            Self::Unusable => "fault: unusable",
        }
    }
}

pub(super) fn transport(cause: &str) -> Cause {
    Cause::Transport(cause.into())
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Cause {
    let (reason, message) = (reason.into(), message.into());
    Cause::Status { code, reason, message, retry_after: None }
}

pub(super) fn not_found(what: &str) -> Cause {
    status(404, "NotFound", &format!("{what} not found"))
}

//! What a run asks of a cluster: a narrow trait, and the plain data that crosses it.
//!
//! Everything here is free of sockets, so that a run can be driven over a model cluster as well
//! as over an API server.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::evidence::{Event, Pod};
use crate::node::Node;
use crate::puller::{DaemonSet, OwnerReference, Puller};
use crate::verdict::WEBHOOK_IS_DOWN;

/// The requests a run makes, one method each. Every method sends one request and waits for its
/// answer; retrying is the run's decision, not the cluster's.
pub trait Cluster {
    /// One page of nodes; `from` is the continue token of the page before.
    fn list_nodes(&mut self, from: Option<&str>) -> Result<Page<Node>, ApiError>;
    /// One node by its name.
    fn read_node(&mut self, name: &str) -> Result<Node, ApiError>;
    /// The hook Job that owns the run.
    fn read_job(&mut self, name: &str) -> Result<Job, ApiError>;
    /// One page of the DaemonSets with these labels (`key=value,key=value`).
    fn list_pullers(&mut self, labels: &str, from: Option<&str>) -> Result<Page<Puller>, ApiError>;
    /// One DaemonSet by its name.
    fn read_puller(&mut self, name: &str) -> Result<Puller, ApiError>;
    /// Creates the DaemonSet, and gives back what the API server made of it.
    fn create_puller(&mut self, manifest: &DaemonSet) -> Result<Puller, ApiError>;
    /// Replaces fields of the DaemonSet by a JSON merge patch (RFC 7386).
    fn patch_puller(&mut self, name: &str, patch: &str) -> Result<Puller, ApiError>;
    /// Deletes the DaemonSet and, in the background, its pods, if it still has this uid.
    fn delete_puller(&mut self, name: &str, uid: &str) -> Result<Deletion, ApiError>;
    /// Deletes a pod, if it still has this uid.
    fn delete_pod(&mut self, name: &str, uid: &str) -> Result<Deletion, ApiError>;
    /// Writes an event about the run's owner.
    fn create_event(&mut self, event: &NewEvent<'_>) -> Result<(), ApiError>;
    /// One page of the pods with these labels.
    fn list_pods(&mut self, labels: &str, from: Option<&str>) -> Result<Page<Pod>, ApiError>;
    /// One page of the events that match this field selector.
    fn list_events(&mut self, fields: &str, from: Option<&str>) -> Result<Page<Event>, ApiError>;
    /// Bounds how long the next request may take, besides the cluster's own bounds. A cluster
    /// that answers at once has no use for it.
    fn be_patient_for(&mut self, _: Duration) {}
    /// The API server's clock: the `Date` header of the last answer plus the time since.
    fn server_time(&self) -> Option<SystemTime>;
    /// The `Warning` headers since the last call, each once in a run.
    fn take_warnings(&mut self) -> Vec<String>;
}

/// One page of a LIST.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The objects of this page alone.
    pub items: Vec<T>,
    /// The token for the next page; none on the last one.
    pub next: Option<String>,
}

/// What became of an object that was to be deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// The object stays until its finalizers have run or, a pod, until its containers have ended.
    UnderWay,
}

/// An event to write.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent<'a> {
    /// The object whose description shows the event.
    pub about: &'a OwnerReference,
    /// The `type` of the event.
    pub kind: EventKind,
    /// A word in CamelCase.
    pub reason: &'a str,
    /// Sentences for a reader, on one line.
    pub message: &'a str,
    /// RFC 3339.
    pub time: String,
}

/// How much an event matters, in the words of Kubernetes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    Normal,
    Warning,
}

/// The part of a Job that a run reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// `status.startTime`: when the Job controller began to process the Job.
    pub start_time: Option<SystemTime>,
}

/// Why a request brought no answer that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The request in a reader's words: `list nodes`, `create daemonsets in namespace x`.
    pub request: String,
    /// What came in place of an answer.
    pub cause: Cause,
}

/// What came in place of an answer that can be used.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// The API server answered with a status other than 2xx.
    Status {
        /// The HTTP status.
        code: u16,
        /// `reason` of the Status object, such as `AlreadyExists`; empty if the body was none.
        reason: String,
        /// `message` of the Status object, or the start of a body that was none, on one line.
        message: String,
        /// How long the API server asks to wait before another try.
        retry_after: Option<Duration>,
    },
    /// No answer, or one that broke off or could not be read; worth another try.
    Transport(String),
    /// The request can not be sent, or its answer never be trusted: a missing token, a bad CA.
    Unusable(String),
}

impl ApiError {
    /// The HTTP status, if there was one.
    pub fn code(&self) -> Option<u16> {
        match self.cause {
            Cause::Status { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the same request may succeed later: 408, 429, any 5xx, and a broken transport.
    ///
    /// Source: client-go retries 429 and 5xx with `Retry-After`; an API server that starts,
    /// stops or fails over answers 500, 502, 503 or 504 without one.
    pub fn is_transient(&self) -> bool {
        match self.cause {
            Cause::Status { code, .. } => code == 408 || code == 429 || code >= 500,
            Cause::Transport(_) => true,
            Cause::Unusable(_) => false,
        }
    }

    /// Whether the API server has asked an admission webhook that did not answer.
    pub fn is_for_want_of_a_webhook(&self) -> bool {
        match &self.cause {
            Cause::Status { message, .. } => message.contains(WEBHOOK_IS_DOWN),
            _ => false,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.request)?;
        match &self.cause {
            Cause::Status { code, message, .. } if message.is_empty() => {
                write!(f, "the API server answered {code}")
            }
            Cause::Status { code, message, .. } => {
                write!(f, "the API server answered {code}: {message}")
            }
            Cause::Transport(cause) | Cause::Unusable(cause) => f.write_str(cause),
        }
    }
}

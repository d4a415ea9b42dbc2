//! Where a report goes besides the log: the pod's termination message, and an event of the Job.
//!
//! Both are for those who come later, when helm's output has scrolled away and the log is gone.
//! Neither can fail a run.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use crate::cluster::{Cluster, NewEvent};
use crate::report::Report;
use crate::run::Config;
use crate::words::rfc3339;

/// Where the kubelet reads a container's last words, which `kubectl describe pod` shows. It is
/// there in a container alone.
///
/// Source: `terminationMessagePath` of
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container>.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Everything else is done, and the Job's own deadline is near.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes the report's last words, and the event where the run has an owner and an API server that
/// answered once. What fails here is not told.
pub fn tell(report: &Report, config: &Config, cluster: &mut dyn Cluster) {
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(TERMINATION_LOG) {
        _ = file.write_all(report.termination_message().as_bytes());
    }
    let (Some(owner), Some((kind, reason))) = (&config.owner, report.event()) else { return };
    let Some(now) = cluster.server_time() else { return };
    let event = NewEvent {
        about: owner,
        kind,
        reason,
        message: report.event_message(),
        time: rfc3339(now),
    };
    cluster.be_patient_for(PATIENCE);
    _ = cluster.create_event(&event);
}

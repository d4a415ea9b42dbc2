//! The loop that performs a run's actions.

use std::time::{Duration, SystemTime};

use crate::cluster::{ApiError, Cluster};
use crate::run::{Action, Answer, Call, Line, Now, Observation, Run, Signal};

/// Time and signals, which a run takes in and never asks for itself.
pub trait Clock {
    /// Since the process started.
    fn elapsed(&self) -> Duration;
    /// The machine's own idea of the time, for want of the API server's.
    fn wall(&self) -> SystemTime;
    /// Sleeps, but no longer than until there is another signal than the one that the run knows.
    fn sleep(&mut self, duration: Duration, known: Signal);
    /// Whether a signal has come in since the start.
    fn signal(&self) -> Signal;
}

/// Drives a run to its end. `log` is given every line as it comes.
pub fn drive(
    run: &mut Run<'_>,
    cluster: &mut dyn Cluster,
    clock: &mut dyn Clock,
    log: &mut dyn FnMut(Line),
) {
    let mut observation = Observation::Started;
    loop {
        let now = Now {
            elapsed: clock.elapsed(),
            server: cluster.server_time().unwrap_or_else(|| clock.wall()),
            signal: clock.signal(),
        };
        let action = run.step(now, observation);
        for warning in cluster.take_warnings() {
            log(Line::Always(format!("warning from the API server: {warning}")));
        }
        run.take_lines().into_iter().for_each(&mut *log);
        observation = match action {
            Action::Call(call) => {
                cluster.be_patient_for(run.patience());
                Observation::Answered(perform(&call, cluster))
            }
            Action::Finish => return,
            Action::Wait(pause) => {
                clock.sleep(pause, now.signal);
                Observation::Waited
            }
        };
    }
}

/// Sends the one request of a call.
pub fn perform(call: &Call, cluster: &mut dyn Cluster) -> Result<Answer, ApiError> {
    let puller = |it| Answer::Puller(Box::new(it));
    match call {
        Call::CreatePuller(manifest) => cluster.create_puller(manifest).map(puller),
        Call::DeletePuller { name, uid } => cluster.delete_puller(name, uid).map(Answer::Deleted),
        Call::DeletePod { name, uid } => cluster.delete_pod(name, uid).map(Answer::Deleted),
        Call::ListEvents { fields, from } => {
            cluster.list_events(fields, from.as_deref()).map(Answer::Events)
        }
        Call::ListNodes { from } => cluster.list_nodes(from.as_deref()).map(Answer::Nodes),
        Call::ListPods { labels, from } => {
            cluster.list_pods(labels, from.as_deref()).map(Answer::Pods)
        }
        Call::ListPullers { labels, from } => {
            cluster.list_pullers(labels, from.as_deref()).map(Answer::Pullers)
        }
        Call::PatchPuller { name, patch } => cluster.patch_puller(name, patch).map(puller),
        Call::ReadJob { name } => cluster.read_job(name).map(Answer::Job),
        Call::ReadNode { name } => cluster.read_node(name).map(|it| Answer::Node(Box::new(it))),
        Call::ReadPuller { name } => cluster.read_puller(name).map(puller),
    }
}

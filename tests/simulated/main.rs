//! What wants more nodes than one machine has: nodes that kwok simulates, with a real API server,
//! real controllers and a real scheduler.
//!
//! `hack/cluster simulated up` starts them; then `cargo test --features e2e --test simulated`.
//! Every test has the cluster for itself, so that more threads make nothing faster.
//!
//! - [`command`] runs programs, [`cluster`] is the cluster, [`node`] makes nodes for it, [`audit`]
//!   reads who asked the API server for what.
//! - [`eligibility`] compares ours with the DaemonSet controller's, for [`placements`] made by
//!   [`chance`], and [`forms`] says what decided.
//! - [`many`] is a run over more nodes than a puller names, [`window`] are runs with a bound on
//!   the unfinished ones.

mod audit;
#[path = "../chance/mod.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod chance;
mod cluster;
#[path = "../e2e/command.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod command;
mod eligibility;
mod forms;
mod many;
mod node;
mod placements;
mod window;

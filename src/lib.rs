//! Blocks `helm install` until every eligible node holds the release's container images.
//!
//! # The parts, in reading order
//!
//! - [`args`] and [`settings`]: the command line and the structured settings, checked.
//!   [`json`]: how JSON is read.
//! - [`image`]: image references. [`node`]: which nodes may run the release.
//! - [`survey`]: pages of nodes in, who lacks what out.
//! - [`puller`]: the DaemonSet that pulls. [`evidence`]: what its pods and their events prove.
//! - [`verdict`]: what the kubelet's words about a failed pull mean.
//! - [`run`]: the sequence, as a state machine, and the loop that performs its actions.
//! - [`report`]: what a reader is told, and [`tell`] where besides the log; [`words`] and
//!   [`share`]: pieces of text and of numbers.
//! - [`cluster`]: what a run asks of a cluster, as a trait. [`kube`]: the API server behind it.
//! - [`clock`]: time and signals. [`hold`]: what runs inside the puller's pods.
//!
//! # What holds everywhere
//!
//! - **The rule of proof.** "Ready" means that every eligible node, by uid, gave evidence for
//!   every image of its group, or is listed by name and reason. Evidence is the node's own list,
//!   or a container of our own DaemonSet's pod on that node. The numbers of a DaemonSet say when to
//!   look and prove nothing.
//! - All modules but `kube`, `clock`, `hold`, `tell` and `run::drive` are pure: plain data in,
//!   plain data out. They import nothing from `kube`, and see no clock, no socket and no signal.
//!   Only `args` reads files besides, those that the command line names.
//! - Only `run` decides to create or to delete. Only `main` ends the process.
//! - The token never leaves `kube`.
//! - A run that has nothing to do costs one look at the nodes and creates nothing. What a killed
//!   first try of the same Job made is then left to the Job, which owns it.

pub mod args;
pub mod clock;
pub mod cluster;
pub mod evidence;
pub mod hold;
pub mod image;
pub mod json;
pub mod kube;
pub mod node;
pub mod puller;
pub mod report;
pub mod run;
pub mod settings;
pub mod share;
pub mod survey;
pub mod tell;
pub mod verdict;
pub mod words;

/// The version of the crate, the binary, the image and the chart.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

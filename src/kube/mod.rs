//! The API server: where it is, how it is trusted, and the requests of a run over HTTP.
//!
//! This is the imperative shell around [`crate::cluster::Cluster`]. Nothing else in the crate
//! opens a socket, and the service account token never leaves this module: no error, warning or
//! `Debug` output holds it.

mod client;
mod config;
mod tls;
mod token;

pub use client::{KubeCluster, Limits};
pub use config::{Access, SERVICE_ACCOUNT};

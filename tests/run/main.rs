//! Whole runs over a model of a cluster, in virtual time.

mod bench;
mod blind;
mod bounds;
#[path = "../chance/mod.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod chance;
mod changes;
mod failures;
mod faults;
mod golden;
mod last_line;
mod model;
mod simulation;
mod sound;
mod stops;
mod traces;
mod trouble;
mod window;

//! The chart, as helm 3 and helm 4 render it.
//!
//! Every rendering goes through both, and they must agree: see `helm`. The rules that hold for
//! every rendering are in `rules`; `ci` checks them over each file of `chart/ci`.

mod binary;
mod ci;
mod demo;
mod helm;
mod hook;
mod job;
mod kubelet;
mod names;
mod rules;
mod settings;
mod values;

//! Image references, held against the Go packages that decide about them in a cluster.
//!
//! Names are made from the grammar of references and by damaging such names; every one is judged
//! by `hack/parts/reference` and by [`prepull::image`], and both must say the same.

#[path = "../chance/mod.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod chance;
mod counts;
mod difference;
mod grammar;
mod mutation;
mod reference;

//! What the fuzz targets share.
//!
//! Each file in `src/bin` is one target: it puts the fuzzer's bytes where the program takes
//! something in from outside, lets the program do with it what it does, and checks what must hold
//! of the outcome. [`run`] is a whole run over an API server ([`server`]) that gives one such
//! answer among ordinary ones. A target may not panic, hang, or take more memory than
//! [`MOST_IN_USE`](bound::MOST_IN_USE).

#[path = "../../tests/memory/bound.rs"]
mod bound;
pub mod json;
pub mod run;
pub mod server;

use std::alloc::System;

use cap::Cap;

/// Refuses to give more. Libfuzzer's own memory is not counted.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, bound::MOST_IN_USE);

/// Panics unless these words of a message stand on one line.
#[track_caller]
pub fn assert_one_line(words: &str) {
    assert!(!words.contains(char::is_control), "more than one line: {words:?}");
}

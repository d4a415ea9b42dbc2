//! Answers that are none, or not what was asked for: a byte for the request, three digits of a
//! status, and a body which may be a Status object.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prepull_fuzz::json::mutate;
use prepull_fuzz::run::{Bench, args};
use prepull_fuzz::server::{Answers, Request, list, pod};
use serde_json::json;

/// The byte of the first request, so that the corpus can be read.
const FIRST: u8 = b'a';

/// Before the body.
const HEAD: usize = 4;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    let Some(([request, digits @ ..], body)) = input.split_first_chunk::<HEAD>() else { return };
    let request = Request::ALL[usize::from(request.wrapping_sub(FIRST)) % Request::ALL.len()];
    let status = str::from_utf8(digits).ok().and_then(|it| it.parse().ok());
    let Some(status @ 200..600) = status else { return };
    // One node finishes and lets the other one in, whose pod stalls: so every request is sent.
    let args = args(&["--max-nodes-at-once=1"]).expect("good arguments");
    let running = json!([{"name": "01-a", "imageID": "a@sha256:0", "state": {"running": {}}}]);
    let waiting = json!([{"name": "01-a", "state": {"waiting": {"reason": "ContainerCreating"}}}]);
    let pods = list(&[pod(1, &running), pod(2, &waiting)]);
    let other = Some((request, status, body.into()));
    BENCH.with_borrow_mut(|it| _ = it.run(&args, Answers { pods, other, ..Answers::default() }));
});

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    mutate(data, size, most, seed, HEAD)
});

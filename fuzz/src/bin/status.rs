//! Answers other than 2xx: three digits of a status, and a body which may be a Status object.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prepull_fuzz::json::mutate;
use prepull_fuzz::run::{Bench, args};
use prepull_fuzz::server::Answers;

/// Before the body.
const DIGITS: usize = 3;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    let Some((digits, body)) = input.split_at_checked(DIGITS) else { return };
    let status = str::from_utf8(digits).ok().and_then(|it| it.parse().ok());
    let Some(status @ 200..600) = status else { return };
    let args = args(&[]).expect("good arguments");
    let answers = Answers { nodes: (status, body.into()), ..Answers::default() };
    BENCH.with_borrow_mut(|it| _ = it.run(&args, answers));
});

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    mutate(data, size, most, seed, DIGITS)
});

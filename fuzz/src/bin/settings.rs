//! The structured settings, and the DaemonSet that is made of them.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prepull::run::Outcome;
use prepull::settings::Settings;
use prepull_fuzz::assert_one_line;
use prepull_fuzz::json::mutate;
use prepull_fuzz::run::{Bench, args};
use prepull_fuzz::server::Answers;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::default();
}

fuzz_target!(|document: &[u8]| {
    let document = String::from_utf8_lossy(document);
    // As an argument, anything else is the name of a file.
    if !document.trim_start().starts_with('{') {
        let _ = Settings::parse(&document);
        return;
    }
    let args = match args(&["--settings", &document]) {
        Ok(args) => args,
        Err(err) => return assert_one_line(&err),
    };
    // What is read back of the DaemonSet is what was sent, so that all is waited for.
    let outcome = BENCH.with_borrow_mut(|it| it.run(&args, Answers::default()));
    assert!(matches!(outcome, Outcome::Deadline | Outcome::NoNodes), "{outcome:?}");
});

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    mutate(data, size, most, seed, 0)
});

//! Pages of events, and the run that takes them for causes.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prepull::cluster::Cluster;
use prepull_fuzz::json::mutate;
use prepull_fuzz::run::{Bench, args};
use prepull_fuzz::server::{Answers, list, pod};
use serde_json::json;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::default();
}

fuzz_target!(|page: &[u8]| {
    // They are about a pod that does not get on.
    let waiting = json!([{"name": "01-a", "state": {"waiting": {"reason": "ContainerCreating"}}}]);
    let pods = list(&[pod(1, &waiting)]);
    let answers =
        || Answers { events: (200, page.into()), pods: pods.clone(), ..Answers::default() };
    BENCH.with_borrow_mut(|it| {
        if it.reads(answers(), |it| it.list_events("", None)) {
            it.run(&args(&[]).expect("good arguments"), answers());
        }
    });
});

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    mutate(data, size, most, seed, 0)
});

//! Pages of nodes, and the run that looks at them.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prepull::cluster::Cluster;
use prepull_fuzz::json::mutate;
use prepull_fuzz::run::{Bench, args};
use prepull_fuzz::server::Answers;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::default();
}

fuzz_target!(|page: &[u8]| {
    let answers = || Answers { nodes: (200, page.into()), ..Answers::default() };
    BENCH.with_borrow_mut(|it| {
        if it.reads(answers(), |it| it.list_nodes(None)) {
            it.run(&args(&[]).expect("good arguments"), answers());
        }
    });
});

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    mutate(data, size, most, seed, 0)
});

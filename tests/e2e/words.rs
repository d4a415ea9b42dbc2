//! What the cluster says of failures, held against what it said when that was captured.
//!
//! `tests/verdicts` judges the captured words without a cluster. `VERDICTS=write` captures them
//! anew; otherwise tests fail when what is said now means something else to the program, as it may
//! with another Kubernetes or containerd.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

use prepull::verdict::{Outlook, judge, refusal_advice};
use serde::{Deserialize, Serialize};

use crate::cluster::repository;

/// What was said, and where: a container's waiting reason, or an event's.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Said {
    pub reason: String,
    pub message: String,
}

/// Files are written one after the other.
static WRITING: Mutex<()> = Mutex::new(());

/// Holds what was said of a failed pull against what was captured.
pub fn expect_pull(name: &str, said: &[Said], ns: &str) {
    expect("containerd.json", name, said, ns, |it| {
        let verdict = judge(&it.reason, &it.message);
        let outlook = match verdict.outlook {
            Outlook::Permanent => "permanent",
            Outlook::Transient => "transient",
        };
        format!("{outlook}: {}", verdict.advice)
    });
}

/// The same of a pod that was refused.
pub fn expect_refusal(name: &str, said: &[Said], ns: &str) {
    expect("refusals.json", name, said, ns, |it| refusal_advice(&it.message).into());
}

fn expect(file: &str, name: &str, said: &[Said], ns: &str, verdict: impl Fn(&Said) -> String) {
    let file = repository().join("tests/verdicts").join(file);
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let captured = fs::read_to_string(&file).unwrap_or_else(|_| "{}".into());
    let mut captured: BTreeMap<String, Vec<Said>> =
        serde_json::from_str(&captured).expect("it was written here");
    if env::var("VERDICTS").is_ok_and(|it| it == "write") {
        captured.insert(name.into(), said.iter().map(|it| lasting(it, ns)).collect());
        let captured = serde_json::to_string_pretty(&captured).expect("it is JSON");
        fs::write(&file, captured + "\n").expect("the folder is there");
        return;
    }
    let before = captured.get(name).unwrap_or_else(|| panic!("`{name}` was never captured"));
    let meant: BTreeSet<_> = before.iter().map(&verdict).collect();
    let means: BTreeSet<_> = said.iter().map(&verdict).collect();
    assert_eq!(means, meant, "{name}: {said:#?}, and before: {before:#?}");
}

/// The same words without what differs from one time to the next.
fn lasting(said: &Said, ns: &str) -> Said {
    // Namespaces end with a word of this run of the tests.
    let (lasting_ns, _) = ns.rsplit_once('-').expect("it is one of ours");
    let message = said.message.replace(ns, lasting_ns);
    let mut lasting = String::new();
    let mut rest = message.as_str();
    while let Some(c) = rest.chars().next() {
        let length = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_hexdigit()).len();
        let is_number = rest[..length].bytes().all(|it| it.is_ascii_digit());
        let kept = length.max(c.len_utf8());
        match length {
            // The hexadecimal digits of a SHA-256.
            64 => lasting += &"0".repeat(64),
            // A port that somebody was given.
            5 if is_number && lasting.ends_with(':') => lasting += "50000",
            _ => lasting += &rest[..kept],
        }
        rest = &rest[kept..];
    }
    Said { reason: said.reason.clone(), message: lasting }
}

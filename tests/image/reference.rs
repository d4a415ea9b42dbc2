//! The program `prepull-reference`, which asks the Go packages.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Command, Stdio};
use std::thread;

use serde::Deserialize;

const PROGRAM: &str = "prepull-reference";

/// What the Go packages say about a name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Empty if the name is a reference.
    pub refused: String,
    pub listed: String,
    pub pull_policy: String,
    pub has_domain: Option<bool>,
    pub last_component: String,
}

/// The answers to names, in their order.
pub fn ask<'a>(names: impl Iterator<Item = &'a str> + Send) -> Vec<Answer> {
    let mut child =
        Command::new(PROGRAM).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(
            |err| {
                panic!(
                    "cannot run `{PROGRAM}`: {err}; `hack/test unit` builds it from \
                 hack/parts/reference and puts it into the PATH"
                )
            },
        );
    let input = child.stdin.take().expect("is piped");
    let output = BufReader::new(child.stdout.take().expect("is piped"));
    let (n_names, answers) = thread::scope(|scope| {
        // The program answers while it reads, so that both must go on at once.
        let writer = scope.spawn(move || {
            let mut input = BufWriter::new(input);
            let mut n_names = 0;
            for name in names {
                let line = serde_json::to_string(name).expect("text is JSON");
                writeln!(input, "{line}").expect("the program reads to the end");
                n_names += 1;
            }
            n_names
        });
        let answers: Vec<Answer> = output
            .lines()
            .map(|line| {
                let line = line.expect("the program writes text");
                serde_json::from_str(&line).unwrap_or_else(|err| panic!("{line}: {err}"))
            })
            .collect();
        (writer.join().expect("all names were written"), answers)
    });
    let status = child.wait().expect("a child that was started can be waited for");
    assert!(status.success(), "`{PROGRAM}` failed: {status}");
    assert_eq!(answers.len(), n_names, "one answer a name");
    answers
}

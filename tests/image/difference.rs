//! The search for a name about which the Go packages and ours differ.

use std::env;

use prepull::image::{ImageRef, PullPolicy};

use crate::chance::Chance;
use crate::counts::Counts;
use crate::grammar::{self, FAULTS, Name, Piece};
use crate::mutation::{OPERATORS, mutate};
use crate::reference::{self, Answer};

/// Set to 1, it makes every test of many random cases a long one.
const LONG: &str = "PREPULL_LONG_TESTS";
/// The seed where none is given.
const SEED: u64 = 1;
const N_NAMES: usize = 20_000;
const N_NAMES_LONG: usize = 200_000;

/// Each production and operator is on at least one name in so many, of either kind.
const RAREST: usize = 100;
/// Each fault is on at least one name in so many.
const RAREST_FAULT: usize = 1000;
/// Names that are shown when they are judged differently.
const SHOWN: usize = 20;

/// A name, and what it was made by.
struct Case {
    name: String,
    origin: Origin,
    pieces: Vec<Piece>,
    operators: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Grammar,
    Fault(&'static str),
    Mutation,
}

impl Case {
    fn new(chance: &mut Chance) -> Self {
        let (name, pieces) = Name::new(chance);
        let written = name.to_string();
        let valid = Self { name: written, origin: Origin::Grammar, pieces, operators: vec![] };
        match chance.below(100) {
            0..30 => valid,
            30..50 => {
                let (fault, put_into) = chance.pick(&FAULTS);
                Self { name: put_into(name, chance), origin: Origin::Fault(fault), ..valid }
            }
            _ => {
                let (other, _) = Name::new(chance);
                let (name, operators) = mutate(&valid.name, &other.to_string(), chance);
                Self { name, origin: Origin::Mutation, operators, ..valid }
            }
        }
    }

    /// The productions of which the name still has what they made.
    fn productions(&self) -> Vec<&'static str> {
        let pieces = self.pieces.iter().filter(|(_, text)| self.name.contains(text));
        pieces.map(|it| it.0).collect()
    }
}

#[test]
fn every_name_is_judged_as_the_go_packages_judge_it() {
    let n_names = match env::var(LONG).as_deref() {
        Ok("1") => N_NAMES_LONG,
        _ => N_NAMES,
    };
    let mut chance = Chance::from_environment(SEED);
    let cases: Vec<_> = (0..n_names).map(|_| Case::new(&mut chance)).collect();
    let answers = reference::ask(cases.iter().map(|it| it.name.as_str()));
    let names = || cases.iter().map(|it| it.name.as_str()).zip(&answers);

    assert_no_difference(names());
    let normal: Vec<_> = answers.iter().filter(|it| it.refused.is_empty()).collect();
    assert_normal_forms_are_fixed_points(normal.iter().map(|it| it.listed.as_str()));
    assert_the_names_are_worth_it(&cases, &answers);
}

fn assert_no_difference<'a>(answers: impl Iterator<Item = (&'a str, &'a Answer)>) {
    let mut different: Vec<_> = answers
        .filter_map(|(name, answer)| {
            let ours = judge(name, answer.has_domain);
            // The words of a refusal are each side's own.
            let theirs = Answer { refused: String::new(), ..answer.clone() };
            match (answer.refused.as_str(), &ours) {
                ("", Ok(ours)) if *ours == theirs => None,
                (refused, Err(_)) if !refused.is_empty() => None,
                _ => Some(format!("{name:?}\n  theirs: {answer:?}\n  ours:   {ours:?}")),
            }
        })
        .collect();
    // The shortest name shows best what it is about.
    different.sort_by_key(String::len);
    assert!(
        different.is_empty(),
        "{} names are judged differently:\n{}",
        different.len(),
        different[..different.len().min(SHOWN)].join("\n")
    );
}

/// What we say about a name. Whether it has a domain is a question that only CRI-O asks.
fn judge(name: &str, has_domain: Option<bool>) -> Result<Answer, &'static str> {
    let image = ImageRef::parse(name)?;
    let pull_policy = match image.default_pull_policy() {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    };
    assert_eq!(image.as_written(), name);
    Ok(Answer {
        refused: String::new(),
        listed: image.listed_name(),
        pull_policy: pull_policy.into(),
        has_domain: has_domain.map(|_| image.has_domain()),
        last_component: image.last_component().into(),
    })
}

fn assert_normal_forms_are_fixed_points<'a>(names: impl Iterator<Item = &'a str> + Clone + Send) {
    for (name, answer) in names.clone().zip(reference::ask(names)) {
        assert_eq!(answer.listed, name, "not a fixed point of the Go package");
        let image = ImageRef::parse(name).unwrap_or_else(|err| panic!("{name:?}: {err}"));
        assert_eq!(image.listed_name(), name, "not a fixed point of ours");
    }
}

/// Names of all kinds were tried, and both judgements were met often.
fn assert_the_names_are_worth_it(cases: &[Case], answers: &[Answer]) {
    let mut productions = Counts::default();
    let mut faults = Counts::default();
    let mut operators = Counts::default();
    let mut n_valid = 0;
    for (case, answer) in cases.iter().zip(answers) {
        let accepted = answer.refused.is_empty();
        n_valid += usize::from(accepted);
        productions.add(&case.productions(), accepted);
        operators.add(&case.operators, accepted);
        match case.origin {
            Origin::Grammar => assert!(accepted, "not of the grammar: {:?}", case.name),
            Origin::Fault(fault) => faults.add(&[fault], accepted),
            Origin::Mutation => {}
        }
    }
    let percent = n_valid * 100 / cases.len();
    println!("{} names, {percent} % of them valid", cases.len());
    assert!((30..=70).contains(&percent), "{percent} % of the names are valid");
    let least = cases.len() / RAREST;
    productions.assert_each("productions", grammar::productions(), least);
    operators.assert_each("operators", OPERATORS.iter().map(|it| it.0), least);
    let least = cases.len() / RAREST_FAULT;
    faults.assert_each_refused("faults", FAULTS.iter().map(|it| it.0), least);
}

#[test]
fn any_text_is_judged_without_a_panic() {
    let mut chance = Chance::from_environment(SEED);
    for _ in 0..N_NAMES {
        let bytes: Vec<_> = (0..chance.below(80)).map(|_| chance.below(256) as u8).collect();
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(image) = ImageRef::parse(&text) {
            assert!(ImageRef::parse(&image.listed_name()).is_ok(), "{text:?}");
        }
    }
}

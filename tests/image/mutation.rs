//! Names that are damaged in a few places.

use crate::chance::Chance;

/// Characters that make a difference to a reference: separators, the ends of each class, and
/// letters whose other case is in another alphabet.
const CHARACTERS: &str = "afgzAFZ09._-/:@[]%+ \t\n\r\0\u{7f}éÉKİ٣😀";

/// Words with a meaning of their own, and separators that stand together.
const WORDS: [&str; 16] = [
    "..",
    "__",
    "___",
    "--",
    "//",
    "::",
    "@@",
    ":latest",
    "library/",
    "localhost/",
    "docker.io/",
    "index.docker.io/",
    "[::1]/",
    "a.b/",
    "a_b.c/",
    "@sha256:",
];

/// An operator: what it is called, and how it damages a name. The second text is another name.
type Operator = (&'static str, fn(&[char], &[char], &mut Chance) -> String);

pub const OPERATORS: [Operator; 6] = [
    ("insert", |name, _, chance| {
        let at = chance.size_below(name.len() + 1);
        joined(&name[..at], &piece(chance), &name[at..])
    }),
    ("delete", |name, _, chance| {
        let at = chance.size_below(name.len());
        let behind = (at + 1 + chance.size_below(3)).min(name.len());
        joined(&name[..at], "", &name[behind..])
    }),
    ("replace", |name, _, chance| {
        let at = chance.size_below(name.len());
        joined(&name[..at], &piece(chance), &name[at + 1..])
    }),
    ("swap", |name, _, chance| {
        let (one, other) = (chance.size_below(name.len()), chance.size_below(name.len()));
        let mut name = name.to_vec();
        name.swap(one, other);
        name.into_iter().collect()
    }),
    ("repeat", |name, _, chance| {
        let at = chance.size_below(name.len());
        let behind = (at + 1 + chance.size_below(8)).min(name.len());
        joined(&name[..behind], "", &name[at..])
    }),
    ("splice", |name, other, chance| {
        let (end, start) = (chance.size_below(name.len() + 1), chance.size_below(other.len() + 1));
        joined(&name[..end], "", &other[start..])
    }),
];

/// Damages a name in one to three places, and says by which operators.
pub fn mutate(name: &str, other: &str, chance: &mut Chance) -> (String, Vec<&'static str>) {
    let mut name = name.to_owned();
    let mut made_by = vec![];
    for _ in 0..1 + chance.below(3) {
        let characters: Vec<_> = name.chars().collect();
        if characters.is_empty() {
            break;
        }
        let (operator, apply) = chance.pick(&OPERATORS);
        made_by.push(operator);
        name = apply(&characters, &other.chars().collect::<Vec<_>>(), chance);
    }
    (name, made_by)
}

fn piece(chance: &mut Chance) -> String {
    match chance.percent(75) {
        true => chance.text(CHARACTERS, 1),
        false => chance.pick(&WORDS).into(),
    }
}

fn joined(start: &[char], middle: &str, end: &[char]) -> String {
    start.iter().copied().chain(middle.chars()).chain(end.iter().copied()).collect()
}

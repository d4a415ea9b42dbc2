//! `docs/troubleshooting.md` has every message, and no other.

use std::collections::BTreeSet;

use prepull::verdict::{Outlook, REASONS, REFUSALS, RULES};

use crate::source::{GAP, Literal, files, literals, read, shown, template_messages};

const DOCUMENT: &str = "docs/troubleshooting.md";

/// What a text stands behind that is looked for in the words of others, or that names what can not
/// be.
const BEFORE_OTHERS: [&str; 6] =
    ["contains(", "expect(", "split(", "split_once(", "starts_with(", "strip_prefix("];

/// What a text stands behind that is a message however short it is: how a type is displayed, and
/// the reason of an event.
const BEFORE_MESSAGES: [&str; 3] = ["EventKind::", "f.write_str(", "write!(f,"];

/// Texts with blanks in them that nobody is told, and pieces that mean nothing by themselves.
const NO_MESSAGES: [&str; 8] = [
    "1 node",
    "Bearer …",
    "T: Deserialize<'de>",
    "prepull …",
    "there are no private keys here",
    "… images",
    "… nodes",
    "… on …",
];

/// Every text of the source, and those that are messages.
fn texts() -> (BTreeSet<String>, BTreeSet<String>) {
    let mut all = BTreeSet::new();
    let mut messages = BTreeSet::new();
    for file in files("src") {
        for literal in literals(&read(&file)) {
            let text = shown(&literal.text);
            if is_message(&literal, &text) {
                messages.insert(text.clone());
            }
            all.insert(text);
        }
    }
    for file in files("chart/templates") {
        let refusals = template_messages(&read(&file));
        messages.extend(refusals.iter().map(|it| shown(it)));
    }
    assert!(messages.len() > 200, "the messages were not found");
    all.extend(messages.iter().cloned());
    (all, messages)
}

fn is_message(literal: &Literal, shown: &str) -> bool {
    let is_behind = |it: &str| literal.before.ends_with(it);
    let has_words = shown.chars().any(char::is_alphabetic);
    // The help has lines, and a message is one.
    if !has_words || shown.contains('\n') || BEFORE_OTHERS.iter().any(|it| is_behind(it)) {
        return false;
    }
    let is_told = BEFORE_MESSAGES.iter().any(|it| literal.before.contains(it));
    (is_told || shown.contains(' ')) && !NO_MESSAGES.contains(&shown)
}

/// The messages of the document: what stands between double backticks.
fn quoted(document: &str) -> Vec<&str> {
    assert!(
        !document.contains("```"),
        "{DOCUMENT}: write blanks around what begins with a backtick"
    );
    let parts: Vec<_> = document.split("``").collect();
    assert_eq!(parts.len() % 2, 1, "{DOCUMENT}: a double backtick is never closed");
    parts.into_iter().skip(1).step_by(2).map(str::trim).collect()
}

#[test]
fn every_message_is_in_the_document() {
    let document = read(DOCUMENT);
    let quoted: BTreeSet<_> = quoted(&document).into_iter().collect();
    let (_, messages) = texts();
    let missing: Vec<_> = messages.iter().filter(|it| !quoted.contains(it.as_str())).collect();
    assert!(missing.is_empty(), "{DOCUMENT} lacks these, or they are no messages: {missing:#?}");
}

#[test]
fn every_message_of_the_document_is_in_the_source() {
    let document = read(DOCUMENT);
    let (all, _) = texts();
    let unknown: Vec<_> = quoted(&document).into_iter().filter(|it| !all.contains(*it)).collect();
    assert!(unknown.is_empty(), "{DOCUMENT} quotes what is said nowhere: {unknown:#?}");
}

/// A list of exceptions rots unless each of them is one.
#[test]
fn what_is_no_message_is_a_text_of_the_source() {
    let (all, _) = texts();
    for text in NO_MESSAGES {
        assert!(all.contains(text), "`{text}` is no text of the source any more");
    }
}

/// The rows that quote this in their first cell, as their cells.
fn rows<'a>(document: &'a str, message: &str) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| line.trim_matches('|').split(" | ").collect::<Vec<_>>();
    let table = document.lines().filter(|it| it.starts_with("| "));
    table.map(cells).filter(|it| quoted(it[0]).contains(&message)).collect()
}

#[test]
fn words_stand_beside_their_advice() {
    let document = read(DOCUMENT);
    let reasons = REASONS.iter().map(|(reason, verdict)| (vec![*reason], verdict));
    let rules = RULES.iter().map(|it| (it.texts.to_vec(), &it.verdict));
    for (texts, verdict) in reasons.chain(rules) {
        let rows = rows(&document, verdict.advice);
        let has_all = |row: &&Vec<&str>| {
            let words = quoted(row[1]);
            texts.iter().all(|it| words.contains(&it.trim()))
        };
        let row = rows.iter().find(has_all);
        let row = row.unwrap_or_else(|| panic!("no row of `{}` has {texts:?}", verdict.advice));
        let end = match verdict.outlook {
            Outlook::Permanent => "Final.",
            Outlook::Transient => "Tried again.",
        };
        assert!(row[2].trim().ends_with(end), "the row of {texts:?} does not end with `{end}`");
    }
    for (text, advice) in REFUSALS {
        let rows = rows(&document, advice);
        let is_there = rows.iter().any(|it| quoted(it[1]).contains(&text.trim()));
        assert!(is_there, "no row of `{advice}` has `{text}`");
    }
}

#[test]
fn a_gap_is_what_differs() {
    assert_eq!(shown("cannot {}: "), format!("cannot {GAP}:"));
    assert_eq!(shown("{more} of `{name:>3}`{end}{}"), "… of `…`…");
    assert_eq!(shown("{{\"a\": {a}}}"), "{\"a\": …}");
    assert_eq!(shown("images: `%s` is none"), "images: `…` is none");
}

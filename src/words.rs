//! Small pieces of text that several parts write in the same way.

use std::io;
use std::time::{Duration, SystemTime};

/// Names that are spelt out in one line before the rest is counted.
pub const NAMES_SHOWN: usize = 5;

/// The last second of the year 9999, since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// `1 node`, `3 nodes`.
pub fn nodes(n_nodes: usize) -> String {
    match n_nodes {
        1 => "1 node".into(),
        n => format!("{n} nodes"),
    }
}

/// The first few names, and how many more there are.
pub fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    list_of(names, NAMES_SHOWN)
}

/// So many names, and how many more there are.
pub fn list_of<'a>(mut names: impl Iterator<Item = &'a str>, shown: usize) -> String {
    let mut list = names.by_ref().take(shown).collect::<Vec<_>>().join(", ");
    let n_more = names.count();
    if n_more > 0 {
        list += &format!(" and {n_more} more");
    }
    list
}

/// Words of others on one line: every line of a log stands alone.
pub fn one_line(words: &str) -> String {
    words.split(char::is_control).filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A moment as RFC 3339 has it, whose years end with 9999: clocks may say anything.
pub fn rfc3339(moment: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
    let moment = moment.clamp(SystemTime::UNIX_EPOCH, last);
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// The start of a text, of at most so many bytes.
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// An I/O error in the words of a message: `connection refused`, without the number of it.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aäb", 1), "a");
        assert_eq!(cut("aäb", 2), "a");
        assert_eq!(cut("aäb", 3), "aä");
        assert_eq!(cut("aäb", 9), "aäb");
    }

    #[test]
    fn every_moment_can_be_written() {
        let epoch = SystemTime::UNIX_EPOCH;
        let after = |seconds| epoch + Duration::from_secs(seconds);
        assert_eq!(rfc3339(after(1)), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339(epoch - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        for seconds in [LAST_SECOND, LAST_SECOND + 1, 1 << 60] {
            assert_eq!(rfc3339(after(seconds)), "9999-12-31T23:59:59Z");
        }
    }

    #[test]
    fn names_are_shown_and_then_counted() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(some_of(names[..1].iter().copied()), "a");
        assert_eq!(some_of(names[..5].iter().copied()), "a, b, c, d, e");
        assert_eq!(some_of(names[..6].iter().copied()), "a, b, c, d, e and 1 more");
        assert_eq!(list_of(names.iter().copied(), usize::MAX), "a, b, c, d, e, f, g");
        assert_eq!(some_of([].into_iter()), "");
        assert_eq!(
            (nodes(0), nodes(1), nodes(2)),
            ("0 nodes".into(), "1 node".into(), "2 nodes".into())
        );
    }
}

//! The texts in the project's own source, as a reader of its output may come to see them.

use std::fs;
use std::path::Path;

/// The sign in the documents for what differs from message to message.
pub const GAP: char = '…';

/// A string literal, and what stands before it.
#[derive(Debug, PartialEq)]
pub struct Literal {
    pub text: String,
    /// The last word of code before it, such as `expect(`.
    pub before: String,
}

/// A file of the repository.
pub fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(file).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// The files of a folder of the repository, and of those in it, in their order.
pub fn files(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![];
    for entry in fs::read_dir(root.join(folder)).unwrap_or_else(|err| panic!("{folder}: {err}")) {
        let entry = entry.expect("a folder can be read to its end");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// The string literals of Rust source, without those of its unit tests.
pub fn literals(source: &str) -> Vec<Literal> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut found = vec![];
    let mut rest = code;
    let mut before = String::new();
    while let Some(c) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("//") {
            rest = &comment[comment.find('\n').unwrap_or(comment.len())..];
            continue;
        }
        let is_in_word = before.ends_with(|it: char| it.is_alphanumeric() || it == '_');
        if let (false, Some((text, behind))) = (is_in_word, raw_string(rest)) {
            found.push(Literal { text: text.into(), before: last_word(&before) });
            rest = behind;
            continue;
        }
        match c {
            '"' => {
                let (text, behind) = string(&rest[1..]);
                found.push(Literal { text, before: last_word(&before) });
                rest = behind;
            }
            '\'' => rest = behind_quote(&rest[1..]),
            _ => {
                before.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    found
}

/// The messages of a chart's template: the texts that lines with `fail` in them print.
pub fn template_messages(template: &str) -> Vec<String> {
    let lines = template.lines().filter(|it| it.contains("| fail") || it.contains("(fail "));
    lines.map(|it| string(it.split_once('"').map_or("", |(_, it)| it)).0).collect()
}

/// A message as the documents write it: a gap for what is filled in, and no blanks around it.
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            '{' if letters.next_if_eq(&'{').is_some() => shown.push('{'),
            '}' if letters.next_if_eq(&'}').is_some() => shown.push('}'),
            '{' => {
                letters.by_ref().find(|it| *it == '}');
                shown.push(GAP);
            }
            '%' if letters.next_if_eq(&'s').is_some() => shown.push(GAP),
            _ => shown.push(c),
        }
    }
    shown.replace("……", "…").trim().to_owned()
}

/// A raw string at the start of some code, and what follows it.
fn raw_string(code: &str) -> Option<(&str, &str)> {
    let hashes_on = code.strip_prefix("br").or_else(|| code.strip_prefix('r'))?;
    let text_on = hashes_on.trim_start_matches('#');
    let hashes = &hashes_on[..hashes_on.len() - text_on.len()];
    text_on.strip_prefix('"')?.split_once(&format!("\"{hashes}"))
}

/// The rest of a string after its first quote, and what follows its last one.
fn string(code: &str) -> (String, &str) {
    let mut text = String::new();
    let mut letters = code.char_indices();
    while let Some((at, c)) = letters.next() {
        match c {
            '"' => return (text, &code[at + 1..]),
            '\\' => match letters.next() {
                Some((at, '\n')) => {
                    let rest = code[at..].trim_start();
                    let (more, behind) = string(rest);
                    return (text + &more, behind);
                }
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            },
            _ => text.push(c),
        }
    }
    panic!("a string that never ends: {text}");
}

/// What follows a quote: that of a character, whose other quote is skipped too, or of a lifetime.
fn behind_quote(code: &str) -> &str {
    let mut letters = code.chars();
    let first = letters.next().unwrap_or_default();
    match (first, letters.as_str().split_once('\'')) {
        // The character after the backslash may be a quote.
        ('\\', _) => {
            let escaped = letters.next().map_or(0, char::len_utf8);
            code[1 + escaped..].split_once('\'').map_or("", |(_, behind)| behind)
        }
        (_, Some(("", behind))) => behind,
        _ => code,
    }
}

fn last_word(code: &str) -> String {
    let code = code.trim_end();
    let start = code.rfind(char::is_whitespace).map_or(0, |it| it + 1);
    code[start..].trim_start_matches(|it| "([{&".contains(it)).to_owned()
}

#[test]
fn literals_are_found_wherever_they_stand() {
    let source = r##"
        //! "not this"
        const A: &str = "a \
                         b"; // "nor this"
        fn f<'a>(c: char, text: &'a str) -> bool {
            let quotes = ['"', '\'', '\\', b'"'];
            text.contains("c\" \\") || g(r#"d "quoted""#, format!(
                "{e}"
            ))
        }

        #[cfg(test)]
        mod tests { const NOR: &str = "this"; }
    "##;
    let source = source.replace("        #[cfg(test)]\n        mod", "#[cfg(test)]\nmod");
    let found: Vec<_> = literals(&source).into_iter().map(|it| (it.before, it.text)).collect();
    let expected =
        [("=", "a b"), ("text.contains(", "c\" \\"), ("g(", "d \"quoted\""), ("format!(", "{e}")];
    assert_eq!(found, expected.map(|(before, text)| (before.to_owned(), text.to_owned())));
}

#[test]
fn messages_of_templates_are_found() {
    let template =
        "{{- /* fails */ -}}\n{{- printf \"`%s` \\\"is\\\" none\" $it | fail -}}\n{{ $x }}";
    assert_eq!(template_messages(template), ["`%s` \"is\" none"]);
}

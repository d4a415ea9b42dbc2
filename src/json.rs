//! JSON: reading it in one way for all, so that the parser is in the binary once, and saying
//! where in a document a fault is.

use std::io::Read;

use serde::de::DeserializeOwned;

/// Reads one document to its end.
pub fn read<T: DeserializeOwned>(reader: &mut dyn Read) -> serde_json::Result<T> {
    serde_json::from_reader(reader)
}

/// The path of the field that an error is about, such as `puller.tolerations[1].key`; empty for
/// the document itself.
///
/// The crate serde_path_to_error knows the path by wrapping every deserializer, which made the
/// binary 90 KB larger.
pub fn path_of(document: &str, err: &serde_json::Error) -> String {
    let lines = document.split_inclusive('\n').take(err.line().saturating_sub(1));
    let end = lines.map(str::len).sum::<usize>() + err.column();
    let read = &document[..document.floor_char_boundary(end)];
    // A list that should be none is found behind its bracket.
    let read = read.strip_suffix("[]").or(read.strip_suffix('[')).unwrap_or(read);
    // A number ends where something else begins, so that its error is found one byte behind it.
    // A field is missing where its object ends.
    let is_late = !err.to_string().starts_with("missing field");
    match read.strip_suffix([',', ']', '}']) {
        Some(read) if is_late => path_to(read),
        _ => path_to(read),
    }
}

/// The path that a document has led to where it breaks off.
fn path_to(document: &str) -> String {
    let mut path: Vec<Step> = vec![];
    let mut text = None;
    let mut escaped = false;
    for (i, b) in document.bytes().enumerate() {
        if let Some(start) = text {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    if let Some(Step::Key { name, half: Half::Key }) = path.last_mut() {
                        *name = document.get(start..i).unwrap_or_default().to_owned();
                    }
                    text = None;
                }
                _ => {}
            }
            continue;
        }
        match b {
            b'"' => text = Some(i + 1),
            b'[' => path.push(Step::Index(0)),
            b'{' => path.push(Step::Key { name: String::new(), half: Half::Key }),
            b']' | b'}' => _ = path.pop(),
            b':' => {
                if let Some(Step::Key { half, .. }) = path.last_mut() {
                    *half = Half::Value;
                }
            }
            b',' => match path.last_mut() {
                Some(Step::Index(index)) => *index += 1,
                Some(Step::Key { half, .. }) => *half = Half::Key,
                None => {}
            },
            _ => {}
        }
    }
    let mut shown = String::new();
    for step in path {
        match step {
            Step::Index(index) => shown += &format!("[{index}]"),
            Step::Key { name, .. } if name.is_empty() => {}
            Step::Key { name, .. } if shown.is_empty() => shown = name,
            Step::Key { name, .. } => shown = format!("{shown}.{name}"),
        }
    }
    shown
}

enum Step {
    Index(usize),
    Key { name: String, half: Half },
}

/// Which half of a pair comes next.
enum Half {
    Key,
    Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_leads_to_where_the_document_breaks_off() {
        let document = r#"{"a": {"b\"c": [1, {"d": 2}, {"e": [] , "f": true}]},
 "g": "x"}"#;
        let at = |needle: &str| path_to(&document[..document.find(needle).unwrap() + needle.len()]);
        assert_eq!(at("{"), "");
        assert_eq!(at("[1"), "a.b\\\"c[0]");
        assert_eq!(at("\"d\": 2"), "a.b\\\"c[1].d");
        assert_eq!(at("true"), "a.b\\\"c[2].f");
        assert_eq!(at("\"g\""), "g");
        assert_eq!(at("\"x\""), "g");
        assert_eq!(at("\"x\"}"), "");
    }

    #[test]
    fn an_error_is_about_its_field() {
        use serde::Deserialize;
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Outer {
            #[allow(dead_code)]
            list: Vec<Inner>,
        }
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Inner {
            #[allow(dead_code)]
            word: String,
        }
        for (document, path) in [
            (r#"{"list": [{"word": 1}]}"#, "list[0].word"),
            (r#"{"list": [{"word": "a"}, {"word": 12, "x": 1}]}"#, "list[1].word"),
            ("{\"list\": [\n{\"word\": \"ä\"},\n{\"wörd\": \"a\"}]}", "list[1].wörd"),
            (r#"{"list": [{}]}"#, "list[0]"),
            (r#"{"list": [5]}"#, "list[0]"),
            (r#"{"list": 5}"#, "list"),
            (r#"{"list": [], "more": 1}"#, "more"),
            ("{}", ""),
        ] {
            let err = read::<Outer>(&mut document.as_bytes()).unwrap_err();
            assert_eq!(path_of(document, &err), path, "{document}: {err}");
        }
    }
}

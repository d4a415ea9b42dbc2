//! JSON: reading it in one way for all, so that the parser is in the binary once, and saying
//! where in a document a fault is.

use std::io::Read;

use serde::de::DeserializeOwned;

/// Reads one document to its end.
pub fn read<T: DeserializeOwned>(reader: &mut dyn Read) -> serde_json::Result<T> {
    serde_json::from_reader(reader)
}

/// The path of the field at a place in a document, such as `puller.tolerations[1].key`; empty
/// for the document itself. Lines and columns count from 1, as serde_json's errors do.
///
/// The crate serde_path_to_error knows the path by wrapping every deserializer, which made the
/// binary 90 KB larger.
pub fn path_at(document: &str, line: usize, column: usize) -> String {
    let before: usize = document.split_inclusive('\n').take(line.max(1) - 1).map(str::len).sum();
    let end = (before + column).min(document.len());
    let mut path: Vec<Step> = vec![];
    let mut text = None;
    let mut escaped = false;
    for (i, b) in document.bytes().enumerate().take(end) {
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
    fn the_path_leads_to_the_fault() {
        let document = r#"{"a": {"b\"c": [1, {"d": 2}, {"e": [] , "f": true}]},
 "g": "x"}"#;
        let at = |needle: &str| {
            let byte = document.find(needle).unwrap() + needle.len();
            let line = document[..byte].matches('\n').count() + 1;
            let column = byte - document[..byte].rfind('\n').map_or(0, |it| it + 1);
            path_at(document, line, column)
        };
        assert_eq!(at("{"), "");
        assert_eq!(at("[1"), "a.b\\\"c[0]");
        assert_eq!(at("\"d\": 2"), "a.b\\\"c[1].d");
        assert_eq!(at("true"), "a.b\\\"c[2].f");
        assert_eq!(at("\"g\""), "g");
        assert_eq!(at("\"x\""), "g");
        assert_eq!(at("\"x\"}"), "");
        assert_eq!(path_at("", 0, 0), "");
        assert_eq!(path_at("{\"a\": ", 9, 9), "a");
    }
}

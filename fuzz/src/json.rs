//! Changes of JSON documents that leave them JSON: those that libFuzzer makes of bytes seldom do.

use std::sync::LazyLock;

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

/// One change in so many is made of the bytes all the same.
const OF_BYTES: u32 = 4;

/// A text of so many bytes is not repeated.
const LONG: usize = 1000;

/// The words of `fuzz/words`, which escapes them as JSON does, without the quotes of some.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let lines = include_str!("../words").lines().filter(|it| it.starts_with('"'));
    let words = lines.map(|it| serde_json::from_str::<String>(it).expect("a word in quotes"));
    words.map(|it| it.trim_matches('"').to_owned()).collect()
});

/// Changes the document that starts at the offset, in place, and gives back the input's new
/// length. For libFuzzer's `fuzz_mutator!`.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32, offset: usize) -> usize {
    let document = data.get(offset..size).and_then(|it| serde_json::from_slice(it).ok());
    let Some(mut document) = document.filter(|_| !seed.is_multiple_of(OF_BYTES)) else {
        return fuzzer_mutate(data, size, most);
    };
    let mut chance = Chance(seed);
    let n_values = count(&document);
    for _ in 0..1 + chance.below(3) {
        if let Some(value) = nth(&mut document, &mut chance.below(n_values)) {
            change(value, &mut chance);
        }
    }
    let text = document.to_string();
    let end = offset + text.len();
    if end > most {
        return fuzzer_mutate(data, size, most);
    }
    data[offset..end].copy_from_slice(text.as_bytes());
    end
}

/// xorshift.
struct Chance(u32);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % bound.max(1)
    }

    fn word(&mut self) -> String {
        WORDS[self.below(WORDS.len())].clone()
    }
}

/// The number of values in a value, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// The value before which so many others begin.
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|it| nth(it, n)),
        Value::Object(fields) => fields.values_mut().find_map(|it| nth(it, n)),
        _ => None,
    }
}

fn change(value: &mut Value, chance: &mut Chance) {
    if chance.below(4) == 0 {
        *value = anything(chance);
        return;
    }
    match value {
        Value::Array(items) => {
            let at = chance.below(items.len());
            match chance.below(4) {
                0 => items.clear(),
                1 if !items.is_empty() => _ = items.remove(at),
                2 if !items.is_empty() => items.insert(at, items[at].clone()),
                _ => items.push(anything(chance)),
            }
        }
        Value::Object(fields) => {
            let at = chance.below(fields.len());
            let key = fields.keys().nth(at).cloned().unwrap_or_default();
            match chance.below(3) {
                0 => _ = fields.remove(&key),
                1 => _ = fields.insert(chance.word(), anything(chance)),
                _ => {
                    let value = fields.remove(&key).unwrap_or_default();
                    fields.insert(chance.word(), value);
                }
            }
        }
        Value::String(text) => {
            let at = text.floor_char_boundary(chance.below(text.len() + 1));
            match chance.below(5) {
                0 => *text = chance.word(),
                1 => text.truncate(at),
                2 => text.insert_str(at, &chance.word()),
                3 => text.insert(at, ['\n', '\0', '\u{1b}', 'é', ':', '{'][chance.below(6)]),
                _ if text.len() < LONG => *text = text.repeat(1 + chance.below(20)),
                _ => text.clear(),
            }
        }
        _ => *value = anything(chance),
    }
}

fn anything(chance: &mut Chance) -> Value {
    match chance.below(9) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(""),
        4 => json!(true),
        5 => json!(i64::MIN),
        6 => json!(u64::MAX),
        7 => json!(chance.below(3)),
        _ => json!(chance.word()),
    }
}

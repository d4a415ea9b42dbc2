//! `docs/report.schema.json` and `docs/report.md` describe the reports that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use prepull::report::Exit;
use serde_json::{Value, json};

use crate::schema::{Check, array, number, schema};
use crate::source::{files, read};

const DOCUMENT: &str = "docs/report.md";
/// The report that the document shows.
const EXAMPLE: &str = "tests/run/golden/moved-tag.txt";
/// One with something in most of its fields.
const FULL: &str = "tests/run/golden/left-out-dropped-late.txt";

/// The JSON of a report, which stands behind its lines.
fn report(golden: &str) -> Value {
    let text = read(golden);
    let json = text.find("\n{").unwrap_or_else(|| panic!("{golden} has no report in it"));
    serde_json::from_str(&text[json..]).unwrap_or_else(|err| panic!("{golden}: {err}"))
}

fn goldens() -> Vec<String> {
    let mut goldens = files("tests/run/golden");
    goldens.retain(|it| it.ends_with(".txt"));
    assert!(goldens.len() > 10, "the reports were not found");
    goldens
}

/// The fields of a schema, and each value of an `enum`, by their paths.
fn all_of(
    schema: &Value,
    path: &str,
    fields: &mut BTreeSet<String>,
    values: &mut BTreeSet<String>,
) {
    fields.insert(path.to_owned());
    let known = schema["enum"].as_array().into_iter().flatten();
    values.extend(known.map(|it| format!("{path} {it}")));
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        all_of(property, &format!("{path}.{key}"), fields, values);
    }
    if schema["items"].is_object() {
        all_of(&schema["items"], &format!("{path}[]"), fields, values);
    }
    if schema["additionalProperties"].is_object() {
        all_of(&schema["additionalProperties"], &format!("{path}.*"), fields, values);
    }
}

#[test]
fn every_report_is_of_the_schema_and_together_they_have_all_of_it() {
    let schema = schema();
    let mut check = Check::default();
    for golden in goldens() {
        check.value(&schema, &report(&golden), "");
        assert!(check.faults.is_empty(), "{golden}: {:#?}", check.faults);
    }
    let (mut fields, mut values) = (BTreeSet::new(), BTreeSet::new());
    all_of(&schema, "", &mut fields, &mut values);
    let unseen: Vec<_> = fields.difference(&check.seen).collect();
    assert!(unseen.is_empty(), "no report in tests/run/golden has {unseen:?}");
    let unseen: Vec<_> = values.difference(&check.values).collect();
    assert!(unseen.is_empty(), "no report in tests/run/golden has {unseen:?}");
}

#[test]
fn what_is_wrong_with_a_report_is_found() {
    let schema = schema();
    let good = report(FULL);
    for (pointer, value, fault) in [
        ("", Value::Null, "is of another type"),
        ("/exitCode", 4.into(), ".exitCode is none of those known"),
        ("/exitCode", "0".into(), ".exitCode is of another type"),
        ("/elapsedMilliseconds", 1.5.into(), ".elapsedMilliseconds is of another type"),
        ("/images/0/image", Value::Null, "[] lacks `image`"),
        ("/nodes/dropped/n10", 1.into(), ".nodes.dropped.* is of another type"),
        ("/nodes/leftOut/cordoned/0", 1.into(), ".nodes.leftOut.*[] is of another type"),
        ("/nodes/more", 1.into(), ".nodes has `more`"),
        (
            "/images/0/digests",
            json!([{"digest": "", "nodes": 1, "examples": ["a", "b", "c", "d", "e", "f"]}]),
            ".images[].digests[].examples is too long",
        ),
        (
            "/images/0/digests",
            json!([{"digest": "", "nodes": 0, "examples": []}]),
            ".images[].digests[].nodes is too small",
        ),
    ] {
        let mut bad = good.clone();
        match (bad.pointer_mut(pointer), pointer.rsplit_once('/')) {
            (Some(there), _) => *there = value,
            (None, Some((parent, key))) => bad.pointer_mut(parent).expect("a parent")[key] = value,
            (None, None) => panic!("the report is not there"),
        }
        let mut check = Check::default();
        check.value(&schema, &bad, "");
        assert!(check.faults.iter().any(|it| it.contains(fault)), "{fault}: {:?}", check.faults);
    }
}

/// The rows of the document's table: each field with its type and the schema's description.
fn rows(schema: &Value, path: &str, rows: &mut String) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let kind = property["type"].as_str().unwrap_or_else(|| panic!("`{path}` has no type"));
        let description = property["description"].as_str();
        let description = description.unwrap_or_else(|| panic!("nothing describes `{path}`"));
        let path = if kind == "array" { path + "[]" } else { path };
        *rows += &format!("| `{path}` | {kind} | {description} |\n");
        self::rows(if kind == "array" { &property["items"] } else { property }, &path, rows);
    }
}

#[test]
fn the_document_describes_every_field() {
    let mut table = String::from("| field | type | meaning |\n| --- | --- | --- |\n");
    rows(&schema(), "", &mut table);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-fields.md");
    fs::write(&file, &table).expect("cargo's temporary folder can be written");
    let document = read(DOCUMENT);
    let shown = document
        .split_once("<!-- fields -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /fields -->"))
        .map(|(shown, _)| shown);
    assert_eq!(
        shown,
        Some(table.as_str()),
        "put the content of {} between the two marks in {DOCUMENT}",
        file.display()
    );
}

#[test]
fn the_document_has_every_outcome_with_its_exit_code() {
    let document = read(DOCUMENT);
    let schema = schema();
    let outcomes: BTreeSet<_> =
        array(&schema["properties"]["outcome"]["enum"]).iter().filter_map(Value::as_str).collect();
    let mut described = BTreeSet::new();
    let section = document.split("## Outcomes\n").nth(1).and_then(|it| it.split("\n## ").next());
    for row in section.unwrap_or_default().lines().filter(|it| it.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let outcome = cells[0].trim_matches('`');
        let exit: u64 = cells[1].parse().unwrap_or_else(|_| panic!("no exit code in {row}"));
        let reports = goldens().into_iter().map(|it| report(&it));
        let mut exits =
            reports.filter(|it| it["outcome"] == outcome).map(|it| number(&it["exitCode"]));
        assert!(exits.any(|it| it == exit), "no report is `{outcome}` with exit code {exit}");
        described.insert(outcome);
    }
    assert_eq!(described, outcomes, "{DOCUMENT} and the schema know other outcomes");
}

#[test]
fn the_schema_has_every_exit_code() {
    let codes = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Deadline, Exit::Stopped];
    let codes: Vec<_> = codes.into_iter().map(|it| Value::from(it as u64)).collect();
    assert_eq!(array(&schema()["properties"]["exitCode"]["enum"]), &codes);
}

#[test]
fn the_example_is_a_report() {
    let document = read(DOCUMENT);
    let example = document.split("```json\n").nth(1).and_then(|it| it.split("```").next());
    let example = example.expect("the document has an example");
    let example: Value = serde_json::from_str(example).expect("the example is JSON");
    assert_eq!(example, report(EXAMPLE), "{DOCUMENT} shows another report than {EXAMPLE}");
}

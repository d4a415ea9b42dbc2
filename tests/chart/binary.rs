//! The binary understands what the chart tells it.

use std::ffi::OsString;
use std::fs;

use prepull::args::{Command, parse};
use serde_json::{Value, json};

use crate::helm::{Release, Rendered, root};

#[test]
fn the_binary_accepts_every_file_of_ci() {
    for entry in fs::read_dir(root().join("chart/ci")).expect("chart/ci is in the checkout") {
        let mut release = Release::with(json!({}));
        release.file = Some(entry.expect("its entries can be read").path());
        let rendered = release.render();
        if rendered.find("Job").is_some() {
            accept(&rendered);
        }
    }
}

#[test]
fn the_binary_accepts_every_field_of_the_schema() {
    let schema: Value =
        serde_json::from_str(&crate::helm::read("chart/values.schema.json")).expect("is JSON");
    let example = example(&schema, &schema);
    let values = json!({
        "images": [example["images"][0], "app:1"],
        "puller": example["puller"],
    });
    accept(&Release::with(values).render());
}

/// A value of this schema in which every property is there.
fn example(schema: &Value, root: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.strip_prefix('#').expect("the schema refers to itself only");
        return example(root.pointer(pointer).expect("it is defined"), root);
    }
    if let Some(choices) = schema["enum"].as_array() {
        return choices.last().expect("there is a choice").clone();
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return example(choices.last().expect("there is a choice"), root);
    }
    match schema["type"].as_str() {
        Some("array") => json!([example(&schema["items"], root)]),
        Some("boolean") => json!(true),
        Some("integer") => json!(schema["minimum"].as_i64().unwrap_or(7)),
        Some("object") => match schema["properties"].as_object() {
            Some(properties) => {
                properties.iter().map(|(key, it)| (key.clone(), example(it, root))).collect()
            }
            None => json!({"key": "7"}),
        },
        _ => json!("text"),
    }
}

fn accept(rendered: &Rendered) {
    let arguments: Vec<OsString> = rendered.arguments().into_iter().map(Into::into).collect();
    match parse(arguments, &|_| None) {
        Ok(Command::Run(_)) => {}
        Ok(_) => panic!("another command"),
        Err(err) => panic!("{err}: {:?}", rendered.arguments()),
    }
}

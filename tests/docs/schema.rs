//! Holds reports against `docs/report.schema.json`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

pub fn schema() -> Value {
    let schema = include_str!("../../docs/report.schema.json");
    serde_json::from_str(schema).expect("the schema is JSON")
}

/// What a value has seen of a schema and found wrong with itself.
#[derive(Default)]
pub struct Check {
    /// The fields that were there, lists and objects with something in them.
    pub seen: BTreeSet<String>,
    /// Each value of an `enum` that was there.
    pub values: BTreeSet<String>,
    pub faults: Vec<String>,
}

impl Check {
    /// Holds a value against the part of JSON Schema that our schema uses, and refuses a schema
    /// that uses more.
    pub fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        let mut fault = |what: &str| self.faults.push(format!("{path} {what}: {value}"));
        if schema["type"] != type_of(value) {
            return fault("is of another type");
        }
        for (keyword, operand) in object(schema) {
            match keyword.as_str() {
                "$schema"
                | "additionalProperties"
                | "description"
                | "items"
                | "properties"
                | "title"
                | "type" => {}
                "enum" if !array(operand).contains(value) => fault("is none of those known"),
                "enum" => _ = self.values.insert(format!("{path} {value}")),
                "maxItems" if array(value).len() as u64 > number(operand) => fault("is too long"),
                "minimum" if number(value) < number(operand) => fault("is too small"),
                "required" => {
                    let keys = array(operand).iter().filter_map(Value::as_str);
                    keys.filter(|it| value[it].is_null())
                        .for_each(|it| fault(&format!("lacks `{it}`")));
                }
                "maxItems" | "minimum" => {}
                other => panic!("`{other}` of the schema is not checked here"),
            }
        }
        self.seen.insert(path.to_owned());
        match value {
            Value::Array(items) => {
                items.iter().for_each(|it| self.value(&schema["items"], it, &format!("{path}[]")));
            }
            Value::Object(fields) => self.fields(schema, fields, path),
            _ => {}
        }
    }

    fn fields(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        for (key, value) in fields {
            match (&schema["properties"][key], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => {
                    self.faults.push(format!("{path} has `{key}`"))
                }
                (Value::Null, of_any_name) => self.value(of_any_name, value, &format!("{path}.*")),
                (property, _) => self.value(property, value, &format!("{path}.{key}")),
            }
        }
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object"))
}

pub fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
        Value::Number(it) if it.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::Object(_) => "object",
        Value::String(_) => "string",
    }
}

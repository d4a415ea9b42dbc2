//! The rights that the documents tell of are those that the chart grants.

use std::collections::BTreeSet;

use prepull::kube::Limits;
use serde_json::Value;

use crate::source::read;

const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Where a right hangs on a value, in the template and in the documents.
const CONDITION: &str = "{{ if .Values.stallTimeout }}";
const IF_ASKED: &str = "only with `stallTimeout`";

/// A verb on a resource, and whether it is there only if asked for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Right {
    scope: &'static str,
    resource: String,
    verb: String,
    condition: &'static str,
}

/// What the chart grants.
fn granted() -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (file, scope) in [("clusterrole", "cluster"), ("role", "namespace")] {
        let template = read(&format!("chart/templates/{file}.yaml"));
        let (_, rules) = template.split_once("\nrules:\n").expect("a role has rules");
        let rules = rules.trim_end().strip_suffix("{{- end }}").expect("the role is conditional");
        let always = rights_of(&without_conditions(rules), scope, "");
        let all = rights_of(&with_conditions(rules), scope, "");
        let asked_for = all.difference(&always).cloned();
        rights.extend(asked_for.map(|it| Right { condition: IF_ASKED, ..it }));
        rights.extend(always);
    }
    rights
}

fn without_conditions(rules: &str) -> String {
    let (before, rest) = rules.split_once(CONDITION).unwrap_or((rules, "{{ end }}"));
    let (_, behind) = rest.split_once("{{ end }}").expect("a condition ends");
    format!("{before}{behind}")
}

fn with_conditions(rules: &str) -> String {
    rules.replacen(CONDITION, "", 1).replacen("{{ end }}", "", 1)
}

fn rights_of(rules: &str, scope: &'static str, condition: &'static str) -> BTreeSet<Right> {
    assert!(!rules.contains("{{ if"), "a condition that is not known: {rules}");
    // What else is filled in are names, which are no matter here.
    let rules: String = rules
        .split("{{")
        .map(|it| it.split_once("}}").map_or(it.to_owned(), |(_, behind)| format!("NAME{behind}")))
        .collect();
    let rules: Value = yaml_serde::from_str(&rules).expect("rules are YAML");
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().expect("rules are a list") {
        let texts = |key: &str| {
            let list = rule[key].as_array().cloned().unwrap_or_default();
            list.into_iter().map(|it| it.as_str().expect("a text").to_owned()).collect::<Vec<_>>()
        };
        let by_name = if texts("resourceNames").is_empty() { "" } else { ", its own by name" };
        for resource in texts("resources") {
            let resource = format!("{resource}{by_name}");
            for verb in texts("verbs") {
                rights.insert(Right { scope, resource: resource.clone(), verb, condition });
            }
        }
    }
    rights
}

/// What a table with the columns scope, resource and verbs says.
fn told(document: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for row in document.lines() {
        let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let scope = match cells[0] {
            "cluster" => "cluster",
            "namespace" => "namespace",
            _ => continue,
        };
        let condition = if row.contains(IF_ASKED) { IF_ASKED } else { "" };
        for verb in cells[2].split(", ") {
            assert!(VERBS.contains(&verb), "`{verb}` is no verb: {row}");
            let (resource, verb) = (cells[1].to_owned(), verb.to_owned());
            rights.insert(Right { scope, resource, verb, condition });
        }
    }
    rights
}

#[test]
fn the_documents_tell_of_the_rights_that_the_chart_grants() {
    let granted = granted();
    assert!(granted.iter().any(|it| it.condition == IF_ASKED), "the condition was not found");
    for document in ["SECURITY.md", "README.md"] {
        assert_eq!(told(&read(document)), granted, "{document} and the chart do not agree");
    }
}

#[test]
fn the_bounds_of_answers_are_told() {
    let limits = Limits::default();
    let [object, page] = [limits.object_bytes, limits.list_bytes].map(|it| it >> 20);
    let told = format!("An answer may have {object} MiB, a page of a list {page} MiB,");
    assert!(read("SECURITY.md").contains(&told), "SECURITY.md does not say: {told}");
}

//! Names: valid, short enough and never shared, whatever the release and its chart are called.

use std::collections::BTreeSet;

use serde_json::json;

use crate::helm::{Release, Rendered};
use crate::rules;

#[test]
fn names_tell_the_release_and_the_chart() {
    for (release, values, expected) in [
        ("demo", json!({}), "demo-prepull"),
        // Not `prepull` alone: a parent chart may have given that name to an object of its own.
        ("prepull", json!({}), "prepull-prepull"),
        ("demo", json!({"nameOverride": "images"}), "demo-images"),
        ("demo", json!({"fullnameOverride": "images"}), "images"),
        ("demo", json!({"fullnameOverride": "images", "nameOverride": "other"}), "images"),
    ] {
        let rendered = render(release, values);
        assert_eq!(rendered.only("Job")["metadata"]["name"], expected);
        assert_eq!(rendered.only("Role")["metadata"]["name"], expected);
        let cluster_name = &rendered.only("ClusterRole")["metadata"]["name"];
        assert_eq!(*cluster_name, format!("apps:{expected}"));
    }
}

#[test]
fn any_release_gets_valid_names() {
    let long = "a".repeat(53);
    let longer = "b".repeat(300);
    for (release, values) in [
        (long.as_str(), json!({})),
        (&format!("{}.b", &long[2..]), json!({})),
        (&format!("{}-b", &long[..29]), json!({})),
        (&long, json!({"nameOverride": longer})),
        (&long, json!({"fullnameOverride": longer})),
        (&long, json!({"fullnameOverride": "-".repeat(300).replacen('-', "a", 1) + "a"})),
        ("1", json!({})),
        ("1", json!({"fullnameOverride": "1"})),
        ("1e3", json!({"fullnameOverride": "1e3"})),
        ("null", json!({"fullnameOverride": "null"})),
        ("true", json!({"fullnameOverride": "true"})),
        ("a.b", json!({})),
        ("a", json!({"fullnameOverride": "a.b"})),
    ] {
        rules::check(&render(release, values));
    }
}

#[test]
fn different_releases_get_different_names() {
    let long = "a".repeat(52);
    let releases =
        ["a.b", "a-b", "a", "b", &format!("{long}1"), &format!("{long}2"), &long, &long[1..]];
    let names: BTreeSet<_> = releases
        .iter()
        .map(|it| render(it, json!({})).only("Job")["metadata"]["name"].to_string())
        .collect();
    assert_eq!(names.len(), releases.len(), "{names:?}");
}

#[test]
fn cluster_wide_names_differ_between_namespaces() {
    let long = "n".repeat(62);
    let releases = [
        ("apps", "a"),
        ("apps", "b"),
        ("other", "a"),
        // Joined by a hyphen, these two would be the same.
        ("x", "y-z"),
        ("x-y", "z"),
        // Together, these are longer than a name may be.
        (&format!("{long}1"), "a"),
        (&format!("{long}1"), "b"),
        (&format!("{long}2"), "a"),
    ];
    let mut names = BTreeSet::new();
    for (namespace, name) in releases {
        let mut release = Release::with(json!({"images": ["app:1"]}));
        release.name = name.into();
        release.namespace = namespace.into();
        let rendered = release.render();
        let name = rendered.only("ClusterRole")["metadata"]["name"].as_str();
        let name = name.expect("a name is text").to_owned();
        assert!(name.len() <= 63, "`{name}`");
        assert!(names.insert(name), "{namespace} {names:?}");
    }
}

fn render(release: &str, mut values: serde_json::Value) -> Rendered {
    values["images"] = json!(["app:1"]);
    let mut asked = Release::with(values);
    asked.name = release.into();
    asked.render()
}

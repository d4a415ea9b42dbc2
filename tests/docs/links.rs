//! Links between the documents lead somewhere.

use std::path::Path;

use crate::source::{files, read};

#[test]
fn links_lead_somewhere() {
    let mut n_links = 0;
    for document in documents() {
        let text = read(&document);
        for target in targets(&text) {
            n_links += 1;
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = match path {
                "" => document.clone(),
                path => beside(&document, path),
            };
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&there);
            assert!(file.exists(), "{document} links to `{target}`, which is not there");
            let has_heading =
                heading.is_empty() || headings(&read(&there)).contains(&heading.into());
            assert!(has_heading, "{document} links to `{target}`, which has no such heading");
        }
    }
    assert!(n_links > 10, "the links were not found");
}

fn documents() -> Vec<String> {
    let mut documents = files("docs");
    documents.retain(|it| it.ends_with(".md"));
    documents.extend(["CONTRIBUTING.md", "README.md", "SECURITY.md"].map(String::from));
    documents
}

/// The targets of links within the repository.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|it| it.split_once(')'));
    links.map(|(target, _)| target).filter(|it| !it.contains("://"))
}

/// A path as a document names it, from the root of the repository.
fn beside(document: &str, path: &str) -> String {
    let mut parts: Vec<_> = document.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The headings of a document as links name them.
fn headings(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|it| it.starts_with('#'));
    let letters = |it: &str| {
        let heading = it.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|it| it.is_alphanumeric() || *it == '-').collect()
    };
    headings.map(letters).collect()
}

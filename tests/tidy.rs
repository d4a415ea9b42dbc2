//! What holds of the source as a whole, checked by reading it.

use std::fs;
use std::path::{Path, PathBuf};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The modules that may see a socket, a clock or a signal.
const SHELL: [&str; 6] =
    ["src/clock.rs", "src/hold.rs", "src/kube", "src/main.rs", "src/run/drive.rs", "src/tell.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// The source files without their tests, by their path from the root.
fn sources() -> Vec<(String, String)> {
    let mut files = vec![];
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            files.push((name, code.to_owned()));
        }
    }
    assert!(files.len() > 10, "the sources were not found");
    files
}

/// Lines of code, not of comments, that have this in them.
fn lines_with<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter(move |it| !it.trim_start().starts_with("//") && it.contains(word))
}

#[test]
fn pure_modules_are_pure() {
    let impure = [
        "crate::kube",
        "std::net",
        "Instant",
        "SystemTime::now",
        "thread::",
        "signal_hook",
        "ureq",
        "rustls",
    ];
    for (name, text) in sources() {
        if SHELL.iter().any(|it| name.starts_with(it)) {
            continue;
        }
        for word in impure {
            let found: Vec<_> = lines_with(&text, word).collect();
            assert!(found.is_empty(), "{name} is to be pure, but has {found:?}");
        }
    }
    for shell in SHELL {
        assert!(root().join(shell).exists(), "{shell} is gone: the list above is stale");
    }
}

#[test]
fn only_the_run_creates_and_deletes() {
    for (name, text) in sources() {
        if name.starts_with("src/kube") || name.starts_with("src/run/") || name == "src/cluster.rs"
        {
            continue;
        }
        for word in ["create_puller", "delete_puller", "patch_puller"] {
            assert_eq!(lines_with(&text, word).count(), 0, "{name} calls {word}");
        }
    }
}

#[test]
fn only_main_ends_the_process() {
    for (name, text) in sources() {
        if name == "src/main.rs" {
            continue;
        }
        for word in ["process::exit", "process::abort", "ExitCode", "panic!", "todo!"] {
            let found: Vec<_> = lines_with(&text, word).collect();
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }
}

/// Of the program, of all its tests, and of what feeds its parsers.
#[test]
fn the_compiler_forbids_unsafe_code() {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let text = read(manifest);
        let lints = text.split("\n[lints.rust]\n").nth(1).unwrap_or_default();
        let lints = lints.split("\n[").next().unwrap_or_default();
        assert!(lints.lines().any(|it| it == "unsafe_code = \"forbid\""), "{manifest}");
    }
}

#[test]
fn nothing_shows_debug_output_to_users() {
    for (name, text) in sources() {
        for word in ["{:?}", ":?}", "dbg!", "eprintln!"] {
            let found: Vec<_> = lines_with(&text, word).collect();
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }
}

#[test]
fn main_is_one_screen() {
    let code = read("src/main.rs").lines().count();
    assert!(code <= 80, "main.rs has {code} lines");
}

#[test]
fn the_versions_agree() {
    let chart = read("chart/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {VERSION}\n")), "chart/Chart.yaml: version");
    let app_version = chart.lines().find_map(|it| it.strip_prefix("appVersion:")).unwrap();
    assert_eq!(app_version.trim().trim_matches('"'), VERSION, "chart/Chart.yaml: appVersion");
    assert!(read("CHANGELOG.md").contains(&format!("\n## {VERSION}")), "CHANGELOG.md");
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = read("Cargo.toml");
    for (heading, least) in [("[dependencies]\n", 6), ("[dev-dependencies]\n", 2)] {
        let section = manifest.split(heading).nth(1).unwrap();
        let section = section.split("\n[").next().unwrap();
        let mut comment = false;
        let mut n_dependencies = 0;
        for line in section.lines().filter(|it| !it.is_empty()) {
            if line.starts_with('#') {
                comment = true;
            } else if line.contains(" = ") && !line.starts_with([' ', ']']) {
                assert!(comment, "Cargo.toml: no reason beside `{line}`");
                n_dependencies += 1;
                comment = false;
            }
        }
        assert!(n_dependencies >= least, "{heading}: they were not found");
    }
}

#[test]
fn the_readme_has_the_help_text() {
    let help = prepull::args::HELP;
    assert!(read("README.md").contains(help), "README.md has another text than prepull --help");
}

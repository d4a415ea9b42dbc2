//! Runs helm 3 and helm 4 and reads what they render.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubelet;

/// Both, because users have either: Helm 3 renders and sorts in its own code.
pub const HELMS: [Helm; 2] = [
    Helm { name: "helm3", variable: "PREPULL_HELM3" },
    Helm { name: "helm4", variable: "PREPULL_HELM4" },
];

/// A version of helm: its name on the path, or the environment variable that says where it is.
#[derive(Clone, Copy)]
pub struct Helm {
    pub name: &'static str,
    variable: &'static str,
}

impl Helm {
    /// Runs helm without regard to what the user has configured: no repositories, no plugins.
    pub fn run(self, arguments: &[&str], input: &Value) -> Output {
        let program = env::var_os(self.variable).unwrap_or_else(|| self.name.into());
        let home = scratch("helm").join(self.name);
        let mut command = Command::new(&program);
        for (name, _) in env::vars_os().filter(|(name, _)| is_helm_setting(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| {
                panic!(
                    "cannot run `{}`: {err}; put {} on the path or name it in ${}",
                    program.display(),
                    self.name,
                    self.variable
                )
            });
        // Helm closes its input early when it finds a mistake before it needs the values.
        let _ = child.stdin.take().expect("is piped").write_all(input.to_string().as_bytes());
        child.wait_with_output().expect("a child that was started can be waited for")
    }

    /// Runs helm and panics with what it said if it fails.
    pub fn succeed(self, arguments: &[&str], input: &Value) -> String {
        let output = self.run(arguments, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments:?} failed: {stderr}", self.name);
        String::from_utf8(output.stdout).expect("helm writes UTF-8")
    }
}

/// What `helm template` is asked to render.
pub struct Release {
    pub name: String,
    pub namespace: String,
    /// The chart, one folder for each of [`HELMS`], which is the same unless they have built it.
    pub charts: [PathBuf; 2],
    /// A file of values that the others are put on top of.
    pub file: Option<PathBuf>,
    pub values: Value,
    /// The API groups that the cluster is to have beside those helm takes for granted.
    pub api_versions: &'static str,
}

impl Release {
    /// A release of our chart alone.
    pub fn with(values: Value) -> Self {
        let chart = root().join("chart");
        Self {
            name: "demo".into(),
            namespace: "apps".into(),
            charts: [chart.clone(), chart],
            file: None,
            values,
            api_versions: "",
        }
    }

    /// Renders with each helm and panics unless they agree.
    pub fn render(&self) -> Rendered {
        let [three, four] = [0, 1].map(|index| {
            let chart = self.charts[index].to_str().expect("the checkout's path is text");
            objects(&HELMS[index].succeed(&self.arguments(chart), &self.values))
        });
        assert_eq!(three, four, "helm 3 and helm 4 render different objects");
        Rendered { objects: three }
    }

    /// What each helm says about values that it must refuse.
    pub fn refusals(&self) -> [String; 2] {
        [0, 1].map(|index| {
            let chart = self.charts[index].to_str().expect("the checkout's path is text");
            let output = HELMS[index].run(&self.arguments(chart), &self.values);
            let name = HELMS[index].name;
            assert!(!output.status.success(), "{name} accepts {}", self.values);
            String::from_utf8(output.stderr).expect("helm writes UTF-8")
        })
    }

    fn arguments<'a>(&'a self, chart: &'a str) -> Vec<&'a str> {
        let mut arguments = vec!["template", &self.name, chart];
        arguments.extend(["--namespace", &self.namespace, "--values", "-"]);
        // A helm that was built from its Go module takes Kubernetes to be 1.20.
        arguments.extend(["--kube-version", "1.36.0"]);
        if let Some(file) = &self.file {
            // Later files win, so that this one must stand before the standard input.
            let file = file.to_str().expect("the checkout's path is text");
            arguments.splice(3..3, ["--values", file]);
        }
        if !self.api_versions.is_empty() {
            arguments.extend(["--api-versions", self.api_versions]);
        }
        arguments
    }
}

/// The objects of one rendering, ordered by kind and name.
#[derive(Debug)]
pub struct Rendered {
    pub objects: Vec<Value>,
}

impl Rendered {
    /// The only object of its kind, if there is one.
    pub fn find(&self, kind: &str) -> Option<&Value> {
        let mut found = self.objects.iter().filter(|it| it["kind"] == kind);
        let object = found.next();
        assert!(found.next().is_none(), "more than one {kind}");
        object
    }

    /// The only object of its kind.
    pub fn only(&self, kind: &str) -> &Value {
        self.find(kind).unwrap_or_else(|| panic!("no {kind} is rendered"))
    }

    /// The arguments of the Job's container as the process gets them.
    pub fn arguments(&self) -> Vec<String> {
        arguments(self.only("Job"))
    }

    /// The structured settings as the process gets them.
    pub fn settings(&self) -> Value {
        settings(self.only("Job"))
    }
}

/// The arguments of a Job's container as the process gets them.
pub fn arguments(job: &Value) -> Vec<String> {
    let arguments = job["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
    arguments
        .expect("the container has arguments")
        .iter()
        .map(|it| kubelet::expand(it.as_str().expect("an argument is text"), kubelet::VARIABLES))
        .collect()
}

/// The structured settings of a Job as the process gets them.
pub fn settings(job: &Value) -> Value {
    let arguments = arguments(job);
    let document = arguments.iter().find_map(|it| it.strip_prefix("--settings="));
    let document = document.expect("the settings are given");
    serde_json::from_str(document).expect("the settings are JSON")
}

/// The top of the checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// An existing folder for the test of this name.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart").join(name);
    fs::create_dir_all(&folder).expect("cargo's temporary folder can be written");
    folder
}

/// Reads a file of the checkout.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|err| panic!("cannot read `{path}`: {err}"))
}

/// Reads one YAML document. It goes through the YAML crate's own value, which refuses a key that
/// stands twice in a map.
pub fn parse(document: &str) -> Value {
    let value: yaml_serde::Value = yaml_serde::from_str(document).expect("helm writes YAML");
    serde_json::to_value(value).expect("keys are text")
}

/// Makes `{"a": {"b": value}}` of the path `a.b`.
pub fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |inner, key| json!({ key: inner }))
}

/// Puts values on top of others as helm does: maps are joined, anything else is replaced, and null
/// removes.
pub fn overlay(base: &mut Value, values: &Value) {
    let (Some(base), Some(values)) = (base.as_object_mut(), values.as_object()) else {
        unreachable!("only maps are joined");
    };
    for (key, value) in values {
        match base.get_mut(key) {
            _ if value.is_null() => drop(base.remove(key)),
            Some(inner) if inner.is_object() && value.is_object() => overlay(inner, value),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

fn objects(stream: &str) -> Vec<Value> {
    let documents = yaml_serde::Deserializer::from_str(stream);
    let mut objects: Vec<_> = documents
        .map(|it| yaml_serde::Value::deserialize(it).expect("helm writes YAML"))
        .map(|it| serde_json::to_value(it).expect("keys are text"))
        .filter(|it| !it.is_null())
        .collect();
    objects.sort_by_key(|it| format!("{}/{}", it["kind"], it["metadata"]["name"]));
    objects
}

fn is_helm_setting(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with("HELM_")
}

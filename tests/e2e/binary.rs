//! The binary itself, outside the cluster, with the options for that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{cluster, text};
use crate::command::{Finished, Running, run, start};
use crate::scenario::Scenario;

/// A run without a helm around it.
pub const RUN: Duration = Duration::from_secs(180);

impl Scenario {
    /// Runs the binary against the cluster's API server.
    pub fn prepull(&self, arguments: &[&str]) -> Finished {
        self.end(self.start_prepull(arguments))
    }

    pub fn start_prepull(&self, arguments: &[&str]) -> Running {
        start(&mut self.prepull_command(arguments))
    }

    /// The binary with the rights of the cluster's administrator.
    pub fn prepull_command(&self, arguments: &[&str]) -> Command {
        self.prepull_with(&self.kubeconfig("{.users[0].user.token}", "token"), arguments)
    }

    /// The binary with the token of a file.
    pub fn prepull_with(&self, token: &Path, arguments: &[&str]) -> Command {
        let mut command = self.prepull_at(cluster().variable("PREPULL_CLUSTER_API"), arguments);
        command
            .arg("--certificate-authority")
            .arg(self.kubeconfig("{.clusters[0].cluster.certificate-authority-data}", "ca"))
            .arg("--token-file")
            .arg(token);
        command
    }

    /// The binary without a token, for a server that wants none.
    pub fn prepull_at(&self, server: &str, arguments: &[&str]) -> Command {
        let own_image = format!("prepull:{}", cluster().tag);
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepull"));
        command.args(arguments).args(["--server", server, "--puller-image", &own_image]);
        if !arguments.contains(&"--namespace") {
            command.args(["--namespace", &self.ns]);
        }
        command
    }

    /// Waits for a run that was started.
    pub fn end(&self, run: Running) -> Finished {
        self.heard(run.wait(RUN))
    }

    /// A file with a value of the kubeconfig.
    fn kubeconfig(&self, path: &str, name: &str) -> PathBuf {
        let file = self.folder.join(name);
        // Another run of the test may be reading it.
        if file.exists() {
            return file;
        }
        let output = format!("--output=jsonpath={path}");
        let value = cluster().kubectl(&["config", "view", "--raw", &output]);
        let file = self.private_file(name, &value);
        if path.ends_with("-data}") {
            let decoded = run(Command::new("base64").arg("--decode").arg(&file), RUN).succeeded();
            fs::write(&file, decoded.stdout).expect("the file is ours");
        }
        file
    }

    /// A file that nobody else may read.
    pub fn private_file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        fs::write(&file, text).expect("the folder is ours");
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("the file is ours");
        file
    }
}

/// A Job in the place of the hook's, whose pod the run would be. It waits for ever by itself.
pub fn waiting_job(name: &str) -> Value {
    job(name, json!({"suspend": true}))
}

/// A Job whose pod does nothing, with these fields besides.
pub fn job(name: &str, mut spec: Value) -> Value {
    spec["template"] = json!({"spec": {
        "containers": [{"image": "registry.k8s.io/pause:3.10", "name": "pause"}],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
    }});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
}

/// What the downward API tells a pod of its Job.
pub fn as_pod_of(job: &Value) -> [(&'static str, String); 2] {
    let meta = &job["metadata"];
    [("PREPULL_JOB_NAME", "name"), ("PREPULL_JOB_UID", "uid")]
        .map(|(variable, field)| (variable, text(&meta[field]).into()))
}

/// The option that keeps a run to these nodes.
pub fn only_on(nodes: &[&str]) -> String {
    with_puller(json!({}), nodes)
}

/// The option with these settings of the puller's pods, and to keep a run to these nodes.
pub fn with_puller(mut puller: Value, nodes: &[&str]) -> String {
    let names = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": nodes});
    puller["affinity"] = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [names]}
        ]}
    }});
    format!("--settings={}", json!({"puller": puller}))
}

/// The lines of a report.
pub fn lines(ended: &Finished) -> Vec<String> {
    ended.stdout.lines().map(Into::into).collect()
}

//! The binary itself, outside the cluster, with the options for that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::cluster;
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
        let cluster = cluster();
        let own_image = format!("prepull:{}", cluster.tag);
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepull"));
        command
            .args(arguments)
            .args(["--server", cluster.variable("PREPULL_CLUSTER_API")])
            .arg("--certificate-authority")
            .arg(self.kubeconfig("{.clusters[0].cluster.certificate-authority-data}", "ca"))
            .arg("--token-file")
            .arg(self.kubeconfig("{.users[0].user.token}", "token"))
            .args(["--puller-image", &own_image]);
        if !arguments.contains(&"--namespace") {
            command.args(["--namespace", &self.ns]);
        }
        start(&mut command)
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
        fs::write(&file, &value).expect("the folder is ours");
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("the file is ours");
        if path.ends_with("-data}") {
            let decoded = run(Command::new("base64").arg("--decode").arg(&file), RUN).succeeded();
            fs::write(&file, decoded.stdout).expect("the file is ours");
        }
        file
    }
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

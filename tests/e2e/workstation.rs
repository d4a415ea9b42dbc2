//! The binary itself, outside the cluster, with the options for that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::audit::Mark;
use crate::cluster::{SlowNodes, cluster};
use crate::command::{Finished, Running, run, start};
use crate::scenario::{Scenario, expect_line};

/// A run without a helm around it.
const RUN: Duration = Duration::from_secs(120);

#[test]
fn a_namespace_that_does_not_exist_is_named() {
    let scenario = Scenario::without_helm("nowhere");
    let image = scenario.image("one");
    let ns = format!("{}-missing", scenario.ns);
    let mark = Mark::now();

    let ended = prepull(&scenario, &["run", "--namespace", &ns, &image]).wait(RUN);

    assert_eq!(ended.code, Some(2), "{}", ended.said());
    let said = ended.said();
    let lines: Vec<_> = said.lines().collect();
    let [line] = lines.as_slice() else { panic!("not one line: {said}") };
    let words = format!("namespace `{ns}` does not exist: create it or choose another");
    assert!(line.ends_with(&words), "{line}");
    assert!(cluster().names(&["daemonsets", "--namespace", &ns]).is_empty());
    assert_eq!(mark.nodes_of_pods(&ns), [""; 0]);
}

#[test]
fn check_looks_and_changes_nothing() {
    let scenario = Scenario::without_helm("check");
    let image = scenario.image("one");
    let mark = Mark::now();

    let ended = prepull(&scenario, &["check", &image]).wait(RUN);

    assert_eq!(ended.code, Some(1), "{}", ended.said());
    let lines: Vec<_> = ended.stdout.lines().map(Into::into).collect();
    // A node with very many images can not tell, and counts apart.
    expect_line(&lines, &[&format!("{image}: absent on ")]);
    assert!(verdict(&ended).starts_with("missing: "), "{}", ended.said());
    assert_eq!(mark.pullers_created(&scenario.ns), [""; 0]);

    // What every node has is present; kubelet would not run without it.
    let pause = "registry.k8s.io/pause:3.10";
    let ended = prepull(&scenario, &["check", pause]).wait(RUN).succeeded();
    assert_eq!(verdict(&ended), format!("present: 3 nodes had `{pause}` already"));
}

#[test]
fn a_run_that_nothing_owns_says_so_and_leaves_nothing() {
    let scenario = Scenario::without_helm("unowned");
    let image = scenario.image("one");

    let ended = prepull(&scenario, &["run", &image]).wait(RUN).succeeded();

    for node in &cluster().nodes {
        let there = cluster().images_on(node);
        assert!(there.contains(&format!("docker.io/{image}")), "{node}: {there:?}");
    }
    let verdict = verdict(&ended);
    assert!(verdict.starts_with(&format!("ready: `{image}` on 3 nodes after ")), "{verdict}");
    let note = "note: nothing owns the puller: ";
    assert!(ended.stdout.lines().any(|it| it.starts_with(note)), "{}", ended.said());
    scenario.until_only(&[], Duration::from_secs(30));
}

#[test]
fn a_run_that_is_told_to_stop_cleans_up() {
    let node = SlowNodes::one();
    let scenario = Scenario::without_helm("stopped");
    let image = scenario.slow_image("slow", 12);
    let selector = format!(
        r#"{{"puller": {{"nodeSelector": {{"kubernetes.io/hostname": "{}"}}}}}}"#,
        node.name()
    );
    let running = prepull(&scenario, &["run", "--settings", &selector, &image]);
    scenario.until_event("Pulling", &format!("\"{image}\""));

    running.terminate();
    let ended = running.wait(Duration::from_secs(15));

    assert_eq!(ended.code, Some(143), "{}", ended.said());
    assert!(verdict(&ended).starts_with("stopped by a signal after "), "{}", ended.said());
    assert!(scenario.names(&["daemonsets"]).is_empty());
    scenario.until_only(&[], Duration::from_secs(60));
}

/// Starts the binary against the cluster's API server.
fn prepull(scenario: &Scenario, arguments: &[&str]) -> Running {
    let cluster = cluster();
    let own_image = format!("prepull:{}", cluster.tag);
    let mut command = Command::new(env!("CARGO_BIN_EXE_prepull"));
    command
        .args(arguments)
        .args(["--server", cluster.variable("PREPULL_CLUSTER_API")])
        .arg("--certificate-authority")
        .arg(kubeconfig(scenario, "{.clusters[0].cluster.certificate-authority-data}", "ca"))
        .arg("--token-file")
        .arg(kubeconfig(scenario, "{.users[0].user.token}", "token"))
        .args(["--puller-image", &own_image]);
    if !arguments.contains(&"--namespace") {
        command.args(["--namespace", &scenario.ns]);
    }
    start(&mut command)
}

/// Writes a value of the kubeconfig into a file.
fn kubeconfig(scenario: &Scenario, path: &str, name: &str) -> PathBuf {
    let output = format!("--output=jsonpath={path}");
    let value = cluster().kubectl(&["config", "view", "--raw", &output]);
    let file = scenario.folder.join(name);
    fs::write(&file, &value).expect("the folder is ours");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("the file is ours");
    if path.ends_with("-data}") {
        let decoded = run(Command::new("base64").arg("--decode").arg(&file), RUN).succeeded();
        fs::write(&file, decoded.stdout).expect("the file is ours");
    }
    file
}

fn verdict(ended: &Finished) -> &str {
    ended.stdout.lines().last().unwrap_or_default()
}

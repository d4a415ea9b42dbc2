//! An image that does not exist, beside two that take long.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::cluster::{cluster, moment, text};
use crate::command::Finished;
use crate::scenario::{Helm, Scenario};
use crate::turn::ReservedNodes;

with_helm_3_and_4!(helm_fails_soon_when_it_is_listed_first, helm_fails_soon_when_it_is_listed_last);

/// From kubelet's first word about it until helm's end.
const SOON: Duration = Duration::from_secs(30);
/// Long enough for a look at the failed Job.
const TTL: Duration = Duration::from_secs(8);
/// Until a controller has acted upon the TTL.
const REMOVAL: Duration = Duration::from_secs(20);
/// Until the pulls that were under way have ended: kubelet breaks none off.
const PULLS: Duration = Duration::from_secs(60);

fn helm_fails_soon_when_it_is_listed_first(helm: Helm) {
    let _nodes = ReservedNodes::all();
    let scenario = Scenario::new("bad-first", helm);
    let bad = format!("{}/nope:1", scenario.ns);
    let slow = ["one", "two"].map(|it| scenario.slow_image(it, 20));
    install_fails(&scenario, &bad, &[&bad, &slow[0], &slow[1]]);
}

fn helm_fails_soon_when_it_is_listed_last(helm: Helm) {
    let _nodes = ReservedNodes::all();
    let scenario = Scenario::new("bad-last", helm);
    let bad = format!("{}/nope:1", scenario.ns);
    let slow = ["one", "two"].map(|it| scenario.slow_image(it, 20));
    install_fails(&scenario, &bad, &[&slow[0], &slow[1], &bad]);
}

fn install_fails(scenario: &Scenario, bad: &str, images: &[&str]) {
    let values = json!({"images": images, "job": {"ttlSecondsAfterFinished": TTL.as_secs()}});
    let failed = scenario.helm("install", values, &[]).failed();

    let hooks = scenario.pods(&format!("job-name={}-prepull", scenario.release));
    let (staying, going) = scenario.objects_and_their_end();
    let job = format!("job.batch/{}-prepull", scenario.release);
    let pod = format!("pod/{}-prepull-", scenario.release);
    assert_eq!(staying.len(), 2, "more or less than the failed Job and its pod: {staying:?}");
    assert!(staying.iter().all(|it| *it == job || it.starts_with(&pod)), "{staying:?}");
    assert!(going.iter().all(|it| it.starts_with("pod/")), "{going:?}");

    let took = failed.ended.duration_since(first_failure(scenario, bad)).unwrap_or_default();
    println!("{}: helm failed {took:?} after kubelet's first word", scenario.release);
    assert!(took <= SOON, "helm failed {took:?} after kubelet's first word");
    check_words(scenario, bad, &failed, &hooks);

    scenario.until_only(&["pod/"], TTL + REMOVAL);
    scenario.until_only(&[], PULLS);
}

fn first_failure(scenario: &Scenario, image: &str) -> SystemTime {
    let events = scenario.events("Failed", &format!("\"{image}\""));
    let moments = events.iter().map(|it| moment(&it["firstTimestamp"]));
    moments.min().expect("kubelet has told of the failed pull")
}

/// In helm's output, in the last words of the hook's pod and in an event of its Job.
fn check_words(scenario: &Scenario, image: &str, failed: &Finished, hooks: &[Value]) {
    let report = scenario.report(failed);
    let verdict = report.iter().find(|it| it.starts_with("failed: "));
    let verdict = verdict.unwrap_or_else(|| panic!("no verdict in {report:?}"));
    let name = format!("docker.io/{image}");
    let words = format!(": failed to resolve image: {name}: not found");
    for wanted in [image, &words].into_iter().chain(cluster().nodes.iter().map(String::as_str)) {
        assert!(verdict.contains(wanted), "no `{wanted}` in `{verdict}`");
    }
    let [hook] = hooks else { panic!("not one pod of the hook: {hooks:?}") };
    let last_words =
        text(&hook["status"]["containerStatuses"][0]["state"]["terminated"]["message"]);
    assert_eq!(last_words.lines().next(), Some(verdict.as_str()), "{last_words}");
    let events = scenario.events("ImagesMissing", verdict);
    assert!(events.iter().any(|it| it["involvedObject"]["kind"] == "Job"), "{events:?}");
}

//! What pods and DaemonSets show, one status after the other, and what events tell of them, in
//! words that a real cluster and the model have in common.

use std::collections::BTreeSet;

use prepull::evidence::{ContainerStatus, PodStatus};
use prepull::puller::Puller;

/// Whether a pod is to stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    Ends,
    Stays,
}

/// What differs between two statuses of a pod that follow each other. Of one that ends, which its
/// kubelet and others write about in any order, it is what the second one shows.
pub fn steps(before: &PodStatus, after: &PodStatus, life: Life) -> BTreeSet<String> {
    let phase = |it: &PodStatus| format!("{} {}", it.phase, it.reason).trim_end().to_owned();
    let mut steps = BTreeSet::from([(String::new(), phase(before), phase(after))]);
    for (kind, before, after) in [
        (" init container", &before.init_container_statuses, &after.init_container_statuses),
        (" container", &before.container_statuses, &after.container_statuses),
    ] {
        for status in after {
            let earlier = before.iter().find(|it| it.name == status.name);
            steps.insert((kind.into(), earlier.map_or("none".into(), state), state(status)));
        }
    }
    match life {
        Life::Ends => {
            let steps = steps.into_iter().map(|(kind, _, to)| {
                format!("pod that ends{kind}: {}", to.trim_end_matches(WITH_IMAGE_ID))
            });
            steps.collect()
        }
        Life::Stays => {
            steps.retain(|(_, before, after)| before != after);
            let steps = steps.into_iter();
            steps.map(|(kind, from, to)| format!("pod{kind}: {from} -> {to}")).collect()
        }
    }
}

/// The image id of a pod that ends may be there no more.
const WITH_IMAGE_ID: &str = ", image id";

fn state(it: &ContainerStatus) -> String {
    let state = match (&it.state.waiting, &it.state.terminated) {
        (Some(waiting), _) => format!("waiting {}", waiting.reason),
        (_, Some(terminated)) => format!("terminated {}", terminated.reason),
        _ if it.state.running.is_some() => "running".into(),
        _ => "none".into(),
    };
    if it.image_id.is_empty() { state } else { state + WITH_IMAGE_ID }
}

/// What differs between two versions of a DaemonSet that follow each other, in its numbers.
pub fn step_of_set(before: &Puller, after: &Puller) -> Option<String> {
    let (before, after) = (numbers(before), numbers(after));
    (before != after).then(|| format!("DaemonSet: {before} -> {after}"))
}

/// What a run goes by: whether the controller has seen the last change, and on how many of the
/// nodes that it wants a pod on one is ready.
fn numbers(it: &Puller) -> String {
    let status = &it.status;
    if status.observed_generation < it.metadata.generation {
        let seen = if status.observed_generation == 0 { "nothing" } else { "an older one" };
        return format!("{seen} observed");
    }
    let ready = match (status.number_ready, status.desired_number_scheduled) {
        (0, _) => "none",
        (ready, wanted) if ready < wanted => "some",
        _ => "all",
    };
    let wants = if status.desired_number_scheduled == 0 { "wants none, " } else { "" };
    format!("{wants}{ready} ready")
}

/// Whether an event is new, or the count of one has grown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Growth {
    Again,
    New,
}

/// What a warning tells, up to the first name in it.
pub fn step_of_event(about: &str, reason: &str, message: &str, growth: Growth) -> String {
    let words = message.split('"').next().unwrap_or_default().trim_end();
    let again = match growth {
        Growth::Again => ", again",
        Growth::New => "",
    };
    format!("event of a {about}: {reason}: {words}{again}")
}

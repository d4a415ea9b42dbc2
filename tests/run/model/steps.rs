//! What pods show, one status after the other, in words that the pods of a real cluster and those
//! of the model have in common.

use std::collections::BTreeSet;

use prepull::evidence::{ContainerStatus, PodStatus};

/// What differs between two statuses of a pod that follow each other.
pub fn steps(before: &PodStatus, after: &PodStatus, pod: &str) -> BTreeSet<String> {
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
    steps.retain(|(_, before, after)| before != after);
    steps.into_iter().map(|(kind, from, to)| format!("{pod}{kind}: {from} -> {to}")).collect()
}

fn state(it: &ContainerStatus) -> String {
    let state = match (&it.state.waiting, &it.state.terminated) {
        (Some(waiting), _) => format!("waiting {}", waiting.reason),
        (_, Some(terminated)) => format!("terminated {}", terminated.reason),
        _ if it.state.running.is_some() => "running".into(),
        _ => "none".into(),
    };
    if it.image_id.is_empty() { state } else { state + ", image id" }
}

//! An upgrade on nodes whose lists have every image already.

use serde_json::json;

use crate::audit::Mark;
use crate::cluster::cluster;
use crate::image_forms::Forms;
use crate::scenario::{Helm, Scenario, verdict};

with_helm_3_and_4!(nothing_is_made_for_images_that_are_listed);

fn nothing_is_made_for_images_that_are_listed(helm: Helm) {
    let scenario = Scenario::new("fast", helm);
    let forms = Forms::push(&scenario);
    scenario.helm("install", json!({"images": forms.images}), &[]).succeeded();
    let nodes = cluster().all_nodes();
    cluster().until_listed(&nodes, &forms.names);

    let mark = Mark::now();
    let upgraded = scenario.helm("upgrade", json!({"images": forms.images}), &[]).succeeded();
    assert_eq!(mark.pullers_created(&scenario.ns), [""; 0], "everything was listed");
    assert_eq!(mark.nodes_of_pods(&scenario.ns), [""; 0], "everything was listed");
    let requests = mark.requests_from(&scenario.ns);
    let (answered, refused): (Vec<_>, Vec<_>) = requests.iter().partition(|it| it.2 == 200);
    assert_eq!(answered.len(), 1, "one look at the nodes is enough: {requests:?}");
    // A binding that was made moments ago may take a second to work.
    let is_look = |it: &&(String, String, u64)| (it.0.as_str(), it.1.as_str()) == ("list", "nodes");
    assert!(answered.iter().all(is_look), "{requests:?}");
    assert!(refused.iter().all(|it| is_look(it) && it.2 == 403), "{requests:?}");
    let report = scenario.report(&upgraded);
    assert_eq!(verdict(&report), "ready: 3 nodes had 5 images already");

    // The same question has another answer when one image is missing.
    let mut images = forms.images.clone();
    images.push(scenario.image("missing"));
    let mark = Mark::now();
    scenario.helm("upgrade", json!({"images": images}), &[]).succeeded();
    let created = mark.pullers_created(&scenario.ns);
    assert_eq!(created.len(), 1, "one image was missing: {created:?}");
    assert_eq!(mark.nodes_of_pods(&scenario.ns), nodes, "one image was missing");
}

//! Images that go to nodes of their own, and several pods that share those of a node.

use serde_json::{Value, json};

use crate::audit::Mark;
use crate::binary::lines;
use crate::cluster::cluster;
use crate::scenario::{Scenario, verdict};
use crate::turn::ReservedNodes;

#[test]
fn several_pods_share_the_images_of_a_node() {
    let scenario = Scenario::without_helm("shared");
    let images = ["one", "two", "three"].map(|it| scenario.image(it));
    let [one, two, three] = images.each_ref().map(String::as_str);
    let mark = Mark::now();

    let ended = scenario.prepull(&["run", "--pods-per-node=2", one, two, three]).succeeded();

    let report = lines(&ended);
    assert!(verdict(&report).starts_with("ready: 3 images on 3 nodes "), "{report:?}");
    let names = images.each_ref().map(|it| format!("docker.io/{it}"));
    cluster().expect_held(&cluster().all_nodes(), &names.each_ref().map(String::as_str));
    let n_pullers = mark.pullers_created(&scenario.ns).len();
    assert_eq!(n_pullers, 2, "one DaemonSet for each of the pods of a node");
    assert_eq!(mark.nodes_of_pods(&scenario.ns).len(), 2 * cluster().nodes.len());
}

#[test]
fn an_image_goes_to_the_nodes_that_it_is_meant_for() {
    let reserved = ReservedNodes::one();
    let scenario = Scenario::without_helm("meant");
    let node = reserved.name();
    let [selected, required, everywhere] =
        ["selected", "required", "everywhere"].map(|it| scenario.image(it));
    let name = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let affinity = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [name]}
        ]}
    }});
    let settings = json!({"images": [
        {"image": selected, "nodeSelector": {"kubernetes.io/hostname": node}},
        {"image": required, "affinity": affinity},
        everywhere,
    ]});

    let arguments = ["run", "--output=json", &format!("--settings={settings}")];
    let ended = scenario.prepull(&arguments).succeeded();

    let report = ended.stdout.lines().last().expect("it has the report");
    let report: Value = serde_json::from_str(report).expect("it is JSON");
    for (place, n_nodes) in [(0, 1), (1, 1), (2, 3)] {
        assert_eq!(report["images"][place]["pulled"], n_nodes, "{report:#}");
    }
    let [selected, required, everywhere] =
        [selected, required, everywhere].map(|it| format!("docker.io/{it}"));
    cluster().expect_held(&[node], &[&selected, &required]);
    cluster().expect_held(&cluster().all_nodes(), &[&everywhere]);
    for other in cluster().nodes.iter().filter(|it| *it != node) {
        for image in [&selected, &required] {
            assert_eq!(cluster().digest_on(other, image), None, "{image} on {other}");
        }
    }
}

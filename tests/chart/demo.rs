//! The chart as others use it: as a dependency. `hack/demo` is the worked example.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::helm::{self, HELMS, Helm, Release, Rendered, overlay, parse, read, root, scratch};
use crate::rules;

#[test]
fn the_demo_waits_for_the_images_of_its_deployment() {
    let rendered = Release { charts: demo("images"), ..Release::with(json!({})) }.render();
    let images = rendered.settings()["images"].clone();
    assert_eq!(
        images,
        json!(["demo-scratch:1", "docker.io/library/demo-web:1", "quay.io/demo/worker:1"])
    );
    assert_eq!(images, images_of(rendered.only("Deployment")));
    rules::check(&hooks(rendered));
}

#[test]
fn an_image_of_the_demo_is_changed_in_one_place() {
    let values = json!({"global": {"images": {"worker": "quay.io/demo/misspelt:1"}}});
    let rendered = Release { charts: demo("change"), ..Release::with(values) }.render();
    let images = rendered.settings()["images"].clone();
    assert_eq!(images[2], "quay.io/demo/misspelt:1");
    assert_eq!(images, images_of(rendered.only("Deployment")));
}

#[test]
fn the_demo_can_do_without() {
    for values in [json!({"prepull": {"enabled": false}}), json!({"prepull": {"images": []}})] {
        let rendered = Release { charts: demo("without"), ..Release::with(values) }.render();
        let kinds: Vec<_> = rendered.objects.iter().map(|it| &it["kind"]).collect();
        assert_eq!(kinds, ["Deployment"]);
    }
}

#[test]
fn the_demos_own_pods_are_restricted_too() {
    let rendered = Release { charts: demo("restricted"), ..Release::with(json!({})) }.render();
    let pod = &rendered.only("Deployment")["spec"]["template"]["spec"];
    assert_eq!(rules::restricted_violations(pod), Vec::<String>::new());
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(3));
}

#[test]
fn helm_finds_nothing_to_complain_about_in_the_demo() {
    for (helm, chart) in HELMS.iter().zip(demo("lint")) {
        let chart = chart.to_str().expect("the checkout's path is text");
        helm.succeed(&["lint", "--strict", chart], &Value::Null);
    }
}

/// A dependency's values are checked like our own, and so are those that take a default away.
#[test]
fn a_parents_mistakes_are_refused() {
    for (values, complaint) in [
        (json!({"prepull": {"imgaes": []}}), "'imgaes' not allowed"),
        (json!({"prepull": {"image": null}}), "missing property 'image'"),
    ] {
        let release = Release { charts: demo("mistakes"), ..Release::with(values) };
        for refusal in release.refusals() {
            assert!(refusal.contains(complaint), "{refusal}");
        }
    }
}

#[test]
fn a_parent_can_take_defaults_away() {
    let values = json!({"prepull": {
        "job": {"labels": {"sidecar.istio.io/inject": null}, "ttlSecondsAfterFinished": null},
        "puller": {"annotations": null, "podSecurityContext": {"runAsUser": null}},
    }});
    let rendered = Release { charts: demo("defaults"), ..Release::with(values) }.render();
    let job = rendered.only("Job")["spec"].clone();
    assert_eq!(job["ttlSecondsAfterFinished"], Value::Null);
    let labels = &job["template"]["metadata"]["labels"];
    assert_eq!(*labels, json!({"app.kubernetes.io/name": "prepull"}));
    let puller = &rendered.settings()["puller"];
    assert_eq!(puller["annotations"], Value::Null);
    assert_eq!(puller["podSecurityContext"]["runAsUser"], Value::Null);
    assert_eq!(puller["podSecurityContext"]["runAsNonRoot"], true);
}

/// What our messages and documents say of it is helm's doing.
#[test]
fn a_template_sees_the_release_and_not_the_parents_other_values() {
    let image = "r/{{ .Release.Name }}{{ .Values.replicas }}:{{ .Values.global.images | len }}-\
                 {{ .Capabilities.KubeVersion.Major }}-{{ .Chart.Name }}";
    let values = json!({"prepull": {"images": [image]}});
    let rendered = Release { charts: demo("seen"), ..Release::with(values) }.render();
    assert_eq!(rendered.settings()["images"], json!(["r/demo:3-1-prepull"]));

    let values = json!({"prepull": {"images": ["{{ .Values.web.image }}"]}});
    let release = Release { charts: demo("unseen"), ..Release::with(values) };
    for refusal in release.refusals() {
        let words = "error during tpl function execution for \"{{ .Values.web.image }}\"";
        assert!(refusal.contains(words), "{refusal}");
        assert!(refusal.contains("nil pointer evaluating interface {}.image"), "{refusal}");
    }
}

#[test]
fn the_readmes_example_waits_for_its_images() {
    let readme = read("README.md");
    let blocks: Vec<_> =
        readme.split("```yaml\n").skip(1).filter_map(|it| it.split("```").next()).collect();
    let [dependencies, values, puller] = blocks[..] else { panic!("other examples: {blocks:?}") };
    let mut chart = parse(dependencies);
    overlay(&mut chart, &json!({"apiVersion": "v2", "name": "parent", "version": "1.0.0"}));
    let place = format!("file://{}", root().join("chart").display());
    chart["dependencies"][0]["repository"] = json!(place);
    let charts = HELMS.map(|helm| {
        let parent = empty_folder(&format!("readme-{}", helm.name));
        write(&parent, "Chart.yaml", &chart.to_string());
        write(&parent, "values.yaml", values);
        build(helm, &parent);
        parent
    });

    let rendered = Release { charts: charts.clone(), ..Release::with(parse(puller)) }.render();
    let settings = rendered.settings();
    assert_eq!(
        settings["images"],
        json!(["docker.io/library/postgres:17", "registry.example/app:1"])
    );
    assert_eq!(settings["puller"]["nodeSelector"], json!({"pool": "apps"}));
    let own = "--puller-image=registry.example/prepull:0.1.0";
    assert!(rendered.arguments().contains(&own.into()), "{:?}", rendered.arguments());

    let without = Release { charts, ..Release::with(json!({"global": {"app": ""}})) };
    for refusal in without.refusals() {
        assert!(refusal.contains("set global.app, the image of the app"), "{refusal}");
    }
}

/// One parent with the chart in it twice, under two aliases, and with helpers of its own.
#[test]
fn a_chart_may_be_a_dependency_more_than_once() {
    let dependencies = ["prepull", "gpuImages"].map(|alias| {
        json!({
            "name": "prepull",
            "alias": alias,
            "version": "0.x",
            "repository": format!("file://{}", root().join("chart").display()),
            "condition": format!("{alias}.enabled"),
        })
    });
    let chart = json!({
        "apiVersion": "v2",
        "name": "parent",
        "version": "1.0.0",
        "dependencies": dependencies,
    });
    let values = json!({
        "global": {"registry": "registry.example"},
        "prepull": {"images": ["{{ include \"parent.images\" . }}"]},
        "gpuImages": {
            "images": [{"image": "{{ .Values.global.registry }}/gpu:1", "tolerations": []}],
        },
    });
    let helpers = "{{- define \"parent.images\" }}{{ range list \"a:1\" \"b:1\" }}\
                   {{ $.Values.global.registry }}/{{ . }}\n{{ end }}{{ end }}";
    let charts = HELMS.map(|helm| {
        let parent = empty_folder(&format!("alias-{}", helm.name));
        write(&parent, "Chart.yaml", &chart.to_string());
        write(&parent, "values.yaml", &values.to_string());
        write(&parent.join("templates"), "_helpers.tpl", helpers);
        build(helm, &parent);
        parent
    });
    let rendered = Release { charts: charts.clone(), ..Release::with(json!({})) }.render();
    let names: BTreeSet<_> = rendered
        .objects
        .iter()
        .map(|it| (&it["kind"], &it["metadata"]["name"]))
        .map(pair)
        .collect();
    assert_eq!(names.len(), 12, "six objects each: {names:?}");

    let jobs: Vec<_> = rendered.objects.iter().filter(|it| it["kind"] == "Job").collect();
    let images: Vec<_> = jobs.iter().map(|it| helm::settings(it)["images"].clone()).collect();
    assert!(images.contains(&json!(["registry.example/a:1", "registry.example/b:1"])));
    assert!(images.contains(&json!([{"image": "registry.example/gpu:1", "tolerations": []}])));

    for off in ["prepull", "gpuImages"] {
        let values = json!({ off: {"enabled": false} });
        let one = Release { charts: charts.clone(), ..Release::with(values) }.render();
        assert_eq!(one.objects.len(), 6);
        rules::check(&one);
    }
}

fn pair((kind, name): (&Value, &Value)) -> String {
    format!("{kind} {name}")
}

/// The hooks among the objects.
fn hooks(mut rendered: Rendered) -> Rendered {
    rendered.objects.retain(|it| it["metadata"]["annotations"]["helm.sh/hook"].is_string());
    rendered
}

/// The images of a Deployment's containers, sorted.
fn images_of(deployment: &Value) -> Value {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let images = containers.into_iter().flatten().map(|it| it["image"].to_string());
    let images: BTreeSet<_> = images.collect();
    images.iter().map(|it| serde_json::from_str::<Value>(it).expect("is JSON")).collect()
}

/// Copies of the demo, with the dependency as each helm builds it. The checkout stays as it is.
fn demo(test: &str) -> [PathBuf; 2] {
    HELMS.map(|helm| {
        let copy = empty_folder(&format!("demo-{test}-{}", helm.name));
        // The demo names the chart by its place next to it.
        let hack = copy.join("hack");
        fs::create_dir_all(&hack).expect("cargo's temporary folder can be written");
        copy_folder(&root().join("chart"), &copy);
        copy_folder(&root().join("hack/demo"), &hack);
        let demo = hack.join("demo");
        build(helm, &demo);
        demo
    })
}

fn build(helm: Helm, chart: &Path) {
    let chart = chart.to_str().expect("the checkout's path is text");
    helm.succeed(&["dependency", "update", chart], &Value::Null);
}

/// A folder in which nothing is left from the last time.
fn empty_folder(name: &str) -> PathBuf {
    let folder = scratch(name);
    fs::remove_dir_all(&folder).expect("cargo's temporary folder can be written");
    scratch(name)
}

fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-RL").args([from, to]).status();
    assert!(status.expect("cp runs").success(), "cannot copy `{}`", from.display());
}

fn write(folder: &Path, name: &str, content: &str) {
    fs::create_dir_all(folder).expect("cargo's temporary folder can be written");
    fs::write(folder.join(name), content).expect("cargo's temporary folder can be written");
}

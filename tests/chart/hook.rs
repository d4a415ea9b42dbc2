//! Which objects there are, and the rights they grant.

use serde_json::{Value, json};

use crate::helm::Release;
use crate::rules;

#[test]
fn everything_is_a_hook_and_the_job_comes_last() {
    let rendered = Release::with(json!({"images": ["app:1"]})).render();
    let kinds: Vec<_> = rendered.objects.iter().map(|it| &it["kind"]).collect();
    assert_eq!(
        kinds,
        ["ClusterRole", "ClusterRoleBinding", "Job", "Role", "RoleBinding", "ServiceAccount"]
    );
    rules::check(&rendered);
}

#[test]
fn without_images_there_is_nothing() {
    for values in [
        json!({}),
        json!({"images": []}),
        json!({"images": [""]}),
        json!({"images": ["{{ .Values.global.missing }}", " \n"]}),
        json!({"images": [{"image": "{{ if false }}app:1{{ end }}"}]}),
        json!({"images": null}),
        json!({"images": ["app:1"], "enabled": false}),
    ] {
        let rendered = Release::with(values.clone()).render();
        assert!(rendered.objects.is_empty(), "{values} makes objects");
    }
}

#[test]
fn the_rights_are_exactly_those_that_are_used() {
    let rendered = Release::with(json!({"images": ["app:1"]})).render();
    assert_eq!(
        rendered.only("ClusterRole")["rules"],
        json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "get"]}])
    );
    assert_eq!(
        rendered.only("Role")["rules"],
        json!([
            {
                "apiGroups": ["apps"],
                "resources": ["daemonsets"],
                "verbs": ["create", "get", "list", "delete", "patch"],
            },
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "create"]},
            {
                "apiGroups": ["batch"],
                "resources": ["jobs"],
                "resourceNames": ["demo-prepull"],
                "verbs": ["get"],
            },
        ])
    );
    // Only who asks for pods to be made anew grants what that needs.
    let rendered = Release::with(json!({"images": ["app:1"], "stallTimeout": "1m"})).render();
    assert_eq!(rendered.only("Role")["rules"][1]["verbs"], json!(["list", "delete"]));
}

#[test]
fn rights_that_are_there_already_are_not_made() {
    for (values, missing) in [
        (json!({"rbac": {"cluster": false}}), vec!["ClusterRole", "ClusterRoleBinding"]),
        (
            json!({"rbac": {"create": false}}),
            vec!["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
        ),
        (json!({"serviceAccount": {"create": false}}), vec!["ServiceAccount"]),
    ] {
        let mut release = Release::with(values);
        release.values["images"] = json!(["app:1"]);
        let rendered = release.render();
        rules::check(&rendered);
        for kind in
            ["ClusterRole", "ClusterRoleBinding", "Job", "Role", "RoleBinding", "ServiceAccount"]
        {
            assert_eq!(rendered.find(kind).is_none(), missing.contains(&kind), "{kind}");
        }
    }
}

#[test]
fn the_service_account_has_the_name_that_is_asked_for() {
    for (account, expected) in [
        (json!({}), "demo-prepull"),
        (json!({"name": "own"}), "own"),
        (json!({"create": false}), "default"),
        (json!({"create": false, "name": "own"}), "own"),
    ] {
        let rendered =
            Release::with(json!({"images": ["app:1"], "serviceAccount": account})).render();
        rules::check(&rendered);
        let pod = &rendered.only("Job")["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], expected, "{account}");
    }
}

#[test]
fn the_token_is_for_the_hook_alone() {
    let rendered = Release::with(json!({"images": ["app:1"]})).render();
    let pod = &rendered.only("Job")["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], Value::Bool(true));
    let account = rendered.only("ServiceAccount");
    assert_eq!(account["automountServiceAccountToken"], Value::Bool(false));
}

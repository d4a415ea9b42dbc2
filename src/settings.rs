//! The structured settings: one JSON document in Kubernetes' own field names.
//!
//! Types are written out rather than passed through, so that a misspelt field is refused here,
//! with its path, and not by an API server in the middle of somebody's install, or, worse, by
//! nobody: the API server drops unknown fields of a DaemonSet with a mere warning.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::json;
use crate::node::{ControlPlane, NodeAffinity, Toleration};

/// The whole document. An empty value of any field means that the field is not set.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    pub images: Vec<ImageEntry>,
    pub control_plane: ControlPlane,
    pub puller: PullerSettings,
}

/// An image: its reference alone, or with settings of its own.
#[derive(Debug)]
pub struct ImageEntry {
    /// As it was written.
    pub image: String,
    /// Empty where the reference stood alone.
    pub settings: ImageSettings,
}

/// What one image has in place of what all have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ImageSettings {
    image: String,
    /// Empty for the one that Kubernetes would choose.
    pub pull_policy: String,
    /// Instead of the puller's, where not empty.
    pub node_selector: BTreeMap<String, String>,
    /// Instead of the puller's, where not empty.
    pub affinity: Affinity,
    /// Instead of the puller's, where given at all: an empty list tolerates nothing.
    pub tolerations: Option<Vec<Toleration>>,
}

/// What the pods on the nodes are given, in the words of a pod spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PullerSettings {
    pub affinity: Affinity,
    pub annotations: BTreeMap<String, String>,
    pub image_pull_secrets: Vec<LocalObjectReference>,
    pub labels: BTreeMap<String, String>,
    pub node_selector: BTreeMap<String, String>,
    pub pod_security_context: PodSecurityContext,
    pub priority_class_name: String,
    pub resources: ResourceRequirements,
    pub security_context: SecurityContext,
    pub service_account_name: String,
    pub tolerations: Vec<Toleration>,
}

/// A pod's affinity, of which a puller takes the part about nodes; the parts about other pods
/// are refused rather than ignored.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Affinity {
    pub node_affinity: Option<NodeAffinity>,
}

/// A Secret in the puller's namespace.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LocalObjectReference {
    pub name: String,
}

/// Of every container of the puller.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ResourceRequirements {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}

/// A resource quantity, which YAML authors write with or without quotes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity(pub String);

/// Of the puller's pods, handed on as it is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PodSecurityContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_armor_profile: Option<Profile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group_change_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub se_linux_options: Option<SeLinuxOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<Profile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<i64>,
}

/// Of every container of the puller, handed on as it is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SecurityContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_armor_profile: Option<Profile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proc_mount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub se_linux_options: Option<SeLinuxOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<Profile>,
}

/// A seccomp or AppArmor profile.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Profile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localhost_profile: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
}

/// Linux capabilities, without `CAP_`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

/// The SELinux label of a process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeLinuxOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Settings {
    /// Reads the document. The error names the path of the field that is wrong, what is wrong
    /// with it, and where it is a name, the names that are known.
    pub fn parse(document: &str) -> Result<Self, String> {
        json::read(&mut document.as_bytes()).map_err(|err| {
            let cause = err.to_string();
            // The place in the text says less than the path.
            let cause = cause.split(" at line ").next().unwrap_or_default();
            match json::path_of(document, &err).as_str() {
                "" => cause.to_owned(),
                path => format!("`{path}`: {cause}"),
            }
        })
    }
}

impl<'de> Deserialize<'de> for ImageEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ImageVisitor)
    }
}

/// Accepts both forms of an entry. A derived `untagged` enum would do the same, but forgets the
/// path and the cause of an error inside.
struct ImageVisitor;

impl<'de> Visitor<'de> for ImageVisitor {
    type Value = ImageEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an image reference or an object with the field `image`")
    }

    fn visit_str<E: de::Error>(self, image: &str) -> Result<ImageEntry, E> {
        Ok(ImageEntry { image: image.into(), settings: ImageSettings::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ImageEntry, A::Error> {
        let settings = ImageSettings::deserialize(MapAccessDeserializer::new(map))?;
        if settings.image.is_empty() {
            return Err(de::Error::missing_field("image"));
        }
        Ok(ImageEntry { image: settings.image.clone(), settings })
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity such as `100m` or `64Mi`")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
        Ok(Quantity(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
        Ok(Quantity(number.to_string()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        Ok(Quantity(text.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
        Ok(Quantity(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn error(document: &str) -> String {
        let error = Settings::parse(document).unwrap_err();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn an_unknown_field_is_refused_at_any_depth() {
        for (document, path) in [
            (r#"{"image": []}"#, "image"),
            (r#"{"images": [{"image": "a", "tag": "1"}]}"#, "images[0].tag"),
            (r#"{"images": ["a", {"image": "b", "affinity": {"x": 1}}]}"#, "images[1].affinity.x"),
            (r#"{"puller": {"nodeSelectors": {}}}"#, "puller.nodeSelectors"),
            (r#"{"puller": {"affinity": {"podAffinity": {}}}}"#, "puller.affinity.podAffinity"),
            (
                r#"{"puller": {"affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {}, {"matchExpressions": [{"key": "a", "operator": "In", "value": ["b"]}]}
                    ]}}}}}"#,
                "puller.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.\
                 nodeSelectorTerms[1].matchExpressions[0].value",
            ),
            (
                r#"{"puller": {"tolerations": [{"key": "a"}, {"keys": "b"}]}}"#,
                "puller.tolerations[1].keys",
            ),
            (
                r#"{"puller": {"podSecurityContext": {"seccompProfile": {"type": "x", "y": 1}}}}"#,
                "puller.podSecurityContext.seccompProfile.y",
            ),
            (
                r#"{"puller": {"securityContext": {"capabilities": {"Drop": []}}}}"#,
                "puller.securityContext.capabilities.Drop",
            ),
            (
                r#"{"puller": {"imagePullSecrets": [{"name": "a", "namespace": "b"}]}}"#,
                "puller.imagePullSecrets[0].namespace",
            ),
            (r#"{"puller": {"resources": {"request": {}}}}"#, "puller.resources.request"),
        ] {
            let error = error(document);
            assert!(error.starts_with(&format!("`{path}`: unknown field")), "{path}: {error}");
        }
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_path() {
        for (document, path) in [
            (r#"{"images": "a"}"#, "images"),
            (r#"{"images": [7]}"#, "images[0]"),
            (r#"{"images": [{"image": 7}]}"#, "images[0].image"),
            (r#"{"controlPlane": "yes"}"#, "controlPlane"),
            (r#"{"puller": {"tolerations": {}}}"#, "puller.tolerations"),
            (r#"{"puller": {"labels": {"a": 1}}}"#, "puller.labels.a"),
            (
                r#"{"puller": {"resources": {"limits": {"cpu": true}}}}"#,
                "puller.resources.limits.cpu",
            ),
            (
                r#"{"puller": {"podSecurityContext": {"runAsUser": "0"}}}"#,
                "puller.podSecurityContext.runAsUser",
            ),
        ] {
            let error = error(document);
            assert!(error.starts_with(&format!("`{path}`")), "{path}: {error}");
        }
        for document in ["", "null", "7", "{", r#"{"images": []} x"#] {
            assert!(!error(document).is_empty(), "{document}");
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        let missing = error(r#"{"images": [{"pullPolicy": "Always"}]}"#);
        assert!(missing.contains("images[0]") && missing.contains("`image`"), "{missing}");
        let missing = error(r#"{"puller": {"imagePullSecrets": [{}]}}"#);
        assert!(missing.contains("imagePullSecrets[0]") && missing.contains("`name`"), "{missing}");
    }

    #[test]
    fn an_image_is_a_reference_or_has_settings() {
        let document = r#"{"images": ["a:1", {
            "image": "b:1", "pullPolicy": "Never", "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}]
        }, {"image": "c:1", "tolerations": []}]}"#;
        let images = Settings::parse(document).unwrap().images;
        let names: Vec<_> = images.iter().map(|it| it.image.as_str()).collect();
        assert_eq!(names, ["a:1", "b:1", "c:1"]);
        let none = |it: &ImageEntry| it.settings.tolerations.as_ref().map(Vec::len);
        assert_eq!(images.iter().map(none).collect::<Vec<_>>(), [None, Some(1), Some(0)]);
        assert_eq!(images[1].settings.pull_policy, "Never");
        assert_eq!(images[1].settings.node_selector["pool"], "gpu");
    }

    #[test]
    fn an_empty_document_sets_nothing() {
        let settings = Settings::parse("{}").unwrap();
        assert!(settings.images.is_empty());
        assert_eq!(settings.control_plane, ControlPlane::Include);
        assert_eq!(settings.puller.resources, ResourceRequirements::default());
    }

    fn quantity(written: &str) -> String {
        let document =
            format!(r#"{{"puller": {{"resources": {{"limits": {{"x": {written}}}}}}}}}"#);
        Settings::parse(&document).unwrap().puller.resources.limits["x"].0.clone()
    }

    #[test]
    fn a_quantity_is_text_or_a_number() {
        for (written, read) in [
            (r#""100m""#, "100m"),
            (r#""64Mi""#, "64Mi"),
            ("2", "2"),
            ("0", "0"),
            ("134217728", "134217728"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(quantity(written), read);
        }
    }

    #[test]
    fn a_list_in_the_wrong_place_is_named_itself() {
        for (document, path) in [
            (r#"{"puller": {"labels": []}}"#, "puller.labels"),
            (
                r#"{"puller": {"resources": {"limits": {"cpu": []}}}}"#,
                "puller.resources.limits.cpu",
            ),
            (r#"{"images": [[]]}"#, "images[0]"),
        ] {
            let error = error(document);
            assert!(error.starts_with(&format!("`{path}`:")), "{path}: {error}");
        }
    }

    /// YAML's `cpu: 0.5` is a number, and so it comes out of helm's `toJson`.
    #[test]
    fn a_quantity_may_have_a_fraction() {
        for (written, read) in [("0.5", "0.5"), ("1.25", "1.25"), ("0.0001", "0.0001")] {
            assert_eq!(quantity(written), read);
        }
    }
}

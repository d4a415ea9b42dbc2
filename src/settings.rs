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
    pub image: String,
    pub settings: ImageSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ImageSettings {
    image: String,
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

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LocalObjectReference {
    pub name: String,
}

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

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

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

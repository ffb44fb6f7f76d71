//! Status of a `Bundle`. Only the operator writes it, from what it asked nodes. It reads a status only to
//! find changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Number of deviations in the status of a bundle at most.
pub const MAX_BUNDLE_DEVIATIONS: usize = 16;

/// Number of former images in the status of a bundle at most.
pub const MAX_PREVIOUS_IMAGES: usize = 16;

/// Observed state of a bundle.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleStatus {
    /// The metadata.generation that this status is about.
    #[serde(default)]
    pub observed_generation: i64,

    /// Number of names that every asked node can serve, of all names, as in 12/12.
    #[serde(default)]
    pub images: String,

    /// Number of nodes that can serve all names, of those that were asked for all names within the last hour,
    /// as in 5/5.
    #[serde(default)]
    pub nodes: String,

    /// Images of the former list of names that stores keep, each as REPOSITORY@DIGEST; the first 16.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub previous: Vec<String>,

    /// Accepted, Available and Degraded.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Nodes that cannot serve a name of the bundle; the first 16.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub deviations: Vec<BundleDeviation>,
}

/// Node that cannot serve a name of a bundle.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BundleDeviation {
    /// Name of the node.
    pub node: String,
    /// First name that the node cannot serve.
    #[schemars(length(max = 384))]
    pub name: String,
    /// Number of names that the node cannot serve.
    pub count: i32,
}

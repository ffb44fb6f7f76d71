//! The resources `Quinistry` and [`Bundle`]: their specifications, their status, and the vocabulary of both.
//!
//! The schemas hold every rule that the API server can check (bounds, patterns, CEL), so that it refuses a
//! mistake at once. No async, no client: shared by the operator, the installer, `quinistry crd` and the
//! tests. `kubectl explain` shows the doc comments of the fields.

mod bundle;
mod bundle_reason;
mod bundle_status;
mod definition;
mod network;
mod pods;
mod reason;
mod status;
mod store;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use bundle::{Bundle, BundleName, BundleSpec, MAX_BUNDLE_NAMES};
pub use bundle_reason::BundleReason;
pub use bundle_status::{BundleDeviation, BundleStatus, MAX_BUNDLE_DEVIATIONS, MAX_PREVIOUS_IMAGES};
pub use definition::{
    BUNDLE_DEFINITION_YAML, DEFINITION_YAML, DEFINITIONS, OLDEST_KUBERNETES, bundle_definition, definition,
};
pub use network::{Network, NetworkMode};
pub use pods::{Resources, TaintEffect, Toleration, TolerationOperator};
pub use reason::{EventReason, OPERATOR_GONE, Reason};
pub use status::{Deviation, GenerationState, GenerationStatus, MAX_DEVIATIONS, Proof, QuinistryStatus};
pub use store::{DEFAULT_COPIES, MAX_COPIES, StoreSpec, StoreStatus};

/// Number of generations of one resource at most.
pub const MAX_GENERATIONS: i32 = 16;

/// Host port of generation 1 of a resource whose `spec.basePort` names none.
pub const DEFAULT_BASE_PORT: i32 = 5000;

/// Pattern of a digest: `sha256:` and 64 lowercase hex digits.
const DIGEST_PATTERN: &str = "^sha256:[0-9a-f]{64}$";

/// Pattern of the characters of an image reference; the kubelet checks the rest.
const IMAGE_PATTERN: &str = "^[A-Za-z0-9\\[][A-Za-z0-9._:/@\\[\\]-]*$";

/// A registry that ships itself: generations of it on every node, each pulled from the one before on
/// localhost.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "quinistry.dev",
    version = "v1alpha1",
    kind = "Quinistry",
    plural = "quinistries",
    shortname = "qn",
    namespaced,
    status = "QuinistryStatus",
    derive = "PartialEq",
    doc = "A registry that ships itself: generations of it on every node, each pulled from the one before on localhost.",
    printcolumn(name = "Generations", type_ = "integer", json_path = ".spec.generations"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.digest"),
    printcolumn(name = "Port", type_ = "integer", json_path = ".spec.basePort"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(name = "Store", type_ = "string", json_path = ".status.store.copies", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    validation = Rule::new("size(self.metadata.name) <= 57")
        .message("the name must be at most 57 characters long: '-gen16' is appended for the DaemonSets"),
    validation = Rule::new("!has(self.spec.store) || self.metadata.name.matches('^[a-z][a-z0-9-]*$')")
        .message("with store, the name must begin with a letter and have no dots: it becomes the name of a Service")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.image) != has(self.seed)").message("exactly one of image and seed must be set"),
    validation = Rule::new("!has(self.seed) || has(self.digest)").message("digest must be set beside seed"),
    validation = Rule::new("has(self.digest) || self.network.mode != 'HostNetwork'")
        .message("digest must be set with HostNetwork: the operator cannot reach a node's loopback to learn it"),
    validation = Rule::new("self.basePort + self.generations - 1 <= 65535")
        .message("basePort + generations - 1 must be at most 65535, the highest port")
)]
pub struct QuinistrySpec {
    /// Bootstrap image of generation 1. Exactly one of image and seed is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE_PATTERN))]
    pub image: Option<String>,

    /// Generation 0, raised from `ConfigMaps` when no registry holds a bootstrap image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<SeedSpec>,

    /// Number of generations to raise on every selected node: 1 to 16, by default 2.
    #[serde(default = "defaults::generations")]
    #[schemars(range(min = 1, max = 16))]
    pub generations: i32,

    /// Host port of generation 1; generation n listens on basePort + n - 1. 1026 to 65535, by default 5000.
    /// Cannot be changed.
    #[serde(default = "defaults::base_port")]
    #[schemars(range(min = 1026, max = 65535))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("basePort cannot be changed; delete the resource and create it again"))]
    pub base_port: i32,

    /// Network of the generations on their nodes.
    #[serde(default)]
    pub network: Network,

    /// Manifest digest that every generation must serve. Optional with image: then it is learned from
    /// generation 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DIGEST_PATTERN))]
    pub digest: Option<String>,

    /// When the kubelet pulls the bootstrap image; `IfNotPresent` by default. Children are pinned by digest
    /// and pulled if not present.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets for pulling the bootstrap image, at most 16; children need none.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<PullSecret>,

    /// Labels of the nodes to run on, beside linux and the image's architecture; at most 32. Without, all
    /// nodes.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints to tolerate, such as those of control planes; at most 32. Without, none.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,

    /// Requests and limits of each generation's container. What is not set here has small defaults.
    #[serde(default)]
    pub resources: Resources,

    /// Priority class of the pods; empty for the cluster's default.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub priority_class_name: String,

    /// Pace of changes, and tolerance for nodes that lag behind.
    #[serde(default)]
    pub rollout: Rollout,

    /// Nodes that hold the images of applications, for clusters that reach no registry. Without, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSpec>,

    /// Stop acting on this resource; what runs goes on running. False by default.
    #[serde(default)]
    pub suspend: bool,
}

impl QuinistrySpec {
    /// Returns the host ports of all generations, generation 0 first.
    #[must_use]
    pub fn ports(&self) -> RangeInclusive<i32> {
        self.base_port - i32::from(self.seed.is_some())..=self.base_port + self.generations - 1
    }
}

/// Generation 0: the same executable, raised from `ConfigMaps` inside an image that every node has.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeedSpec {
    /// Digest of the executable that the `ConfigMaps` hold.
    #[schemars(regex(pattern = DIGEST_PATTERN))]
    pub executable: String,

    /// Images to run it in, tried in order, at most 16; empty: detected on each node.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub carriers: Vec<String>,
}

/// When the kubelet pulls an image.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Not at all: it was loaded onto the node.
    Never,
}

impl ImagePullPolicy {
    /// Returns the value for a pod.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Reference to a secret in the resource's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullSecret {
    /// Name of the secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Pace of changes, and tolerance for nodes that lag behind.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Number of nodes on which a generation may be unavailable at the same time during a change: from 1 to
    /// 9999, by default 1, or a percentage of the nodes.
    #[serde(default = "defaults::max_unavailable")]
    #[x_kube(validation = Rule::new("string(self).matches('^([1-9][0-9]{0,3}|[1-9][0-9]?%|100%)$')")
        .message("maxUnavailable must be a number from 1 to 9999 or a percentage from 1% to 100%"))]
    pub max_unavailable: IntOrString,

    /// Number of selected, ready nodes that may lack a generation without holding up the next one, or a
    /// percentage of the nodes, rounded down. 0 by default. A node that serves another digest always holds it
    /// up.
    #[serde(default = "defaults::tolerate_nodes")]
    #[x_kube(validation = Rule::new("string(self).matches('^(0|[1-9][0-9]{0,3}|[0-9]%|[1-9][0-9]%|100%)$')")
        .message("tolerateNodes must be a number from 0 to 9999 or a percentage from 0% to 100%"))]
    pub tolerate_nodes: IntOrString,

    /// Seconds without progress after which the resource is reported as stuck: 10 to 86400, by default 600.
    /// Nothing is rolled back.
    #[serde(default = "defaults::progress_deadline")]
    #[schemars(range(min = 10, max = 86400))]
    pub progress_deadline_seconds: i32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_unavailable: defaults::max_unavailable(),
            tolerate_nodes: defaults::tolerate_nodes(),
            progress_deadline_seconds: defaults::progress_deadline(),
        }
    }
}

mod defaults {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    pub(super) const fn max_unavailable() -> IntOrString {
        IntOrString::Int(1)
    }

    pub(super) const fn tolerate_nodes() -> IntOrString {
        IntOrString::Int(0)
    }

    pub(super) const fn progress_deadline() -> i32 {
        600
    }

    pub(super) const fn generations() -> i32 {
        2
    }

    pub(super) const fn base_port() -> i32 {
        super::DEFAULT_BASE_PORT
    }
}

//! Status of a resource. Only the operator writes it, from its observations. It reads a status only to find
//! changes, and to see if the specification of another resource was refused.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of deviations in a status at most.
pub const MAX_DEVIATIONS: usize = 16;

/// Observed state.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuinistryStatus {
    /// The metadata.generation that this status is about.
    #[serde(default)]
    pub observed_generation: i64,

    /// Number of proven generations, of the number requested, as in 2/3.
    #[serde(default)]
    pub ready: String,

    /// The fixed point: the manifest digest that every generation serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// Ready, Progressing, `PortsAvailable`, `FixedPoint` and Degraded; with spec.store also `StoreReady`.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// All generations, the oldest first.
    #[serde(default)]
    #[schemars(length(max = 17))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["generation".into()]))]
    pub generations: Vec<GenerationStatus>,

    /// Nodes on which a generation is not as expected; the first 16.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub deviations: Vec<Deviation>,

    /// The stores, if spec.store is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<super::StoreStatus>,
}

impl QuinistryStatus {
    /// Counts the proven generations, without generation 0, as in the specification.
    #[must_use]
    pub fn proven(generations: &[GenerationStatus]) -> usize {
        let counted = generations.iter().filter(|one| one.generation > 0);
        counted.filter(|one| one.state == GenerationState::Ready).count()
    }

    /// Formats the numbers of proven and of requested generations, as in `2/3`.
    #[must_use]
    pub fn headline(generations: &[GenerationStatus], wanted: i32) -> String {
        format!("{}/{wanted}", Self::proven(generations))
    }
}

/// One generation, over all nodes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationStatus {
    /// 0 is the seed, 1 the parent, higher ones are children.
    #[schemars(range(min = 0, max = 16))]
    pub generation: i32,

    /// Name of the `DaemonSet`.
    pub daemon_set: String,

    /// Host port on which it serves.
    pub port: i32,

    /// Image that it was started from.
    pub image: String,

    /// Progress of the generation.
    pub state: GenerationState,

    /// Nodes that should run it.
    pub desired: i32,

    /// Nodes that run the current template.
    pub updated: i32,

    /// Nodes on which the generation serves the expected digest on localhost.
    pub available: i32,

    /// Pods whose every byte the operator fetched and hashed.
    pub verified: i32,

    /// Manifest digest that the generation serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// Evidence for the digest.
    #[serde(default)]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub proofs: Vec<Proof>,
}

/// Progress of a generation.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GenerationState {
    /// Not created yet: its predecessor is not proven.
    Waiting,
    /// Pods are being started or replaced.
    Rolling,
    /// All pods run; not all of them are proven yet.
    Verifying,
    /// Proven on every selected node that is ready.
    Ready,
    /// Not as it must be: conditions and deviations tell why.
    Failed,
}

/// Evidence for a generation's digest.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Proof {
    /// The kubelet found the digest on its node's own localhost.
    Readiness,
    /// The pod computed its own digest and would have ended with any other.
    SelfAttestation,
    /// The kubelet's imageID names the digest.
    ImageId,
    /// The operator fetched every byte and hashed it.
    Fetched,
}

/// Node on which a generation is not as expected.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deviation {
    /// Name of the node; empty if the deviation is not of one node.
    pub node: String,
    /// Number of the generation.
    pub generation: i32,
    /// Reason of the deviation.
    pub reason: crate::crd::Reason,
    /// Description of the deviation.
    #[schemars(length(max = 1024))]
    pub message: String,
}

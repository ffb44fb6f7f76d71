//! Status of a resource. Written by the operator alone, and derived from what it observes: the
//! operator reads a status only to see what has changed since, and whether the specification of another resource was
//! refused.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most nodes that are named as deviating.
pub const MAX_DEVIATIONS: usize = 16;

/// What is observed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuinistryStatus {
    /// The metadata.generation that the rest speaks of.
    #[serde(default)]
    pub observed_generation: i64,

    /// How many generations are proven, of how many wanted, as in 2/3.
    #[serde(default)]
    pub ready: String,

    /// The fixed point: the manifest digest that every generation serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// Ready, Progressing, `PortsAvailable`, `FixedPoint` and Degraded.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The lineage, oldest first.
    #[serde(default)]
    #[schemars(length(max = 17))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["generation".into()]))]
    pub generations: Vec<GenerationStatus>,

    /// Nodes where something is not as it should be; the first 16.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub deviations: Vec<Deviation>,
}

impl QuinistryStatus {
    /// Counts the proven generations. As in the specification, generation 0 is not counted.
    #[must_use]
    pub fn proven(generations: &[GenerationStatus]) -> usize {
        let counted = generations.iter().filter(|one| one.generation > 0);
        counted.filter(|one| one.state == GenerationState::Ready).count()
    }

    /// Formats the proven and the wanted generations, as in `2/3`.
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

    /// Name of its `DaemonSet`.
    pub daemon_set: String,

    /// Host port on which it serves.
    pub port: i32,

    /// Image that it was started from.
    pub image: String,

    /// How far it is.
    pub state: GenerationState,

    /// Nodes that should run it.
    pub desired: i32,

    /// Nodes that run its newest version.
    pub updated: i32,

    /// Nodes where it serves the expected digest on localhost.
    pub available: i32,

    /// Pods whose every byte the operator fetched and hashed.
    pub verified: i32,

    /// Manifest digest that it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// Who vouches for the digest.
    #[serde(default)]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub proofs: Vec<Proof>,
}

/// How far a generation is.
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
    /// Not what it must be.
    Failed,
}

/// Who vouches for a generation's digest.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Proof {
    /// The kubelet found the digest on its node's own localhost.
    Readiness,
    /// The pod computed its own digest and would have ended with any other.
    SelfAttestation,
    /// The kubelet's imageID names it.
    ImageId,
    /// The operator fetched every byte and hashed it.
    Fetched,
}

/// A node where something is not as it should be.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deviation {
    /// The node.
    pub node: String,
    /// The generation.
    pub generation: i32,
    /// What kind.
    pub reason: crate::crd::Reason,
    /// What, in words.
    #[schemars(length(max = 1024))]
    pub message: String,
}

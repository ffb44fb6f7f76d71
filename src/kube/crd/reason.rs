//! The list of all reasons. [`Reason`] is for conditions, deviations and their Events; [`EventReason`] is for
//! Events about actions of the operator; [`OPERATOR_GONE`] is added by readers of a status.
//!
//! Tests hold the documented tables to this list.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Reason of a condition or a deviation, spelled as the variant.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    // === all is well, or on its way ===
    /// Every generation is proven on every selected node that is ready.
    AllProven,
    /// Generations are being raised or replaced.
    RollingOut,
    /// Pods run and are being verified.
    Verifying,
    /// The resource is suspended.
    Suspended,
    /// Nothing has been observed yet.
    Unknown,
    /// Every generation that answers serves the same digest.
    DigestsEqual,
    /// No other pod, process or resource uses the ports.
    PortsFree,
    /// Nothing is wrong.
    AsExpected,

    // === the bootstrap image ===
    /// Generation 1 cannot be pulled.
    BootstrapImagePullFailed,
    /// The tag of the bootstrap image moved: two nodes or pulls got different digests.
    BootstrapDigestDiffers,

    // === the nodes ===
    /// No node is selected.
    NoNodes,
    /// Selected nodes are not ready.
    NodesNotReady,
    /// Selected nodes have several processor architectures.
    MixedArchitectures,
    /// No node has an image to carry generation 0.
    NoCarrierImage,
    /// Parts of generation 0's executable are missing, and this operator is another executable, so that it
    /// cannot restore them.
    SeedIncomplete,

    // === the ports ===
    /// Another pod holds a port.
    HostPortConflict,
    /// A process of the node holds a port.
    PortTaken,
    /// The pod answers, but not on its node's localhost.
    HostPortUnreachable,
    /// Another resource has the same ports.
    PortConflict,

    // === the pods ===
    /// Pod Security forbids host ports in this namespace.
    PodSecurityForbidden,
    /// An image cannot be pulled from the predecessor.
    ImagePullFailed,
    /// An admission plugin turns every pull policy into Always.
    AlwaysPullImages,
    /// Containers end repeatedly.
    CrashLoop,
    /// The scheduler finds no place for a pod on its node.
    Unschedulable,
    /// A pod ended for good, such as by eviction.
    PodFailed,
    /// A container has not been started.
    PodNotStarted,
    /// A pod runs and is not Ready.
    PodNotReady,
    /// A pod that is being deleted does not end.
    PodTerminating,
    /// A node has no pod.
    PodMissing,
    /// A pod of an earlier template is not replaced.
    PodOutdated,
    /// An admission plugin replaced a pod's image by another one.
    ImageRewritten,
    /// The operator cannot reach pods whose digest it must learn.
    PodsUnreachable,
    /// A generation serves another digest.
    DigestMismatch,
    /// No progress for longer than allowed.
    ProgressDeadlineExceeded,

    // === the stores ===
    /// All stores are ready.
    StoresReady,
    /// No store can be started before generation 1 serves.
    WaitingForGeneration,
    /// Fewer nodes can hold a store than copies are wanted.
    TooFewNodes,
    /// Some stores are not ready.
    StoresNotReady,
    /// An object of another owner has the name of an object of the stores.
    NameTaken,
    /// The operator lacks the rights for objects of the stores.
    RightsMissing,

    // === the resource ===
    /// The specification is invalid or contradicts itself.
    InvalidSpec,
    /// The API server refuses an object that the operator applies.
    ApplyRejected,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// Another writer repeatedly reverts the operator's changes.
    Contested,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Reason of an Event about an action of the operator, spelled as the variant. Not part of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReason {
    /// A `DaemonSet` was created or changed.
    GenerationApplied,
    /// A `DaemonSet` was deleted.
    GenerationDeleted,
    /// A pod that could not start was replaced, or the pod of a store whose settings have changed.
    PodReplaced,
    /// A `ConfigMap` of generation 0 was missing or altered, and was created again.
    SeedRestored,
    /// A `ConfigMap` of an executable that is no longer used was deleted.
    SeedDropped,
    /// A node's carrier label was set or removed.
    CarrierChosen,
    /// An object of the stores was created or changed.
    StoreApplied,
    /// An object of the stores was deleted.
    StoreDeleted,
    /// Another operator has claimed the resource.
    ClaimedByAnother,
}

impl EventReason {
    /// All reasons, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::GenerationApplied,
        Self::GenerationDeleted,
        Self::PodReplaced,
        Self::SeedRestored,
        Self::SeedDropped,
        Self::CarrierChosen,
        Self::StoreApplied,
        Self::StoreDeleted,
        Self::ClaimedByAnother,
    ];
}

impl fmt::Display for EventReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Reason of Ready=Unknown if the operator that wrote the status shows no life sign. Readers set it, since a
/// status cannot report the end of its own writer.
pub const OPERATOR_GONE: &str = "OperatorGone";

#[cfg(test)]
mod tests {
    use super::{EventReason, OPERATOR_GONE};

    #[test]
    fn each_reason_outside_the_schema_is_documented() {
        let document = include_str!("../../../docs/conditions.md");
        let events = EventReason::ALL.map(|reason| reason.to_string());
        for reason in events.iter().map(String::as_str).chain([OPERATOR_GONE]) {
            let row = format!("| `{reason}` |");
            assert!(document.lines().any(|line| line.starts_with(&row)), "{reason} has no row");
        }
    }
}

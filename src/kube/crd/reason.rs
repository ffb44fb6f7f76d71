//! The one list of reasons. [`Reason`] is for conditions, deviations, and the Events that tell of them;
//! [`EventReason`] is for Events about what the operator did; [`OPERATOR_GONE`] is what readers of a status add.
//!
//! A test holds the documented tables to this list.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A reason. Spelled as it stands here, in CamelCase, everywhere.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    // === all is well, or on its way ===
    /// Every generation is proven on every selected node that is ready.
    AllProven,
    /// Generations are being raised or replaced.
    RollingOut,
    /// Pods run, and are being looked at.
    Verifying,
    /// The resource is suspended.
    Suspended,
    /// Nothing has been observed yet.
    Unknown,
    /// No generation serves anything else.
    DigestsEqual,
    /// Nobody else uses the ports.
    PortsFree,
    /// Nothing is wrong.
    AsExpected,

    // === the bootstrap image ===
    /// Generation 1 cannot be pulled.
    BootstrapImagePullFailed,
    /// A moving tag gave two digests.
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
    /// Pieces of generation 0's executable are missing, and this operator is another executable.
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
    /// Containers end again and again.
    CrashLoop,
    /// The scheduler finds no place for a pod on its node.
    Unschedulable,
    /// A pod ended for good, such as by eviction.
    PodFailed,
    /// A container has not been started.
    PodNotStarted,
    /// A pod runs and is not Ready.
    PodNotReady,
    /// A pod that is being deleted does not go.
    PodTerminating,
    /// No pod is made for a node.
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

    // === the resource ===
    /// What the specification says cannot be done.
    InvalidSpec,
    /// The API server refuses what is applied.
    ApplyRejected,
    /// The namespace is going away.
    NamespaceTerminating,
    /// Another writer changes again and again what the operator has written.
    Contested,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Reason of an Event about what the operator did. Spelled as it stands here; not part of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReason {
    /// A `DaemonSet` was created or changed.
    GenerationApplied,
    /// A `DaemonSet` was deleted.
    GenerationDeleted,
    /// A pod that could not start was replaced.
    PodReplaced,
    /// A `ConfigMap` of generation 0 was missing or altered, and was created again.
    SeedRestored,
    /// A `ConfigMap` of an executable that is no longer used was deleted.
    SeedDropped,
    /// A node's carrier label was set or removed.
    CarrierChosen,
    /// Another operator looks after the resource.
    ClaimedByAnother,
}

impl EventReason {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::GenerationApplied,
        Self::GenerationDeleted,
        Self::PodReplaced,
        Self::SeedRestored,
        Self::SeedDropped,
        Self::CarrierChosen,
        Self::ClaimedByAnother,
    ];
}

impl fmt::Display for EventReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Reason of Ready=Unknown where the operator that wrote the status shows no life sign. Given by readers, as a
/// status cannot say it of its own writer.
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

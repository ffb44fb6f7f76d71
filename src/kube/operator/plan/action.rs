//! Actions of a plan, and the pods that are to be verified. `apply` and `verify` carry them out.

use k8s_openapi::api::apps::v1 as apps;

use crate::operator::observed::PodStart;
use crate::seed::SeedPart;

/// One write to the API server. Each is harmless to repeat.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::operator) enum Action {
    /// Create or change a generation's `DaemonSet`.
    Apply(Box<apps::DaemonSet>),
    /// Delete a generation's `DaemonSet`.
    Delete {
        /// Namespace of the `DaemonSet`.
        namespace: String,
        /// Name of the `DaemonSet`.
        name: String,
        /// Number of the generation.
        generation: i32,
    },
    /// Replace a pod whose pulls back off although its image can be pulled by now.
    Replace {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        name: String,
        /// UID of the pod, so that no namesake is deleted.
        uid: String,
    },
    /// Create a `ConfigMap` of the seed again, from this operator's own executable.
    Restore {
        /// Part of the seed.
        part: SeedPart,
        /// UID of the `ConfigMap` in its place that holds other content.
        altered: Option<String>,
    },
    /// Make the resource an owner of a seed's `ConfigMap` that was there before the resource.
    Adopt {
        /// Name of the `ConfigMap`.
        part: String,
    },
    /// Delete a `ConfigMap` of another executable.
    Drop(DropPart),
    /// Label a node with its carrier.
    Label {
        /// Name of the node.
        node: String,
        /// Value of the label; `None` removes the label.
        label: Option<String>,
        /// Value of the annotation for a node without a usable carrier.
        tried: Option<String>,
    },
}

/// A `ConfigMap` to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct DropPart {
    /// Namespace of the `ConfigMap`.
    pub namespace: String,
    /// Name of the `ConfigMap`.
    pub name: String,
    /// UID of the `ConfigMap`, so that no namesake is deleted.
    pub uid: String,
}

/// A pod whose content the operator fetches and hashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::operator) struct VerifyRequest {
    /// Start of the pod's container.
    pub start: PodStart,
    /// IP address of the pod.
    pub ip: String,
}

//! What a plan asks for: things to do, and pods to look at. `apply` and `verify` carry them out.

use k8s_openapi::api::apps::v1 as apps;

use crate::operator::observed::PodStart;
use crate::seed::SeedPart;

/// One thing to do. Each is harmless to repeat.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::operator) enum Action {
    /// Create or change a generation.
    Apply(Box<apps::DaemonSet>),
    /// Remove a generation.
    Delete {
        /// Its namespace.
        namespace: String,
        /// Its `DaemonSet`.
        name: String,
        /// The generation.
        generation: i32,
    },
    /// Replace a pod whose pulls are backing off although there is something to pull now.
    Replace {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID, so that no other is meant.
        uid: String,
    },
    /// Make a seed's `ConfigMap` anew, of this operator's own executable.
    Restore {
        /// Which.
        part: SeedPart,
        /// UID of the one in its place, which holds something else.
        altered: Option<String>,
    },
    /// Make the resource the owner of a seed's `ConfigMap`, which was there before it.
    Adopt {
        /// Its name.
        part: String,
    },
    /// Remove a `ConfigMap` of another executable.
    Drop(DropPart),
    /// Say which carrier a node has.
    Label {
        /// The node.
        node: String,
        /// The label's value; nothing takes it away.
        label: Option<String>,
        /// The annotation that goes with a node without any.
        tried: Option<String>,
    },
}

/// A `ConfigMap` to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct DropPart {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, so that no other is meant.
    pub uid: String,
}

/// A pod to fetch every byte from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::operator) struct VerifyRequest {
    /// Which.
    pub start: PodStart,
    /// Where.
    pub ip: String,
}

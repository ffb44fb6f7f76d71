//! What is seen of the cluster, reduced to what [`plan`](super::plan) needs. Plain values: no client, no cache.
//!
//! Made by `observe`, read by `plan`. The status of a resource is not among it: a plan never depends on what an
//! earlier one said.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::crd::{Quinistry, Reason};
use crate::oci::Digest;

/// Everything that concerns one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// All nodes of the cluster.
    pub nodes: Vec<Arc<Node>>,
    /// The resource's own.
    pub daemon_sets: Vec<Arc<DaemonSet>>,
    /// The resource's own.
    pub pods: Vec<Arc<Pod>>,
    /// Other resources of the kind, in all watched namespaces.
    pub rivals: Vec<Arc<Quinistry>>,
    /// Why pods are not created.
    pub refusals: Vec<Refusal>,
    /// What was fetched from running pods, by pod and start.
    pub fetched: BTreeMap<PodStart, Fetched>,
    /// The API server's last word on an apply.
    pub rejection: Option<Rejection>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Its name.
    pub name: String,
    /// The kubelet says so.
    pub ready: bool,
    /// Since when it is as ready as it is; its creation if it does not say.
    pub since: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints: key, value, effect.
    pub taints: Vec<(String, String, String)>,
}

/// One generation's `DaemonSet`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DaemonSet {
    /// Its name.
    pub name: String,
    /// UID of the resource that controls it.
    pub owner: String,
    /// Namespace.
    pub namespace: String,
    /// Its generation in the lineage.
    pub generation: i32,
    /// Hash of what was last applied.
    pub applied: Option<String>,
    /// Its own labels, not its pods'.
    pub labels: BTreeMap<String, String>,
    /// `metadata.generation`.
    pub server_generation: i64,
    /// `metadata.resourceVersion`, to tell older from newer.
    pub version: u64,
    /// It is unchanged since this operator's own last apply, whatever admission made of that.
    pub accepted: bool,
    /// Its specification as it is on the server.
    pub spec: Value,
    /// `metadata.generation` ≤ `status.observedGeneration`.
    pub settled: bool,
    /// Pods that the controller wants.
    pub desired: i32,
    /// It is going away.
    pub deleting: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When its specification was last written.
    pub changed: Timestamp,
}

/// One start of one pod's container; what it serves cannot change while it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodStart {
    /// UID of the pod.
    pub uid: String,
    /// Its container's restarts.
    pub restarts: i32,
}

/// One pod of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// UID and restarts.
    pub start: PodStart,
    /// UID of the resource.
    pub resource: String,
    /// Its generation in the lineage.
    pub generation: i32,
    /// The node it runs on, or is meant for.
    pub node: String,
    /// Hash of the template that it was made of.
    pub template: Option<String>,
    /// Image in its specification.
    pub image: String,
    /// Pull policy in its specification.
    pub pull_policy: String,
    /// Its address.
    pub ip: Option<String>,
    /// It is going away.
    pub deleting: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Ready, and since when.
    pub ready: Option<Timestamp>,
    /// Its container runs, since when.
    pub running: Option<Timestamp>,
    /// What the kubelet resolved the image to.
    pub image_id: String,
    /// Why its container waits: reason and message.
    pub waiting: Option<(String, String)>,
    /// How its container last ended: exit code and last words.
    pub ended: Option<(i32, String)>,
    /// Why it is on no node.
    pub unschedulable: Option<String>,
}

/// Why pods of a generation are not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The generation.
    pub generation: i32,
    /// What the API server said.
    pub message: String,
}

/// What came of fetching every byte from a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// All bytes hash to what names them, and this is the manifest's digest.
    Whole(Digest),
    /// Bytes that do not hash to what names them.
    Corrupt(String),
    /// Nothing, for now.
    Failed(String),
}

/// An apply that was refused, so that it is not tried again until something changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// Hash of what was refused.
    pub applied: String,
    /// What kind.
    pub reason: Reason,
    /// What the API server said.
    pub message: String,
}

impl Observed {
    /// A generation's `DaemonSet`.
    #[must_use]
    pub(super) fn daemon_set(&self, generation: i32) -> Option<&DaemonSet> {
        self.daemon_sets.iter().find(|set| set.generation == generation).map(AsRef::as_ref)
    }

    /// A generation's pods.
    pub(super) fn pods_of(&self, generation: i32) -> impl Iterator<Item = &Pod> {
        self.pods.iter().map(AsRef::as_ref).filter(move |pod| pod.generation == generation)
    }

    /// A node by name.
    #[must_use]
    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name).map(AsRef::as_ref)
    }
}

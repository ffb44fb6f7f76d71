//! Observed state of the cluster, reduced to what [`plan`](super::plan) needs. Plain values: no client, no
//! cache.
//!
//! Written by `observe`, read by `plan`. The status of the planned resource is not part of it: a plan never
//! depends on the report of an earlier one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use quinistry_oci::Digest;
use serde_json::Value;

use super::naming;
use super::plan::MissingSince;
use super::resource::ResourceIdentity;
use super::rival::Rival;
use crate::crd::Reason;
use crate::seed::carrier::RunningImage;

/// Queries that were made beside the watches, in this order. Each is made once before a plan is carried out:
/// an answer may leave as much open as before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum QueryStage {
    /// No query: only the watches.
    #[default]
    Nothing,
    /// Images of running pods.
    Carriers,
    /// Events about missing pods.
    Events,
    /// Content that the pods serve.
    Pods,
}

/// Observed state that concerns one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct ObservedState {
    /// All nodes of the cluster.
    pub nodes: Vec<Arc<ObservedNode>>,
    /// `DaemonSets` of the resource.
    pub daemon_sets: Vec<Arc<ObservedDaemonSet>>,
    /// Pods that claim to be the resource's.
    pub pods: Vec<Arc<ObservedPod>>,
    /// Resources whose specification can be decoded, in all watched namespaces. The planned one may be among
    /// them.
    pub rivals: Vec<Arc<Rival>>,
    /// UIDs of all resources that are not being deleted, in all watched namespaces.
    pub living: BTreeSet<String>,
    /// Shares of the nodes' ports by UID of the resource, this one included. Empty if there is only one
    /// resource.
    pub holdings: BTreeMap<String, Holding>,
    /// Reasons why pods are not created, or do not start.
    pub refusals: Vec<Refusal>,
    /// Times since which nodes have no pod of a generation, as far as this operator has seen; `None` right
    /// after its start.
    pub missing_since: Option<MissingSince>,
    /// Results of fetching from running pods, by pod and start.
    pub fetched: BTreeMap<PodStart, FetchResult>,
    /// Last apply that the API server refused.
    pub rejection: Option<Rejection>,
    /// `ConfigMaps` of the resource's seed, older ones included.
    pub parts: Vec<Arc<ObservedPart>>,
    /// UIDs of the parts that hold other content than they should.
    pub altered: BTreeSet<String>,
    /// Images of running pods, on nodes where they were queried.
    pub running: BTreeMap<String, Vec<RunningImage>>,
    /// URL of the resource's stores, which its generations ask for what they lack; `None` without stores.
    pub stores: Option<String>,
    /// Executable of the operator itself.
    pub own: OwnExecutable,
    /// Last query that was made; those before it were made too.
    pub queried: QueryStage,
}

/// A resource's share of the nodes' ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    /// Time at which the first of the resource's `DaemonSets` was created.
    pub since: Timestamp,
    /// True if one of the `DaemonSets` has a pod.
    pub has_pods: bool,
    /// True if a pod of generation 0 is Ready.
    pub serves_seed: bool,
}

/// Executable of the operator itself, as a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnExecutable {
    /// Digest and number of parts; `None` if they are not known, as in a build that cannot be an image.
    pub executable: Option<(Digest, usize)>,
    /// True if generations on a seed of another executable are left to the operator with that executable.
    pub hands_over: bool,
}

/// A `ConfigMap` of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObservedPart {
    /// Name of the `ConfigMap`.
    pub name: String,
    /// Namespace of the `ConfigMap`.
    pub namespace: String,
    /// UID of the `ConfigMap`: its content is immutable, but another `ConfigMap` may get its name.
    pub uid: String,
    /// Name of the resource that the part belongs to.
    pub resource: String,
    /// Short digest of the executable, as the label has it.
    pub seed: String,
    /// Number of parts that the executable was split into.
    pub part_count: usize,
    /// UIDs of the owners.
    pub owners: Vec<String>,
    /// Time at which the `ConfigMap` was created.
    pub created: Timestamp,
    /// True if the `ConfigMap` is being deleted.
    pub deleting: bool,
}

/// A node, reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObservedNode {
    /// Name of the node.
    pub name: String,
    /// True if the kubelet reports the node as ready.
    pub ready: bool,
    /// Time of the last change of readiness; the creation time if there is none.
    pub since: Timestamp,
    /// Time at which this operator first saw this state, by its own clock.
    pub seen: Timestamp,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// Taints of the node: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// Carriers that were tried on the node without success, as the annotation lists them.
    pub tried: Option<String>,
    /// Sandbox images that the node reports.
    pub sandboxes: Vec<String>,
}

#[cfg(test)]
impl ObservedNode {
    /// Makes a node of a test, which can run the image and has been Ready since then.
    pub(super) fn ready_since(name: &str, since: Timestamp) -> Self {
        Self {
            name: name.into(),
            ready: true,
            since,
            seen: since,
            labels: [("kubernetes.io/os", "linux"), ("kubernetes.io/arch", super::build::architecture())]
                .map(super::build::to_owned_pair)
                .into(),
            taints: Vec::new(),
            tried: None,
            sandboxes: Vec::new(),
        }
    }
}

/// A `DaemonSet` of a generation, reduced.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ObservedDaemonSet {
    /// Name of the `DaemonSet`.
    pub name: String,
    /// UID of the `DaemonSet`, which its pods name as their controller's.
    pub uid: String,
    /// UID of the resource that controls it.
    pub owner: String,
    /// Namespace of the `DaemonSet`.
    pub namespace: String,
    /// Number of the generation.
    pub generation: i32,
    /// Key of the carrier for generation 0, such as `main`.
    pub carrier: Option<String>,
    /// Hash of the last applied content.
    pub applied: Option<String>,
    /// Labels of the `DaemonSet`, not of its pods.
    pub labels: BTreeMap<String, String>,
    /// `metadata.generation` of the `DaemonSet`.
    pub server_generation: i64,
    /// `metadata.resourceVersion`, to tell older from newer.
    pub version: u64,
    /// True if the set is unchanged since this operator's last apply, with all that admission made of that.
    pub accepted: bool,
    /// Specification on the server.
    pub spec: Value,
    /// True if the controller has observed the newest specification (`metadata.generation` ≤
    /// `status.observedGeneration`).
    pub is_observed: bool,
    /// Pods that the controller wants.
    pub desired: i32,
    /// True if the set is being deleted.
    pub deleting: bool,
    /// Time at which the set was created.
    pub created: Timestamp,
    /// Time at which the operator last wrote the set.
    pub changed: Timestamp,
}

/// One start of one pod's container. A process cannot change what it serves while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodStart {
    /// UID of the pod.
    pub uid: String,
    /// Number of restarts of the container.
    pub restarts: i32,
    /// ID of the container in its runtime, if it has one.
    pub container: String,
    /// Time at which the container was started, if it runs.
    pub started: Option<Timestamp>,
}

/// The controller of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Controller {
    /// Kind of the controller, such as `DaemonSet`.
    pub kind: String,
    /// Name of the controller.
    pub name: String,
    /// UID of the controller.
    pub uid: String,
}

/// A pod of a generation, reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObservedPod {
    /// Name of the pod.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// UID of the pod, and the present start of its container.
    pub start: PodStart,
    /// UID of the resource, as the pod's label says. Every user can copy a label, so
    /// [`ObservedState::pods_of`] also checks the controller.
    pub resource: String,
    /// Controller of the pod, of any kind, if it has one.
    pub controller: Option<Controller>,
    /// Number of the generation, as the label says.
    pub generation: i32,
    /// Name of the node that the pod runs on or is meant for, if known.
    pub node: Option<String>,
    /// Hash of the template that the pod was created from.
    pub template: Option<String>,
    /// Image in the pod's specification.
    pub image: String,
    /// Pull policy in the pod's specification.
    pub pull_policy: String,
    /// IP address of the pod.
    pub ip: Option<String>,
    /// True if the pod is being deleted.
    pub deleting: bool,
    /// Time at which the pod should be gone, grace period included, if it is being deleted.
    pub ends: Option<Timestamp>,
    /// Time at which the pod was created.
    pub created: Timestamp,
    /// Time at which this operator first saw the container in its present readiness, by its own clock.
    pub seen: Timestamp,
    /// Time since which the pod is Ready, if it is.
    pub ready: Option<Timestamp>,
    /// The kubelet's reason why the pod is not Ready.
    pub unready: Option<String>,
    /// Reason and message of a final failure, such as an eviction.
    pub failed: Option<String>,
    /// Time since which the container runs, if it does.
    pub running: Option<Timestamp>,
    /// Image ID that the kubelet resolved the image to.
    pub image_id: String,
    /// Reason and message of a waiting container.
    pub waiting: Option<(String, String)>,
    /// Exit code and final output of the last container that ended.
    pub ended: Option<(i32, String)>,
    /// Message of the scheduler that found no node.
    pub unschedulable: Option<String>,
}

/// A refusal: pods of a generation are not created, or one of them does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Number of the generation.
    pub generation: i32,
    /// UID of the pod that does not start; `None` if no pod was created.
    pub pod: Option<String>,
    /// Message of the API server or of the kubelet.
    pub message: String,
}

impl Refusal {
    /// Returns true if pods of this generation are not created.
    #[must_use]
    pub(super) fn is_of(&self, generation: i32) -> bool {
        self.generation == generation && self.pod.is_none()
    }
}

/// Result of fetching and hashing the whole content of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FetchResult {
    /// All content matches its digests; this is the digest of the manifest.
    Whole(Digest),
    /// Content does not match its digest.
    Corrupt(String),
    /// No result: the pod could not be reached.
    Failed(String),
}

/// A refused apply. It is not repeated until something changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// Hash of the refused content.
    pub applied: String,
    /// Reason in CamelCase.
    pub reason: Reason,
    /// Message of the API server.
    pub message: String,
}

// === impl Observed ===

impl ObservedState {
    /// Returns the `DaemonSet` of a generation; for generation 0, any of them.
    #[must_use]
    pub(super) fn daemon_set(&self, generation: i32) -> Option<&ObservedDaemonSet> {
        self.sets_of(generation).next()
    }

    /// Returns the `DaemonSets` of a generation: generation 0 has one for each carrier.
    pub(super) fn sets_of(&self, generation: i32) -> impl Iterator<Item = &ObservedDaemonSet> {
        self.daemon_sets.iter().map(AsRef::as_ref).filter(move |set| set.generation == generation)
    }

    /// Returns a generation's pods: those that one of its live `DaemonSets` controls, by UID, or is about to
    /// adopt.
    pub(super) fn pods_of(&self, generation: i32) -> impl Iterator<Item = &ObservedPod> {
        let pods = self
            .pods
            .iter()
            .map(AsRef::as_ref)
            .filter(move |pod: &&ObservedPod| pod.generation == generation);
        pods.filter(move |pod| self.sets_of(generation).any(|set| set.controls(pod)))
    }

    /// Returns the pods whose `DaemonSet` is deleted: it had the name of one of the resource's sets, and no
    /// set with its UID exists.
    pub(super) fn orphans(&self, resource: &str) -> impl Iterator<Item = &ObservedPod> {
        self.pods.iter().map(AsRef::as_ref).filter(move |pod: &&ObservedPod| {
            pod.controller.as_ref().is_some_and(|controller| {
                // Cheapest check first: nearly all pods have a live set, and comparing names allocates.
                controller.kind == "DaemonSet"
                    && self.daemon_sets.iter().all(|set| set.uid != controller.uid)
                    && naming::is_of_generation(resource, pod.generation, &controller.name)
            })
        })
    }
}

impl ObservedDaemonSet {
    /// Returns true if the `DaemonSet` is a resource's own: controlled by the resource, in its namespace, and
    /// with the name that the operator gives it.
    #[must_use]
    pub(super) fn is_of(&self, resource: &ResourceIdentity) -> bool {
        let name = match &self.carrier {
            Some(carrier) if self.generation == 0 => naming::carrier_set_name(&resource.name, carrier),
            _ => naming::daemon_set_name(&resource.name, self.generation),
        };
        self.owner == resource.uid && self.namespace == resource.namespace && self.name == name
    }

    /// Returns true if a pod belongs to the set: controlled by the set, by UID, or in its namespace,
    /// selected, and without any controller. Kubernetes' `DaemonSet` controller adopts such a pod at once.
    #[must_use]
    pub(super) fn controls(&self, pod: &ObservedPod) -> bool {
        pod.namespace == self.namespace
            && match &pod.controller {
                Some(controller) => controller.uid == self.uid,
                None => self.adopts(pod),
            }
    }

    /// Returns true if the set selects a pod that has no controller. Sets of generation 0 select by labels
    /// that the reduced pod does not have.
    fn adopts(&self, pod: &ObservedPod) -> bool {
        self.carrier.is_none()
            && !self.deleting
            && !pod.deleting
            && pod.resource == self.owner
            && pod.generation == self.generation
    }
}

impl ObservedPod {
    /// Returns true if the pod's labels name a resource in the pod's namespace.
    #[must_use]
    pub(super) fn claims(&self, resource: &ResourceIdentity) -> bool {
        self.resource == resource.uid && self.namespace == resource.namespace
    }
}

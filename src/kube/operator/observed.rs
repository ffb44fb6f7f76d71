//! What is seen of the cluster, reduced to what [`plan`](super::plan) needs. Plain values: no client, no cache.
//!
//! Made by `observe`, read by `plan`. The status of the planned resource is not among it: a plan never depends on
//! what an earlier one said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use quinistry_oci::Digest;
use serde_json::Value;

use super::identity;
use super::plan::Lacking;
use super::resource::Identity;
use super::rival::Rival;
use crate::crd::Reason;
use crate::seed::carrier::RunningImage;

/// The questions that were asked beside the watches, in this order. Each is put once before a plan is carried out: an
/// answer may leave as much open as there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// The watches alone.
    #[default]
    Nothing,
    /// For the images of running pods.
    Carriers,
    /// For Events about what is missing.
    Events,
    /// For every byte that pods serve.
    Pods,
}

/// Everything that concerns one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// All nodes of the cluster.
    pub nodes: Vec<Arc<Node>>,
    /// The resource's own.
    pub daemon_sets: Vec<Arc<DaemonSet>>,
    /// The resource's own.
    pub pods: Vec<Arc<Pod>>,
    /// Resources of the kind whose specification can be decoded, in all watched namespaces. The planned one may be
    /// among them.
    pub rivals: Vec<Arc<Rival>>,
    /// Shares of the nodes' ports by UID of the resource, this one included. Empty where there is only one
    /// resource.
    pub holdings: BTreeMap<String, Holding>,
    /// Reasons why pods are not created, or do not start.
    pub refusals: Vec<Refusal>,
    /// Times since which nodes are without a pod of a generation, as far as this operator has seen; `None` if
    /// it has just begun.
    pub lacking: Option<Lacking>,
    /// What was fetched from running pods, by pod and start.
    pub fetched: BTreeMap<PodStart, Fetched>,
    /// The API server's last word on an apply.
    pub rejection: Option<Rejection>,
    /// The `ConfigMaps` of its seed, older ones too.
    pub parts: Vec<Arc<Part>>,
    /// UIDs of those that do not hold what they should.
    pub altered: BTreeSet<String>,
    /// Images of running pods, on nodes where it was asked for them.
    pub running: BTreeMap<String, Vec<RunningImage>>,
    /// The operator's own executable.
    pub own: Own,
    /// Last question that was asked; those before it were asked too.
    pub asked: Asked,
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

/// The operator's own executable, as a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// Its digest, and into how many pieces it is cut. Nothing when it is not known, as in a build that cannot be an
    /// image.
    pub executable: Option<(Digest, usize)>,
    /// What stands on a seed of another executable is left to the operator which is that one.
    pub hands_over: bool,
}

/// One of a seed's `ConfigMaps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID: what it holds cannot change, but there may be another one of its name.
    pub uid: String,
    /// Name of the resource.
    pub resource: String,
    /// Which executable.
    pub seed: String,
    /// Into how many pieces that was cut.
    pub pieces: usize,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// It is going away.
    pub deleting: bool,
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
    /// Time at which this operator first saw this state, by its own clock.
    pub seen: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// Of which carriers nothing was left there.
    pub tried: Option<String>,
    /// The sandbox images that it says it has.
    pub sandboxes: Vec<String>,
}

/// One generation's `DaemonSet`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DaemonSet {
    /// Its name.
    pub name: String,
    /// UID of the `DaemonSet`, which its pods name as their controller's.
    pub uid: String,
    /// UID of the resource that controls it.
    pub owner: String,
    /// Namespace.
    pub namespace: String,
    /// Its generation in the lineage.
    pub generation: i32,
    /// The carrier, if it is of generation 0: its key or `main`.
    pub carrier: Option<String>,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodStart {
    /// UID of the pod.
    pub uid: String,
    /// Its container's restarts.
    pub restarts: i32,
    /// ID of the container as its runtime has it, if it has one.
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

/// One pod of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// UID and restarts.
    pub start: PodStart,
    /// UID of the resource, as its label says. Anyone can copy a label: [`Observed::pods_of`] asks for its
    /// controller.
    pub resource: String,
    /// Controller of the pod, of any kind, if it has one.
    pub controller: Option<Controller>,
    /// Generation in the lineage, as the label says.
    pub generation: i32,
    /// The node it runs on, or is meant for, if that is known.
    pub node: Option<String>,
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
    /// Time at which the pod should be gone, its grace included, if it is going away.
    pub ends: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// Time at which this operator first saw the container in its present readiness, by its own clock.
    pub seen: Timestamp,
    /// Ready, and since when.
    pub ready: Option<Timestamp>,
    /// The kubelet's reason why the pod is not Ready.
    pub unready: Option<String>,
    /// Reason and message of a final failure, such as an eviction.
    pub failed: Option<String>,
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

/// A refusal: pods of a generation are not created, or one of them does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The generation.
    pub generation: i32,
    /// UID of the pod that does not start; none if it is not even created.
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

// === impl Observed ===

impl Observed {
    /// A generation's `DaemonSet`; of generation 0, any of them.
    #[must_use]
    pub(super) fn daemon_set(&self, generation: i32) -> Option<&DaemonSet> {
        self.sets_of(generation).next()
    }

    /// A generation's `DaemonSets`: generation 0 has one for each carrier.
    pub(super) fn sets_of(&self, generation: i32) -> impl Iterator<Item = &DaemonSet> {
        self.daemon_sets.iter().map(AsRef::as_ref).filter(move |set| set.generation == generation)
    }

    /// Returns a generation's pods: those that one of its live `DaemonSets` controls, by UID, or is about to
    /// adopt.
    pub(super) fn pods_of(&self, generation: i32) -> impl Iterator<Item = &Pod> {
        let pods = self.pods.iter().map(AsRef::as_ref).filter(move |pod: &&Pod| pod.generation == generation);
        pods.filter(move |pod| self.sets_of(generation).any(|set| set.controls(pod)))
    }

    /// Returns the pods that outlive their deleted `DaemonSet`: it was named as the resource's own are, and
    /// none of its UID is left.
    pub(super) fn orphans(&self, resource: &str) -> impl Iterator<Item = &Pod> {
        self.pods.iter().map(AsRef::as_ref).filter(move |pod: &&Pod| {
            pod.controller.as_ref().is_some_and(|controller| {
                // In this order: hardly any pod has no set, and names have to be made.
                controller.kind == "DaemonSet"
                    && self.daemon_sets.iter().all(|set| set.uid != controller.uid)
                    && identity::is_of_generation(resource, pod.generation, &controller.name)
            })
        })
    }
}

impl DaemonSet {
    /// Returns true if the `DaemonSet` is a resource's own: controlled by the resource, beside it, and named
    /// as the operator names it.
    #[must_use]
    pub(super) fn is_of(&self, resource: &Identity) -> bool {
        let name = match &self.carrier {
            Some(carrier) if self.generation == 0 => identity::carrier_set_name(&resource.name, carrier),
            _ => identity::daemon_set_name(&resource.name, self.generation),
        };
        self.owner == resource.uid && self.namespace == resource.namespace && self.name == name
    }

    /// Returns true if a pod is this set's: controlled by the set, by UID, or in its namespace, selected, and
    /// without any controller. Kubernetes' `DaemonSet` controller adopts such a pod on sight.
    #[must_use]
    pub(super) fn controls(&self, pod: &Pod) -> bool {
        pod.namespace == self.namespace
            && match &pod.controller {
                Some(controller) => controller.uid == self.uid,
                None => self.adopts(pod),
            }
    }

    /// Returns true if the set selects a pod that has no controller. Sets of generation 0 select by more than
    /// this operator knows of a pod.
    fn adopts(&self, pod: &Pod) -> bool {
        self.carrier.is_none()
            && !self.deleting
            && !pod.deleting
            && pod.resource == self.owner
            && pod.generation == self.generation
    }
}

impl Pod {
    /// Returns true if the pod claims to be a resource's own, and is beside it.
    #[must_use]
    pub(super) fn claims(&self, resource: &Identity) -> bool {
        self.resource == resource.uid && self.namespace == resource.namespace
    }
}

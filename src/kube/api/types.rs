//! The API's objects, as far as they are read: a pod's whole type would be half a megabyte of program and most of the
//! work of a watch. What is written is built of Kubernetes' own types, or JSON.
//!
//! Nothing is required: what an object of another version lacks is as good as empty. Nulls are taken away
//! before (see [`lenient`](crate::lenient)).
//!
//! Only shapes, and the questions that both of their users ask. The operator's `observe` makes values of them that
//! its plans work with; `up` reads them as they are.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::events::v1 as events;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, MicroTime, OwnerReference, Time};
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::conditions::READY;
use crate::crd;

/// Metadata, where what is absent is as good as empty.
pub(crate) trait Metadata {
    /// Returns the name.
    fn name(&self) -> &str;

    /// Returns the namespace; empty for an object that is in none.
    fn namespace(&self) -> &str;

    /// Returns the value of a label.
    fn label(&self, key: &str) -> Option<&str>;

    /// Returns the value of an annotation.
    fn annotation(&self, key: &str) -> Option<&str>;

    /// Returns the owners.
    fn owners(&self) -> &[OwnerReference];

    /// Returns the owner that controls the object.
    fn controller(&self) -> Option<&OwnerReference> {
        self.owners().iter().find(|owner| owner.controller == Some(true))
    }

    /// Returns the record of who has written which fields.
    fn writers(&self) -> &[ManagedFieldsEntry];

    /// Returns true if the object is being deleted.
    fn is_leaving(&self) -> bool;
}

/// Any object, of which only the metadata counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Object {
    pub metadata: ObjectMeta,
}

/// A resource of ours, of which nothing but the metadata need be as expected.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = crd::Quinistry)]
#[serde(default)]
pub(crate) struct Quinistry {
    pub metadata: ObjectMeta,
    pub spec: Value,
    pub status: Value,
}

#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::Node)]
#[serde(default)]
pub(crate) struct Node {
    pub metadata: ObjectMeta,
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSpec {
    pub taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeStatus {
    pub conditions: Vec<Condition>,
    pub images: Vec<NodeImage>,
    pub node_info: NodeInfo,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeInfo {
    pub architecture: String,
    pub operating_system: String,
    pub container_runtime_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeImage {
    pub names: Vec<String>,
}

/// Of a node or of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub last_transition_time: Option<Time>,
}

#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = apps::DaemonSet)]
#[serde(default)]
pub(crate) struct DaemonSet {
    pub metadata: ObjectMeta,
    /// Compared with what was applied, whatever it holds.
    pub spec: Value,
    pub status: DaemonSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DaemonSetStatus {
    pub observed_generation: i64,
    pub desired_number_scheduled: i32,
}

#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::Pod)]
#[serde(default)]
pub(crate) struct Pod {
    pub metadata: ObjectMeta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub node_name: Option<String>,
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
    pub image_pull_secrets: Vec<IgnoredAny>,
    pub affinity: Affinity,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub name: String,
    pub image: String,
    pub image_pull_policy: String,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    #[serde(rename = "hostPort")]
    pub host: i32,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    pub protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Affinity {
    pub node_affinity: NodeAffinity,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: NodeSelector,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSelector {
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSelectorTerm {
    pub match_fields: Vec<Requirement>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Requirement {
    pub key: String,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub phase: String,
    pub reason: String,
    pub message: String,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    pub conditions: Vec<Condition>,
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub name: String,
    pub restart_count: i32,
    #[serde(rename = "imageID")]
    pub image_id: String,
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub state: ContainerState,
    pub last_state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub waiting: Option<Waiting>,
    pub running: Option<Running>,
    pub terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Running {
    pub started_at: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Terminated {
    pub exit_code: i32,
    pub message: String,
}

/// A seed's `ConfigMap` with its data.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::ConfigMap)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigMap {
    pub metadata: ObjectMeta,
    pub immutable: bool,
    pub binary_data: BTreeMap<String, ByteString>,
}

/// An Event, whichever API it was made through.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = events::Event)]
#[serde(default)]
pub(crate) struct Event {
    pub metadata: ObjectMeta,
    pub note: Option<String>,
    #[serde(rename = "eventTime")]
    pub first_seen: Option<MicroTime>,
    #[serde(rename = "deprecatedLastTimestamp")]
    pub last_seen: Option<Time>,
    pub series: Option<EventSeries>,
    #[serde(rename = "type")]
    pub type_: String,
    pub reason: String,
}

/// Repetitions of an Event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EventSeries {
    pub last_observed_time: Option<MicroTime>,
}

// === impl Metadata ===

impl Metadata for ObjectMeta {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn owners(&self) -> &[OwnerReference] {
        self.owner_references.as_deref().unwrap_or_default()
    }

    fn writers(&self) -> &[ManagedFieldsEntry] {
        self.managed_fields.as_deref().unwrap_or_default()
    }

    fn is_leaving(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

// === impl Node ===

impl Node {
    /// Returns true if the kubelet says that the node is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(Condition::says_ready)
    }
}

// === impl Pod ===

impl Pod {
    /// Returns true if the kubelet says that the pod is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(Condition::says_ready)
    }

    /// Returns true if the pod has ended for good, and holds no ports any more.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}

// === impl Condition ===

impl Condition {
    fn says_ready(&self) -> bool {
        self.kind == READY && self.status == "True"
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;
    use crate::lenient::{Guarded, each_nulled};

    fn reads<T: DeserializeOwned>(object: &Value) {
        let copies = each_nulled(object);
        assert!(copies.len() > 5, "{object}");
        for copy in copies {
            let Guarded(read) = serde_json::from_str::<Guarded<T>>(&copy.to_string()).unwrap();
            assert!(read.is_ok(), "{:?}: {copy}", read.err());
        }
    }

    #[test]
    fn null_means_empty_in_every_field_of_every_kind() {
        let metadata = json!({
            "name": "n", "namespace": "s", "uid": "u", "resourceVersion": "1", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}, "annotations": {"a": "b"},
            "ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "n", "uid": "u", "controller": true}],
            "managedFields": [{"manager": "m", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}}],
            "finalizers": ["f"],
        });
        let condition = json!({
            "type": "Ready", "status": "True", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        reads::<Node>(&json!({
            "metadata": metadata,
            "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
            "status": {
                "conditions": [condition], "images": [{"names": ["a", "b"], "sizeBytes": 1}],
                "nodeInfo": {"architecture": "a", "operatingSystem": "o", "containerRuntimeVersion": "c"},
            },
        }));
        let requirement = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
        let state = json!({
            "waiting": {"reason": "r", "message": "m"}, "running": {"startedAt": "2026-01-01T00:00:00Z"},
            "terminated": {"exitCode": 1, "message": "m"},
        });
        let container = json!({
            "name": "c", "image": "i", "imagePullPolicy": "p",
            "ports": [{"hostPort": 5000, "hostIP": "127.0.0.1", "protocol": "TCP"}],
        });
        reads::<Object>(&json!({"metadata": metadata}));
        reads::<Pod>(&json!({
            "metadata": metadata,
            "spec": {
                "nodeName": "n1", "containers": [container], "initContainers": [container],
                "imagePullSecrets": [{"name": "s"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [requirement]}],
                }}},
            },
            "status": {
                "phase": "Running", "reason": "r", "message": "m", "podIP": "10.0.0.1", "conditions": [condition],
                "containerStatuses": [
                    {"name": "c", "restartCount": 1, "imageID": "i", "state": state, "lastState": state},
                ],
            },
        }));
        reads::<DaemonSet>(&json!({
            "metadata": metadata, "spec": {"selector": {"matchLabels": {"a": "b"}}},
            "status": {"observedGeneration": 1, "desiredNumberScheduled": 2},
        }));
        reads::<ConfigMap>(&json!({"metadata": metadata, "immutable": true, "binaryData": {"a": "AAAA"}}));
        reads::<Event>(&json!({
            "metadata": metadata, "note": "n", "eventTime": "2026-01-01T00:00:00.000000Z",
            "deprecatedLastTimestamp": "2026-01-01T00:00:00Z", "type": "Warning", "reason": "r",
            "series": {"lastObservedTime": "2026-01-01T00:00:00.000000Z"},
        }));
        reads::<Quinistry>(
            &json!({"metadata": metadata, "spec": {"image": "i"}, "status": {"ready": "1/1"}}),
        );
    }
}

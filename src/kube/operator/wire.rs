//! The API's objects, as far as they are read: a pod's whole type would be half a megabyte of program and most of the
//! work of a watch. What is written is built of Kubernetes' own types.
//!
//! Nothing is required: what an object of another version lacks is as good as empty. Nulls are taken away
//! before (see [`lenient`](crate::lenient)).
//!
//! Only shapes. `observe` makes values of them that [`plan`](super::plan) works with.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::events::v1 as events;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use crate::crd;

/// A resource of ours, of which nothing but the metadata need be as expected.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = crd::Quinistry)]
#[serde(default)]
pub(super) struct Quinistry {
    pub metadata: ObjectMeta,
    pub spec: Value,
    pub status: Value,
}

#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::Node)]
#[serde(default)]
pub(super) struct Node {
    pub metadata: ObjectMeta,
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {
    pub taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    pub conditions: Vec<Condition>,
    pub images: Vec<NodeImage>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeImage {
    pub names: Vec<String>,
}

/// Of a node or of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub last_transition_time: Option<Time>,
}

#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = apps::DaemonSet)]
#[serde(default)]
pub(super) struct DaemonSet {
    pub metadata: ObjectMeta,
    /// Compared with what was applied, whatever it holds.
    pub spec: Value,
    pub status: DaemonSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DaemonSetStatus {
    pub observed_generation: i64,
    pub desired_number_scheduled: i32,
}

#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::Pod)]
#[serde(default)]
pub(super) struct Pod {
    pub metadata: ObjectMeta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub node_name: Option<String>,
    pub containers: Vec<Container>,
    pub image_pull_secrets: Vec<Value>,
    pub affinity: Affinity,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub name: String,
    pub image: String,
    pub image_pull_policy: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Affinity {
    pub node_affinity: NodeAffinity,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: NodeSelector,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeSelector {
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeSelectorTerm {
    pub match_fields: Vec<Requirement>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Requirement {
    pub key: String,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
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
pub(super) struct ContainerStatus {
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
pub(super) struct ContainerState {
    pub waiting: Option<Waiting>,
    pub running: Option<Running>,
    pub terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Running {
    pub started_at: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Terminated {
    pub exit_code: i32,
    pub message: String,
}

/// A seed's `ConfigMap` with its data.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::ConfigMap)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ConfigMap {
    pub metadata: ObjectMeta,
    pub immutable: bool,
    pub binary_data: BTreeMap<String, ByteString>,
}

/// An Event, whichever API it was made through.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = events::Event)]
#[serde(default)]
pub(super) struct Event {
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
pub(super) struct EventSeries {
    pub last_observed_time: Option<MicroTime>,
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
            "status": {"conditions": [condition], "images": [{"names": ["a", "b"], "sizeBytes": 1}]},
        }));
        let requirement = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
        let state = json!({
            "waiting": {"reason": "r", "message": "m"}, "running": {"startedAt": "2026-01-01T00:00:00Z"},
            "terminated": {"exitCode": 1, "message": "m"},
        });
        reads::<Pod>(&json!({
            "metadata": metadata,
            "spec": {
                "nodeName": "n1", "containers": [{"name": "c", "image": "i", "imagePullPolicy": "p"}],
                "imagePullSecrets": [{"name": "s"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [requirement]}],
                }}},
            },
            "status": {
                "podIP": "10.0.0.1", "conditions": [condition],
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

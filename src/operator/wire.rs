//! The API's objects, as far as they are read: a pod's whole type would be half a megabyte of program and most of the
//! work of a watch. What is written is built of Kubernetes' own types.
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
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = crd::Quinistry)]
pub(super) struct Quinistry {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: Value,
}

#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = core::Node)]
pub(super) struct Node {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: NodeSpec,
    #[serde(default)]
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct NodeSpec {
    #[serde(default)]
    pub taints: Vec<Taint>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Taint {
    pub key: String,
    #[serde(default)]
    pub value: String,
    pub effect: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct NodeStatus {
    #[serde(default)]
    pub conditions: Vec<Condition>,
    #[serde(default)]
    pub images: Vec<NodeImage>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct NodeImage {
    #[serde(default)]
    pub names: Vec<String>,
}

/// Of a node or of a pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
    pub last_transition_time: Option<Time>,
}

#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = apps::DaemonSet)]
pub(super) struct DaemonSet {
    pub metadata: ObjectMeta,
    /// Compared with what was applied, whatever it holds.
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: DaemonSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DaemonSetStatus {
    pub observed_generation: i64,
    pub desired_number_scheduled: i32,
}

#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = core::Pod)]
pub(super) struct Pod {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: PodSpec,
    #[serde(default)]
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

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub name: String,
    #[serde(default)]
    pub image: String,
    #[serde(default)]
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

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Requirement {
    pub key: String,
    #[serde(default)]
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

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerStatus {
    pub name: String,
    #[serde(default)]
    pub restart_count: i32,
    #[serde(rename = "imageID", default)]
    pub image_id: String,
    #[serde(rename = "containerID", default)]
    pub container_id: String,
    #[serde(default)]
    pub state: ContainerState,
    #[serde(default)]
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
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = core::ConfigMap)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigMap {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub immutable: bool,
    #[serde(default)]
    pub binary_data: BTreeMap<String, ByteString>,
}

/// An Event, whichever API it was made through.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = events::Event)]
pub(super) struct Event {
    pub metadata: ObjectMeta,
    pub note: Option<String>,
    #[serde(rename = "eventTime")]
    pub first_seen: Option<MicroTime>,
    #[serde(rename = "deprecatedLastTimestamp")]
    pub last_seen: Option<Time>,
    pub series: Option<EventSeries>,
    #[serde(rename = "type", default)]
    pub type_: String,
    #[serde(default)]
    pub reason: String,
}

/// How often an Event was repeated.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventSeries {
    pub last_observed_time: Option<MicroTime>,
}

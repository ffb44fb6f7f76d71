//! Types of Kubernetes' objects with the fields that are read. The whole type of a pod would add half a
//! megabyte to the program, and most of the work of a watch. Objects that are written use Kubernetes' own
//! types, or JSON.
//!
//! No field is required: fields that an object of another version lacks are empty. Nulls are removed before
//! decoding (see [`lenient`](crate::lenient)).
//!
//! Types only, with the methods that both users need. The operator's `observe` converts them to values for
//! its plans; the installer uses them directly.

mod metadata;
mod node;
mod pod;
#[cfg(test)]
mod tests;

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

use super::conditions::READY;
use crate::crd;

pub(crate) use metadata::Metadata;
pub(crate) use node::Node;
pub(crate) use pod::{ContainerPort, ContainerStatus, Pod, PodSpec};

/// Any object, with its metadata alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Object {
    pub metadata: ObjectMeta,
}

/// Resource whose specification and status may be of another version: only the metadata is typed.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = crd::Quinistry)]
#[serde(default)]
pub(crate) struct Quinistry {
    pub metadata: ObjectMeta,
    pub spec: Value,
    pub status: Value,
}

/// Condition of a node or of a pod.
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
    /// As JSON: it is compared with the applied specification, field by field.
    pub spec: Value,
    pub status: DaemonSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DaemonSetStatus {
    pub observed_generation: i64,
    pub desired_number_scheduled: i32,
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

/// An Event, of either of Kubernetes' two APIs for Events.
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

// === impl Condition ===

impl Condition {
    /// Returns true if the condition says that its object is ready.
    pub(crate) fn says_ready(&self) -> bool {
        self.kind == READY && self.status == "True"
    }
}

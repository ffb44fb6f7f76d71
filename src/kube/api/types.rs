//! The API's objects, as far as they are read: a pod's whole type would be half a megabyte of program and most of the
//! work of a watch. What is written is built of Kubernetes' own types, or JSON.
//!
//! Nothing is required: what an object of another version lacks is as good as empty. Nulls are taken away
//! before (see [`lenient`](crate::lenient)).
//!
//! Only shapes, and the questions that both of their users ask. The operator's `observe` makes values of them that
//! its plans work with; `up` reads them as they are.

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

// === impl Condition ===

impl Condition {
    fn says_ready(&self) -> bool {
        self.kind == READY && self.status == "True"
    }
}

//! Types of nodes.

use k8s_openapi::api::core::v1 as core;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;

use super::Condition;

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

// === impl Node ===

impl Node {
    /// Returns true if the kubelet reports the node as ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(Condition::says_ready)
    }
}

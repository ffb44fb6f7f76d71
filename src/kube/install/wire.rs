//! The API's objects, as far as they are read here. Only shapes, as in the operator's room of this name; what is small or
//! read at one place is taken from JSON as it is.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub owner_references: Vec<Owner>,
    pub managed_fields: Vec<Manager>,
    pub deletion_timestamp: Option<String>,
    pub resource_version: String,
}

/// Field manager of an object, or of its subresource where one is named.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Manager {
    pub manager: String,
    pub subresource: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Owner {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// Anything, of which only the metadata counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub metadata: Meta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ConfigMap {
    pub metadata: Meta,
    pub immutable: bool,
    /// As it is on the wire, in base64.
    pub binary_data: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub metadata: Meta,
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeStatus {
    pub conditions: Vec<Condition>,
    pub images: Vec<Image>,
    pub node_info: NodeInfo,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Image {
    pub names: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeInfo {
    pub architecture: String,
    pub operating_system: String,
    pub container_runtime_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub metadata: Meta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub node_name: String,
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
    pub image_pull_secrets: Vec<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Container {
    pub image: String,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    #[serde(rename = "hostPort")]
    pub host: i32,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    pub protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    pub phase: String,
    pub conditions: Vec<Condition>,
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerStatus {
    pub restart_count: i32,
    pub state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerState {
    pub waiting: Option<Waiting>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    pub reason: String,
}

// === impl Node ===

impl Node {
    pub(super) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(Condition::says_ready)
    }
}

// === impl Pod ===

impl Pod {
    pub(super) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(Condition::says_ready)
    }

    /// It holds no ports any more.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}

impl Condition {
    fn says_ready(&self) -> bool {
        self.kind == "Ready" && self.status == "True"
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::{ConfigMap, Node, Object, Pod};
    use crate::lenient::{Sparse, decode_each, each_nulled};

    fn reads<T: DeserializeOwned>(object: &Value) {
        for copy in each_nulled(object) {
            let list: Vec<Sparse> = serde_json::from_str(&json!([copy]).to_string()).unwrap();
            assert_eq!(decode_each::<T>("objects", list).len(), 1, "{copy}");
        }
    }

    #[test]
    fn null_means_empty_in_every_field_of_every_kind() {
        let metadata = json!({
            "name": "n", "namespace": "s", "uid": "u", "labels": {"a": "b"}, "annotations": {"a": "b"},
            "ownerReferences": [{"uid": "u"}], "deletionTimestamp": "2026-01-01T00:00:00Z",
        });
        let condition = json!({"type": "Ready", "status": "True"});
        reads::<Object>(&json!({"metadata": metadata}));
        reads::<ConfigMap>(&json!({"metadata": metadata, "immutable": true, "binaryData": {"a": "AAAA"}}));
        reads::<Node>(&json!({
            "metadata": metadata,
            "status": {
                "conditions": [condition], "images": [{"names": ["a", "b"]}],
                "nodeInfo": {"architecture": "a", "operatingSystem": "o", "containerRuntimeVersion": "c"},
            },
        }));
        let container = json!({
            "image": "i", "ports": [{"hostPort": 5000, "hostIP": "127.0.0.1", "protocol": "TCP"}],
        });
        reads::<Pod>(&json!({
            "metadata": metadata,
            "spec": {
                "nodeName": "n", "containers": [container], "initContainers": [container],
                "imagePullSecrets": [{"name": "s"}],
            },
            "status": {
                "phase": "Running", "conditions": [condition],
                "containerStatuses": [{"restartCount": 1, "state": {"waiting": {"reason": "r"}}}],
            },
        }));
    }
}

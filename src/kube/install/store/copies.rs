//! Number of stores for a cluster whose user names none. Pure, except for [`usual_copies`].

use crate::api::names::RESOURCE;
use crate::api::types::{Metadata as _, Node};
use crate::crd::{DEFAULT_COPIES, Quinistry};
use crate::install::api::{Cluster, NODE, QUINISTRY};
use crate::install::error::InstallError;
use crate::install::{InstallRequest, status};

/// Returns the number of stores to ask for: as many as usual, and no more than the cluster has nodes for. `None` if the
/// resource has stores. (Client required.)
pub async fn usual_copies(
    cluster: &Cluster,
    request: &InstallRequest<'_>,
) -> Result<Option<i32>, InstallError> {
    let before = cluster.get(QUINISTRY, request.namespace, RESOURCE).await?.and_then(status::read);
    let nodes: Vec<Node> = cluster.list(NODE, "", "").await?;
    Ok(copies(&nodes, before.as_ref(), request.payload.architecture))
}

fn copies(nodes: &[Node], before: Option<&Quinistry>, architecture: &str) -> Option<i32> {
    if before.is_some_and(|before| before.spec.store.is_some()) {
        return None;
    }
    let is_selected = |node: &&Node| {
        let info = &node.status.node_info;
        let mut labels = before.iter().flat_map(|before| &before.spec.node_selector);
        info.operating_system == "linux"
            && info.architecture == architecture
            && labels.all(|(key, value)| node.metadata.label(key) == Some(value))
    };
    let count = nodes.iter().filter(is_selected).count();
    Some(i32::try_from(count).unwrap_or(DEFAULT_COPIES).clamp(1, DEFAULT_COPIES))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(architecture: &str, label: &str) -> Node {
        let node = json!({
            "metadata": {"labels": {"disk": label}},
            "status": {"nodeInfo": {"architecture": architecture, "operatingSystem": "linux"}},
        });
        serde_json::from_value(node).unwrap()
    }

    fn resource(store: &Value, selector: &Value) -> Quinistry {
        let object = json!({
            "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "metadata": {"name": "quinistry"},
            "spec": {"image": "a:1", "store": store, "nodeSelector": selector},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn three_stores_are_usual_and_no_more_than_there_are_nodes() {
        for (count, expected) in [(0, 1), (1, 1), (2, 2), (3, 3), (7, 3)] {
            let nodes: Vec<Node> = (0..count).map(|_| node("amd64", "large")).collect();
            assert_eq!(copies(&nodes, None, "amd64"), Some(expected), "{count}");
        }
    }

    #[test]
    fn nodes_that_the_resource_does_not_select_do_not_count() {
        let nodes = [node("amd64", "large"), node("amd64", "small"), node("arm64", "large")];
        assert_eq!(copies(&nodes, None, "amd64"), Some(2));
        let large = resource(&Value::Null, &json!({"disk": "large"}));
        assert_eq!(copies(&nodes, Some(&large), "amd64"), Some(1));
    }

    #[test]
    fn a_resource_with_stores_is_asked_for_none() {
        let existing = resource(&json!({"copies": 5}), &json!({}));
        assert_eq!(copies(&[node("amd64", "large")], Some(&existing), "amd64"), None);
    }
}

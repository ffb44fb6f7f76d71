//! Bundles of a resource, as its status shows them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::StatusSnapshot;
use crate::api::conditions::AVAILABLE;
use crate::api::types::Metadata as _;
use crate::crd::{Bundle, Quinistry};
use crate::install::api::{BUNDLE, Cluster};
use crate::install::error::InstallError;

/// State of a bundle. Empty texts are what the operator has not said yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleSummary {
    /// Name of the bundle.
    pub name: String,
    /// Names that every asked node can serve, of all names, as in 12/12.
    pub images: String,
    /// Nodes that can serve all names, of those that were asked, as in 5/5.
    pub nodes: String,
    /// `True`, `False` or `Unknown`, as in the condition `Available`.
    pub available: String,
    /// Reason of the condition.
    pub reason: String,
    /// Message of the condition.
    pub message: String,
}

impl BundleSummary {
    fn of(bundle: &Bundle) -> Self {
        let status = bundle.status.clone().unwrap_or_default();
        let found = status.conditions.into_iter().find(|one| one.type_ == AVAILABLE);
        let (available, reason, message) =
            found.map(|one| (one.status, one.reason, one.message)).unwrap_or_default();
        let name = bundle.metadata.name().into();
        Self { name, images: status.images, nodes: status.nodes, available, reason, message }
    }
}

/// Adds to each snapshot the bundles that its resource serves, if any resource has a store. A cluster without the
/// definition of bundles, and a user without the right to list them, see none. (Client required.)
pub(super) async fn add(
    cluster: &Cluster,
    namespace: &str,
    resources: &[Quinistry],
    snapshots: &mut [StatusSnapshot],
) -> Result<(), InstallError> {
    if resources.iter().all(|one| one.spec.store.is_none()) {
        return Ok(());
    }
    let objects: Vec<Value> = match cluster.list(BUNDLE, namespace, "").await {
        Err(error) if error.is_missing() || error.is_forbidden() => return Ok(()),
        objects => objects?,
    };
    let bundles: Vec<Bundle> =
        objects.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect();
    let mut all = assign(&bundles, resources);
    for snapshot in snapshots {
        snapshot.bundles =
            all.remove(&(snapshot.namespace.clone(), snapshot.name.clone())).unwrap_or_default();
    }
    Ok(())
}

/// Returns the bundles of each resource, by namespace and name: of the one that a bundle names, or of all with a store.
fn assign(bundles: &[Bundle], resources: &[Quinistry]) -> BTreeMap<(String, String), Vec<BundleSummary>> {
    let mut all: BTreeMap<(String, String), Vec<BundleSummary>> = BTreeMap::new();
    for bundle in bundles {
        let serves = |one: &&Quinistry| {
            let is_named = bundle.spec.registry.as_ref().map(|name| name == one.metadata.name());
            one.metadata.namespace() == bundle.metadata.namespace()
                && is_named.unwrap_or_else(|| one.spec.store.is_some())
        };
        for resource in resources.iter().filter(serves) {
            let key = (resource.metadata.namespace().to_owned(), resource.metadata.name().to_owned());
            all.entry(key).or_default().push(BundleSummary::of(bundle));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bundle_is_shown_with_the_resource_that_serves_it() {
        let resource = |namespace: &str, name: &str, store: Value| -> Quinistry {
            serde_json::from_value(json!({
                "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
                "metadata": {"namespace": namespace, "name": name}, "spec": {"image": "a:1", "store": store},
            }))
            .unwrap()
        };
        let bundle = |name: &str, registry: Value| -> Bundle {
            let condition = json!({"type": "Available", "status": "False", "reason": "ContentMissing", "message": "n2",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            serde_json::from_value(json!({
                "apiVersion": "quinistry.dev/v1alpha1", "kind": "Bundle",
                "metadata": {"namespace": "pantry", "name": name},
                "spec": {"registry": registry, "names": [{"name": "ghcr.io/a:1", "digest": "sha256:1"}]},
                "status": {"images": "0/1", "nodes": "1/2", "conditions": [condition]},
            }))
            .unwrap()
        };
        let resources = [
            resource("pantry", "larder", json!({})),
            resource("pantry", "shelf", Value::Null),
            resource("cellar", "larder", json!({})),
        ];
        let bundles = [bundle("shop", Value::Null), bundle("tools", json!("shelf"))];
        let all = assign(&bundles, &resources);
        let names = |namespace: &str, name: &str| -> Vec<&str> {
            let found = all.get(&(namespace.to_owned(), name.to_owned()));
            found.into_iter().flatten().map(|one| one.name.as_str()).collect()
        };
        assert_eq!(names("pantry", "larder"), ["shop"]);
        assert_eq!(names("pantry", "shelf"), ["tools"]);
        assert!(names("cellar", "larder").is_empty());
        let shop = &all[&("pantry".to_owned(), "larder".to_owned())][0];
        assert_eq!((&*shop.images, &*shop.nodes, &*shop.available), ("0/1", "1/2", "False"));
        assert_eq!((&*shop.reason, &*shop.message), ("ContentMissing", "n2"));
    }
}

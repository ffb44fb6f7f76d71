//! Bundles of a resource, as its status shows them.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StatusSnapshot;
use crate::api::conditions::AVAILABLE;
use crate::api::names::labels::NAMES;
use crate::api::types::Metadata as _;
use crate::crd::{Bundle, Quinistry};
use crate::install::api::{BUNDLE, CONFIG_MAP, Cluster};
use crate::install::error::InstallError;
use crate::operator::held_bundles;

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
    let holders =
        if has_choice(&bundles, resources) { holders(cluster, namespace).await? } else { Vec::new() };
    let mut all = assign(&bundles, resources, &holders);
    for snapshot in snapshots {
        snapshot.bundles =
            all.remove(&(snapshot.namespace.clone(), snapshot.name.clone())).unwrap_or_default();
    }
    Ok(())
}

/// `ConfigMap` of names, as far as it tells which bundles a resource serves.
#[derive(Debug, Deserialize)]
struct NamesMap {
    metadata: ObjectMeta,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// UID of a resource, and the UIDs of the bundles that it serves already.
type Holder = (String, BTreeSet<String>);

/// Reads which resources serve which bundles already. A user without the right to list `ConfigMaps` sees
/// none. (Client required.)
async fn holders(cluster: &Cluster, namespace: &str) -> Result<Vec<Holder>, InstallError> {
    let maps: Vec<NamesMap> = match cluster.list(CONFIG_MAP, namespace, NAMES).await {
        Err(error) if error.is_forbidden() => return Ok(Vec::new()),
        maps => maps?,
    };
    let holder = |map: NamesMap| Some((map.metadata.controller()?.uid.clone(), held_bundles(&map.data)));
    Ok(maps.into_iter().filter_map(holder).collect())
}

/// Returns true if several resources with stores could serve a bundle.
fn has_choice(bundles: &[Bundle], resources: &[Quinistry]) -> bool {
    let mut unnamed = bundles.iter().filter(|bundle| named(bundle).is_none());
    unnamed.any(|bundle| with_store(bundle, resources).count() > 1)
}

/// Returns the resource that a bundle names.
fn named(bundle: &Bundle) -> Option<&str> {
    bundle.spec.registry.as_deref().filter(|name| !name.is_empty())
}

/// Returns the resources with stores in the namespace of a bundle.
fn with_store<'a>(bundle: &Bundle, resources: &'a [Quinistry]) -> impl Iterator<Item = &'a Quinistry> {
    let namespace = bundle.metadata.namespace().to_owned();
    let is_there = move |one: &&Quinistry| one.metadata.namespace() == namespace && one.spec.store.is_some();
    resources.iter().filter(is_there)
}

/// Returns the bundles of each resource, by namespace and name. A bundle is shown once, beneath the resource
/// that the operator has serve it: the named one; the only one with stores; of several, the one that serves
/// the bundle already. A bundle that none of several serves is shown beneath the first of them, with the
/// operator's reason.
fn assign(
    bundles: &[Bundle],
    resources: &[Quinistry],
    holders: &[Holder],
) -> BTreeMap<(String, String), Vec<BundleSummary>> {
    let mut all: BTreeMap<(String, String), Vec<BundleSummary>> = BTreeMap::new();
    for bundle in bundles {
        let holds = |one: &Quinistry| {
            let (Some(resource), Some(bundle)) = (&one.metadata.uid, &bundle.metadata.uid) else {
                return false;
            };
            holders.iter().any(|(uid, held)| uid == resource && held.contains(bundle))
        };
        let found = match named(bundle) {
            Some(name) => resources.iter().find(|one| {
                one.metadata.namespace() == bundle.metadata.namespace() && one.metadata.name() == name
            }),
            None => {
                with_store(bundle, resources).min_by_key(|one| (!holds(one), one.metadata.name().to_owned()))
            }
        };
        if let Some(resource) = found {
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

    fn resource(namespace: &str, name: &str, store: &Value) -> Quinistry {
        serde_json::from_value(json!({
            "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
            "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-of-{name}")},
            "spec": {"image": "a:1", "store": store},
        }))
        .unwrap()
    }

    fn bundle(name: &str, registry: &Value) -> Bundle {
        let condition = json!({"type": "Available", "status": "False", "reason": "ContentMissing", "message": "n2",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({
            "apiVersion": "quinistry.dev/v1alpha1", "kind": "Bundle",
            "metadata": {"namespace": "pantry", "name": name, "uid": name},
            "spec": {"registry": registry, "names": [{"name": "ghcr.io/a:1", "digest": "sha256:1"}]},
            "status": {"images": "0/1", "nodes": "1/2", "conditions": [condition]},
        }))
        .unwrap()
    }

    fn names(
        all: &BTreeMap<(String, String), Vec<BundleSummary>>,
        namespace: &str,
        name: &str,
    ) -> Vec<String> {
        let found = all.get(&(namespace.to_owned(), name.to_owned()));
        found.into_iter().flatten().map(|one| one.name.clone()).collect()
    }

    #[test]
    fn a_bundle_is_shown_with_the_resource_that_serves_it() {
        let resources = [
            resource("pantry", "larder", &json!({})),
            resource("pantry", "shelf", &Value::Null),
            resource("cellar", "larder", &json!({})),
        ];
        let bundles = [bundle("shop", &Value::Null), bundle("tools", &json!("shelf"))];
        assert!(!has_choice(&bundles, &resources));
        let all = assign(&bundles, &resources, &[]);
        assert_eq!(names(&all, "pantry", "larder"), ["shop"]);
        assert_eq!(names(&all, "pantry", "shelf"), ["tools"]);
        assert!(names(&all, "cellar", "larder").is_empty());
        let shop = &all[&("pantry".to_owned(), "larder".to_owned())][0];
        assert_eq!((&*shop.images, &*shop.nodes, &*shop.available), ("0/1", "1/2", "False"));
        assert_eq!((&*shop.reason, &*shop.message), ("ContentMissing", "n2"));
    }

    #[test]
    fn of_several_resources_with_stores_the_one_that_holds_a_bundle_shows_it() {
        let resources = ["shelf", "larder"].map(|name| resource("pantry", name, &json!({})));
        let bundles =
            [bundle("shop", &Value::Null), bundle("tools", &json!("")), bundle("pies", &json!("larder"))];
        assert!(has_choice(&bundles, &resources));
        let history = json!({"shop": {"current": [], "former": []}}).to_string();
        let held = held_bundles(&[("history.json".to_owned(), history)].into());
        let all = assign(&bundles, &resources, &[("uid-of-shelf".into(), held)]);
        assert_eq!(names(&all, "pantry", "shelf"), ["shop"]);
        assert_eq!(
            names(&all, "pantry", "larder"),
            ["tools", "pies"],
            "none serves the tools, which is told once"
        );
    }
}

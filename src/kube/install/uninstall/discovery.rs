//! Discovery of the kinds of objects that can be in a namespace, and of API groups that do not answer. A
//! namespace counts as empty only if every kind was listed. Pure, except for [`discover`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::conditions::AVAILABLE;
use crate::api::names::{GROUP, PLURAL};
use crate::install::api::Cluster;
use crate::install::error::InstallError;

/// Media type that asks for all groups with their resources in one answer.
const AGGREGATED_DISCOVERY_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Path of the objects that tell which aggregated APIs answer.
const API_SERVICES_PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Resources of the core group that every API server serves. A discovery without them is incomplete.
const CORE_RESOURCES: [&str; 3] = ["configmaps", "pods", "secrets"];

/// Kinds that every supported version of Kubernetes serves. They are listed even if discovery leaves them
/// out.
const BUILT_IN_KINDS: [(&str, &str); 13] = [
    ("v1", "configmaps"),
    ("v1", "persistentvolumeclaims"),
    ("v1", "pods"),
    ("v1", "secrets"),
    ("v1", "serviceaccounts"),
    ("v1", "services"),
    ("apps/v1", "daemonsets"),
    ("apps/v1", "deployments"),
    ("apps/v1", "statefulsets"),
    ("batch/v1", "cronjobs"),
    ("batch/v1", "jobs"),
    ("rbac.authorization.k8s.io/v1", "rolebindings"),
    ("rbac.authorization.k8s.io/v1", "roles"),
];

/// Kinds to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    /// Version and plural of each kind, with true if discovery named it.
    pub(super) listed: BTreeMap<(String, String), bool>,
    /// API groups and versions whose kinds are unknown at the moment.
    pub(super) unknown: BTreeSet<String>,
}

/// Reads the two discovery documents. Fails if they are incomplete.
pub(super) fn kinds(core: &Value, groups: &Value) -> Result<Kinds, String> {
    let mut kinds = Kinds::default();
    for (path, document) in [("/api", core), ("/apis", groups)] {
        let items = document["items"].as_array().filter(|items| !items.is_empty());
        let Some(items) = items else { return Err(format!("{path} names no API groups")) };
        for group in items {
            kinds.add(group);
        }
    }
    for plural in CORE_RESOURCES {
        if !kinds.listed.contains_key(&("v1".to_owned(), plural.to_owned())) {
            return Err(format!("/api does not name {plural}"));
        }
    }
    for (version, plural) in BUILT_IN_KINDS {
        kinds.listed.entry((version.into(), plural.into())).or_insert(false);
    }
    Ok(kinds)
}

// === impl Kinds ===

impl Kinds {
    /// Adds the kinds of a group, each in the first version that has it, which is the preferred one.
    fn add(&mut self, group: &Value) {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        let versions = group["versions"].as_array().filter(|versions| !versions.is_empty());
        let Some(versions) = versions else {
            self.unknown.insert(name.to_owned());
            return;
        };
        let mut seen = BTreeSet::new();
        for version in versions {
            let number = version["version"].as_str().unwrap_or_default();
            let full = if name.is_empty() { number.to_owned() } else { format!("{name}/{number}") };
            let resources = version["resources"].as_array().filter(|resources| !resources.is_empty());
            let is_stale = version["freshness"].as_str().is_some_and(|freshness| freshness == "Stale");
            if number.is_empty() || resources.is_none() || is_stale {
                self.unknown.insert(full.clone());
            }
            // Measurements and Events do not keep a namespace alive: they belong to other objects.
            if matches!(name, "metrics.k8s.io" | "events.k8s.io") {
                continue;
            }
            for resource in resources.into_iter().flatten() {
                let (plural, scope) = (resource["resource"].as_str(), resource["scope"].as_str());
                let (Some(plural), Some(scope), Some(verbs)) = (plural, scope, resource["verbs"].as_array())
                else {
                    self.unknown.insert(full.clone());
                    continue;
                };
                let is_event = name.is_empty() && plural == "events";
                let is_ours = name == GROUP && plural == PLURAL;
                if scope == "Namespaced"
                    && verbs.iter().any(|verb| verb == "list")
                    && !is_event
                    && !is_ours
                    && seen.insert(plural)
                {
                    self.listed.insert((full.clone(), plural.to_owned()), true);
                }
            }
        }
    }

    /// Adds the aggregated APIs that do not answer, by the list of `APIService` objects.
    fn add_services(&mut self, services: &Value) {
        for service in services["items"].as_array().into_iter().flatten() {
            let conditions = service["status"]["conditions"].as_array();
            let is_available = conditions.is_some_and(|conditions| {
                conditions.iter().any(|one| one["type"] == AVAILABLE && one["status"] == "True")
            });
            let spec = &service["spec"];
            if !spec["service"].is_null() && !is_available {
                let part = |key: &str| spec[key].as_str().unwrap_or_default();
                self.unknown.insert(format!("{}/{}", part("group"), part("version")));
            }
        }
    }
}

/// Discovers all kinds. (Client required.)
pub(super) async fn discover(cluster: &Cluster) -> Result<Kinds, InstallError> {
    let (core, groups) = tokio::try_join!(
        cluster.read_as_sent("/api", Some(AGGREGATED_DISCOVERY_TYPE)),
        cluster.read_as_sent("/apis", Some(AGGREGATED_DISCOVERY_TYPE))
    )?;
    let mut kinds = kinds(&core, &groups).map_err(|why| {
        InstallError::Refused(format!(
            "nothing was deleted: the API server does not say which kinds it serves ({why}), so that what else lives in \
             the namespaces cannot be seen; run this again when it does"
        ))
    })?;
    match cluster.read_as_sent(API_SERVICES_PATH, None).await {
        Ok(services) => kinds.add_services(&services),
        // Not needed: discovery marks groups that stopped answering. This list adds groups that never
        // answered.
        Err(error) if error.is_forbidden() || error.is_missing() => {}
        Err(error) => return Err(error),
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(plural: &str) -> Value {
        json!({"resource": plural, "scope": "Namespaced", "verbs": ["get", "list"]})
    }

    fn core() -> Value {
        let nodes = json!({"resource": "nodes", "scope": "Cluster", "verbs": ["list"]});
        let all: Vec<Value> =
            ["configmaps", "pods", "secrets", "events"].into_iter().map(resource).chain([nodes]).collect();
        json!({"items": [{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": all}]}]})
    }

    fn groups(extra: &Value) -> Value {
        let ovens = json!({
            "metadata": {"name": "kitchen.example.com"}, "versions": [
                {"version": "v2", "freshness": "Current", "resources": [resource("ovens")]},
                {"version": "v1", "freshness": "Current", "resources": [resource("ovens"), resource("pans")]},
            ],
        });
        let ours = json!({
            "metadata": {"name": "quinistry.dev"},
            "versions": [{"version": "v1alpha1", "resources": [resource("quinistries")]}],
        });
        json!({"items": [ovens, ours, extra]})
    }

    fn found(extra: &Value) -> Kinds {
        kinds(&core(), &groups(extra)).unwrap()
    }

    #[test]
    fn each_kind_is_asked_for_once_in_its_preferred_version() {
        let extra =
            json!({"metadata": {"name": "a"}, "versions": [{"version": "v1", "resources": [resource("b")]}]});
        let found = found(&extra);
        let has = |version: &str, plural: &str| found.listed.contains_key(&(version.into(), plural.into()));
        assert!(
            has("v1", "pods")
                && has("kitchen.example.com/v2", "ovens")
                && has("kitchen.example.com/v1", "pans")
        );
        assert!(!has("kitchen.example.com/v1", "ovens") && !has("v1", "events") && !has("v1", "nodes"));
        assert!(!has("quinistry.dev/v1alpha1", "quinistries"), "those are looked at by themselves");
        assert!(!found.listed[&("apps/v1".to_owned(), "deployments".to_owned())], "not named");
        assert!(found.unknown.is_empty(), "{:?}", found.unknown);
    }

    #[test]
    fn a_discovery_that_is_cut_short_is_refused() {
        let good = groups(&json!({"metadata": {"name": "a"}, "versions": []}));
        for bad in [json!({}), json!({"items": null}), json!({"items": []}), json!("hello")] {
            assert!(kinds(&bad, &good).is_err(), "{bad}");
            assert!(kinds(&core(), &bad).is_err(), "{bad}");
        }
        let mut short = core();
        short["items"][0]["versions"][0]["resources"].as_array_mut().unwrap().remove(1);
        assert!(kinds(&short, &good).unwrap_err().contains("pods"));
    }

    #[test]
    fn a_group_that_cannot_be_asked_is_named() {
        let version = |version: Value| json!({"metadata": {"name": "late"}, "versions": [version]});
        for partial in [
            version(json!({"version": "v1", "freshness": "Stale", "resources": [resource("b")]})),
            version(json!({"version": "v1", "freshness": "Stale"})),
            version(json!({"version": "v1", "resources": null})),
            version(json!({"version": "v1", "resources": [{"resource": "b"}]})),
        ] {
            assert_eq!(found(&partial).unknown, ["late/v1".to_owned()].into());
        }
        assert_eq!(found(&json!({"metadata": {"name": "late"}})).unknown, ["late".to_owned()].into());
        let mut all = Kinds::default();
        let service = |status: &str| {
            json!({
                "spec": {"group": "late", "version": "v1", "service": {"name": "a"}},
                "status": {"conditions": [{"type": "Available", "status": status}]},
            })
        };
        all.add_services(&json!({"items": [service("True"), {"spec": {"group": "here", "version": "v1"}}]}));
        assert!(all.unknown.is_empty());
        all.add_services(&json!({"items": [service("False")]}));
        assert_eq!(all.unknown, ["late/v1".to_owned()].into());
    }
}

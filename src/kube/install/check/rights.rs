//! Permissions that `up` needs: for its own requests, and all that it grants to the operator. Kubernetes lets
//! a user grant only permissions that the user has. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::names::{BUNDLE_PLURAL, GROUP, PLURAL, operator_namespace};
use crate::install::manifests::{Rule, cluster_rules, lease_rules, namespaced_rules};

/// Permission for one verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::install) struct Permission {
    pub verb: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
    /// Namespace; empty for all namespaces and for cluster-wide resources.
    pub namespace: String,
}

/// Formats permissions, grouped by resource: `create/patch daemonsets.apps in pantry`.
pub(super) fn summaries(rights: &BTreeSet<Permission>) -> Vec<String> {
    let mut grouped: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for right in rights {
        let key = (right.namespace.as_str(), right.group, right.resource);
        grouped.entry(key).or_default().push(right.verb);
    }
    let summaries = grouped.into_iter().map(|((namespace, group, resource), verbs)| {
        let dot = if group.is_empty() { "" } else { "." };
        let location = if namespace.is_empty() { String::new() } else { format!(" in {namespace}") };
        format!("{} {resource}{dot}{group}{location}", verbs.join("/"))
    });
    summaries.collect()
}

impl Permission {
    fn new(verb: &'static str, group: &'static str, resource: &'static str, namespace: &str) -> Self {
        Self { verb, group, resource, namespace: namespace.into() }
    }

    /// Returns the permission for everything, which administrators have.
    pub(super) fn everything() -> Self {
        Self::new("*", "*", "*", "")
    }

    /// Returns the permissions to grant more than the user has.
    pub(super) fn escalate() -> [Self; 2] {
        let rbac = "rbac.authorization.k8s.io";
        [Self::new("escalate", rbac, "clusterroles", ""), Self::new("bind", rbac, "clusterroles", "")]
    }

    /// Formats the permission as a `SelfSubjectAccessReview`.
    pub(super) fn review(&self) -> Value {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": self.verb, "group": self.group, "resource": resource, "subresource": subresource,
                "namespace": self.namespace,
            }},
        })
    }
}

/// Returns the permissions that `up` needs to load images into stores, beside those for its other requests.
pub(super) fn load_permissions(namespace: &str) -> Vec<Permission> {
    let inside = [
        (GROUP, BUNDLE_PLURAL, &["get", "create", "patch"][..]),
        // From Kubernetes 1.35 on a port-forward over WebSocket needs `create` as well.
        ("", "pods/portforward", &["get", "create"]),
    ];
    let each = inside.iter().flat_map(|(group, resource, verbs)| {
        verbs.iter().map(|verb| Permission::new(verb, group, resource, namespace))
    });
    each.collect()
}

/// Returns the permissions for the requests of `up`.
pub(super) fn own_permissions(namespace: &str) -> Vec<Permission> {
    let home = operator_namespace(namespace);
    let rbac = "rbac.authorization.k8s.io";
    let wide = [
        ("", "namespaces", &["get", "create", "patch"][..]),
        ("apiextensions.k8s.io", "customresourcedefinitions", &["get", "create", "patch"]),
        (rbac, "clusterroles", &["get", "create", "patch"]),
        (rbac, "clusterrolebindings", &["get", "create", "patch"]),
        ("", "nodes", &["list", "patch"]),
        ("", "pods", &["list"]),
    ];
    let inside = [
        (GROUP, PLURAL, &["get", "create", "patch"][..]),
        ("", "configmaps", &["get", "list", "create", "delete"]),
        ("apps", "daemonsets", &["get", "list", "create", "patch"]),
        (rbac, "roles", &["get", "create", "patch"]),
        (rbac, "rolebindings", &["get", "create", "patch"]),
    ];
    let beside = [
        ("apps", "deployments", &["get", "create", "patch"][..]),
        ("", "serviceaccounts", &["get", "create", "patch"]),
        ("coordination.k8s.io", "leases", &["get"]),
        (rbac, "roles", &["get", "create", "patch"]),
        (rbac, "rolebindings", &["get", "create", "patch"]),
    ];
    let mut all = Vec::new();
    for (namespace, rights) in [("", &wide[..]), (namespace, &inside), (&home, &beside)] {
        for (group, resource, verbs) in rights {
            all.extend(verbs.iter().map(|verb| Permission::new(verb, group, resource, namespace)));
        }
    }
    all
}

/// Returns the permissions that `up` grants to the operator.
pub(super) fn operator_permissions(namespace: &str) -> Vec<Permission> {
    let home = operator_namespace(namespace);
    let of = |rules: Vec<Rule>, namespace: &str| -> Vec<Permission> {
        let each = |rule: &Rule| -> Vec<Permission> {
            rule.verbs
                .iter()
                .map(|verb| Permission::new(verb, rule.group, rule.resource, namespace))
                .collect()
        };
        rules.iter().flat_map(each).collect()
    };
    [of(namespaced_rules(), namespace), of(cluster_rules(), ""), of(lease_rules(), &home)].concat()
}

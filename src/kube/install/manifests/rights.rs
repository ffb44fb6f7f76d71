//! Permissions of the operator: those of the Helm chart with `store.enabled`, which gives the reason for each. A test
//! holds them to the chart's. Stores are made for the clusters that `up` is made for, so that their rights are not left
//! out.

use serde_json::{Value, json};

use crate::api::names::{CLAIM, GROUP, OPERATOR};

/// Rule of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Group of the API.
    pub group: &'static str,
    /// Resource, or subresource as in `quinistries/status`.
    pub resource: &'static str,
    /// Name of the only object that the rule is for; empty for all.
    pub name: &'static str,
    /// Allowed verbs.
    pub verbs: &'static [&'static str],
}

impl Rule {
    const fn new(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Self {
        Self { group, resource, name: "", verbs }
    }

    /// Formats the rule for a role.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut rule = json!({"apiGroups": [self.group], "resources": [self.resource], "verbs": self.verbs});
        if !self.name.is_empty() {
            rule["resourceNames"] = json!([self.name]);
        }
        rule
    }
}

/// Returns the rules in the namespace of the resource.
#[must_use]
pub fn namespaced_rules() -> Vec<Rule> {
    vec![
        Rule::new(GROUP, "quinistries", &["get", "list", "watch"]),
        Rule::new(GROUP, "quinistries/status", &["patch"]),
        Rule::new(GROUP, "bundles", &["get", "list", "watch"]),
        Rule::new(GROUP, "bundles/status", &["patch"]),
        Rule::new("apps", "daemonsets", &["get", "list", "watch", "create", "patch", "delete"]),
        Rule::new("", "pods", &["list", "watch", "delete"]),
        Rule::new("", "pods", &["patch"]),
        Rule::new("events.k8s.io", "events", &["list", "watch", "create", "patch"]),
        Rule::new("", "configmaps", &["get", "list", "watch", "create", "patch", "delete"]),
        Rule::new("", "services", &["get", "create", "patch", "delete"]),
        Rule::new("networking.k8s.io", "networkpolicies", &["get", "create", "patch", "delete"]),
        Rule::new("coordination.k8s.io", "leases", &["create"]),
        Rule { name: CLAIM, ..Rule::new("coordination.k8s.io", "leases", &["get", "update"]) },
    ]
}

/// Returns the cluster-wide rules.
#[must_use]
pub fn cluster_rules() -> Vec<Rule> {
    vec![
        Rule::new("", "nodes", &["list", "watch"]),
        Rule::new("", "nodes", &["patch"]),
        Rule::new("", "pods", &["list"]),
    ]
}

/// Returns the rules in the operator's namespace, for its Lease.
#[must_use]
pub fn lease_rules() -> Vec<Rule> {
    vec![
        Rule::new("coordination.k8s.io", "leases", &["create"]),
        Rule { name: OPERATOR, ..Rule::new("coordination.k8s.io", "leases", &["get", "update"]) },
    ]
}

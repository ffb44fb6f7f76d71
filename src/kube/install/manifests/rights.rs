//! The operator's rights: those of the Helm chart, to which a test holds them. Each has its reason there.

use serde_json::{Value, json};

use crate::api::names::{CLAIM, GROUP, OPERATOR};

/// A rule of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Group of the API.
    pub group: &'static str,
    /// What.
    pub resource: &'static str,
    /// The one object that is meant; empty for all.
    pub name: &'static str,
    /// What may be done.
    pub verbs: &'static [&'static str],
}

impl Rule {
    const fn new(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Self {
        Self { group, resource, name: "", verbs }
    }

    /// As in a role.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut rule = json!({"apiGroups": [self.group], "resources": [self.resource], "verbs": self.verbs});
        if !self.name.is_empty() {
            rule["resourceNames"] = json!([self.name]);
        }
        rule
    }
}

/// Where the resource is.
#[must_use]
pub fn namespaced_rules() -> Vec<Rule> {
    vec![
        Rule::new(GROUP, "quinistries", &["get", "list", "watch"]),
        Rule::new(GROUP, "quinistries/status", &["patch"]),
        Rule::new("apps", "daemonsets", &["get", "list", "watch", "create", "patch", "delete"]),
        Rule::new("", "pods", &["list", "watch", "delete"]),
        Rule::new("events.k8s.io", "events", &["list", "watch", "create", "patch"]),
        Rule::new("", "configmaps", &["get", "list", "watch", "create", "patch", "delete"]),
        Rule::new("coordination.k8s.io", "leases", &["create"]),
        Rule { name: CLAIM, ..Rule::new("coordination.k8s.io", "leases", &["get", "update"]) },
    ]
}

/// Everywhere.
#[must_use]
pub fn cluster_rules() -> Vec<Rule> {
    vec![
        Rule::new("", "nodes", &["list", "watch"]),
        Rule::new("", "nodes", &["patch"]),
        Rule::new("", "pods", &["list"]),
    ]
}

/// Where the operator is.
#[must_use]
pub fn lease_rules() -> Vec<Rule> {
    vec![
        Rule::new("coordination.k8s.io", "leases", &["create"]),
        Rule { name: OPERATOR, ..Rule::new("coordination.k8s.io", "leases", &["get", "update"]) },
    ]
}

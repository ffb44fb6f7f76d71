//! Kinds of objects, by which the paths of the API server are made. Pure.

use serde_json::Value;

/// A kind of object, as far as its path goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceKind {
    /// Group and version, as in `apiVersion`.
    pub version: &'static str,
    /// As in `kind`.
    pub name: &'static str,
    /// As in paths.
    pub plural: &'static str,
    /// Lives in a namespace.
    pub namespaced: bool,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $version:literal $kind:literal $plural:literal $namespaced:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $name: ResourceKind =
                ResourceKind { version: $version, name: $kind, plural: $plural, namespaced: $namespaced };
        )*
        /// Those of manifests.
        pub const KINDS: &[ResourceKind] = &[$($name),*];
    };
}

kinds! {
    #[doc = "Definitions."] CRD = "apiextensions.k8s.io/v1" "CustomResourceDefinition" "customresourcedefinitions" false;
    #[doc = "Namespaces."] NAMESPACE = "v1" "Namespace" "namespaces" false;
    #[doc = "Nodes."] NODE = "v1" "Node" "nodes" false;
    #[doc = "Pods."] POD = "v1" "Pod" "pods" true;
    #[doc = "Pieces of the executable."] CONFIG_MAP = "v1" "ConfigMap" "configmaps" true;
    #[doc = "The operator's account."] ACCOUNT = "v1" "ServiceAccount" "serviceaccounts" true;
    #[doc = "Rights in a namespace."] ROLE = "rbac.authorization.k8s.io/v1" "Role" "roles" true;
    #[doc = "Who has them."] BINDING = "rbac.authorization.k8s.io/v1" "RoleBinding" "rolebindings" true;
    #[doc = "Rights everywhere."] CLUSTER_ROLE = "rbac.authorization.k8s.io/v1" "ClusterRole" "clusterroles" false;
    #[doc = "Who has them."]
    CLUSTER_BINDING = "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" "clusterrolebindings" false;
    #[doc = "The operator."] DEPLOYMENT = "apps/v1" "Deployment" "deployments" true;
    #[doc = "The generations."] DAEMON_SET = "apps/v1" "DaemonSet" "daemonsets" true;
    #[doc = "Who leads."] LEASE = "coordination.k8s.io/v1" "Lease" "leases" true;
    #[doc = "Ours."] QUINISTRY = "quinistry.dev/v1alpha1" "Quinistry" "quinistries" true;
}

// === impl ResourceKind ===

impl ResourceKind {
    /// The kind of an object as JSON.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        let (version, name) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        KINDS.iter().copied().find(|kind| kind.version == version && kind.name == name)
    }

    pub(super) fn path(self, namespace: &str, name: &str) -> String {
        let root = if self.version == "v1" { "/api" } else { "/apis" };
        let namespace_segment = if self.namespaced && !namespace.is_empty() {
            format!("/namespaces/{namespace}")
        } else {
            String::new()
        };
        let name = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("{root}/{}{namespace_segment}/{}{name}", self.version, self.plural)
    }

    /// For people: `ConfigMap pantry/larder`.
    pub(in crate::install) fn display_name(self, namespace: &str, name: &str) -> String {
        if self.namespaced && !namespace.is_empty() {
            format!("{} {namespace}/{name}", self.name)
        } else {
            format!("{} {name}", self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_api_servers() {
        assert_eq!(POD.path("pantry", "larder"), "/api/v1/namespaces/pantry/pods/larder");
        assert_eq!(POD.path("", ""), "/api/v1/pods");
        assert_eq!(NODE.path("pantry", "n1"), "/api/v1/nodes/n1");
        assert_eq!(
            QUINISTRY.path("pantry", ""),
            "/apis/quinistry.dev/v1alpha1/namespaces/pantry/quinistries"
        );
        let object = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        assert_eq!(ResourceKind::of(&object), Some(DEPLOYMENT));
    }
}

//! Kinds of objects, and the paths that the API server serves them under. Pure.

use serde_json::Value;

/// Kind of an object with the parts of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceKind {
    /// Group and version, as in `apiVersion`.
    pub version: &'static str,
    /// Value of the field `kind`.
    pub name: &'static str,
    /// Plural name in paths.
    pub plural: &'static str,
    /// True if objects of this kind are in a namespace.
    pub namespaced: bool,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $version:literal $kind:literal $plural:literal $namespaced:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $name: ResourceKind =
                ResourceKind { version: $version, name: $kind, plural: $plural, namespaced: $namespaced };
        )*
        /// Kinds whose objects an installation applies.
        pub const KINDS: &[ResourceKind] = &[$($name),*];
    };
}

kinds! {
    #[doc = "Kind of the definition."] CRD = "apiextensions.k8s.io/v1" "CustomResourceDefinition" "customresourcedefinitions" false;
    #[doc = "Kind of namespaces."] NAMESPACE = "v1" "Namespace" "namespaces" false;
    #[doc = "Kind of nodes."] NODE = "v1" "Node" "nodes" false;
    #[doc = "Kind of pods."] POD = "v1" "Pod" "pods" true;
    #[doc = "Kind of the seed parts."] CONFIG_MAP = "v1" "ConfigMap" "configmaps" true;
    #[doc = "Kind of the operator's account."] ACCOUNT = "v1" "ServiceAccount" "serviceaccounts" true;
    #[doc = "Kind of permissions in a namespace."] ROLE = "rbac.authorization.k8s.io/v1" "Role" "roles" true;
    #[doc = "Kind of grants of a [`ROLE`]."] BINDING = "rbac.authorization.k8s.io/v1" "RoleBinding" "rolebindings" true;
    #[doc = "Kind of cluster-wide permissions."] CLUSTER_ROLE = "rbac.authorization.k8s.io/v1" "ClusterRole" "clusterroles" false;
    #[doc = "Kind of grants of a [`CLUSTER_ROLE`]."]
    CLUSTER_BINDING = "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" "clusterrolebindings" false;
    #[doc = "Kind of the operator's pods."] DEPLOYMENT = "apps/v1" "Deployment" "deployments" true;
    #[doc = "Kind of the generations."] DAEMON_SET = "apps/v1" "DaemonSet" "daemonsets" true;
    #[doc = "Kind of claims and leader elections."] LEASE = "coordination.k8s.io/v1" "Lease" "leases" true;
    #[doc = "Kind of the resource."] QUINISTRY = "quinistry.dev/v1alpha1" "Quinistry" "quinistries" true;
    #[doc = "Kind of bundles."] BUNDLE = "quinistry.dev/v1alpha1" "Bundle" "bundles" true;
}

// === impl ResourceKind ===

impl ResourceKind {
    /// Finds the kind of an object by its `apiVersion` and `kind`.
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

    /// Formats kind and name for a sentence: `ConfigMap pantry/larder`.
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

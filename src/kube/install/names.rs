//! The names that are left in a cluster, each once. Those of generations and `ConfigMaps` are `operator`'s and `seed`'s.

/// Where the resource, the pieces and all generations live, unless said otherwise.
pub const NAMESPACE: &str = "quinistry-system";

/// The resource.
pub const RESOURCE: &str = "quinistry";

/// The operator: its Deployment, account, roles and Lease.
pub const OPERATOR: &str = "quinistry-operator";

/// Field manager of everything that is applied here.
pub const MANAGER: &str = "quinistry-up";

/// Label of everything that was made here, and may be removed here: [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Level of Pod Security that a namespace enforces.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Where the operator runs: apart from the generations, since host ports need a namespace that allows everything.
#[must_use]
pub fn operator_namespace(namespace: &str) -> String {
    format!("{namespace}-operator")
}

/// Cluster-wide objects carry the namespace, as each may have an operator of its own.
#[must_use]
pub fn cluster_wide(namespace: &str) -> String {
    format!("quinistry:{namespace}")
}

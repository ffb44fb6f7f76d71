//! Identity strings, each defined once: names, labels and annotations in a cluster.
//!
//! Selectors, field managers, recorded Events and queries of users depend on them, so none may change.

/// Group of the API.
pub const GROUP: &str = "quinistry.dev";

/// Group and version, as in `apiVersion`.
pub const API_VERSION: &str = "quinistry.dev/v1alpha1";

/// Kind of the resource.
pub const KIND: &str = "Quinistry";

/// Kind of the resource in paths and rules.
pub const PLURAL: &str = "quinistries";

/// Name of the definition.
pub const DEFINITION_NAME: &str = "quinistries.quinistry.dev";

/// Kind of the resource that names images.
pub const BUNDLE_KIND: &str = "Bundle";

/// Kind of the resource that names images, in paths and rules.
pub const BUNDLE_PLURAL: &str = "bundles";

/// Name of the definition of bundles.
pub const BUNDLE_DEFINITION_NAME: &str = "bundles.quinistry.dev";

/// Value of [`labels::APP_NAME`] on everything that is part of this program.
pub const APP: &str = "quinistry";

/// Default namespace of the resource, the seed parts and all generations that `up` creates.
pub const NAMESPACE: &str = "quinistry-system";

/// Name of the resource that `up` creates.
pub const RESOURCE: &str = "quinistry";

/// Name of the operator's Deployment, account, roles and Lease.
pub const OPERATOR: &str = "quinistry-operator";

/// Name of the Lease by which an operator claims the resources of the Lease's namespace.
pub const CLAIM: &str = "quinistry-claim";

/// Name of a generation's only container. Server-side apply merges containers by name, so that another name
/// would add one.
pub const CONTAINER: &str = "quinistry";

/// Value for the carrier of nodes without a label, in names and selectors. Not the key of an image, since the
/// main carrier can change.
pub const MAIN_CARRIER: &str = "main";

/// Role of a store, as the value of [`labels::ROLE`].
pub const STORE_ROLE: &str = "store";

/// Port on the loopback interface of a store's pod that takes reads and writes.
pub const STORE_PUSH_PORT: u16 = 8090;

/// Returns the namespace of the operator that `up` installs. Not that of the generations, whose host ports
/// need the Pod Security level `privileged`.
#[must_use]
pub fn operator_namespace(namespace: &str) -> String {
    format!("{namespace}-operator")
}

/// Returns the name of cluster-wide objects that `up` creates. It contains the namespace: each namespace may
/// have an operator of its own.
#[must_use]
pub fn cluster_wide(namespace: &str) -> String {
    format!("quinistry:{namespace}")
}

/// Returns the selector of every operator's Deployment and pods, from a chart as well as from `up`.
#[must_use]
pub fn operator_selector() -> String {
    format!("{}={APP},{}=operator", labels::APP_NAME, labels::APP_COMPONENT)
}

/// Field managers, which Kubernetes records as writers of fields.
pub mod managers {
    /// The operator, in every server-side apply, and as the reporter of every Event.
    pub const OPERATOR: &str = "quinistry-operator";

    /// `quinistry up`.
    pub const UP: &str = "quinistry-up";
}

/// Labels.
pub mod labels {
    /// UID of the resource that an object belongs to; with [`GENERATION`] the selector of a `DaemonSet`.
    pub const RESOURCE: &str = "quinistry.dev/resource";

    /// Number of the generation.
    pub const GENERATION: &str = "quinistry/generation";

    /// `seed`, `parent` or `child`; `store` on objects of the stores, which have no generation.
    pub const ROLE: &str = "quinistry/role";

    /// On a node: with the value `true`, no generation runs there.
    pub const EXCLUDE: &str = "quinistry.dev/exclude";

    /// On a node: the key of its carrier, if that is not the main one, or `none`. On generation 0's
    /// `DaemonSets` and pods: the key of their carrier, or [`MAIN_CARRIER`](super::MAIN_CARRIER).
    pub const CARRIER: &str = "quinistry.dev/carrier";

    /// On a seed's `ConfigMaps`: the beginning of the executable's digest.
    pub const SEED: &str = "quinistry.dev/seed";

    /// Name of the resource, on objects that are created before the resource has a UID.
    pub const NAME: &str = "quinistry.dev/name";

    /// On a `ConfigMap` of names: name of the resource whose stores and generations read it.
    pub const NAMES: &str = "quinistry.dev/names";

    /// Program that an object is part of.
    pub const APP_NAME: &str = "app.kubernetes.io/name";

    /// Part of the program: `operator`, `registry`, `store` or `seed`.
    pub const APP_COMPONENT: &str = "app.kubernetes.io/component";

    /// Helm release, or namespace of `up`, that an object is part of.
    pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";

    /// Program that created an object, and may delete it.
    pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

    /// Program that an object is part of, in the older form.
    pub const K8S_APP: &str = "k8s-app";

    /// On a namespace: the level of Pod Security that is enforced.
    pub const POD_SECURITY_ENFORCE: &str = "pod-security.kubernetes.io/enforce";

    /// On a node: its operating system.
    pub const NODE_OS: &str = "kubernetes.io/os";

    /// On a node: its architecture.
    pub const NODE_ARCHITECTURE: &str = "kubernetes.io/arch";

    /// On a node of the control plane, with any value.
    pub const NODE_CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

    /// On a node: its name.
    pub const NODE_HOSTNAME: &str = "kubernetes.io/hostname";
}

/// Annotations.
pub mod annotations {
    /// Hash of the applied manifest, on the `DaemonSet` itself, where a change restarts no pods. If it is
    /// equal there is nothing to write.
    pub const APPLIED: &str = "quinistry.dev/applied";

    /// Hash of the pod template, on the template. Tells pods of the current template from older ones on each
    /// node; the counts in a `DaemonSet`'s status cannot while some nodes are not ready.
    pub const TEMPLATE: &str = "quinistry.dev/template";

    /// On the Service of stores: names of the nodes with stores, separated by commas, for the time without
    /// their `DaemonSet`.
    pub const STORE_NODES: &str = "quinistry.dev/store-nodes";

    /// On the `DaemonSet` of stores: hash of the settings that its template was made of, without the image. Tells a
    /// change of settings from the form that another version of the operator gives them.
    pub const STORE_SETTINGS: &str = "quinistry.dev/store-settings";

    /// On the Service of stores: outages of their nodes, which outlast the operator that has seen them.
    pub const STORE_OUTAGES: &str = "quinistry.dev/store-outages";

    /// On a node without a carrier: hash of the candidates that were tried.
    pub const CARRIERS_TRIED: &str = "quinistry.dev/carriers-tried";

    /// On the pods of a resource: hash of the names that were written last, by which their kubelets read these at once.
    pub const ANNOUNCED: &str = "quinistry.dev/names";

    /// On a seed's `ConfigMaps`: number of parts of the executable.
    pub const PART_COUNT: &str = "quinistry.dev/pieces";

    /// On the definition, the operator and the resource: the version of `up` that applied them last.
    pub const VERSION: &str = "quinistry.dev/version";

    /// Helm release that an object is part of; Helm writes it on adopted objects as well.
    pub const HELM_RELEASE: &str = "meta.helm.sh/release-name";
}

/// Taints that Kubernetes puts on nodes.
pub mod taints {
    /// The node is not ready.
    pub const NOT_READY: &str = "node.kubernetes.io/not-ready";

    /// The node is closed to new pods.
    pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

    /// The node's kubelet is silent.
    pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
}

#[cfg(test)]
mod tests {
    use kube::{CustomResourceExt as _, Resource as _};

    use super::{
        API_VERSION, BUNDLE_DEFINITION_NAME, BUNDLE_KIND, BUNDLE_PLURAL, DEFINITION_NAME, GROUP, KIND, PLURAL,
    };
    use crate::crd::{Bundle, Quinistry};

    #[test]
    fn the_names_of_the_resource_are_those_of_the_definition() {
        assert_eq!(Quinistry::group(&()), GROUP);
        assert_eq!(Quinistry::api_version(&()), API_VERSION);
        assert_eq!(Quinistry::kind(&()), KIND);
        assert_eq!(Quinistry::plural(&()), PLURAL);
        assert_eq!(Quinistry::crd_name(), DEFINITION_NAME);
        assert_eq!(Bundle::api_version(&()), API_VERSION);
        assert_eq!((Bundle::kind(&()), Bundle::plural(&())), (BUNDLE_KIND.into(), BUNDLE_PLURAL.into()));
        assert_eq!(Bundle::crd_name(), BUNDLE_DEFINITION_NAME);
    }
}

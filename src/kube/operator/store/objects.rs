//! Objects of the stores beside their `DaemonSet`, and the kinds of all of them. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::access::PORT;
use crate::api::names::annotations::{APPLIED, STORE_NODES, STORE_OUTAGES, STORE_SETTINGS};
use crate::api::names::{APP, STORE_ROLE, labels, managers};
use crate::operator::resource::ValidResource;
use crate::operator::{build, naming};

/// Kind of an object of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::operator) enum StoreKind {
    /// Address at which registries ask the stores.
    Service,
    /// Limit of what reaches the stores.
    NetworkPolicy,
    /// The stores themselves.
    DaemonSet,
}

/// An object of the stores as it should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WantedObject {
    /// Kind of the object.
    pub kind: StoreKind,
    /// The whole object, with the hash of its content in an annotation.
    pub object: Value,
}

// === impl StoreKind ===

impl StoreKind {
    /// All kinds, in the order in which they are deleted: no request is led to pods that end.
    pub(super) const ALL: [Self; 3] = [Self::Service, Self::NetworkPolicy, Self::DaemonSet];

    /// Returns the kind as in a manifest.
    pub(in crate::operator) const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::DaemonSet => "DaemonSet",
        }
    }

    /// Returns the kind as the API server serves it.
    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        }
    }
}

// === impl WantedObject ===

impl WantedObject {
    /// Adds the hash of an object to it.
    pub(super) fn new(kind: StoreKind, mut object: Value) -> Self {
        let hash = build::hash(&object);
        object["metadata"]["annotations"][APPLIED] = json!(hash);
        Self { kind, object }
    }

    /// Returns the nodes in the annotation of a Service.
    pub(super) fn nodes(&self) -> Option<&str> {
        self.object["metadata"]["annotations"][STORE_NODES].as_str()
    }

    /// Returns the outages in the annotation of a Service.
    pub(super) fn outages(&self) -> Option<&str> {
        self.object["metadata"]["annotations"][STORE_OUTAGES].as_str()
    }

    /// Returns the hash of the settings in the annotation of a `DaemonSet`.
    pub(super) fn settings(&self) -> Option<&str> {
        self.object["metadata"]["annotations"][STORE_SETTINGS].as_str()
    }

    /// Returns the hash of the content.
    pub(super) fn hash(&self) -> &str {
        self.object["metadata"]["annotations"][APPLIED].as_str().unwrap_or_default()
    }

    /// Returns the labels.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.object["metadata"]["labels"].as_object().into_iter().flatten();
        labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }
}

/// Returns the labels by which the pods of the stores are selected. No generation is among them, so that no
/// store counts as one.
pub(super) fn selector(quinistry: &ValidResource) -> BTreeMap<String, String> {
    [(labels::RESOURCE, quinistry.uid()), (labels::ROLE, STORE_ROLE)].map(build::to_owned_pair).into()
}

/// Returns the labels of all objects of the stores, and of their pods.
pub(super) fn all_labels(quinistry: &ValidResource) -> BTreeMap<String, String> {
    let mut all = selector(quinistry);
    all.extend(
        [
            (labels::K8S_APP, APP),
            (labels::APP_NAME, APP),
            (labels::APP_COMPONENT, STORE_ROLE),
            (labels::APP_MANAGED_BY, managers::OPERATOR),
        ]
        .map(build::to_owned_pair),
    );
    all
}

/// Returns the Service. Its address is a literal one in the arguments of registries, so that no name is
/// resolved. Its annotations have the nodes with stores, which outlast the `DaemonSet` there, and their outages.
pub(super) fn service(quinistry: &ValidResource, nodes: Option<&str>, outages: Option<&str>) -> WantedObject {
    let spec = json!({
        "type": "ClusterIP",
        "selector": selector(quinistry),
        "ports": [{"name": "registry", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        // A store that still copies is not asked.
        "publishNotReadyAddresses": false,
    });
    let mut service = object(quinistry, "v1", StoreKind::Service, &spec);
    for (key, value) in [(STORE_NODES, nodes), (STORE_OUTAGES, outages)] {
        if let Some(value) = value {
            service["metadata"]["annotations"][key] = json!(value);
        }
    }
    WantedObject::new(StoreKind::Service, service)
}

/// Returns the policy that leads to one port alone. The listener that takes pushes is on the pod's loopback,
/// which no network reaches; the policy is a second fence around it.
pub(super) fn network_policy(quinistry: &ValidResource) -> WantedObject {
    let spec = json!({
        "podSelector": {"matchLabels": selector(quinistry)},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": PORT, "protocol": "TCP"}]}],
    });
    let kind = StoreKind::NetworkPolicy;
    WantedObject::new(kind, object(quinistry, "networking.k8s.io/v1", kind, &spec))
}

fn object(quinistry: &ValidResource, version: &str, kind: StoreKind, spec: &Value) -> Value {
    json!({
        "apiVersion": version,
        "kind": kind.as_str(),
        "metadata": {
            "name": naming::store_name(quinistry.name()),
            "namespace": quinistry.namespace(),
            "labels": all_labels(quinistry),
            "ownerReferences": [quinistry.identity.controller()],
        },
        "spec": spec,
    })
}

//! Objects of the stores as they are: read by name, so that another owner's object in their place is seen too,
//! and without a right to list. The pods come from a watch.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kube::core::{DynamicObject, ObjectMeta};
use kube::{Api, Client};
use serde_json::Value;

use super::nodes;
use super::objects::{StoreKind, WantedObject};
use crate::api::names::STORE_ROLE;
use crate::api::names::annotations::{APPLIED, STORE_NODES, STORE_OUTAGES, STORE_SETTINGS, TEMPLATE};
use crate::api::names::labels::{RESOURCE, ROLE};
use crate::api::types::{self, Metadata as _};
use crate::lenient::Guarded;
use crate::operator::cache::Cacheable;
use crate::operator::naming;
use crate::operator::obstacle::{self, Obstacle};
use crate::operator::resource::ValidResource;
use crate::operator::{OperatorError, build};

/// Owner of an object with the name of one of the stores'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// The resource.
    Own,
    /// The object is being deleted, or belongs to a resource that is gone.
    Leaving,
    /// Another owner, described here.
    Foreign(String),
}

/// An object, as it is on the API server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LiveObject {
    /// Owner of the object.
    pub ownership: Ownership,
    /// True if the object names the resource as its controller, with which it is deleted.
    pub is_controlled: bool,
    /// UID of the object.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// `metadata.generation`; 0 for a Service, which has none.
    pub generation: i64,
    /// Hash of the last applied content.
    pub applied: Option<String>,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// Nodes with stores, as the object's annotation says.
    pub nodes: Option<String>,
    /// Outages of these nodes, as the object's annotation says.
    pub outages: Option<String>,
    /// Hash of the settings of a `DaemonSet`, as its annotation says.
    pub settings: Option<String>,
    /// Specification of the object.
    pub spec: Value,
    /// True if the object is unchanged since this operator's last apply, with all that admission made of that.
    pub is_accepted: bool,
}

/// All objects of the stores of one resource.
pub(super) type LiveObjects = BTreeMap<StoreKind, LiveObject>;

/// A pod of a store, reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct StorePod {
    /// Namespace of the pod.
    pub namespace: String,
    /// UID of the resource, as the pod's label says.
    pub resource: String,
    /// UID of the pod's controller.
    pub controller: Option<String>,
    /// Name of the node that the pod runs on.
    pub node: Option<String>,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Hash of the template that the pod was made of, without the nodes.
    pub template: Option<String>,
    /// True if the pod is being deleted.
    pub is_leaving: bool,
    /// Time since which the pod is Ready; `None` if it is not, or is being deleted.
    pub ready: Option<Timestamp>,
    /// The kubelet's words about a container that does not start.
    pub problem: Option<String>,
}

/// A `DaemonSet` of stores, reduced to what tells a change. The rest is read when it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) struct StoreSet {
    /// UID of the resource, as the label says.
    pub resource: String,
    uid: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Cacheable for StorePod {}
impl Cacheable for StoreSet {}

// === impl LiveObject ===

impl LiveObject {
    /// Reads an object, for a resource with this UID. `living` has the UIDs of all resources that are not
    /// being deleted.
    pub(super) fn new(metadata: ObjectMeta, spec: Value, resource: &str, living: &BTreeSet<String>) -> Self {
        let ownership = match obstacle::judge(&metadata, resource, living) {
            _ if metadata.is_terminating() => Ownership::Leaving,
            Obstacle::Stray(_) => Ownership::Own,
            Obstacle::Passing if metadata.controller().is_some_and(|owner| owner.uid == resource) => {
                Ownership::Own
            }
            Obstacle::Passing => Ownership::Leaving,
            Obstacle::Foreign(whose) => Ownership::Foreign(whose),
        };
        Self {
            ownership,
            is_controlled: metadata.controller().is_some_and(|owner| owner.uid == resource),
            applied: metadata.annotation(APPLIED).map(str::to_owned),
            nodes: metadata.annotation(STORE_NODES).map(str::to_owned),
            outages: metadata.annotation(STORE_OUTAGES).map(str::to_owned),
            settings: metadata.annotation(STORE_SETTINGS).map(str::to_owned),
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            spec,
            is_accepted: false,
        }
    }

    /// Returns true if the object is the resource's own.
    pub(super) fn is_own(&self) -> bool {
        self.ownership == Ownership::Own
    }

    /// Returns true if the object is as it was applied: its hash, its labels, and what another writer could have
    /// edited.
    pub(super) fn matches(&self, wanted: &WantedObject) -> bool {
        self.is_marked_as(wanted)
            && self.applied.as_deref() == Some(wanted.hash())
            && self.nodes.as_deref() == wanted.nodes()
            && self.outages.as_deref() == wanted.outages()
            && self.settings.as_deref() == wanted.settings()
            && (self.is_accepted || self.has_spec_of(wanted))
    }

    /// Returns true if the object belongs to the resource, and has its labels.
    pub(super) fn is_marked_as(&self, wanted: &WantedObject) -> bool {
        let has = |(key, value): (&str, &str)| self.labels.get(key).is_some_and(|label| label == value);
        self.is_controlled && wanted.labels().all(has)
    }

    /// Returns true if the object differs from the wanted one by annotations at most.
    pub(super) fn works_as(&self, wanted: &WantedObject) -> bool {
        self.is_marked_as(wanted) && self.has_spec_of(wanted)
    }

    fn has_spec_of(&self, wanted: &WantedObject) -> bool {
        let spec = &wanted.object["spec"];
        let same = |field: &str| self.spec.get(field) == spec.get(field);
        match wanted.kind {
            StoreKind::Service => {
                let ports = |spec: &Value| spec["ports"].as_array().cloned().unwrap_or_default();
                let live = ports(&self.spec);
                same("type")
                    && same("selector")
                    && self.spec["publishNotReadyAddresses"] != true
                    && ports(spec).iter().all(|port| live.iter().any(|live| build::contains(live, port)))
            }
            // Each rule that is added would open another port.
            StoreKind::NetworkPolicy => self.spec == *spec,
            // An added node would hold a store too.
            StoreKind::DaemonSet => {
                build::contains(&self.spec, spec) && nodes::chosen(&self.spec) == nodes::chosen(spec)
            }
        }
    }
}

/// Reads all objects of the stores of a resource. (Client required.)
pub(super) async fn observe(
    client: &Client,
    quinistry: &ValidResource,
    living: &BTreeSet<String>,
) -> Result<LiveObjects, OperatorError> {
    let mut objects = LiveObjects::new();
    for kind in StoreKind::ALL {
        if let Some(object) = read(client, quinistry, kind, living).await? {
            objects.insert(kind, object);
        }
    }
    Ok(objects)
}

/// Reads one object. (Client required.)
pub(super) async fn read(
    client: &Client,
    quinistry: &ValidResource,
    kind: StoreKind,
    living: &BTreeSet<String>,
) -> Result<Option<LiveObject>, OperatorError> {
    let name = naming::store_name(quinistry.name());
    let found = api(client, quinistry.namespace(), kind).get_opt(&name).await.map_err(|source| {
        OperatorError::Apply { what: format!("read {} {name}", kind.as_str()), source: Box::new(source) }
    })?;
    Ok(found.map(|found| view(found, quinistry, living)))
}

/// Reduces an object that the API server sent. One that cannot be read keeps its metadata.
pub(super) fn view(
    object: Guarded<DynamicObject>,
    quinistry: &ValidResource,
    living: &BTreeSet<String>,
) -> LiveObject {
    let (metadata, spec) = match object.0 {
        Ok(mut object) => (object.metadata, object.data["spec"].take()),
        Err(unreadable) => (unreadable.metadata, Value::Null),
    };
    LiveObject::new(metadata, spec, quinistry.uid(), living)
}

/// Returns the API of a kind in a namespace.
pub(super) fn api(client: &Client, namespace: &str, kind: StoreKind) -> Api<Guarded<DynamicObject>> {
    Api::namespaced_with(client.clone(), namespace, &kind.resource())
}

/// Reduces a pod, and returns it with its key; `None` for one that is no store.
pub(super) fn pod(pod: &types::Pod) -> Option<(String, StorePod)> {
    let metadata = &pod.metadata;
    if metadata.label(ROLE) != Some(STORE_ROLE) {
        return None;
    }
    let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    let mut waiting = statuses.filter_map(|status| {
        let ended = status.state.terminated.as_ref().or(status.last_state.terminated.as_ref());
        let ended = ended.filter(|ended| ended.exit_code != 0).map(|ended| ended.message.trim());
        let waiting = status.state.waiting.as_ref().filter(|waiting| waiting.reason != "PodInitializing")?;
        let message = ended.filter(|message| !message.is_empty()).unwrap_or(&waiting.message);
        Some(format!("{}: {message}", waiting.reason).trim_end_matches([':', ' ']).to_owned())
    });
    let mut conditions = pod.status.conditions.iter();
    let ready = conditions.find(|one| one.says_ready()).filter(|_| !metadata.is_terminating());
    let view = StorePod {
        namespace: metadata.namespace().into(),
        resource: metadata.label(RESOURCE)?.into(),
        controller: metadata.controller().map(|owner| owner.uid.clone()),
        name: metadata.name().into(),
        uid: metadata.uid.clone()?,
        template: metadata.annotation(TEMPLATE).map(str::to_owned),
        is_leaving: metadata.is_terminating(),
        ready: ready
            .map(|ready| ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)),
        problem: waiting.next(),
        node: pod.spec.node_name.clone(),
    };
    Some((format!("{}/{}", metadata.namespace(), metadata.name()), view))
}

/// Reduces a `DaemonSet`, and returns it with its key; `None` for one that is not of stores.
pub(super) fn set(set: types::DaemonSet) -> Option<(String, StoreSet)> {
    let metadata = set.metadata;
    if metadata.label(ROLE) != Some(STORE_ROLE) {
        return None;
    }
    let key = format!("{}/{}", metadata.namespace(), metadata.name());
    let view = StoreSet {
        resource: metadata.label(RESOURCE)?.into(),
        uid: metadata.uid,
        generation: metadata.generation,
        labels: metadata.labels,
        annotations: metadata.annotations,
    };
    Some((key, view))
}

#[cfg(test)]
mod tests;

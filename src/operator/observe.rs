//! Observe: from the API's objects to [`observed`](super::observed). Takes a client only for the Events that say why
//! pods are missing; all else comes from caches that watches fill.
//!
//! Nodes are watched whole and stripped at arrival. Their metadata alone would not say whether they are ready, and a
//! list whenever that matters would cost more: kubelets prove to be alive through leases and touch their node every
//! five minutes, and what does not change the reduced form wakes nobody.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::error::OperatorError;
use super::identity::{APPLIED, CONTAINER, GENERATION, RESOURCE, TEMPLATE, daemon_set_name};
use super::observed::{DaemonSet, Node, Pod, PodStart, Refusal};
use crate::crd::Quinistry;

/// How many Events are asked for.
const EVENTS: u32 = 20;

/// The reduced node, and its key.
pub(super) fn node(mut node: core::Node) -> Option<(String, Node)> {
    let name = node.metadata.name.take()?;
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
    let since = ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0);
    let created = created(&node.metadata);
    let taints = node.spec.as_mut().and_then(|spec| spec.taints.take()).unwrap_or_default();
    let view = Node {
        ready: ready.is_some_and(|ready| ready.status == "True"),
        since: since.unwrap_or(created).max(created),
        labels: node.metadata.labels.take().unwrap_or_default(),
        taints: taints
            .into_iter()
            .map(|taint| (taint.key, taint.value.unwrap_or_default(), taint.effect))
            .collect(),
        name: name.clone(),
    };
    Some((name, view))
}

/// The reduced `DaemonSet`, and its key; nothing for one that is not an operator's.
pub(super) fn daemon_set(mut set: apps::DaemonSet) -> Option<(String, DaemonSet)> {
    let generation = set.labels().get(GENERATION)?.parse().ok()?;
    let owner = set.owner_references().iter().find(|owner| owner.controller == Some(true))?.uid.clone();
    let (namespace, name) = (set.namespace()?, set.name_any());
    let status = set.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation).unwrap_or_default();
    let server_generation = set.metadata.generation.unwrap_or_default();
    let view = DaemonSet {
        owner,
        generation,
        applied: set.annotations().get(APPLIED).cloned(),
        server_generation,
        version: set
            .metadata
            .resource_version
            .as_ref()
            .and_then(|version| version.parse().ok())
            .unwrap_or_default(),
        accepted: false,
        settled: observed >= server_generation,
        desired: status.map_or(0, |status| status.desired_number_scheduled),
        deleting: set.metadata.deletion_timestamp.is_some(),
        created: created(&set.metadata),
        changed: changed(&set.metadata),
        spec: serde_json::to_value(set.spec.take()).expect("a DaemonSet is JSON"),
        namespace: namespace.clone(),
        name: name.clone(),
    };
    Some((format!("{namespace}/{name}"), view))
}

/// The reduced pod, and its key; nothing for one that is not of a generation.
pub(super) fn pod(mut pod: core::Pod) -> Option<(String, Pod)> {
    let (namespace, name) = (pod.metadata.namespace.take()?, pod.metadata.name.take()?);
    let labels = pod.metadata.labels.take()?;
    let generation = labels.get(GENERATION)?.parse().ok()?;
    let resource = labels.get(RESOURCE)?.clone();
    let spec = pod.spec.take()?;
    let status = pod.status.take().unwrap_or_default();
    let image_of = spec.containers.iter().find(|container| container.name == CONTAINER);
    let container =
        status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER).cloned();
    let conditions = status.conditions.unwrap_or_default();
    let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    let ready = condition("Ready").filter(|ready| ready.status == "True");
    let unschedulable = condition("PodScheduled")
        .filter(|scheduled| scheduled.status == "False")
        .map(|scheduled| scheduled.message.clone().unwrap_or_default());
    let state = container.as_ref().and_then(|container| container.state.as_ref());
    let last = container.as_ref().and_then(|container| container.last_state.as_ref());
    let ended = [state, last].into_iter().flatten().find_map(|state| state.terminated.as_ref());
    let view = Pod {
        start: PodStart {
            uid: pod.metadata.uid.take()?,
            restarts: container.as_ref().map_or(0, |container| container.restart_count),
        },
        resource,
        generation,
        node: spec.node_name.clone().or_else(|| meant_for(&spec)).unwrap_or_default(),
        template: pod.metadata.annotations.as_ref().and_then(|all| all.get(TEMPLATE)).cloned(),
        image: image_of.and_then(|container| container.image.clone()).unwrap_or_default(),
        pull_policy: image_of.and_then(|container| container.image_pull_policy.clone()).unwrap_or_default(),
        ip: status.pod_ip,
        deleting: pod.metadata.deletion_timestamp.is_some(),
        created: created(&pod.metadata),
        ready: ready
            .map(|ready| ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)),
        running: state
            .and_then(|state| state.running.as_ref())
            .map(|running| running.started_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)),
        image_id: container.as_ref().map(|container| container.image_id.clone()).unwrap_or_default(),
        waiting: state.and_then(|state| state.waiting.as_ref()).map(|waiting| {
            (waiting.reason.clone().unwrap_or_default(), waiting.message.clone().unwrap_or_default())
        }),
        ended: ended.map(|ended| (ended.exit_code, ended.message.clone().unwrap_or_default())),
        unschedulable,
        namespace: namespace.clone(),
        name: name.clone(),
    };
    Some((format!("{namespace}/{name}"), view))
}

/// The controller writes the node into the affinity, long before a scheduler has looked at the pod.
fn meant_for(spec: &core::PodSpec) -> Option<String> {
    let terms = &spec
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required_during_scheduling_ignored_during_execution
        .as_ref()?
        .node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields
        .filter(|field| field.key == "metadata.name")
        .find_map(|field| field.values.as_ref()?.first().cloned())
}

fn created(metadata: &kube::core::ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// When anything but its status was last written.
fn changed(metadata: &kube::core::ObjectMeta) -> Timestamp {
    let fields = metadata.managed_fields.iter().flatten().filter(|fields| fields.subresource.is_none());
    fields
        .filter_map(|fields| fields.time.as_ref())
        .map(|time| time.0)
        .max()
        .unwrap_or_else(|| created(metadata))
}

/// A resource, without what nobody looks at.
pub(super) fn strip(quinistry: &mut Quinistry) {
    quinistry.metadata.managed_fields = None;
    if let Some(annotations) = &mut quinistry.metadata.annotations {
        annotations.clear();
    }
}

/// Why pods of these generations are not created: it is said in Events, and nowhere else.
pub(super) async fn refusals(
    client: &Client,
    quinistry: &Quinistry,
    generations: impl IntoIterator<Item = i32>,
    sets: &[std::sync::Arc<DaemonSet>],
) -> Result<Vec<Refusal>, OperatorError> {
    let events: Api<core::Event> =
        Api::namespaced(client.clone(), &quinistry.namespace().unwrap_or_default());
    let mut refusals = BTreeMap::new();
    for generation in generations {
        let name = daemon_set_name(&quinistry.name_any(), generation);
        let Some(set) = sets.iter().find(|set| set.generation == generation) else { continue };
        let fields = format!("involvedObject.kind=DaemonSet,involvedObject.name={name},reason=FailedCreate");
        let list = events
            .list(&ListParams::default().fields(&fields).limit(EVENTS))
            .await
            .map_err(|error| OperatorError::Observe(Box::new(error)))?;
        // An Event outlives its object by an hour, and a namesake must not inherit it.
        let seen = |event: &core::Event| {
            event.last_timestamp.as_ref().map(|time| time.0).or(event.event_time.as_ref().map(|time| time.0))
        };
        let newest = list.items.into_iter().filter(|event| seen(event) >= Some(set.created)).max_by_key(seen);
        if let Some(message) = newest.and_then(|event| event.message) {
            refusals.insert(generation, Refusal { generation, message });
        }
    }
    Ok(refusals.into_values().collect())
}

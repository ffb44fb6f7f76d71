//! Observe: from the API's objects to [`observed`](super::observed). Takes a client only for the Events that say why
//! pods are missing, and for what runs on nodes without a known carrier; all else comes from caches that watches fill.
//!
//! Nodes are watched whole and stripped at arrival. Their metadata alone would not say whether they are ready, and a
//! list whenever that matters would cost more: kubelets prove to be alive through leases and touch their node every
//! five minutes, and what does not change the reduced form wakes nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};

use super::error::OperatorError;
use super::identity::{APPLIED, CARRIER, CONTAINER, GENERATION, RESOURCE, TEMPLATE};
use super::observed::{DaemonSet, Node, Observed, Part, Pod, PodStart, Refusal};
use super::wire;
use crate::crd::Quinistry;
use crate::lenient::Guarded;
use crate::seed::carrier::{self, Running};
use crate::seed::{NAME, PIECES, SEED};

/// How many Events are asked for.
const EVENTS: u32 = 20;

/// The reduced node, and its key.
pub(super) fn node(mut node: wire::Node) -> Option<(String, Node)> {
    let name = node.metadata.name.take()?;
    let ready = node.status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let since = ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0);
    let created = created(&node.metadata);
    let view = Node {
        ready: ready.is_some_and(|ready| ready.status == "True"),
        since: since.unwrap_or(created).max(created),
        labels: node.metadata.labels.take().unwrap_or_default(),
        taints: node.spec.taints.into_iter().map(|taint| (taint.key, taint.value, taint.effect)).collect(),
        tried: node.metadata.annotations.as_mut().and_then(|all| all.remove(carrier::TRIED)),
        sandboxes: carrier::sandboxes(node.status.images.iter().map(|image| &*image.names)),
        name: name.clone(),
    };
    Some((name, view))
}

/// The reduced `DaemonSet`, and its key; nothing for one that is not an operator's.
pub(super) fn daemon_set(set: wire::DaemonSet) -> Option<(String, DaemonSet)> {
    // Of the selector, which nobody can change; by a label that somebody changed, it would be one too many.
    let selector = &set.spec["selector"]["matchLabels"];
    let generation = selector[GENERATION].as_str()?.parse().ok()?;
    let carrier = selector[CARRIER].as_str().map(Into::into);
    let owner = set.owner_references().iter().find(|owner| owner.controller == Some(true))?.uid.clone();
    let (namespace, name) = (set.namespace()?, set.name_any());
    let server_generation = set.metadata.generation.unwrap_or_default();
    let version = set.metadata.resource_version.as_ref();
    let view = DaemonSet {
        owner,
        generation,
        carrier,
        applied: set.annotations().get(APPLIED).cloned(),
        labels: set.labels().clone(),
        server_generation,
        version: version.and_then(|version| version.parse().ok()).unwrap_or_default(),
        accepted: false,
        settled: set.status.observed_generation >= server_generation,
        desired: set.status.desired_number_scheduled,
        deleting: set.metadata.deletion_timestamp.is_some(),
        created: created(&set.metadata),
        changed: changed(&set.metadata),
        spec: set.spec,
        namespace: namespace.clone(),
        name: name.clone(),
    };
    Some((format!("{namespace}/{name}"), view))
}

/// The reduced pod, and its key; nothing for one that is not of a generation.
pub(super) fn pod(mut pod: wire::Pod) -> Option<(String, Pod)> {
    let (namespace, name) = (pod.metadata.namespace.take()?, pod.metadata.name.take()?);
    let labels = pod.metadata.labels.take()?;
    let generation = labels.get(GENERATION)?.parse().ok()?;
    let resource = labels.get(RESOURCE)?.clone();
    let node = pod.spec.node_name.take().or_else(|| meant_for(&pod.spec)).unwrap_or_default();
    let container = pod.spec.containers.into_iter().find(|container| container.name == CONTAINER);
    let (image, pull_policy) =
        container.map(|container| (container.image, container.image_pull_policy)).unwrap_or_default();
    let conditions = pod.status.conditions;
    let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    let ready = condition("Ready").filter(|ready| ready.status == "True");
    let unschedulable = condition("PodScheduled")
        .filter(|scheduled| scheduled.status == "False")
        .map(|scheduled| scheduled.message.clone());
    let statuses = pod.status.container_statuses.into_iter();
    let (restarts, image_id, state, last) = statuses
        .filter(|status| status.name == CONTAINER)
        .map(|status| (status.restart_count, status.image_id, status.state, status.last_state))
        .next()
        .unwrap_or_default();
    let at = |time: Option<&Time>| time.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let view = Pod {
        start: PodStart { uid: pod.metadata.uid.take()?, restarts },
        resource,
        generation,
        node,
        template: pod.metadata.annotations.as_ref().and_then(|all| all.get(TEMPLATE)).cloned(),
        image,
        pull_policy,
        ip: pod.status.pod_ip,
        deleting: pod.metadata.deletion_timestamp.is_some(),
        created: created(&pod.metadata),
        ready: ready.map(|ready| at(ready.last_transition_time.as_ref())),
        running: state.running.map(|running| at(running.started_at.as_ref())),
        image_id,
        waiting: state.waiting.map(|waiting| (waiting.reason, waiting.message)),
        ended: state.terminated.or(last.terminated).map(|ended| (ended.exit_code, ended.message)),
        unschedulable,
        namespace: namespace.clone(),
        name: name.clone(),
    };
    Some((format!("{namespace}/{name}"), view))
}

/// The controller writes the node into the affinity, long before a scheduler has looked at the pod.
fn meant_for(spec: &wire::PodSpec) -> Option<String> {
    let terms = &spec.affinity.node_affinity.required.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| &term.match_fields);
    fields.find(|field| field.key == "metadata.name").and_then(|field| field.values.first().cloned())
}

/// The reduced `ConfigMap` of a seed, and its key.
pub(super) fn part(map: PartialObjectMeta<ConfigMap>) -> Option<(String, Part)> {
    let metadata = map.metadata;
    let created = created(&metadata);
    let labels = metadata.labels.unwrap_or_default();
    let pieces = metadata.annotations.as_ref().and_then(|all| all.get(PIECES)?.parse().ok());
    let view = Part {
        uid: metadata.uid?,
        resource: labels.get(NAME)?.clone(),
        seed: labels.get(SEED)?.clone(),
        pieces: pieces.unwrap_or_default(),
        owners: metadata.owner_references.into_iter().flatten().map(|owner| owner.uid).collect(),
        created,
        deleting: metadata.deletion_timestamp.is_some(),
        namespace: metadata.namespace?,
        name: metadata.name?,
    };
    Some((format!("{}/{}", view.namespace, view.name), view))
}

/// Asks what pods run in on nodes where no carrier is known; whether there were any. (Client required then.)
pub(super) async fn carriers(
    client: &Client,
    quinistry: &Quinistry,
    strangers: &[String],
    observed: &mut Observed,
) -> Result<bool, OperatorError> {
    // Nothing will be done with an answer.
    if strangers.is_empty() || quinistry.spec.suspend {
        return Ok(false);
    }
    for node in strangers {
        observed.running.insert(node.clone(), running(client, node).await?);
    }
    Ok(true)
}

/// The images of pods that run on a node.
async fn running(client: &Client, node: &str) -> Result<Vec<Running>, OperatorError> {
    let pods: Api<Guarded<wire::Pod>> = Api::all(client.clone());
    let fields = format!("spec.nodeName={node},status.phase=Running");
    let list = pods
        .list(&ListParams::default().fields(&fields))
        .await
        .map_err(|error| OperatorError::Observe(Box::new(error)))?;
    let images = list.items.into_iter().filter_map(Guarded::readable).flat_map(|pod| {
        let secret = !pod.spec.image_pull_secrets.is_empty();
        let started =
            pod.status.container_statuses.into_iter().filter(|status| status.state.running.is_some());
        let started: Vec<String> = started.map(|status| status.name).collect();
        let containers = pod.spec.containers.into_iter();
        containers
            .filter(move |container| started.contains(&container.name))
            .map(move |container| Running { image: container.image, secret })
    });
    let mut images: Vec<_> = images.collect();
    images.sort_unstable();
    images.dedup();
    Ok(images)
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

/// Why pods of these generations are not created: it is said in Events, and nowhere else.
pub(super) async fn refusals(
    client: &Client,
    quinistry: &Quinistry,
    generations: impl IntoIterator<Item = i32>,
    sets: &[Arc<DaemonSet>],
) -> Result<Vec<Refusal>, OperatorError> {
    let events: Api<Guarded<wire::Event>> =
        Api::namespaced(client.clone(), &quinistry.namespace().unwrap_or_default());
    let mut refusals = BTreeMap::new();
    for generation in generations {
        for set in sets.iter().filter(|set| set.generation == generation) {
            let fields = format!("regarding.kind=DaemonSet,regarding.name={},reason=FailedCreate", set.name);
            let list = events
                .list(&ListParams::default().fields(&fields).limit(EVENTS))
                .await
                .map_err(|error| OperatorError::Observe(Box::new(error)))?;
            // An Event outlives its object by an hour, and a namesake must not inherit it.
            let seen = |event: &wire::Event| {
                let repeated = event.last_seen.as_ref().map(|time| time.0);
                repeated.or(event.first_seen.as_ref().map(|time| time.0))
            };
            let events = list.items.into_iter().filter_map(Guarded::readable);
            let newest = events.filter(|event| seen(event) >= Some(set.created)).max_by_key(seen);
            if let Some(message) = newest.and_then(|event| event.note) {
                refusals.insert(generation, Refusal { generation, message });
            }
        }
    }
    Ok(refusals.into_values().collect())
}

#[cfg(test)]
mod tests;

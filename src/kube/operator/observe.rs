//! Observe: reduces the API's objects to [`observed`](super::observed). A client is needed only for the
//! Events that tell why pods are missing, and for the images of running pods on nodes without a known
//! carrier; all else comes from caches that watches fill.
//!
//! Nodes are watched as whole objects and reduced on arrival. Their metadata alone does not tell whether they
//! are ready, and listing them whenever that matters would cost more: kubelets prove to be alive through
//! leases and update their node every five minutes, and an update that does not change the reduced form
//! causes no work.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};

use super::error::OperatorError;
use super::observed::{
    Controller, Holding, ObservedDaemonSet, ObservedNode, ObservedPart, ObservedPod, ObservedState, PodStart,
    Refusal,
};
use super::plan::Missing;
use super::resource::ValidResource;
use super::rival::Rival;
use crate::api::conditions::{POD_SCHEDULED, READY};
use crate::api::names::annotations::{APPLIED, CARRIERS_TRIED, PART_COUNT, TEMPLATE};
use crate::api::names::labels::{CARRIER, GENERATION, NAME, RESOURCE, SEED};
use crate::api::names::{CONTAINER, KIND, managers};
use crate::api::types::{self, Metadata as _};
use crate::lenient::Guarded;
use crate::seed::SeedNames;
use crate::seed::carrier::{self, RunningImage};

/// Number of Events in one page of a list.
const EVENTS_PER_PAGE: u32 = 100;

/// Highest number of pages: Events are listed by name, not by time.
const MAX_EVENT_PAGES: usize = 10;

/// Reduces a node, and returns it with its key.
pub(super) fn node(mut node: types::Node) -> Option<(String, ObservedNode)> {
    let name = node.metadata.name.take()?;
    let ready = node.status.conditions.iter().find(|condition| condition.kind == READY);
    let since = ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0);
    let created = created(&node.metadata);
    let view = ObservedNode {
        ready: ready.is_some_and(|ready| ready.status == "True"),
        since: since.unwrap_or(created).max(created),
        seen: Timestamp::now(),
        labels: node.metadata.labels.take().unwrap_or_default(),
        taints: node.spec.taints.into_iter().map(|taint| (taint.key, taint.value, taint.effect)).collect(),
        tried: node.metadata.annotations.as_mut().and_then(|all| all.remove(CARRIERS_TRIED)),
        sandboxes: carrier::sandboxes(node.status.images.iter().map(|image| &*image.names)),
        name: name.clone(),
    };
    Some((name, view))
}

/// Reduces a `DaemonSet`, and returns it with its key; `None` for one that is not an operator's.
pub(super) fn daemon_set(set: types::DaemonSet) -> Option<(String, ObservedDaemonSet)> {
    // Read from the selector, which is immutable. A label could be changed by another writer, and the set
    // would then count as surplus.
    let selector = &set.spec["selector"]["matchLabels"];
    let generation = selector[GENERATION].as_str()?.parse().ok()?;
    let carrier = selector[CARRIER].as_str().map(Into::into);
    let owner = set.metadata.controller().filter(|owner| owner.kind == KIND)?.uid.clone();
    let (namespace, name) = (set.namespace()?, set.name_any());
    let server_generation = set.metadata.generation.unwrap_or_default();
    let version = set.metadata.resource_version.as_ref();
    let view = ObservedDaemonSet {
        uid: set.uid()?,
        owner,
        generation,
        carrier,
        applied: set.annotations().get(APPLIED).cloned(),
        labels: set.labels().clone(),
        server_generation,
        version: version.and_then(|version| version.parse().ok()).unwrap_or_default(),
        accepted: false,
        is_observed: set.status.observed_generation >= server_generation,
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

/// Reduces a pod, and returns it with its key; `None` for one that is of no generation.
pub(super) fn pod(mut pod: types::Pod) -> Option<(String, ObservedPod)> {
    let (namespace, name) = (pod.metadata.namespace.take()?, pod.metadata.name.take()?);
    let labels = pod.metadata.labels.take()?;
    let generation = labels.get(GENERATION)?.parse().ok()?;
    let resource = labels.get(RESOURCE)?.clone();
    let controller = pod.metadata.controller().map(|owner| Controller {
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    });
    let node = pod.spec.node_name.take().or_else(|| target_node(&pod.spec));
    let container = pod.spec.containers.into_iter().find(|container| container.name == CONTAINER);
    let (image, pull_policy) =
        container.map(|container| (container.image, container.image_pull_policy)).unwrap_or_default();
    let conditions = pod.status.conditions;
    let condition = |kind: &str| conditions.iter().find(|condition| condition.kind == kind);
    let ready = condition(READY).filter(|ready| ready.status == "True");
    let unready = condition(READY).filter(|ready| ready.status != "True").and_then(message_or_reason);
    let unschedulable =
        condition(POD_SCHEDULED).filter(|scheduled| scheduled.status == "False").map(|scheduled| {
            message_or_reason(scheduled).unwrap_or_else(|| "the scheduler says nothing of it".into())
        });
    let (phase, reason, message) = (pod.status.phase, pod.status.reason, pod.status.message);
    let failed = matches!(phase.as_str(), "Failed" | "Succeeded").then(|| {
        let parts = [reason, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        if parts.is_empty() { phase } else { parts.join(": ") }
    });
    let statuses = pod.status.container_statuses.into_iter();
    let (restarts, container, image_id, state, last) = statuses
        .filter(|status| status.name == CONTAINER)
        .map(|status| {
            (status.restart_count, status.container_id, status.image_id, status.state, status.last_state)
        })
        .next()
        .unwrap_or_default();
    let at = |time: Option<&Time>| time.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let running = state.running.map(|running| at(running.started_at.as_ref()));
    let view = ObservedPod {
        start: PodStart { uid: pod.metadata.uid.take()?, restarts, container, started: running },
        resource,
        controller,
        generation,
        node,
        template: pod.metadata.annotations.as_ref().and_then(|all| all.get(TEMPLATE)).cloned(),
        image,
        pull_policy,
        ip: pod.status.pod_ip,
        deleting: pod.metadata.deletion_timestamp.is_some(),
        ends: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        created: created(&pod.metadata),
        seen: Timestamp::now(),
        unready,
        failed,
        ready: ready.map(|ready| at(ready.last_transition_time.as_ref())),
        running,
        image_id,
        waiting: state.waiting.map(|waiting| (waiting.reason, waiting.message)),
        ended: state.terminated.or(last.terminated).map(|ended| (ended.exit_code, ended.message)),
        unschedulable,
        namespace: namespace.clone(),
        name: name.clone(),
    };
    Some((format!("{namespace}/{name}"), view))
}

/// Returns a condition's message; its reason if there is no message.
fn message_or_reason(condition: &types::Condition) -> Option<String> {
    [&condition.message, &condition.reason].into_iter().find(|text| !text.is_empty()).cloned()
}

/// Returns the node that the `DaemonSet` controller chose: it writes the node into the affinity, long before
/// the scheduler sees the pod.
fn target_node(spec: &types::PodSpec) -> Option<String> {
    let terms = &spec.affinity.node_affinity.required.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| &term.match_fields);
    fields.find(|field| field.key == "metadata.name").and_then(|field| field.values.first().cloned())
}

/// Reduces a seed's `ConfigMap`, and returns it with its key.
pub(super) fn part(map: PartialObjectMeta<ConfigMap>) -> Option<(String, ObservedPart)> {
    let metadata = map.metadata;
    let created = created(&metadata);
    let labels = metadata.labels.unwrap_or_default();
    let part_count = metadata.annotations.as_ref().and_then(|all| all.get(PART_COUNT)?.parse().ok());
    let (resource, seed) = (labels.get(NAME)?.clone(), labels.get(SEED)?.clone());
    let name = metadata.name?;
    // Every user can copy labels, and unneeded parts are deleted: the name must match too.
    if !SeedNames::are_of(&resource, &seed, &name) {
        return None;
    }
    let view = ObservedPart {
        uid: metadata.uid?,
        resource,
        seed,
        part_count: part_count.unwrap_or_default(),
        owners: metadata.owner_references.into_iter().flatten().map(|owner| owner.uid).collect(),
        created,
        deleting: metadata.deletion_timestamp.is_some(),
        namespace: metadata.namespace?,
        name,
    };
    Some((format!("{}/{}", view.namespace, view.name), view))
}

/// Lists the images that pods run on nodes without a known carrier. (Client required.)
pub(super) async fn carriers(
    client: &Client,
    nodes: Vec<String>,
) -> Result<BTreeMap<String, Vec<RunningImage>>, OperatorError> {
    let mut all = BTreeMap::new();
    for node in nodes {
        let images = running(client, &node).await?;
        all.insert(node, images);
    }
    Ok(all)
}

/// Lists the images of pods that run on a node.
async fn running(client: &Client, node: &str) -> Result<Vec<RunningImage>, OperatorError> {
    let pods: Api<Guarded<types::Pod>> = Api::all(client.clone());
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
            .map(move |container| RunningImage { image: container.image, secret })
    });
    let mut images: Vec<_> = images.collect();
    images.sort_unstable();
    images.dedup();
    Ok(images)
}

fn created(metadata: &kube::core::ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Returns the share of the nodes' ports that each of several resources has.
pub(super) fn holdings(
    resources: &[Arc<Rival>],
    sets: &[Arc<ObservedDaemonSet>],
    pods: &[Arc<ObservedPod>],
) -> BTreeMap<String, Holding> {
    let controllers: HashSet<&str> =
        pods.iter().filter_map(|pod| Some(pod.controller.as_ref()?.uid.as_str())).collect();
    let uncontrolled: Vec<_> = pods.iter().filter(|pod| pod.controller.is_none()).collect();
    let serving: Vec<_> = pods.iter().filter(|pod| pod.generation == 0 && pod.ready.is_some()).collect();
    let holding = |rival: &Arc<Rival>| {
        let own: Vec<_> = sets.iter().filter(|set| set.is_of(&rival.identity)).collect();
        let since = own.iter().map(|set| set.created).min()?;
        let has_pods = own.iter().any(|set| {
            controllers.contains(set.uid.as_str()) || uncontrolled.iter().any(|pod| set.controls(pod))
        });
        let mut seeds = own.iter().filter(|set| set.generation == 0);
        let serves_seed = seeds.any(|set| serving.iter().any(|pod| set.controls(pod)));
        Some((rival.identity.uid.clone(), Holding { since, has_pods, serves_seed }))
    };
    resources.iter().filter_map(holding).collect()
}

/// Returns the time at which the operator last wrote anything but its status. Writes of other programs are
/// not progress.
fn changed(metadata: &kube::core::ObjectMeta) -> Timestamp {
    let fields = metadata.managed_fields.iter().flatten().filter(|fields| fields.subresource.is_none());
    fields
        .filter(|fields| fields.manager.as_deref() == Some(managers::OPERATOR))
        .filter_map(|fields| fields.time.as_ref())
        .map(|time| time.0)
        .max()
        .unwrap_or_else(|| created(metadata))
}

/// Returns the reasons why pods are not created or do not start, where only Events tell them. (Client
/// required.)
pub(super) async fn refusals(
    client: &Client,
    quinistry: &ValidResource,
    missing: &Missing,
    observed: &ObservedState,
) -> Result<Vec<Refusal>, OperatorError> {
    let events: Api<Guarded<types::Event>> = Api::namespaced(client.clone(), quinistry.namespace());
    let mut refusals = Vec::new();
    for generation in &missing.generations {
        for set in observed.sets_of(*generation) {
            let fields = format!("regarding.kind=DaemonSet,regarding.name={},reason=FailedCreate", set.name);
            let made =
                observed.pods_of(*generation).filter(|pod| set.controls(pod)).map(|pod| pod.created).max();
            // An Event outlives its object by an hour, and a namesake must not inherit it. It is obsolete
            // once the template has changed or a pod was created.
            let since = made.into_iter().chain([set.created, set.changed]).max().unwrap_or_default();
            if let Some(message) = newest(list(&events, &fields).await?, since) {
                refusals.push(Refusal { generation: *generation, pod: None, message });
                break;
            }
        }
    }
    for (generation, name, uid) in &missing.pods {
        let fields = format!("regarding.kind=Pod,regarding.name={name},regarding.uid={uid}");
        let mut all = list(&events, &fields).await?;
        all.retain(|event| event.type_ == "Warning");
        if let Some(message) = newest(all, Timestamp::UNIX_EPOCH) {
            refusals.push(Refusal { generation: *generation, pod: Some(uid.clone()), message });
        }
    }
    Ok(refusals)
}

/// Lists the Events that match a field selector, up to [`MAX_EVENT_PAGES`].
async fn list(events: &Api<Guarded<types::Event>>, fields: &str) -> Result<Vec<types::Event>, OperatorError> {
    let mut parameters = ListParams::default().fields(fields).limit(EVENTS_PER_PAGE);
    let mut all = Vec::new();
    for _ in 0..MAX_EVENT_PAGES {
        let page = events.list(&parameters).await.map_err(|error| OperatorError::Observe(Box::new(error)))?;
        all.extend(page.items.into_iter().filter_map(Guarded::readable));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    Ok(all)
}

/// Returns the message of the newest Event, unless it is older than `since`.
fn newest(events: Vec<types::Event>, since: Timestamp) -> Option<String> {
    let seen = |event: &types::Event| {
        let repeated = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        let times = [repeated, event.first_seen.as_ref()].into_iter().flatten().map(|time| time.0);
        let last = event.last_seen.as_ref().map(|time| time.0);
        times.chain(last).chain([created(&event.metadata)]).max()
    };
    let newest = events.into_iter().max_by_key(seen)?;
    // Times are whole seconds.
    let current = seen(&newest).is_some_and(|seen| seen.as_second() >= since.as_second());
    let reason = if newest.reason == "FailedCreate" { "" } else { newest.reason.as_str() };
    let note = newest.note.filter(|_| current)?;
    Some(if reason.is_empty() { note } else { format!("{reason}: {note}") })
}

#[cfg(test)]
mod tests;

//! Down: removes what `up` made, and says what it left and why. May be repeated. (Client required.)
//!
//! First the operator, which would make anew what goes; then the resource, and with it all generations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::api::{
    BINDING, CLUSTER_BINDING, CLUSTER_ROLE, CONFIG_MAP, CRD, Cluster, DAEMON_SET, DEPLOYMENT, Kind, METADATA,
    NAMESPACE, NODE, POD, QUINISTRY, ROLE,
};
use super::error::UpError;
use super::names::{ENFORCE, MANAGED_BY, MANAGER, OPERATOR, RESOURCE, cluster_wide, operator_namespace};
use super::raise::DEFINITION_NAME;
use super::{status, wire};
use crate::crd::Quinistry;
use crate::crd::labels::RESOURCE as OF_RESOURCE;
use crate::seed::{NAME, SEED, carrier};

/// How often it is looked whether something is gone.
const LOOK: Duration = Duration::from_millis(500);

/// How many kinds are listed at once.
const AT_ONCE: usize = 8;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// What is gone.
    pub gone: Vec<String>,
    /// What is not, and why.
    pub left: Vec<String>,
}

/// Removes all of it; waits at most so long for pods to end.
pub async fn down(cluster: &Cluster, namespace: &str, timeout: Duration) -> Result<Removed, UpError> {
    let mut removed = Removed::default();
    operator(cluster, namespace, timeout, &mut removed).await?;
    resource(cluster, namespace, timeout, &mut removed).await?;
    for (kind, place, name) in [
        (BINDING, namespace, OPERATOR.to_owned()),
        (ROLE, namespace, OPERATOR.to_owned()),
        (CLUSTER_BINDING, "", cluster_wide(namespace)),
        (CLUSTER_ROLE, "", cluster_wide(namespace)),
    ] {
        if cluster.delete(kind, place, &name, None).await? {
            removed.gone.push(format!("{} {name}", kind.name));
        }
    }
    let others: Vec<Value> = cluster.list(QUINISTRY, "", "").await?;
    let others: Vec<Quinistry> = others.into_iter().filter_map(status::read).collect();
    labels(cluster, &others, &mut removed).await?;
    definition(cluster, &others, &mut removed).await?;
    home(cluster, namespace, &others, timeout, &mut removed).await?;
    // So that what is raised next finds none of them on its way out.
    let began = Instant::now();
    for name in [operator_namespace(namespace), namespace.to_owned()] {
        while is_leaving(cluster, &name).await? {
            if began.elapsed() > timeout {
                removed.left.push(format!(
                    "namespace {name}, which is still going away; `kubectl describe` says why"
                ));
                break;
            }
            sleep(LOOK).await;
        }
    }
    Ok(removed)
}

/// The operator with its namespace, until its pods are gone: it may be at work to its last moment.
async fn operator(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
    removed: &mut Removed,
) -> Result<(), UpError> {
    let place = operator_namespace(namespace);
    if cluster.delete(DEPLOYMENT, &place, OPERATOR, None).await? {
        removed.gone.push(format!("Deployment {place}/{OPERATOR}"));
    }
    let found: Option<wire::Object> = cluster.get(NAMESPACE, "", &place).await?;
    let Some(found) = found else { return Ok(()) };
    if is_ours(&found) {
        cluster.delete(NAMESPACE, "", &place, None).await?;
        removed.gone.push(format!("namespace {place}"));
    } else {
        removed.left.push(format!("namespace {place}, which `up` did not make"));
    }
    let label = format!("app.kubernetes.io/component=operator,app.kubernetes.io/instance={namespace}");
    until_gone(cluster, POD, &place, &label, timeout).await
}

/// The resource, its generations and the pieces.
async fn resource(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
    removed: &mut Removed,
) -> Result<(), UpError> {
    let found: Option<wire::Object> = cluster.get(QUINISTRY, namespace, RESOURCE).await?;
    if let Some(found) = &found {
        cluster.delete(QUINISTRY, namespace, RESOURCE, Some(&found.metadata.uid)).await?;
        removed.gone.push(format!("Quinistry {namespace}/{RESOURCE} with all generations"));
    }
    let label = format!("{SEED},{NAME}={RESOURCE}");
    let pieces = cluster.names(CONFIG_MAP, namespace, &label).await?;
    let each = pieces.iter().map(|piece| cluster.delete(CONFIG_MAP, namespace, &piece.metadata.name, None));
    stream::iter(each).buffer_unordered(AT_ONCE).try_collect::<Vec<bool>>().await?;
    if !pieces.is_empty() {
        removed.gone.push(format!("{} ConfigMaps", pieces.len()));
    }
    if let Some(found) = found {
        let label = format!("{OF_RESOURCE}={}", found.metadata.uid);
        until_gone(cluster, DAEMON_SET, namespace, &label, timeout).await?;
        until_gone(cluster, POD, namespace, &label, timeout).await?;
    }
    Ok(())
}

/// The nodes' labels, unless another resource may go by them.
async fn labels(cluster: &Cluster, others: &[Quinistry], removed: &mut Removed) -> Result<(), UpError> {
    let nodes = cluster.names(NODE, "", carrier::CARRIER).await?;
    if nodes.is_empty() {
        return Ok(());
    }
    if let Some(other) = others.iter().find(|other| other.spec.seed.is_some()) {
        let text =
            format!("label {} of {} nodes, as {} may go by it", carrier::CARRIER, nodes.len(), name(other));
        removed.left.push(text);
        return Ok(());
    }
    let change =
        json!({"metadata": {"labels": {carrier::CARRIER: null}, "annotations": {carrier::TRIED: null}}});
    for node in &nodes {
        match cluster.merge(NODE, "", &node.metadata.name, &change).await {
            Err(error) if error.is_missing() => {}
            result => result?,
        }
    }
    removed.gone.push(format!("label {} of {} nodes", carrier::CARRIER, nodes.len()));
    Ok(())
}

/// The definition, if nobody else uses it or has made it: with it would go all resources.
async fn definition(cluster: &Cluster, others: &[Quinistry], removed: &mut Removed) -> Result<(), UpError> {
    let Some(found) = cluster.get::<Value>(CRD, "", DEFINITION_NAME).await? else { return Ok(()) };
    if let Some(other) = others.first() {
        removed.left.push(format!("definition {DEFINITION_NAME}, of which {} is one", name(other)));
        return Ok(());
    }
    let managers = found["metadata"]["managedFields"].as_array().into_iter().flatten();
    let other = managers
        .filter(|fields| fields["subresource"].is_null())
        .filter_map(|fields| fields["manager"].as_str())
        .find(|manager| *manager != MANAGER);
    if let Some(other) = other {
        removed.left.push(format!("definition {DEFINITION_NAME}, which {other} has a share in"));
        return Ok(());
    }
    if cluster.delete(CRD, "", DEFINITION_NAME, found["metadata"]["uid"].as_str()).await? {
        removed.gone.push(format!("definition {DEFINITION_NAME}"));
    }
    Ok(())
}

/// The namespace, if `up` made it and nothing else has moved in.
async fn home(
    cluster: &Cluster,
    namespace: &str,
    others: &[Quinistry],
    timeout: Duration,
    removed: &mut Removed,
) -> Result<(), UpError> {
    let found: Option<wire::Object> = cluster.get(NAMESPACE, "", namespace).await?;
    let Some(found) = found else { return Ok(()) };
    if !is_ours(&found) {
        removed
            .left
            .push(format!("namespace {namespace}, which `up` did not make, with its label {ENFORCE}"));
        return Ok(());
    }
    if let Some(other) = others.iter().find(|other| other.namespace().as_deref() == Some(namespace)) {
        removed
            .left
            .push(format!("namespace {namespace}, where {} is; no operator looks after it now", name(other)));
        return Ok(());
    }
    // What was ours may need a moment to be collected.
    let began = Instant::now();
    loop {
        let inside = inhabitants(cluster, namespace).await?;
        if inside.is_empty() {
            cluster.delete(NAMESPACE, "", namespace, Some(&found.metadata.uid)).await?;
            removed.gone.push(format!("namespace {namespace}"));
            return Ok(());
        }
        if began.elapsed() > timeout.min(Duration::from_secs(10)) {
            let text = format!("namespace {namespace}, where there is more: {}", inside.join(", "));
            removed.left.push(text);
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// What lives in a namespace, but for what every namespace has.
async fn inhabitants(cluster: &Cluster, namespace: &str) -> Result<Vec<String>, UpError> {
    let kinds = kinds(cluster).await?;
    let each = kinds.iter().map(|(version, plural)| async move {
        let root = if version == "v1" { "/api" } else { "/apis" };
        let path = format!("{root}/{version}/namespaces/{namespace}/{plural}?limit=10");
        match cluster.read::<Names>(&path, Some(METADATA)).await {
            Ok(list) => Ok(others(plural, list.items.unwrap_or_default())),
            // Of an API that is away, or that we may not read: then it is not known to be empty.
            Err(error) if matches!(error.code(), 404 | 405) => Ok(Vec::new()),
            Err(error) if error.code() == 0 => Err(error),
            Err(_) => Ok(vec![format!("{plural}, which cannot be listed")]),
        }
    });
    let found: Vec<Vec<String>> = stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await?;
    let found: BTreeSet<String> = found.into_iter().flatten().collect();
    Ok(found.into_iter().take(10).collect())
}

fn others(plural: &str, items: Vec<wire::Object>) -> Vec<String> {
    let usual = |item: &wire::Object| {
        matches!(
            (plural, item.metadata.name.as_str()),
            ("configmaps", "kube-root-ca.crt" | "openshift-service-ca.crt") | ("serviceaccounts", "default")
        )
    };
    items
        .into_iter()
        .filter(|item| !usual(item))
        .map(|item| format!("{plural} {}", item.metadata.name))
        .collect()
}

#[derive(Deserialize)]
struct Names {
    items: Option<Vec<wire::Object>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Groups {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: wire::Meta,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    #[serde(rename = "resource")]
    plural: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

/// All kinds that live in namespaces and can be listed: group and version, and what it is called in paths.
async fn kinds(cluster: &Cluster) -> Result<Vec<(String, String)>, UpError> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (core, groups): (Groups, Groups) =
        tokio::try_join!(cluster.read("/api", Some(accept)), cluster.read("/apis", Some(accept)))?;
    // A kind may be in several versions and groups; the first version of each group is the preferred one.
    let mut kinds = BTreeMap::new();
    for group in core.items.into_iter().chain(groups.items) {
        // Measurements and happenings are nothing that lives there.
        if matches!(group.metadata.name.as_str(), "metrics.k8s.io" | "events.k8s.io") {
            continue;
        }
        for version in group.versions {
            let prefix = if group.metadata.name.is_empty() {
                String::new()
            } else {
                format!("{}/", group.metadata.name)
            };
            for resource in version.resources {
                if resource.scope == "Namespaced"
                    && resource.verbs.iter().any(|verb| verb == "list")
                    && resource.plural != "events"
                {
                    let key = (group.metadata.name.clone(), resource.plural);
                    kinds.entry(key).or_insert_with(|| format!("{prefix}{}", version.version));
                }
            }
        }
    }
    Ok(kinds.into_iter().map(|((_, plural), version)| (version, plural)).collect())
}

async fn is_leaving(cluster: &Cluster, namespace: &str) -> Result<bool, UpError> {
    let found: Option<wire::Object> = cluster.get(NAMESPACE, "", namespace).await?;
    Ok(found.is_some_and(|found| found.metadata.deletion_timestamp.is_some()))
}

async fn until_gone(
    cluster: &Cluster,
    kind: Kind,
    namespace: &str,
    label: &str,
    timeout: Duration,
) -> Result<(), UpError> {
    let began = Instant::now();
    loop {
        let left = cluster.names(kind, namespace, label).await?;
        let Some(first) = left.first() else { return Ok(()) };
        if began.elapsed() > timeout {
            let what = format!("{} {} are still there", left.len(), kind.plural);
            let why = format!(
                "{}/{} is one; on a node that is away they stay until it is back or removed; then run this again",
                first.metadata.namespace, first.metadata.name
            );
            return Err(UpError::Timeout { what, after: timeout, why });
        }
        sleep(LOOK).await;
    }
}

fn is_ours(object: &wire::Object) -> bool {
    object.metadata.labels.get(MANAGED_BY).is_some_and(|by| by == MANAGER)
}

fn name(quinistry: &Quinistry) -> String {
    format!("Quinistry {}/{}", quinistry.namespace().unwrap_or_default(), quinistry.name_any())
}

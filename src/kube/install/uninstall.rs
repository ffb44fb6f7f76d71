//! Down: removes what `up` made, and says what it left and why. May be repeated. (Client required.)
//!
//! First the operator, which would restore what goes; then the resource, and with it all generations; then
//! rights, nodes' labels, the definition and the namespaces. Absence proves nothing by itself: discovery must
//! be complete before anything is deleted, each object is deleted as it was seen (UID and resource version),
//! and only if its metadata says that `up` made it.

mod discovery;
mod inhabitants;

use std::time::{Duration, Instant};

use discovery::{Kinds, discover};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use inhabitants::inhabitants;
use kube::core::ObjectMeta;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::api::{
    ACCOUNT, BINDING, CLUSTER_BINDING, CLUSTER_ROLE, CONFIG_MAP, CRD, Cluster, DAEMON_SET, DEPLOYMENT,
    Deletion, LEASE, NAMESPACE, NODE, POD, QUINISTRY, ROLE, ResourceKind,
};
use super::error::InstallError;
use super::ownership;
use crate::api::names::annotations::CARRIERS_TRIED;
use crate::api::names::{
    DEFINITION_NAME, OPERATOR, RESOURCE, cluster_wide, labels, operator_namespace, operator_selector,
};
use crate::api::types::{self, Metadata as _};

/// Pause between two looks whether something is gone.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Deletions under way at once.
const CONCURRENT_DELETIONS: usize = 8;

/// Attempts to delete an object that others change at the same time.
const MAX_DELETE_ATTEMPTS: usize = 20;

/// Longest wait for the garbage collector before what is left in a namespace counts as foreign.
const GARBAGE_COLLECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UninstallReport {
    /// What is gone.
    pub gone: Vec<String>,
    /// What is not, and why.
    pub left: Vec<String>,
}

/// The fate of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RemovalOutcome {
    Absent,
    Deleted,
    Foreign,
}

/// Quinistry resources that remain in the cluster, as JSON: a resource that cannot be decoded counts like any
/// other.
enum RemainingResources {
    Known(Vec<Value>),
    /// The API server does not serve them, although there may be some.
    NotServed,
}

/// Removes all of it; waits at most so long for pods to end.
pub async fn down(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
) -> Result<UninstallReport, InstallError> {
    let mut removed = UninstallReport::default();
    // Both refuse before anything is deleted.
    discover(cluster).await?;
    RemainingResources::list(cluster).await?;
    operator(cluster, namespace, timeout, &mut removed).await?;
    resource(cluster, namespace, timeout, &mut removed).await?;
    rights(cluster, namespace, &mut removed).await?;
    let others = RemainingResources::list(cluster).await?;
    labels(cluster, &others, &mut removed).await?;
    definition(cluster, &mut removed).await?;
    let kinds = discover(cluster).await?;
    for name in [operator_namespace(namespace), namespace.to_owned()] {
        home(cluster, &kinds, &name, timeout, &mut removed).await?;
    }
    // So that what is raised next finds none of them on its way out.
    let began = Instant::now();
    for name in [operator_namespace(namespace), namespace.to_owned()] {
        while is_terminating(cluster, &name).await? {
            if began.elapsed() > timeout {
                removed.left.push(format!(
                    "namespace {name}, which is still going away; `kubectl describe` says why"
                ));
                break;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
    Ok(removed)
}

/// Deletes one object if `foreign` has nothing against it, exactly as it was seen.
async fn remove(
    cluster: &Cluster,
    kind: ResourceKind,
    namespace: &str,
    name: &str,
    removed: &mut UninstallReport,
    foreign: impl Fn(&ObjectMeta) -> Option<String>,
) -> Result<RemovalOutcome, InstallError> {
    let words = kind.words(namespace, name);
    for _ in 0..MAX_DELETE_ATTEMPTS {
        let found: Option<types::Object> = cluster.get(kind, namespace, name).await?;
        let Some(found) = found else { return Ok(RemovalOutcome::Absent) };
        if let Some(why) = foreign(&found.metadata) {
            removed.left.push(format!("{words}, which {why}"));
            return Ok(RemovalOutcome::Foreign);
        }
        if !found.metadata.is_terminating() {
            match cluster.delete(kind, namespace, &found.metadata).await? {
                Deletion::Deleted => {}
                Deletion::Missing => return Ok(RemovalOutcome::Absent),
                Deletion::Changed => continue,
            }
        }
        removed.gone.push(words);
        return Ok(RemovalOutcome::Deleted);
    }
    Err(InstallError::Refused(format!(
        "{words} changes all the time, so that it was not deleted; run this again"
    )))
}

/// Removes the operator, and waits until its pods are gone: it may be at work to its last moment.
async fn operator(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
    removed: &mut UninstallReport,
) -> Result<(), InstallError> {
    let place = operator_namespace(namespace);
    let foreign = |meta: &ObjectMeta| ownership::foreign(meta, namespace);
    if remove(cluster, DEPLOYMENT, &place, OPERATOR, removed, foreign).await? == RemovalOutcome::Foreign {
        return Ok(());
    }
    let label = format!("{},{}={namespace}", operator_selector(), labels::APP_INSTANCE);
    until_gone(cluster, POD, &place, &label, timeout).await?;
    // Written by the operator without labels, under the name that its Deployment had.
    remove(cluster, LEASE, &place, OPERATOR, removed, |meta| {
        (!ownership::is_lease(meta, OPERATOR)).then(|| "was not made by an operator of `up`".into())
    })
    .await
    .map(drop)
}

/// The resource, its generations and the pieces.
async fn resource(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
    removed: &mut UninstallReport,
) -> Result<(), InstallError> {
    let found: Option<Value> = cluster.get(QUINISTRY, namespace, RESOURCE).await?;
    let seeded = found.as_ref().is_some_and(|found| !found["spec"]["seed"].is_null());
    let uid = found.and_then(|found| found["metadata"]["uid"].as_str().map(str::to_owned));
    let foreign = |meta: &ObjectMeta| ownership::foreign_resource(meta, seeded);
    let fate = remove(cluster, QUINISTRY, namespace, RESOURCE, removed, foreign).await?;
    if fate == RemovalOutcome::Foreign {
        return Ok(());
    }
    parts(cluster, namespace, uid.as_deref(), removed).await?;
    if let Some(uid) = uid {
        let label = format!("{}={uid}", labels::RESOURCE);
        until_gone(cluster, DAEMON_SET, namespace, &label, timeout).await?;
        until_gone(cluster, POD, namespace, &label, timeout).await?;
    }
    Ok(())
}

/// Removes the parts of the executable.
async fn parts(
    cluster: &Cluster,
    namespace: &str,
    uid: Option<&str>,
    removed: &mut UninstallReport,
) -> Result<(), InstallError> {
    let label = format!("{},{}={RESOURCE}", labels::SEED, labels::NAME);
    let found = cluster.names(CONFIG_MAP, namespace, &label).await?;
    let (ours, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|map| ownership::is_part(&map.metadata, uid));
    for other in others {
        let text =
            format!("ConfigMap {namespace}/{}, which is not a part of the executable", other.metadata.name());
        removed.left.push(text);
    }
    let each = ours.iter().map(|part| cluster.delete(CONFIG_MAP, namespace, &part.metadata));
    let fates: Vec<Deletion> =
        stream::iter(each).buffer_unordered(CONCURRENT_DELETIONS).try_collect().await?;
    if !fates.is_empty() {
        removed.gone.push(format!("{} ConfigMaps", fates.len()));
    }
    let changed = fates.iter().filter(|fate| **fate == Deletion::Changed).count();
    if changed > 0 {
        removed
            .left
            .push(format!("{changed} of these ConfigMaps, which changed at this moment; run this again"));
    }
    Ok(())
}

/// Removes the operator's account and rights.
async fn rights(
    cluster: &Cluster,
    namespace: &str,
    removed: &mut UninstallReport,
) -> Result<(), InstallError> {
    let (place, wide) = (operator_namespace(namespace), cluster_wide(namespace));
    let lease = format!("{OPERATOR}-lease");
    for (kind, place, name) in [
        (BINDING, namespace, OPERATOR),
        (ROLE, namespace, OPERATOR),
        (CLUSTER_BINDING, "", &wide),
        (CLUSTER_ROLE, "", &wide),
        (BINDING, &place, &lease),
        (ROLE, &place, &lease),
        (ACCOUNT, &place, OPERATOR),
    ] {
        let foreign = |meta: &ObjectMeta| ownership::foreign(meta, namespace);
        remove(cluster, kind, place, name, removed, foreign).await?;
    }
    Ok(())
}

/// The nodes' labels, unless another resource may go by them.
async fn labels(
    cluster: &Cluster,
    others: &RemainingResources,
    removed: &mut UninstallReport,
) -> Result<(), InstallError> {
    let nodes = cluster.names(NODE, "", labels::CARRIER).await?;
    if nodes.is_empty() {
        return Ok(());
    }
    let user = match others {
        RemainingResources::NotServed => Some("a resource that cannot be listed now".into()),
        RemainingResources::Known(all) => all.iter().find(|other| !other["spec"]["seed"].is_null()).map(name),
    };
    if let Some(user) = user {
        let text = format!("label {} of {} nodes, as {user} may go by it", labels::CARRIER, nodes.len());
        removed.left.push(text);
        return Ok(());
    }
    let change =
        json!({"metadata": {"labels": {labels::CARRIER: null}, "annotations": {CARRIERS_TRIED: null}}});
    for node in &nodes {
        match cluster.merge_patch(NODE, "", node.metadata.name(), &change).await {
            Err(error) if error.is_missing() => {}
            result => result?,
        }
    }
    removed.gone.push(format!("label {} of {} nodes", labels::CARRIER, nodes.len()));
    Ok(())
}

/// Removes the definition, unless another resource uses it or another program has a share in it: with the
/// definition would go all resources.
async fn definition(cluster: &Cluster, removed: &mut UninstallReport) -> Result<(), InstallError> {
    let left = |why: &str| format!("definition {DEFINITION_NAME}, {why}");
    for _ in 0..MAX_DELETE_ATTEMPTS {
        let found: Option<types::Object> = cluster.get(CRD, "", DEFINITION_NAME).await?;
        let Some(found) = found else { return Ok(()) };
        // After the definition was read: a resource that is created between the two is seen.
        match RemainingResources::list(cluster).await? {
            RemainingResources::NotServed => {
                removed.left.push(left("whose resources cannot be listed"));
                return Ok(());
            }
            RemainingResources::Known(others) => {
                if let Some(other) = others.first() {
                    removed.left.push(left(&format!("of which {} is one", name(other))));
                    return Ok(());
                }
            }
        }
        if let Some(sharer) = ownership::sharer(&found) {
            removed.left.push(left(&format!("which {sharer}")));
            return Ok(());
        }
        match cluster.delete(CRD, "", &found.metadata).await? {
            Deletion::Changed => {}
            Deletion::Missing => return Ok(()),
            Deletion::Deleted => {
                removed.gone.push(format!("definition {DEFINITION_NAME}"));
                return Ok(());
            }
        }
    }
    removed.left.push(left("which changes all the time; run this again"));
    Ok(())
}

/// Removes a namespace, if `up` made it and nothing else lives there.
async fn home(
    cluster: &Cluster,
    kinds: &Kinds,
    namespace: &str,
    timeout: Duration,
    removed: &mut UninstallReport,
) -> Result<(), InstallError> {
    let left = |why: &str| format!("namespace {namespace}, {why}");
    // What was ours may need a moment to be collected.
    let began = Instant::now();
    loop {
        let found: Option<types::Object> = cluster.get(NAMESPACE, "", namespace).await?;
        let Some(found) = found else { return Ok(()) };
        if found.metadata.is_terminating() {
            removed.gone.push(format!("namespace {namespace}"));
            return Ok(());
        }
        if let Some(why) = ownership::foreign_namespace(&found.metadata) {
            removed.left.push(left(&format!("which {why}, with its label {}", labels::POD_SECURITY_ENFORCE)));
            return Ok(());
        }
        let mut inside = inhabitants(cluster, kinds, namespace).await?;
        match RemainingResources::list(cluster).await? {
            RemainingResources::NotServed => {}
            RemainingResources::Known(others) => {
                let here = others.iter().filter(|other| other["metadata"]["namespace"] == namespace);
                inside.extend(
                    here.map(|other| format!("{}, which no operator of `up` looks after now", name(other))),
                );
            }
        }
        if inside.is_empty() && cluster.delete(NAMESPACE, "", &found.metadata).await? != Deletion::Changed {
            removed.gone.push(format!("namespace {namespace}"));
            return Ok(());
        }
        if began.elapsed() > timeout.min(GARBAGE_COLLECTION_TIMEOUT) {
            let inside = if inside.is_empty() { "changes".into() } else { inside.join(", ") };
            removed.left.push(left(&format!("where there is more: {inside}")));
            return Ok(());
        }
        sleep(POLL_INTERVAL).await;
    }
}

// === impl Others ===

impl RemainingResources {
    async fn list(cluster: &Cluster) -> Result<Self, InstallError> {
        // The first page alone, as an answer that is not a list reads like an empty one.
        let first = format!("/apis/{}/{}?limit=1", QUINISTRY.version, QUINISTRY.plural);
        match cluster.read_as_sent(&first, None).await {
            Ok(page) if page.get("items").is_none() => Err(InstallError::Refused(format!(
                "the API server does not answer {first} with a list, so that other resources cannot be seen"
            ))),
            Ok(_) => Ok(Self::Known(cluster.list(QUINISTRY, "", "").await?)),
            Err(error) if error.is_missing() => {
                let definition: Option<types::Object> = cluster.get(CRD, "", DEFINITION_NAME).await?;
                Ok(if definition.is_some() { Self::NotServed } else { Self::Known(Vec::new()) })
            }
            Err(error) => Err(error),
        }
    }
}

async fn is_terminating(cluster: &Cluster, namespace: &str) -> Result<bool, InstallError> {
    let found: Option<types::Object> = cluster.get(NAMESPACE, "", namespace).await?;
    Ok(found.is_some_and(|found| found.metadata.is_terminating()))
}

async fn until_gone(
    cluster: &Cluster,
    kind: ResourceKind,
    namespace: &str,
    label: &str,
    timeout: Duration,
) -> Result<(), InstallError> {
    let began = Instant::now();
    loop {
        let left = cluster.names(kind, namespace, label).await?;
        let Some(first) = left.first() else { return Ok(()) };
        if began.elapsed() > timeout {
            let what = format!("{} {} are still there", left.len(), kind.plural);
            let why = format!(
                "{}/{} is one; on a node that is away they stay until it is back or removed; then run this again",
                first.metadata.namespace(),
                first.metadata.name()
            );
            return Err(InstallError::Timeout { what, after: timeout, why });
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn name(quinistry: &Value) -> String {
    let part = |key: &str| quinistry["metadata"][key].as_str().unwrap_or_default();
    format!("Quinistry {}/{}", part("namespace"), part("name"))
}

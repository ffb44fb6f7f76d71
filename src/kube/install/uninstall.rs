//! Removal of an installation. Reports what it deleted, what it kept, and why. Can be repeated. (Client
//! required.)
//!
//! The operator goes first, since it would restore the rest; then the resource with all generations; then
//! permissions, node labels, the definition and the namespaces. Nothing is deleted unless discovery is
//! complete. Each object is deleted only if its metadata proves that `up` made it, with its UID and resource
//! version as precondition.

mod bundles;
mod discovery;
mod inhabitants;
mod remaining_resources;

use std::time::{Duration, Instant};

use bundles::delete_bundles;
use discovery::{Kinds, discover};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use inhabitants::inhabitants;
use kube::core::ObjectMeta;
use remaining_resources::RemainingResources;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::api::{
    ACCOUNT, BINDING, BUNDLE, CLUSTER_BINDING, CLUSTER_ROLE, CONFIG_MAP, CRD, Cluster, DAEMON_SET,
    DEPLOYMENT, Deletion, LEASE, NAMESPACE, NODE, POD, QUINISTRY, ROLE, ResourceKind,
};
use super::error::InstallError;
use super::ownership;
use crate::api::names::annotations::CARRIERS_TRIED;
use crate::api::names::{
    BUNDLE_DEFINITION_NAME, DEFINITION_NAME, OPERATOR, RESOURCE, cluster_wide, labels, operator_namespace,
    operator_selector,
};
use crate::api::types::{self, Metadata as _};

/// Interval at which objects are read while waiting for their deletion.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Number of concurrent deletions.
const CONCURRENT_DELETIONS: usize = 8;

/// Number of attempts to delete an object that other writers change.
const MAX_DELETE_ATTEMPTS: usize = 20;

/// Kinds that have a definition, with its name.
const DEFINED_KINDS: [(ResourceKind, &str); 2] =
    [(QUINISTRY, DEFINITION_NAME), (BUNDLE, BUNDLE_DEFINITION_NAME)];

/// Time limit for Kubernetes' garbage collector, after which the objects left in a namespace count as
/// foreign.
const GARBAGE_COLLECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Result of a removal, in words for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UninstallReport {
    /// Deleted objects.
    pub deleted: Vec<String>,
    /// Kept objects, each with the reason.
    pub kept: Vec<String>,
}

/// Outcome of the removal of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RemovalOutcome {
    Absent,
    Deleted,
    Foreign,
}

/// Removes an installation. `timeout` limits the wait for pods to end.
pub async fn uninstall(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
) -> Result<UninstallReport, InstallError> {
    let mut report = UninstallReport::default();
    // Before anything is deleted: both fail if they cannot be complete.
    discover(cluster).await?;
    for (kind, _) in DEFINED_KINDS {
        RemainingResources::list(cluster, kind).await?;
    }
    delete_operator(cluster, namespace, timeout, &mut report).await?;
    delete_resource(cluster, namespace, timeout, &mut report).await?;
    delete_bundles(cluster, namespace, &mut report).await?;
    delete_rights(cluster, namespace, &mut report).await?;
    let others = RemainingResources::list(cluster, QUINISTRY).await?;
    delete_labels(cluster, &others, &mut report).await?;
    for (kind, definition) in DEFINED_KINDS {
        delete_definition(cluster, kind, definition, &mut report).await?;
    }
    let kinds = discover(cluster).await?;
    for name in [operator_namespace(namespace), namespace.to_owned()] {
        delete_namespace(cluster, &kinds, &name, timeout, &mut report).await?;
    }
    // A new installation must not find a namespace that is still being deleted.
    let began = Instant::now();
    for name in [operator_namespace(namespace), namespace.to_owned()] {
        while is_namespace_terminating(cluster, &name).await? {
            if began.elapsed() > timeout {
                report.kept.push(format!(
                    "namespace {name}, which is still going away; `kubectl describe` says why"
                ));
                break;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
    Ok(report)
}

/// Deletes one object, unless `foreign` returns a reason against it. The precondition is the object as it was
/// read.
async fn delete_object(
    cluster: &Cluster,
    kind: ResourceKind,
    namespace: &str,
    name: &str,
    report: &mut UninstallReport,
    foreign: impl Fn(&ObjectMeta) -> Option<String>,
) -> Result<RemovalOutcome, InstallError> {
    let display_name = kind.display_name(namespace, name);
    for _ in 0..MAX_DELETE_ATTEMPTS {
        let found: Option<types::Object> = cluster.get(kind, namespace, name).await?;
        let Some(found) = found else { return Ok(RemovalOutcome::Absent) };
        if let Some(why) = foreign(&found.metadata) {
            report.kept.push(format!("{display_name}, which {why}"));
            return Ok(RemovalOutcome::Foreign);
        }
        if !found.metadata.is_terminating() {
            match cluster.delete(kind, namespace, &found.metadata).await? {
                Deletion::Deleted => {}
                Deletion::Missing => return Ok(RemovalOutcome::Absent),
                Deletion::Changed => continue,
            }
        }
        report.deleted.push(display_name);
        return Ok(RemovalOutcome::Deleted);
    }
    Err(InstallError::Refused(format!(
        "{display_name} changes all the time, so that it was not deleted; run this again"
    )))
}

/// Deletes the operator, and waits for the end of its pods, which work until then.
async fn delete_operator(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    let home = operator_namespace(namespace);
    let foreign = |meta: &ObjectMeta| ownership::foreign(meta, namespace);
    if delete_object(cluster, DEPLOYMENT, &home, OPERATOR, report, foreign).await? == RemovalOutcome::Foreign
    {
        return Ok(());
    }
    let label = format!("{},{}={namespace}", operator_selector(), labels::APP_INSTANCE);
    wait_until_gone(cluster, POD, &home, &label, timeout).await?;
    // The operator writes the Lease without labels, as the field manager of the operator's name.
    delete_object(cluster, LEASE, &home, OPERATOR, report, |meta| {
        (!ownership::is_lease(meta, OPERATOR)).then(|| "was not made by an operator of `up`".into())
    })
    .await
    .map(drop)
}

/// Deletes the resource, its generations and the seed parts.
async fn delete_resource(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    let found: Option<Value> = cluster.get(QUINISTRY, namespace, RESOURCE).await?;
    let seeded = found.as_ref().is_some_and(|found| !found["spec"]["seed"].is_null());
    let uid = found.and_then(|found| found["metadata"]["uid"].as_str().map(str::to_owned));
    let foreign = |meta: &ObjectMeta| ownership::foreign_resource(meta, seeded);
    let fate = delete_object(cluster, QUINISTRY, namespace, RESOURCE, report, foreign).await?;
    if fate == RemovalOutcome::Foreign {
        return Ok(());
    }
    delete_seed_parts(cluster, namespace, uid.as_deref(), report).await?;
    if let Some(uid) = uid {
        let label = format!("{}={uid}", labels::RESOURCE);
        wait_until_gone(cluster, DAEMON_SET, namespace, &label, timeout).await?;
        wait_until_gone(cluster, POD, namespace, &label, timeout).await?;
    }
    Ok(())
}

/// Deletes the seed parts.
async fn delete_seed_parts(
    cluster: &Cluster,
    namespace: &str,
    uid: Option<&str>,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    let label = format!("{},{}={RESOURCE}", labels::SEED, labels::NAME);
    let found = cluster.names(CONFIG_MAP, namespace, &label).await?;
    let (ours, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|map| ownership::is_part(&map.metadata, uid));
    for other in others {
        let text =
            format!("ConfigMap {namespace}/{}, which is not a part of the executable", other.metadata.name());
        report.kept.push(text);
    }
    let each = ours.iter().map(|part| cluster.delete(CONFIG_MAP, namespace, &part.metadata));
    let fates: Vec<Deletion> =
        stream::iter(each).buffer_unordered(CONCURRENT_DELETIONS).try_collect().await?;
    if !fates.is_empty() {
        report.deleted.push(format!("{} ConfigMaps", fates.len()));
    }
    let changed = fates.iter().filter(|fate| **fate == Deletion::Changed).count();
    if changed > 0 {
        report
            .kept
            .push(format!("{changed} of these ConfigMaps, which changed at this moment; run this again"));
    }
    Ok(())
}

/// Deletes the operator's account and permissions.
async fn delete_rights(
    cluster: &Cluster,
    namespace: &str,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    let (home, cluster_wide_name) = (operator_namespace(namespace), cluster_wide(namespace));
    let lease = format!("{OPERATOR}-lease");
    for (kind, namespace_of_object, name) in [
        (BINDING, namespace, OPERATOR),
        (ROLE, namespace, OPERATOR),
        (CLUSTER_BINDING, "", &cluster_wide_name),
        (CLUSTER_ROLE, "", &cluster_wide_name),
        (BINDING, &home, &lease),
        (ROLE, &home, &lease),
        (ACCOUNT, &home, OPERATOR),
    ] {
        let foreign = |meta: &ObjectMeta| ownership::foreign(meta, namespace);
        delete_object(cluster, kind, namespace_of_object, name, report, foreign).await?;
    }
    Ok(())
}

/// Removes the carrier labels of the nodes, unless another resource may use them.
async fn delete_labels(
    cluster: &Cluster,
    others: &RemainingResources,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    let nodes = cluster.names(NODE, "", labels::CARRIER).await?;
    if nodes.is_empty() {
        return Ok(());
    }
    let user = match others {
        RemainingResources::NotServed => Some("a resource that cannot be listed now".into()),
        RemainingResources::Known(all) => {
            let seeded = all.iter().find(|other| !other["spec"]["seed"].is_null());
            seeded.map(|other| display_name(QUINISTRY, other))
        }
    };
    if let Some(user) = user {
        let text = format!("label {} of {} nodes, as {user} may go by it", labels::CARRIER, nodes.len());
        report.kept.push(text);
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
    report.deleted.push(format!("label {} of {} nodes", labels::CARRIER, nodes.len()));
    Ok(())
}

/// Deletes a definition, unless another resource exists or another writer owns a part of it: Kubernetes
/// deletes all resources together with their definition.
async fn delete_definition(
    cluster: &Cluster,
    kind: ResourceKind,
    name: &str,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    let left = |why: &str| format!("definition {name}, {why}");
    for _ in 0..MAX_DELETE_ATTEMPTS {
        let found: Option<types::Object> = cluster.get(CRD, "", name).await?;
        let Some(found) = found else { return Ok(()) };
        // Listed after the definition was read, so that a resource created in between is in the list.
        match RemainingResources::list(cluster, kind).await? {
            RemainingResources::NotServed => {
                report.kept.push(left("whose resources cannot be listed"));
                return Ok(());
            }
            RemainingResources::Known(others) => {
                if let Some(other) = others.first() {
                    let other = display_name(kind, other);
                    report.kept.push(left(&format!("of which {other} is one")));
                    return Ok(());
                }
            }
        }
        if let Some(sharer) = ownership::sharer(&found.metadata) {
            report.kept.push(left(&format!("which {sharer}")));
            return Ok(());
        }
        match cluster.delete(CRD, "", &found.metadata).await? {
            Deletion::Changed => {}
            Deletion::Missing => return Ok(()),
            Deletion::Deleted => {
                report.deleted.push(format!("definition {name}"));
                return Ok(());
            }
        }
    }
    report.kept.push(left("which changes all the time; run this again"));
    Ok(())
}

/// Deletes a namespace, if `up` made it and no other objects are in it.
async fn delete_namespace(
    cluster: &Cluster,
    kinds: &Kinds,
    namespace: &str,
    timeout: Duration,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    let left = |why: &str| format!("namespace {namespace}, {why}");
    // The garbage collector may not have deleted all objects of the installation yet.
    let began = Instant::now();
    loop {
        let found: Option<types::Object> = cluster.get(NAMESPACE, "", namespace).await?;
        let Some(found) = found else { return Ok(()) };
        if found.metadata.is_terminating() {
            report.deleted.push(format!("namespace {namespace}"));
            return Ok(());
        }
        if let Some(why) = ownership::foreign_namespace(&found.metadata) {
            report.kept.push(left(&format!("which {why}, with its label {}", labels::POD_SECURITY_ENFORCE)));
            return Ok(());
        }
        let mut inside = inhabitants(cluster, kinds, namespace).await?;
        match RemainingResources::list(cluster, QUINISTRY).await? {
            RemainingResources::NotServed => {}
            RemainingResources::Known(others) => {
                let here = others.iter().filter(|other| other["metadata"]["namespace"] == namespace);
                inside.extend(here.map(|other| {
                    format!("{}, which no operator of `up` looks after now", display_name(QUINISTRY, other))
                }));
            }
        }
        if inside.is_empty() && cluster.delete(NAMESPACE, "", &found.metadata).await? != Deletion::Changed {
            report.deleted.push(format!("namespace {namespace}"));
            return Ok(());
        }
        if began.elapsed() > timeout.min(GARBAGE_COLLECTION_TIMEOUT) {
            let inside = if inside.is_empty() { "changes".into() } else { inside.join(", ") };
            report.kept.push(left(&format!("where there is more: {inside}")));
            return Ok(());
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn is_namespace_terminating(cluster: &Cluster, namespace: &str) -> Result<bool, InstallError> {
    let found: Option<types::Object> = cluster.get(NAMESPACE, "", namespace).await?;
    Ok(found.is_some_and(|found| found.metadata.is_terminating()))
}

async fn wait_until_gone(
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

fn display_name(kind: ResourceKind, object: &Value) -> String {
    let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    kind.display_name(part("namespace"), part("name"))
}

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
    pub deleted: Vec<String>,
    /// What is not, and why.
    pub kept: Vec<String>,
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
pub async fn uninstall(
    cluster: &Cluster,
    namespace: &str,
    timeout: Duration,
) -> Result<UninstallReport, InstallError> {
    let mut report = UninstallReport::default();
    // Both refuse before anything is deleted.
    discover(cluster).await?;
    RemainingResources::list(cluster).await?;
    delete_operator(cluster, namespace, timeout, &mut report).await?;
    delete_resource(cluster, namespace, timeout, &mut report).await?;
    delete_rights(cluster, namespace, &mut report).await?;
    let others = RemainingResources::list(cluster).await?;
    delete_labels(cluster, &others, &mut report).await?;
    delete_definition(cluster, &mut report).await?;
    let kinds = discover(cluster).await?;
    for name in [operator_namespace(namespace), namespace.to_owned()] {
        delete_namespace(cluster, &kinds, &name, timeout, &mut report).await?;
    }
    // So that what is raised next finds none of them on its way out.
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

/// Deletes one object if `foreign` has nothing against it, exactly as it was seen.
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

/// Removes the operator, and waits until its pods are gone: it may be at work to its last moment.
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
    // Written by the operator without labels, under the name that its Deployment had.
    delete_object(cluster, LEASE, &home, OPERATOR, report, |meta| {
        (!ownership::is_lease(meta, OPERATOR)).then(|| "was not made by an operator of `up`".into())
    })
    .await
    .map(drop)
}

/// The resource, its generations and the pieces.
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

/// Removes the parts of the executable.
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

/// Removes the operator's account and rights.
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

/// The nodes' labels, unless another resource may go by them.
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
            all.iter().find(|other| !other["spec"]["seed"].is_null()).map(display_name)
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

/// Removes the definition, unless another resource uses it or another program has a share in it: with the
/// definition would go all resources.
async fn delete_definition(cluster: &Cluster, report: &mut UninstallReport) -> Result<(), InstallError> {
    let left = |why: &str| format!("definition {DEFINITION_NAME}, {why}");
    for _ in 0..MAX_DELETE_ATTEMPTS {
        let found: Option<types::Object> = cluster.get(CRD, "", DEFINITION_NAME).await?;
        let Some(found) = found else { return Ok(()) };
        // After the definition was read: a resource that is created between the two is seen.
        match RemainingResources::list(cluster).await? {
            RemainingResources::NotServed => {
                report.kept.push(left("whose resources cannot be listed"));
                return Ok(());
            }
            RemainingResources::Known(others) => {
                if let Some(other) = others.first() {
                    report.kept.push(left(&format!("of which {} is one", display_name(other))));
                    return Ok(());
                }
            }
        }
        if let Some(sharer) = ownership::sharer(&found) {
            report.kept.push(left(&format!("which {sharer}")));
            return Ok(());
        }
        match cluster.delete(CRD, "", &found.metadata).await? {
            Deletion::Changed => {}
            Deletion::Missing => return Ok(()),
            Deletion::Deleted => {
                report.deleted.push(format!("definition {DEFINITION_NAME}"));
                return Ok(());
            }
        }
    }
    report.kept.push(left("which changes all the time; run this again"));
    Ok(())
}

/// Removes a namespace, if `up` made it and nothing else lives there.
async fn delete_namespace(
    cluster: &Cluster,
    kinds: &Kinds,
    namespace: &str,
    timeout: Duration,
    report: &mut UninstallReport,
) -> Result<(), InstallError> {
    let left = |why: &str| format!("namespace {namespace}, {why}");
    // What was ours may need a moment to be collected.
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
        match RemainingResources::list(cluster).await? {
            RemainingResources::NotServed => {}
            RemainingResources::Known(others) => {
                let here = others.iter().filter(|other| other["metadata"]["namespace"] == namespace);
                inside.extend(here.map(|other| {
                    format!("{}, which no operator of `up` looks after now", display_name(other))
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

// === impl RemainingResources ===

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

fn display_name(quinistry: &Value) -> String {
    let part = |key: &str| quinistry["metadata"][key].as_str().unwrap_or_default();
    format!("Quinistry {}/{}", part("namespace"), part("name"))
}

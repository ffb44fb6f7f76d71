//! Observations for the checks: objects of the cluster, and the admission of a pod that is only created as a
//! dry run. (Client required.)

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::rights::{self, Permission};
use crate::api::names::annotations::VERSION;
use crate::api::names::labels::POD_SECURITY_ENFORCE;
use crate::api::names::{OPERATOR, operator_namespace};
use crate::api::types::{self, Metadata as _};
use crate::crd::{DEFINITIONS, Quinistry};
use crate::install::api::{CRD, Cluster, DEPLOYMENT, NAMESPACE, NODE, POD, QUINISTRY, ResourceKind};
use crate::install::error::InstallError;
use crate::install::operators::{self, OperatorDeployment};
use crate::install::{InstallRequest, manifests, ownership};
use crate::operator::naming;
use crate::sorted::Sorted as _;

/// Number of concurrent requests.
const CONCURRENT_REQUESTS: usize = 8;

/// State of the cluster as far as the checks need it.
#[derive(Clone, Debug)]
pub(in crate::install) struct ObservedCluster {
    /// Major and minor version of Kubernetes.
    pub version: (String, String),
    /// Name of the user; empty if the API server does not tell.
    pub user: String,
    /// Missing permissions.
    pub missing: BTreeSet<Permission>,
    /// Pod Security level that the namespace enforces: empty without a label, `None` without a namespace.
    pub level: Option<String>,
    pub nodes: Vec<types::Node>,
    pub pods: Vec<types::Pod>,
    pub resources: Vec<Quinistry>,
    /// Names and address of the cluster.
    pub cluster: String,
    /// Operators of the cluster; `None` without the permission to list them.
    pub operators: Option<Vec<OperatorDeployment>>,
    /// Holder of a live claim on the resource, if it is another operator than `up`'s.
    pub claim: Option<String>,
    /// Foreign objects under names that `up` uses, each with the reason why it is foreign.
    pub foreign: Vec<String>,
    /// Definitions of this program that the cluster has.
    pub definitions: Vec<Value>,
    /// Version of the existing operator of `up`.
    pub operator_version: Option<String>,
    /// Pull policy after admission of a pod with `Never`, or the reason why it is unknown.
    pub policy: Result<String, String>,
}

#[derive(Deserialize)]
struct ServerVersion {
    major: String,
    minor: String,
}

pub(super) async fn observe(
    cluster: &Cluster,
    request: &InstallRequest<'_>,
) -> Result<ObservedCluster, InstallError> {
    let namespace = request.namespace;
    // First and alone: fails fast if the API server does not answer.
    let version: ServerVersion = cluster.read("/version", None).await?;
    let (user, missing) = tokio::try_join!(user(cluster), missing(cluster, request))?;
    // Objects that may not be read are skipped: `missing` reports the permission.
    let may = |verb: &str, resource: &str| {
        !missing
            .iter()
            .any(|right| right.verb == verb && right.resource == resource && right.namespace.is_empty())
    };
    let reads_namespaces = may("get", "namespaces");
    let level = async {
        if !reads_namespaces {
            return Ok(None);
        }
        let found: Option<types::Object> = cluster.get(NAMESPACE, "", namespace).await?;
        Ok(found.map(|found| found.metadata.label(POD_SECURITY_ENFORCE).unwrap_or_default().to_owned()))
    };
    let nodes =
        async { if may("list", "nodes") { cluster.list(NODE, "", "").await } else { Ok(Vec::new()) } };
    let pods = async { if may("list", "pods") { cluster.list(POD, "", "").await } else { Ok(Vec::new()) } };
    let (level, nodes, pods, resources) =
        tokio::try_join!(level, nodes, pods, resources(cluster, namespace))?;
    let review_namespace = if level.is_some() { namespace } else { "default" };
    let policy = policy(cluster, review_namespace).await;
    let (operators, claim) = tokio::try_join!(operators::list(cluster), claim(cluster, namespace))?;
    let (foreign, operator_version) = foreign(cluster, namespace).await?;
    let mut definitions = Vec::new();
    for (name, _) in DEFINITIONS {
        definitions.extend(readable(cluster.get(CRD, "", name).await)?);
    }
    Ok(ObservedCluster {
        version: (version.major, version.minor),
        user,
        missing,
        level,
        nodes,
        pods,
        resources,
        cluster: cluster.identity().to_string(),
        operators,
        claim,
        foreign,
        definitions,
        operator_version,
        policy,
    })
}

/// Treats an object that may not be read as absent: `missing` reports the permission.
fn readable<T>(result: Result<Option<T>, InstallError>) -> Result<Option<T>, InstallError> {
    match result {
        Err(error) if error.is_forbidden() => Ok(None),
        result => result,
    }
}

/// Returns the holder of a live claim on the resource, unless it is the operator that `up` makes.
async fn claim(cluster: &Cluster, namespace: &str) -> Result<Option<String>, InstallError> {
    let own = naming::claimant(&operator_namespace(namespace), OPERATOR);
    let claim = operators::claim(cluster, namespace).await?;
    let claim = claim.filter(|claim| operators::is_fresh(claim, Timestamp::now()));
    Ok(claim.as_ref().and_then(operators::holder).filter(|holder| *holder != own).map(str::to_owned))
}

/// Returns the foreign objects that `up` would overwrite, and the version of its existing operator.
async fn foreign(cluster: &Cluster, namespace: &str) -> Result<(Vec<String>, Option<String>), InstallError> {
    let home = operator_namespace(namespace);
    let mut names: Vec<(ResourceKind, String, String)> = manifests::rights(namespace)
        .iter()
        .filter_map(|object| {
            let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            Some((ResourceKind::of(object)?, part("namespace"), part("name")))
        })
        .collect();
    names.push((DEPLOYMENT, home, OPERATOR.into()));
    let each = names.into_iter().map(|(kind, home, name)| async move {
        let found: Option<types::Object> = readable(cluster.get(kind, &home, &name).await)?;
        Ok::<_, InstallError>(found.map(|found| (kind, home, name, found)))
    });
    let found: Vec<_> = stream::iter(each).buffered(CONCURRENT_REQUESTS).try_collect().await?;
    let (mut foreign, mut version) = (Vec::new(), None);
    for (kind, home, name, found) in found.into_iter().flatten() {
        if let Some(why) = ownership::foreign(&found.metadata, namespace) {
            foreign.push(format!("{} {why}", kind.display_name(&home, &name)));
        } else if kind == DEPLOYMENT {
            version = found.metadata.annotation(VERSION).map(str::to_owned);
        }
    }
    Ok((foreign, version))
}

async fn user(cluster: &Cluster) -> Result<String, InstallError> {
    let question = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    match cluster.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &question).await {
        Ok(answer) => Ok(answer["status"]["userInfo"]["username"].as_str().unwrap_or_default().into()),
        // The name only serves the texts.
        Err(error) if error.is_forbidden() || error.is_missing() => Ok(String::new()),
        Err(error) => Err(error),
    }
}

async fn missing(
    cluster: &Cluster,
    request: &InstallRequest<'_>,
) -> Result<BTreeSet<Permission>, InstallError> {
    let namespace = request.namespace;
    // Most users are administrators, for whom one request is enough.
    if is_allowed(cluster, &Permission::everything()).await? {
        return Ok(BTreeSet::new());
    }
    let mut needed = rights::own_permissions(namespace).into_iter().into_set();
    if request.loads_images {
        needed.extend(rights::load_permissions(namespace));
    }
    let escalates =
        try_join_all(Permission::escalate().iter().map(|right| is_allowed(cluster, right))).await?;
    if escalates.contains(&false) {
        needed.extend(rights::operator_permissions(namespace));
    }
    let answers = stream::iter(needed.into_iter().map(|right| async move {
        let allowed = is_allowed(cluster, &right).await?;
        Ok::<_, InstallError>((!allowed).then_some(right))
    }));
    let missing: Vec<_> = answers.buffer_unordered(CONCURRENT_REQUESTS).try_collect().await?;
    Ok(missing.into_iter().flatten().collect())
}

async fn is_allowed(cluster: &Cluster, right: &Permission) -> Result<bool, InstallError> {
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = cluster.post(path, &right.review()).await?;
    Ok(answer["status"]["allowed"] == true)
}

/// Lists the resources of all namespaces, or of this one without the permission for all.
async fn resources(cluster: &Cluster, namespace: &str) -> Result<Vec<Quinistry>, InstallError> {
    let all: Vec<Value> = match cluster.list(QUINISTRY, "", "").await {
        Err(error) if error.is_forbidden() => match cluster.list(QUINISTRY, namespace, "").await {
            Err(error) if error.is_forbidden() => Vec::new(),
            result => result?,
        },
        result => result?,
    };
    // A resource that this version cannot decode is ignored, as the operator does.
    Ok(all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

/// Returns the pull policy of a pod with `Never` after admission (dry run).
async fn policy(cluster: &Cluster, namespace: &str) -> Result<String, String> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "quinistry-check-"},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "quinistry", "image": "localhost/quinistry", "imagePullPolicy": "Never",
                "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    let answer = cluster.post(&path, &pod).await.map_err(|error| error.to_string())?;
    Ok(answer["spec"]["containers"][0]["imagePullPolicy"].as_str().unwrap_or_default().into())
}

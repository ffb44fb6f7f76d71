//! Life of a release: an upgrade of the operator replaces no generation, `helm test` passes, and uninstalling
//! leaves the documented objects: the definition, the resources, and the generations, which continue to
//! serve.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Resource, ResourceExt as _};

use super::support::operator::{self, NAMESPACE, RELEASE, helm};
use super::support::{Stage, Story, When, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "lifecycle", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.operator().in_cluster() {
        stage.skip("the operator runs beside the stories");
        return Ok(());
    }
    let world = &stage.world;
    stage.apply(&stage.resource("oak", 3)).await?;
    stage.until_ready("oak", DEADLINE).await?;
    let pods = uids(&stage.pods()).await?;
    let sets = generations_of_sets(&stage).await?;
    let old_uid = operator::pod(world).await?.uid();

    // Not every cluster resolves names of Services, but all Services have addresses.
    let services = Api::<Service>::namespaced(world.client.clone(), NAMESPACE);
    let selection = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let service =
        services.list(&selection).await?.items.into_iter().next().context("the release has a Service")?;
    let spec = service.spec.context("a Service has a spec")?;
    let port = spec.ports.iter().flatten().next().context("the Service has a port")?.port;
    let url =
        format!("test.url=http://{}:{port}/readyz", spec.cluster_ip.context("the Service has an address")?);
    operator::upgrade(world, &[&url, "logLevel=debug"]).await?;
    let what = "the upgraded operator is the only one";
    let all = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(world.client.clone(), NAMESPACE);
    wait::until_all(&all, &ListParams::default(), DEADLINE, what, |pods| {
        pods.len() == 1 && pods[0].uid() != old_uid
    })
    .await?;
    helm(world, &["test", RELEASE, "--timeout", "60s"]).await?;
    stage.log("upgraded, helm test passes");

    // The new operator carries out a change, and existing objects were not touched.
    stage.apply(&stage.resource("oak", 4)).await?;
    stage.until_ready("oak", DEADLINE).await?;
    ensure!(uids(&stage.pods()).await?.is_superset(&pods), "the upgrade replaced pods");
    let now = generations_of_sets(&stage).await?;
    ensure!(now.is_superset(&sets), "the upgrade changed DaemonSets: {sets:?} became {now:?}");

    helm(world, &["uninstall", RELEASE, "--wait", "--timeout", "60s"]).await?;
    wait::until_none(&all, &ListParams::default(), DEADLINE, "the operator's pod is gone").await?;
    let left = leftovers(&stage).await?;
    ensure!(left.is_empty(), "uninstalling left {left:?}");
    let crds = Api::<CustomResourceDefinition>::all(world.client.clone());
    ensure!(
        crds.get_opt("quinistries.quinistry.dev").await?.is_some(),
        "uninstalling deleted the definition"
    );
    ensure!(stage.resources().get_opt("oak").await?.is_some(), "uninstalling deleted the resource");
    serving::check_all_nodes(&stage, stage.base_port..stage.base_port + 4, &world.first.digest).await?;
    stage.log("uninstalled; four generations continue to serve");

    // Without an operator, deletion is up to the garbage collector alone.
    stage.delete("oak").await
}

async fn uids<K>(api: &Api<K>) -> Result<BTreeSet<String>>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    Ok(api.list(&ListParams::default()).await?.iter().filter_map(kube::ResourceExt::uid).collect())
}

/// Returns the names of the `DaemonSets` with their numbers of changes.
async fn generations_of_sets(stage: &Stage) -> Result<BTreeSet<(String, Option<i64>)>> {
    let sets = stage.daemon_sets().list(&ListParams::default()).await?;
    Ok(sets.iter().map(|set| (set.name_any(), set.metadata.generation)).collect())
}

/// Returns the objects that still carry the release's label, in its namespace and in the cluster.
async fn leftovers(stage: &Stage) -> Result<Vec<String>> {
    let client = || stage.world.client.clone();
    let selection = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let mut left = Vec::new();
    for (group, version, kind) in [
        ("", "v1", "Service"),
        ("", "v1", "ServiceAccount"),
        ("", "v1", "ConfigMap"),
        ("", "v1", "Pod"),
        ("apps", "v1", "Deployment"),
        ("apps", "v1", "ReplicaSet"),
        ("networking.k8s.io", "v1", "NetworkPolicy"),
        ("rbac.authorization.k8s.io", "v1", "Role"),
        ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ] {
        let resource =
            kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind));
        let api = Api::<DynamicObject>::namespaced_with(client(), NAMESPACE, &resource);
        left.extend(api.list(&selection).await?.iter().map(|one| format!("{kind} {}", one.name_any())));
    }
    let roles = Api::<ClusterRole>::all(client()).list(&selection).await?;
    left.extend(roles.iter().map(|one| format!("ClusterRole {}", one.name_any())));
    let bindings = Api::<ClusterRoleBinding>::all(client()).list(&selection).await?;
    left.extend(bindings.iter().map(|one| format!("ClusterRoleBinding {}", one.name_any())));
    Ok(left)
}

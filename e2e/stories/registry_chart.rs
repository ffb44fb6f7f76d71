//! The registry's chart on a volume. `helm test` pushes and pulls. The content outlives a replaced pod. Several
//! read-only pods of one volume are replaced while clients pull, and no pull fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::support::registry_release::{RELEASE, RegistryClient, RegistryRelease, folder, uninstall};
use super::support::{Node, Stage, Story, When, wait};

const DEADLINE: Duration = Duration::from_mins(3);

/// Clients that pull at the same time while pods are replaced.
const PULLERS: usize = 3;

/// Values of two pods that serve the volume without writing to it.
const READERS: [&str; 2] = ["readOnly=true", "replicas=2"];

pub fn story() -> Story {
    Story {
        name: "registry_chart",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let node = &**stage.world.nodes.last().context("a cluster has nodes")?;
    let result = install_and_upgrade(&stage, node).await;
    let volumes = Api::<PersistentVolume>::all(stage.world.client.clone());
    let uninstalled = uninstall(&stage).await;
    let _ = volumes.delete(&stage.namespace, &DeleteParams::default()).await;
    let _ = node.run(&["rm", "-rf", &folder(&stage)]).await;
    result.and(uninstalled)
}

async fn install_and_upgrade(stage: &Stage, node: &dyn Node) -> Result<()> {
    create_volume(stage, node).await?;
    let values = [
        format!("nodeSelector.kubernetes\\.io/hostname={}", node.name()),
        format!("storage.filesystem.storageClassName={}", stage.namespace),
        "storage.filesystem.accessModes={ReadWriteMany}".to_owned(),
        "storage.filesystem.size=1Gi".to_owned(),
    ];
    let release = RegistryRelease::prepare(stage, &values).await?;
    release.upgrade(&[]).await?;
    release.test().await?;
    stage.log("installed; helm test pushes and pulls");

    let client = release.client(node).await?;
    client.pull_test_image().await?;
    let image = concat!("helm-test:", env!("CARGO_PKG_VERSION"));
    let refused = client.verify_without_login(image).await;
    ensure!(refused.is_err(), "the registry serves a client without credentials");

    // A volume has one writer: an upgrade stops it first, and its content is there afterwards.
    let writers = release.pods(1).await?;
    release.upgrade(&["storage.deletes=true"]).await?;
    ensure!(release.pods(1).await?.is_disjoint(&writers), "the changed configuration replaced no pod");
    client.pull_test_image().await?;
    client.push("helm-test:written").await?;
    stage.log("the changed configuration replaced the pod; its content is served");

    release.upgrade(&READERS).await?;
    let readers = release.pods(2).await?;
    ensure!(client.push("helm-test:refused").await.is_err(), "a read-only registry takes a push");
    let pulls = replace_under_pulls(&release, &client).await?;
    ensure!(release.pods(2).await?.is_disjoint(&readers), "the changed configuration replaced no pod");
    stage.log(format_args!("two pods replaced during {pulls} pulls, none of which failed"));

    uninstall(stage).await?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(stage.world.client.clone(), &stage.namespace);
    ensure!(claims.get_opt(RELEASE).await?.is_some(), "uninstalling deleted the content");
    Ok(())
}

/// Changes the configuration while clients pull from before the upgrade until after it. Returns the number of
/// pulls.
async fn replace_under_pulls(release: &RegistryRelease<'_>, client: &RegistryClient<'_>) -> Result<usize> {
    let (is_done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let pull = async || {
        while !is_done.load(Ordering::Relaxed) {
            client.pull_test_image().await.context("a pull during the upgrade")?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let upgrade = async {
        let enough = || async {
            ensure!(count.load(Ordering::Relaxed) >= PULLERS, "too few pulls");
            Ok(())
        };
        wait::eventually(DEADLINE, "clients pull", enough).await?;
        release.upgrade(&[&READERS[..], &["log.level=debug"]].concat()).await?;
        // The old pods are gone, too, and not only left out of the Service.
        release.pods(2).await?;
        is_done.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    try_join(try_join_all((0..PULLERS).map(|_| pull())), upgrade).await?;
    Ok(count.into_inner())
}

/// Creates a volume in a folder of one node, for the claim of the chart. The class is the namespace's name, so
/// that no other claim gets the volume.
async fn create_volume(stage: &Stage, node: &dyn Node) -> Result<()> {
    let folder = folder(stage);
    node.run(&["install", "-d", "-o", "65532", "-g", "65532", &folder]).await?;
    let volume = json!({
        "metadata": {"name": stage.namespace},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "storageClassName": stage.namespace,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": folder},
        },
    });
    let volumes = Api::<PersistentVolume>::all(stage.world.client.clone());
    volumes.create(&PostParams::default(), &serde_json::from_value(volume)?).await?;
    Ok(())
}

//! Generation 0, as far as stories look at it: resources that begin with it, its `ConfigMaps`, and what shows that bytes
//! were really pulled from it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use quinistry::oci::{Descriptor, Digest, ImageManifest};
use quinistry::seed::{NAME, SEED, SeedNames, SplitExecutable};
use serde_json::{Value, json};

use super::pods::of_generation;
use super::world::Executable;
use super::{Node, Stage, outage, serving, shell};

/// What `spec.seed.executable` says of an executable.
pub fn executable(one: &Executable) -> Result<Digest> {
    Ok(Digest::sha256(&std::fs::read(&one.path)?))
}

/// An executable in pieces, as the operator and `up` cut it.
pub fn cut(name: &str, one: &Executable) -> Result<SplitExecutable> {
    let bytes = std::fs::read(&one.path)?;
    Ok(SplitExecutable::new(name, [bytes.into()].into(), quinistry::seed::STUB.into())?)
}

/// A resource that needs no registry: the first executable, on the stage's ports; generation 0 is on the one below.
pub fn resource(stage: &Stage, name: &str, generations: i32, carriers: &[&str]) -> Result<Value> {
    let mut resource = stage.resource(name, generations);
    let spec = resource["spec"].as_object_mut().context("a resource has a specification")?;
    spec.remove("image");
    let digest = executable(&stage.world.first)?;
    spec.insert("seed".into(), json!({"executable": digest.to_string(), "carriers": carriers}));
    spec.insert("digest".into(), json!(stage.world.first.digest));
    Ok(resource)
}

/// The `ConfigMaps` of the stage.
pub fn config_maps(stage: &Stage) -> Api<ConfigMap> {
    Api::namespaced(stage.world.client.clone(), &stage.namespace)
}

/// The pieces of a resource, by name: their versions. Their content stays where it is.
pub async fn parts(stage: &Stage, name: &str) -> Result<BTreeMap<String, String>> {
    let mine = ListParams::default().labels(&format!("{SEED},{NAME}={name}"));
    let all = config_maps(stage).list_metadata(&mine).await?;
    Ok(all.iter().map(|one| (one.name_any(), one.resource_version().unwrap_or_default())).collect())
}

/// Whether the pieces are those of one executable, all of them, and of no other.
pub async fn are_whole(stage: &Stage, name: &str, one: &Executable) -> Result<()> {
    let (cut, found) = (cut(name, one)?, parts(stage, name).await?);
    let names = SeedNames::new(name, cut.digest());
    let wanted: Vec<String> = cut.parts().map(|part| names.of(part)).collect();
    let found: Vec<String> = found.into_keys().collect();
    let missing: Vec<_> = wanted.iter().filter(|name| !found.contains(name)).collect();
    let more: Vec<_> = found.iter().filter(|name| !wanted.contains(name)).collect();
    ensure!(missing.is_empty() && more.is_empty(), "{missing:?} are missing, {more:?} are too many");
    Ok(())
}

/// Checks that every node serves a digest from generation 0 and so many others, byte for byte.
pub async fn everywhere(stage: &Stage, generations: i32, digest: &str) -> Result<()> {
    serving::everywhere(stage, stage.base_port - 1..stage.base_port + generations, digest).await
}

/// The layer of the image that generation 0 serves on a node.
pub async fn layer(stage: &Stage, node: &dyn Node, digest: &str) -> Result<Descriptor> {
    let url = format!("http://localhost:{}/v2/quinistry/manifests/{digest}", stage.base_port - 1);
    let bytes = shell::output(node.command(&["curl", "-sSf", "-m", "20", &url])).await?;
    let manifest: ImageManifest = serde_json::from_slice(&bytes)?;
    manifest.layers.into_iter().next().context("an image has a layer")
}

/// All power goes, the disks are lost, and power returns: every node has the sandbox image and nothing of ours.
pub async fn bare(stage: &Stage) -> Result<()> {
    let began = Timestamp::now();
    let nodes = &stage.world.nodes;
    try_join_all(nodes.iter().map(|node| async move {
        node.stop().await?;
        node.wipe().await?;
        node.start().await
    }))
    .await?;
    // On kind it lives on one of them.
    outage::until_answered(stage).await?;
    for node in nodes {
        outage::until_back(stage, &**node, began).await?;
        let images = of_runtime(&**node, &["images", "ls", "-q"]).await?;
        ensure!(!images.contains("quinistry"), "{} still has {images}", node.name());
    }
    Ok(())
}

/// The bootstrap images are back, which other stories begin with.
pub async fn dress(stage: &Stage) -> Result<()> {
    try_join_all(stage.world.nodes.iter().map(|node| stage.world.load(&**node))).await.map(drop)
}

/// What the container runtime of a node keeps, with where it came from.
pub async fn content(node: &dyn Node) -> Result<String> {
    of_runtime(node, &["content", "ls"]).await
}

async fn of_runtime(node: &dyn Node, words: &[&str]) -> Result<String> {
    let ctr = node.ctr();
    let words: Vec<&str> = ctr.iter().map(String::as_str).chain(words.iter().copied()).collect();
    node.run(&words).await
}

/// The runtime of a node did not have a blob before, and has fetched it since from a registry on its own localhost: it
/// notes for each blob where that came from, though not the port.
pub async fn was_fetched(node: &dyn Node, before: &str, blob: &Digest) -> Result<()> {
    let digest = blob.to_string();
    ensure!(!before.contains(&digest), "{} had {digest} before", node.name());
    let now = content(node).await?;
    let line = now.lines().find(|line| line.contains(&digest));
    let line = line.with_context(|| format!("{} does not have {digest}:\n{now}", node.name()))?;
    ensure!(
        line.contains("distribution.source.localhost"),
        "{digest} on {} was not fetched: {line}",
        node.name()
    );
    Ok(())
}

/// How often generation 0 on a node has sent a blob, by its own log, which must be told at `debug`.
pub async fn sent(stage: &Stage, node: &dyn Node, blob: &Descriptor) -> Result<usize> {
    let here = of_generation(0).fields(&format!("spec.nodeName={}", node.name()));
    let pods = stage.pods().list(&here).await?;
    let pod = pods.items.first().with_context(|| format!("no generation 0 on {}", node.name()))?;
    let log = stage.pods().logs(&pod.name_any(), &LogParams::default()).await?;
    let words = [format!("blobs/{}", blob.digest), format!("{:?}", blob.size.to_string())];
    let answers = log.lines().filter(|line| line.contains("GET") && line.contains("status=200"));
    Ok(answers.filter(|line| words.iter().all(|word| line.contains(word.as_str()))).count())
}

//! Generation 0 in the stories: resources that begin with it, its `ConfigMaps`, and the evidence that bytes
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

/// Returns the value of `spec.seed.executable` for an executable.
pub fn executable(one: &Executable) -> Result<Digest> {
    Ok(Digest::sha256(&std::fs::read(&one.path)?))
}

/// Splits an executable into seed parts, as the operator and `up` do.
pub fn split(name: &str, one: &Executable) -> Result<SplitExecutable> {
    let bytes = std::fs::read(&one.path)?;
    Ok(SplitExecutable::new(name, [bytes.into()].into(), quinistry::seed::STUB.into())?)
}

/// Builds a resource that needs no registry: the first executable, on the stage's ports. Generation 0 listens
/// on the port below.
pub fn resource(stage: &Stage, name: &str, generations: i32, carriers: &[&str]) -> Result<Value> {
    let mut resource = stage.resource(name, generations);
    let spec = resource["spec"].as_object_mut().context("a resource has a specification")?;
    spec.remove("image");
    let digest = executable(&stage.world.first)?;
    spec.insert("seed".into(), json!({"executable": digest.to_string(), "carriers": carriers}));
    spec.insert("digest".into(), json!(stage.world.first.digest));
    Ok(resource)
}

/// Returns the API of the stage's `ConfigMaps`.
pub fn config_maps(stage: &Stage) -> Api<ConfigMap> {
    Api::namespaced(stage.world.client.clone(), &stage.namespace)
}

/// Returns the resource versions of a resource's seed parts by name, without reading their content.
pub async fn parts(stage: &Stage, name: &str) -> Result<BTreeMap<String, String>> {
    let mine = ListParams::default().labels(&format!("{SEED},{NAME}={name}"));
    let all = config_maps(stage).list_metadata(&mine).await?;
    Ok(all.iter().map(|one| (one.name_any(), one.resource_version().unwrap_or_default())).collect())
}

/// Checks that the seed parts are exactly those of one executable.
pub async fn check_parts(stage: &Stage, name: &str, one: &Executable) -> Result<()> {
    let (split, found) = (split(name, one)?, parts(stage, name).await?);
    let names = SeedNames::new(name, split.digest());
    let wanted: Vec<String> = split.parts().map(|part| names.of(part)).collect();
    let found: Vec<String> = found.into_keys().collect();
    let missing: Vec<_> = wanted.iter().filter(|name| !found.contains(name)).collect();
    let more: Vec<_> = found.iter().filter(|name| !wanted.contains(name)).collect();
    ensure!(
        missing.is_empty() && more.is_empty(),
        "seed parts {missing:?} are missing, {more:?} are surplus"
    );
    Ok(())
}

/// Checks that every node serves a digest from generation 0 and from `generations` others, byte for byte.
pub async fn check_all_nodes(stage: &Stage, generations: i32, digest: &str) -> Result<()> {
    serving::check_all_nodes(stage, stage.base_port - 1..stage.base_port + generations, digest).await
}

/// Returns the layer of the image that generation 0 serves on a node.
pub async fn layer(stage: &Stage, node: &dyn Node, digest: &str) -> Result<Descriptor> {
    let url = format!("http://localhost:{}/v2/quinistry/manifests/{digest}", stage.base_port - 1);
    let bytes = shell::output(node.command(&["curl", "-sSf", "-m", "20", &url])).await?;
    let manifest: ImageManifest = serde_json::from_slice(&bytes)?;
    manifest.layers.into_iter().next().context("an image has a layer")
}

/// Stops all nodes, wipes their disks, and starts them: every node has the sandbox image and no image of
/// ours.
pub async fn wipe_all_nodes(stage: &Stage) -> Result<()> {
    let began = Timestamp::now();
    let nodes = &stage.world.nodes;
    try_join_all(nodes.iter().map(|node| async move {
        node.stop().await?;
        node.wipe().await?;
        node.start().await
    }))
    .await?;
    // On kind the API server runs on one of the nodes.
    outage::until_api_server_ready(stage).await?;
    for node in nodes {
        outage::until_node_ready(stage, &**node, began).await?;
        let images = run_ctr(&**node, &["images", "ls", "-q"]).await?;
        ensure!(!images.contains("quinistry"), "{} still has {images}", node.name());
    }
    Ok(())
}

/// Loads the bootstrap images again, which other stories begin with.
pub async fn load_bootstrap_images(stage: &Stage) -> Result<()> {
    try_join_all(stage.world.nodes.iter().map(|node| stage.world.load(&**node))).await.map(drop)
}

/// Returns the content list of a node's container runtime, with the source of each blob.
pub async fn runtime_content(node: &dyn Node) -> Result<String> {
    run_ctr(node, &["content", "ls"]).await
}

async fn run_ctr(node: &dyn Node, arguments: &[&str]) -> Result<String> {
    let ctr = node.ctr();
    let arguments: Vec<&str> = ctr.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    node.run(&arguments).await
}

/// Checks that the runtime of a node did not have a blob before and has fetched it since from a registry on
/// its own localhost. The runtime records the source's host of each blob, but not the port.
pub async fn check_fetched(node: &dyn Node, before: &str, blob: &Digest) -> Result<()> {
    let digest = blob.to_string();
    ensure!(!before.contains(&digest), "{} had {digest} before", node.name());
    let now = runtime_content(node).await?;
    let line = now.lines().find(|line| line.contains(&digest));
    let line = line.with_context(|| format!("{} does not have {digest}:\n{now}", node.name()))?;
    ensure!(
        line.contains("distribution.source.localhost"),
        "{digest} on {} was not fetched: {line}",
        node.name()
    );
    Ok(())
}

/// Returns how many times generation 0 on a node has sent a blob, according to its log at level `debug`.
pub async fn count_sent(stage: &Stage, node: &dyn Node, blob: &Descriptor) -> Result<usize> {
    let here = of_generation(0).fields(&format!("spec.nodeName={}", node.name()));
    let pods = stage.pods().list(&here).await?;
    let pod = pods.items.first().with_context(|| format!("no generation 0 on {}", node.name()))?;
    let log = stage.pods().logs(&pod.name_any(), &LogParams::default()).await?;
    let arguments = [format!("blobs/{}", blob.digest), format!("{:?}", blob.size.to_string())];
    let answers = log.lines().filter(|line| line.contains("GET") && line.contains("status=200"));
    Ok(answers.filter(|line| arguments.iter().all(|word| line.contains(word.as_str()))).count())
}

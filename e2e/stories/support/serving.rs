//! Content that a node's localhost serves, byte for byte, as a client on the node sees it.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use quinistry::oci::{Digest, ImageManifest};

use super::{Node, Stage, shell};

/// Checks that every port of every node serves the complete image of this digest.
pub async fn check_all_nodes(stage: &Stage, ports: std::ops::Range<i32>, digest: &str) -> Result<()> {
    let checks =
        stage.world.nodes.iter().flat_map(|node| ports.clone().map(|port| check_port(&**node, port, digest)));
    try_join_all(checks).await.map(drop)
}

/// Checks that every port of one node serves the complete image of this digest.
pub async fn check_node(node: &dyn Node, ports: std::ops::Range<i32>, digest: &str) -> Result<()> {
    try_join_all(ports.map(|port| check_port(node, port, digest))).await.map(drop)
}

/// Checks that no node answers on a port any more.
pub async fn check_stopped(stage: &Stage, port: i32) -> Result<()> {
    for node in &stage.world.nodes {
        let url = format!("http://localhost:{port}/v2/");
        let answer = node.run(&["curl", "-s", "-m", "5", "-o", "/dev/null", &url]).await;
        ensure!(answer.is_err(), "{url} still answers on {}", node.name());
    }
    Ok(())
}

async fn check_port(node: &dyn Node, port: i32, digest: &str) -> Result<()> {
    let base = format!("http://localhost:{port}/v2/quinistry");
    let context = || format!("{base} on {}", node.name());
    for reference in ["latest", digest] {
        let url = format!("{base}/manifests/{reference}");
        let bytes =
            shell::output(node.command(&["curl", "-sSf", "-m", "20", &url])).await.with_context(context)?;
        let found = Digest::sha256(&bytes).to_string();
        ensure!(found == digest, "{url} on {} is {found}, not {digest}", node.name());
        if reference == "latest" {
            continue;
        }
        let manifest: ImageManifest = serde_json::from_slice(&bytes).with_context(context)?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let script = format!("curl -sSf -m 60 {base}/blobs/{} | sha256sum", blob.digest);
            let found = node.run(&["sh", "-c", &script]).await.with_context(context)?;
            let found = found.split_whitespace().next().unwrap_or_default();
            ensure!(found == blob.digest.hex(), "blob {} hashes to {found}: {}", blob.digest, context());
        }
    }
    Ok(())
}

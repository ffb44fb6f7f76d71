//! The registry's chart on a bucket of versitygw. Two equal pods are replaced while clients push new images and
//! pull: none fails, and every acknowledged push is there afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use serde_json::json;

use super::support::node_process::NodeProcess;
use super::support::registry_release::{RegistryClient, RegistryRelease, create_secret, folder, uninstall};
use super::support::{Node, Stage, Story, When, wait};

const DEADLINE: Duration = Duration::from_mins(3);

const BUCKET: &str = "images";
const ACCESS_KEY: &str = "story";
const SECRET_KEY: &str = "story-Wd7nR";

/// Clients that push, and as many that pull, while pods are replaced.
const CLIENTS: usize = 2;

pub fn story() -> Story {
    Story {
        name: "registry_bucket",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let Some(program) = std::env::var_os("QUINISTRY_E2E_VERSITYGW") else {
        stage.skip("versitygw is not built; .ci/tools builds it");
        return Ok(());
    };
    let node = &**stage.world.nodes.last().context("a cluster has nodes")?;
    let gateway = Gateway::start(&stage, node, program.as_ref()).await?;
    let result = install_and_upgrade(&stage, node, &gateway).await;
    let result = result.and(uninstall(&stage).await);
    drop(gateway);
    let _ = node.run(&["rm", "-rf", &folder(&stage)]).await;
    result
}

async fn install_and_upgrade(stage: &Stage, node: &dyn Node, gateway: &Gateway) -> Result<()> {
    let keys = json!({"accesskey": ACCESS_KEY, "secretkey": SECRET_KEY});
    create_secret(stage, "bucket", "Opaque", &keys).await?;
    let values = [
        "storage.type=s3",
        &format!("storage.s3.bucket={BUCKET}"),
        &format!("storage.s3.regionendpoint={}", gateway.url),
        "storage.s3.region=us-east-1",
        "storage.s3.forcepathstyle=true",
        "storage.credentials.existingSecret=bucket",
        "replicas=2",
    ];
    let release = RegistryRelease::prepare(stage, &values.map(str::to_owned)).await?;
    release.upgrade(&[]).await?;
    release.test().await?;
    stage.log("two pods serve one bucket; helm test pushes and pulls");

    let client = release.client(node).await?;
    let old = release.pods(2).await?;
    let (pushed, pulls) = replace_under_load(&release, &client).await?;
    ensure!(release.pods(2).await?.is_disjoint(&old), "the changed configuration replaced no pod");
    for image in &pushed {
        client.verify(image).await.with_context(|| format!("the acknowledged push of {image} is lost"))?;
    }
    stage.log(format_args!(
        "two pods replaced during {} pushes and {pulls} pulls, none of which failed or was lost",
        pushed.len()
    ));
    Ok(())
}

/// Changes the configuration while clients push and pull from before the upgrade until after it. Returns the
/// acknowledged pushes, and the number of pulls.
async fn replace_under_load(
    release: &RegistryRelease<'_>,
    client: &RegistryClient<'_>,
) -> Result<(Vec<String>, usize)> {
    let (is_done, pulls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let push_count = AtomicUsize::new(0);
    let pull = async || {
        while !is_done.load(Ordering::Relaxed) {
            client.pull_test_image().await.context("a pull during the upgrade")?;
            pulls.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let push = async |number: usize| {
        let mut pushed = Vec::new();
        while !is_done.load(Ordering::Relaxed) {
            let image = format!("load/{number}:{}", pushed.len());
            client.push_new_image(&image).await.context("a push during the upgrade")?;
            push_count.fetch_add(1, Ordering::Relaxed);
            pushed.push(image);
        }
        anyhow::Ok(pushed)
    };
    let upgrade = async {
        let enough = || async {
            let count = pulls.load(Ordering::Relaxed).min(push_count.load(Ordering::Relaxed));
            ensure!(count >= CLIENTS, "too few pushes and pulls");
            Ok(())
        };
        wait::eventually(DEADLINE, "clients push and pull", enough).await?;
        release.upgrade(&["log.level=debug"]).await?;
        // The old pods are gone, too, and not only left out of the Service.
        release.pods(2).await?;
        is_done.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let pulling = try_join_all((0..CLIENTS).map(|_| pull()));
    let pushing = try_join_all((0..CLIENTS).map(&push));
    let ((_, pushed), ()) = try_join(try_join(pulling, pushing), upgrade).await?;
    Ok((pushed.concat(), pulls.into_inner()))
}

/// An S3 server on a node, which stops when this value is dropped.
struct Gateway {
    /// URL by which pods reach the server.
    url: String,
    _process: NodeProcess,
}

impl Gateway {
    /// Starts versitygw with an empty bucket on the node's address.
    async fn start(stage: &Stage, node: &dyn Node, program: &std::path::Path) -> Result<Self> {
        let address = stage.world.address_of(node).await?;
        let port = stage.base_port + 20;
        let url = format!("http://{address}:{port}");
        let (program, folder) = (node.copy(program).await?, folder(stage));
        // The server's buckets are the folders in its own.
        node.run(&["mkdir", "-p", &format!("{folder}/{BUCKET}")]).await?;
        let listen = format!("{address}:{port}");
        let keys = ["--access", ACCESS_KEY, "--secret", SECRET_KEY];
        let words = [&[program.as_str()], &keys[..], &["--port", &listen, "posix", &folder]].concat();
        let process = NodeProcess::start(node, &words, "/dev/null")?;
        // Without credentials the answer is a refusal, which curl takes for a success.
        let ask = ["curl", "-sS", "-o", "/dev/null", &url];
        wait::eventually(Duration::from_secs(20), "versitygw answers", || node.run(&ask)).await?;
        Ok(Self { url, _process: process })
    }
}

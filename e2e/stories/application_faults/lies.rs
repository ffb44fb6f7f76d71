//! A store whose disk holds wrong bytes of a blob: no node gives them out as that blob, and the bytes of another store are
//! served.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use quinistry::oci::{Descriptor, ImageManifest};

use crate::support::application::{Carried, store_folder, store_pods};
use crate::support::bundles::until_served;
use crate::support::image_observer::ImageObserver;
use crate::support::{Node, Stage, shell, wait};

const DEADLINE: Duration = Duration::from_mins(2);
/// Number of times that each node fetches the blob: a service leads each question to any of the stores.
const FETCHES: usize = 6;

/// Damages a layer in one of the stores, fetches it from every node, and loads it again.
pub async fn check(stage: &Stage, resource: &str, carried: &Carried, observer: &ImageObserver) -> Result<()> {
    let image = carried.images.last().context("the version has images")?;
    let repository = carried.repository(&image.path);
    let base = format!("http://localhost:{}/v2/{repository}", stage.base_port);
    let layer = layer(&*stage.world.nodes[0], &format!("{base}/manifests/{}", image.digest)).await?;
    let url = format!("{base}/blobs/{}", layer.digest);

    let pods = store_pods(stage).await?;
    let liar = pods.first().and_then(|pod| pod.spec.as_ref()?.node_name.as_deref());
    let liar = stage.world.node(liar.context("a store runs on a node")?)?;
    // A node may find nothing but the wrong bytes for a moment, and then denies the image.
    let silence = observer.allow_silence_of_all();
    let hex = layer.digest.hex();
    let file = format!("{}/docker/registry/v2/blobs/sha256/{}/{hex}/data", store_folder(stage), &hex[..2]);
    let damage = "test -s \"$0\" && printf lie | dd of=\"$0\" bs=1 seek=\"$1\" conv=notrunc status=none";
    let middle = (layer.size / 2).to_string();
    shell::output(liar.disk_command(&["sh", "-c", damage, &file, &middle])).await?;

    let fetches = stage.world.nodes.iter().map(|node| fetch(&**node, &url, hex));
    let right: Vec<usize> = try_join_all(fetches).await?;
    stage.log(format_args!(
        "the store on {} lies; fetches that were right, of {FETCHES} on each node: {right:?}",
        liar.name()
    ));

    carried.load(stage, resource, "shop").await?;
    wait::eventually(DEADLINE, &format!("{} has the right bytes again", liar.name()), || async {
        let sum = shell::text(liar.disk_command(&["sha256sum", &file])).await?;
        ensure!(sum.starts_with(hex), "{file} has {sum}");
        Ok(())
    })
    .await?;
    // For ten seconds, a node does not believe the address of the stores about a blob that came wrong.
    until_served(stage, carried).await?;
    drop(silence);
    Ok(())
}

/// Returns the layer of an image that a node serves.
async fn layer(node: &dyn Node, url: &str) -> Result<Descriptor> {
    let bytes = shell::output(node.command(&["curl", "-sSf", "-m", "20", url])).await?;
    let manifest: ImageManifest = serde_json::from_slice(&bytes)?;
    manifest.layers.into_iter().next().context("an image has a layer")
}

/// Fetches a blob several times, and then until it comes whole. Returns how many of the first fetches came whole. A fetch
/// that breaks is allowed, and one that is whole and wrong is not.
async fn fetch(node: &dyn Node, url: &str, hex: &str) -> Result<usize> {
    let mut right = 0;
    for _ in 0..FETCHES {
        right += usize::from(fetch_once(node, url, hex).await?);
    }
    let what = format!("{} gives the right bytes", node.name());
    wait::eventually(DEADLINE, &what, || async {
        ensure!(fetch_once(node, url, hex).await?, "the fetch broke");
        Ok(())
    })
    .await?;
    Ok(right)
}

/// Returns true if the blob came whole.
async fn fetch_once(node: &dyn Node, url: &str, hex: &str) -> Result<bool> {
    let script = "file=$(mktemp) && curl -sf -m 60 -o \"$file\" \"$0\"; code=$?; sum=$(sha256sum <\"$file\"); \
        rm -f \"$file\"; echo \"$code $sum\"";
    let output = node.run(&["sh", "-c", script, url]).await?;
    let (code, sum) = output.split_once(' ').context("the script prints two words")?;
    if code != "0" {
        return Ok(false);
    }
    ensure!(sum.starts_with(hex), "{} gave wrong bytes for {url}: {sum}", node.name());
    Ok(true)
}

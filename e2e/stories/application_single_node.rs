//! A cluster of one node, for which one node of a larger one stands, and whose disk is small. Quinistry is upgraded with
//! the only copy of an application in place. A load that the disk has no room for fails with a sentence. The node serves
//! the application throughout.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::support::application::{
    Elsewhere, IMAGES, only_error, store_folder, store_resource, upgrade_quinistry,
};
use super::support::bundles::{apply, until_available, until_served_on};
use super::support::image_observer::ImageObserver;
use super::support::{Node, Stage, Story, When, shell};

const DEADLINE: Duration = Duration::from_mins(4);
const NAME: &str = "depot";
/// Room on the disk beside the application itself.
const SPARE_BYTES: u64 = 24 << 20;
/// Length of what is added to the version that does not fit.
const PADDING_BYTES: usize = 32 << 20;

pub fn story() -> Story {
    Story {
        name: "application_single_node",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let stage = &*stage;
    if !stage.world.local {
        stage.skip("the story cannot give a node of a kind cluster a small disk");
        return Ok(());
    }
    let node = &**stage.world.nodes.last().context("the cluster has a node")?;
    let folder = store_folder(stage);
    let result = live_on(stage, node, &folder).await;
    // The pods still have the disk, which vanishes with them.
    let unmount = "! mountpoint -q \"$0\" || { umount --lazy \"$0\" && rmdir \"$0\"; }";
    let unmounted = shell::output(node.disk_command(&["sh", "-c", unmount, &folder])).await;
    result.and(unmounted.map(drop))
}

async fn live_on(stage: &Stage, node: &dyn Node, folder: &str) -> Result<()> {
    let elsewhere = Elsewhere::start(stage).await?;
    let small = elsewhere.carry(stage, "1.0").await?;
    let large = elsewhere.carry_padded(stage, "1.1", &IMAGES, PADDING_BYTES).await?;
    let _files = elsewhere.close();
    let size = std::fs::metadata(&small.file)?.len() + SPARE_BYTES;
    let mount = "mkdir -p \"$0\" && mount -t tmpfs -o size=\"$1\" tmpfs \"$0\"";
    shell::output(node.disk_command(&["sh", "-c", mount, folder, &size.to_string()])).await?;

    let selector = json!({"kubernetes.io/hostname": node.name()});
    let mut resource = store_resource(stage, NAME, 1);
    resource["spec"]["nodeSelector"] = selector.clone();
    stage.apply(&resource).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "StoreReady", "True", "StoresReady", DEADLINE).await?;
    apply(stage, &small.load(stage, NAME, "shop").await?).await?;
    until_served_on(stage, node, &small).await?;
    let observer = ImageObserver::of_nodes(stage, stage.base_port, &[node.name()]);
    observer.add(&small);
    small.run_on(stage, stage.base_port, &selector, 1).await?;
    until_available(stage, "shop").await?;

    let began = Instant::now();
    let errors = shell::failure(large.load_command(stage, NAME, "shop")?).await?;
    let line = only_error(&errors)?;
    stage.log(format_args!("a load without room: {:.1} s: {line}", began.elapsed().as_secs_f32()));
    let speaks_of_room = ["room", "space", "full", "storage"].iter().any(|word| line.contains(word));
    ensure!(speaks_of_room, "the error does not say that room is missing: {line}");
    small.check_loaded(stage, NAME).await?;
    until_served_on(stage, node, &small).await?;

    let silence = observer.allow_silence_of_all();
    let began = Instant::now();
    upgrade_quinistry(stage, &mut resource).await?;
    until_served_on(stage, node, &small).await?;
    drop(silence);
    small.check_loaded(stage, NAME).await?;
    small.run_on(stage, stage.base_port + 1, &selector, 1).await?;
    stage.log(format_args!("quinistry upgraded on one node: {:.1} s", began.elapsed().as_secs_f32()));
    observer.check(stage).await
}

//! An application of two images in a cluster that reaches no registry: carried in one file, loaded through a
//! port-forward, named by a `Bundle`, and pulled by every node from its own localhost. It is upgraded and rolled back by
//! one `apply` each. Then quinistry itself is upgraded, which keeps the application in its stores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::support::application::{Elsewhere, store_resource, upgrade_quinistry};
use super::support::bundles::{apply, until_available, until_served};
use super::support::image_observer::ImageObserver;
use super::support::{Stage, Story, When};

const DEADLINE: Duration = Duration::from_mins(4);
const NAME: &str = "depot";

pub fn story() -> Story {
    Story { name: "application", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let stage = &*stage;
    let elsewhere = Elsewhere::start(stage).await?;
    let (old, new) = (elsewhere.carry(stage, "1.0").await?, elsewhere.carry(stage, "1.1").await?);
    // Nothing of the following reaches the registry that the images come from.
    let _files = elsewhere.close();

    let began = Instant::now();
    let mut resource = store_resource(stage, NAME, 2);
    stage.apply(&resource).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "StoreReady", "True", "StoresReady", DEADLINE).await?;
    stage.log(format_args!("a store of two copies: {:.1} s", began.elapsed().as_secs_f32()));

    let began = Instant::now();
    let bundle = old.load(stage, NAME, "shop").await?;
    stage.log(format_args!("loaded: {:.1} s", began.elapsed().as_secs_f32()));
    apply(stage, &bundle).await?;
    until_served(stage, &old).await?;
    let observer = ImageObserver::start(stage, stage.base_port);
    observer.add(&old);
    old.run(stage, stage.base_port).await?;
    stage.log(format_args!("from load to pods on every node: {:.1} s", began.elapsed().as_secs_f32()));
    until_available(stage, "shop").await?;

    // An upgrade, and the way back: the former version is still there, and is not loaded again.
    let upgraded = new.load(stage, NAME, "shop").await?;
    apply(stage, &upgraded).await?;
    until_served(stage, &new).await?;
    new.run(stage, stage.base_port).await?;
    apply(stage, &bundle).await?;
    until_served(stage, &old).await?;
    old.run(stage, stage.base_port).await?;
    stage.log("upgraded, and rolled back by one apply");

    // Another quinistry: the pods of generations and stores are replaced, one after another.
    let silence = observer.allow_silence_of_all();
    let began = Instant::now();
    upgrade_quinistry(stage, &mut resource).await?;
    until_served(stage, &old).await?;
    drop(silence);
    old.check_loaded(stage, NAME).await?;
    old.run(stage, stage.base_port + 1).await?;
    stage.log(format_args!(
        "quinistry upgraded, nothing loaded again: {:.1} s",
        began.elapsed().as_secs_f32()
    ));
    observer.check(stage).await
}

//! An application under faults that other stories do not notice: its load is cut twenty times, the API server is gone for
//! another load, a store holds wrong bytes, users and pods without the right try to push, and two bundles want one name.
//! All nodes serve the application throughout.

mod cuts;
mod lies;
mod names;
mod pushes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::support::application::{Elsewhere, IMAGES, store_resource};
use super::support::bundles::{apply, until_served};
use super::support::image_observer::ImageObserver;
use super::support::{Stage, Story, When};

const DEADLINE: Duration = Duration::from_mins(4);
const NAME: &str = "depot";
/// Length of what is added to the image whose load is cut: more than the cuts repeat at worst, so that bytes are left for
/// each cut.
const PADDING_BYTES: usize = 48 << 20;

pub fn story() -> Story {
    Story {
        name: "application_faults",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let stage = &*stage;
    let elsewhere = Elsewhere::start(stage).await?;
    let old = elsewhere.carry_padded(stage, "1.0", &IMAGES, PADDING_BYTES).await?;
    let new = elsewhere.carry(stage, "1.1").await?;
    let _files = elsewhere.close();
    stage.apply(&store_resource(stage, NAME, 2)).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "StoreReady", "True", "StoresReady", DEADLINE).await?;

    let bundle = cuts::load(stage, NAME, &old).await?;
    apply(stage, &bundle).await?;
    until_served(stage, &old).await?;
    let observer = ImageObserver::start(stage, stage.base_port);
    observer.add(&old);

    // The load without an API server waits for it in vain for a long time.
    let others = async {
        pushes::check(stage, NAME, &old).await?;
        lies::check(stage, NAME, &old, &observer).await
    };
    tokio::try_join!(cuts::load_without_server(stage, NAME, &new), others)?;

    names::share(stage, &bundle, &old, &new).await?;
    observer.check(stage).await?;
    names::inherit(stage, &old, &new).await
}

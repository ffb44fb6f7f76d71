//! Two bundles that want one name: the older one has it, and the other one gets it when that is gone.

use anyhow::{Context as _, Result, ensure};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::Stage;
use crate::support::application::{Carried, answered_digest};
use crate::support::bundles::{apply, bundles, until, until_answered};

const RIVAL: &str = "rival";

/// Applies a bundle that wants a name of another one for an image of another version. All nodes go on to answer as before.
pub async fn share(stage: &Stage, holder: &Value, old: &Carried, new: &Carried) -> Result<()> {
    let (wanted, other) = (first(stage, old)?, first(stage, new)?);
    let mut rival = holder.clone();
    rival["metadata"]["name"] = json!(RIVAL);
    let names = holder["spec"]["names"].as_array().context("a bundle has names")?;
    let mut name =
        names.iter().find(|one| one["digest"] == wanted.1).context("the image has a name")?.clone();
    name["digest"] = json!(other.1);
    rival["spec"]["names"] = json!([name]);
    apply(stage, &rival).await?;
    let message = until(stage, RIVAL, "Accepted", "False", "NameTaken").await?;
    let holder = holder["metadata"]["name"].as_str().context("a bundle has a name")?;
    ensure!(message.contains(holder), "the message does not name {holder}: {message}");
    for node in &stage.world.nodes {
        let found = answered_digest(&**node, &wanted.0).await?;
        ensure!(found == wanted.1, "{} answers {} by {found}", node.name(), wanted.0);
    }
    stage.log(format_args!("two bundles, one name: {message}"));
    Ok(())
}

/// Deletes the holder of the name, and waits until all nodes answer as the other bundle has it.
pub async fn inherit(stage: &Stage, old: &Carried, new: &Carried) -> Result<()> {
    let (wanted, other) = (first(stage, old)?, first(stage, new)?);
    bundles(stage).delete("shop", &DeleteParams::default()).await?;
    for node in &stage.world.nodes {
        until_answered(&**node, &wanted.0, &other.1).await?;
    }
    until(stage, RIVAL, "Accepted", "True", "Accepted").await?;
    stage.log("the older bundle is gone, and the other one has the name");
    Ok(())
}

/// Returns the name on nodes and the digest of the first image of a version.
fn first(stage: &Stage, carried: &Carried) -> Result<(String, String)> {
    let image = carried.images.first().context("the version has images")?;
    Ok((carried.image(stage.base_port, &image.path), image.digest.clone()))
}

//! Bootstrap images with a wrong digest: one other than `spec.digest`, and a tag that names different images
//! on different nodes. No child is created of either, and both are reported with nodes and digests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::support::stage::condition;
use super::support::{Stage, Story, When, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "other_digests", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    try_join(deviant(&stage), moving_tag(&stage)).await.map(drop)
}

/// The executable computes its own digest before it serves, and exits with code 3 if that is not the expected
/// one.
async fn deviant(stage: &Stage) -> Result<()> {
    let (first, second) = (&stage.world.first, &stage.world.second);
    let mut resource = stage.resource("deviant", 2);
    resource["spec"]["digest"] = json!(second.digest);
    stage.apply(&resource).await?;
    let message = stage.until("deviant", "FixedPoint", "False", "DigestMismatch", DEADLINE).await?;
    stage.log(&message);
    for word in ["generation 1", &first.digest, &second.digest] {
        ensure!(message.contains(word), "the message does not name {word}: {message}");
    }
    let resources = stage.resources();
    let deviating = wait::until(&resources, "deviant", DEADLINE, "every node is blamed", |one| {
        let deviations = one.status.as_ref().map_or(&[][..], |status| status.deviations.as_slice());
        stage.world.nodes.iter().all(|node| {
            deviations.iter().any(|one| one.node == node.name() && one.message.contains(&first.digest))
        })
    });
    deviating.await?;
    check_no_child(stage, "deviant").await?;
    resource["spec"]["digest"] = json!(first.digest);
    stage.apply(&resource).await?;
    stage.until_ready("deviant", DEADLINE).await?;
    stage.log("with the right digest all generations are Ready");
    Ok(())
}

async fn moving_tag(stage: &Stage) -> Result<()> {
    let (first, second) = (&stage.world.first, &stage.world.second);
    let (base, port) = (stage.base_port + 8, stage.base_port + 20);
    let nodes = &stage.world.nodes;
    let odd = nodes.len() - 1;
    let serve = |number: usize, odd: usize| {
        let executable = if number == odd { second } else { first };
        nodes[number].serve(&executable.path, port)
    };
    let mut registries = try_join_all((0..nodes.len()).map(|number| serve(number, odd))).await?;
    let image = format!("localhost:{port}/quinistry:latest");
    let mut resource = stage.resource("moving", 2);
    resource["spec"]["basePort"] = json!(base);
    resource["spec"]["image"] = json!(image);
    resource["spec"]["imagePullPolicy"] = json!("Always");
    stage.apply(&resource).await?;
    let second_on_node = format!("{} on {}", second.digest, nodes[odd].name());
    let words = [image.as_str(), &first.digest, nodes[0].name(), &second_on_node];
    let what = format!("FixedPoint is False, BootstrapDigestDiffers, and names {words:?}");
    // The first two nodes are sufficient for the message; later ones are added.
    let resources = stage.resources();
    let reported = wait::until(&resources, "moving", DEADLINE, &what, |one| {
        condition(one, "FixedPoint").is_some_and(|found| {
            (found.status.as_str(), found.reason.as_str()) == ("False", "BootstrapDigestDiffers")
                && words.iter().all(|word| found.message.contains(word))
        })
    });
    stage.log(
        condition(&reported.await?, "FixedPoint").map(|found| found.message.clone()).unwrap_or_default(),
    );
    stage.until("moving", "Degraded", "True", "BootstrapDigestDiffers", DEADLINE).await?;
    check_no_child(stage, "moving").await?;

    // The tag names one image everywhere, and an administrator deletes the pod that has the other one.
    drop(registries.pop());
    let url = format!("http://localhost:{port}/v2/");
    wait::eventually(DEADLINE, "the registry that deviates is gone", || async {
        let answer = nodes[odd].run(&["curl", "-s", "-m", "5", "-o", "/dev/null", &url]).await;
        ensure!(answer.is_err(), "{url} still answers");
        Ok(())
    })
    .await?;
    registries.push(serve(odd, nodes.len()).await?);
    let selection = ListParams::default().fields(&format!("spec.nodeName={}", nodes[odd].name()));
    let pods: Api<_> = stage.pods();
    let pod = pods.list(&selection).await?.into_iter().find(|pod| pod.name_any().starts_with("moving-"));
    let name = pod.context("generation 1 has a pod there")?.name_any();
    pods.delete(&name, &DeleteParams::default()).await?;
    stage.until_ready("moving", DEADLINE).await?;
    stage.log("the tag agrees, and all generations are Ready");
    serving::check_all_nodes(stage, base..base + 2, &first.digest).await
}

/// Checks that a resource has no child.
async fn check_no_child(stage: &Stage, name: &str) -> Result<()> {
    let sets = stage.daemon_sets().list(&ListParams::default()).await?;
    let names: Vec<_> =
        sets.iter().map(kube::ResourceExt::name_any).filter(|set| set.starts_with(name)).collect();
    ensure!(names == [name], "there are {names:?}");
    Ok(())
}

//! Two generations raised without an operator. The story shows that cluster, nodes and image work as the
//! other stories assume, and how fast a chain can be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use kube::api::PostParams;

use super::support::{Stage, Story, When, daemon_sets, serving};

/// Sufficient for a busy machine of two cores.
const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "by_hand", when: When::First, operator: false, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let (image, digest, port) = (&stage.world.first.image, &stage.world.first.digest, stage.base_port);
    let began = Instant::now();
    let child_image = format!("localhost:{port}/quinistry@{digest}");
    for (name, image, port) in [("hand", image, port), ("hand-gen2", &child_image, port + 1)] {
        let set = daemon_sets::by_hand(name, image, port, digest);
        stage.daemon_sets().create(&PostParams::default(), &set).await?;
        daemon_sets::until_rolled_out(&stage, name, DEADLINE).await?;
        stage.log(format_args!(
            "{name} rolled out {:.1} s after the beginning",
            began.elapsed().as_secs_f32()
        ));
    }
    serving::check_all_nodes(&stage, port..port + 2, digest).await?;

    // A registry on the nodes' localhost, as other stories start one.
    let second = &stage.world.second;
    for node in &stage.world.nodes {
        let serving = node.serve(&second.path, port + 20).await?;
        drop(serving);
    }
    Ok(())
}

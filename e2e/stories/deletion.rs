//! Deleting a resource removes all its objects, also while its generations are being raised.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::support::{Stage, Story, When, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "deletion", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    stage.apply(&stage.resource("leaf", 3)).await?;
    stage.until_ready("leaf", DEADLINE).await?;
    stage.delete("leaf").await?;
    serving::check_stopped(&stage, stage.base_port).await?;
    stage.log("deleted when Ready");

    // After each of the first steps, and with the same name again at once, as users do.
    for set in ["leaf", "leaf-gen2"] {
        stage.apply(&stage.resource("leaf", 3)).await?;
        wait::until(&stage.daemon_sets(), set, DEADLINE, &format!("{set} exists"), |_| true).await?;
        stage.delete("leaf").await?;
        stage.log(format_args!("deleted when {set} existed"));
    }

    // The next resource of this name is raised normally.
    stage.apply(&stage.resource("leaf", 2)).await?;
    stage.until_ready("leaf", DEADLINE).await?;
    serving::check_all_nodes(&stage, stage.base_port..stage.base_port + 2, &stage.world.first.digest).await
}

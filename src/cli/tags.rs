//! `quinistry tags`: lists the tags of a repository.

use serde::Serialize;

use super::output::{OutputArgs, Report};
use super::remote::{ConnectionArgs, ImageArg};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: ImageArg,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TagList {
    repository: String,
    tags: Vec<String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.image;
        let client = self.connection.client()?;
        let tags = super::block_on(async { Ok(client.tags(&image).await?) })?;
        let repository = format!("{}/{}", image.host(), image.repository());
        self.output.print(&TagList { repository, tags })
    }
}

impl Report for TagList {
    fn text(&self) -> String {
        self.tags.iter().map(|tag| super::sanitize(tag) + "\n").collect()
    }

    fn essence(&self) -> String {
        self.text()
    }
}

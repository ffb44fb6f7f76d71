//! `quinistry tags`

use serde::Serialize;

use super::output::{Output, Report};
use super::remote::{Name, Remote};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tags {
    repository: String,
    tags: Vec<String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.image;
        let client = self.remote.client()?;
        let tags = super::block_on(async { Ok(client.tags(&image).await?) })?;
        let repository = format!("{}/{}", image.host(), image.repository());
        self.output.print(&Tags { repository, tags })
    }
}

impl Report for Tags {
    fn text(&self) -> String {
        self.tags.iter().map(|tag| super::plain(tag) + "\n").collect()
    }

    fn essence(&self) -> String {
        self.text()
    }
}

//! `quinistry tags`

use super::remote::{Name, Remote};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.parse()?;
        let client = self.remote.client()?;
        let tags = super::block_on(async { Ok(client.tags(&image).await?) })?;
        super::print(tags.iter().map(|tag| super::plain(tag) + "\n").collect::<String>())
    }
}

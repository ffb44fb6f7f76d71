//! `quinistry delete`

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
        anyhow::ensure!(
            image.tag().is_some() || image.digest().is_some(),
            "{image} names no tag and no digest; a tag is deleted alone, a digest with all of its tags"
        );
        let client = self.remote.client()?;
        super::block_on(async { Ok(client.delete(&image).await?) })
    }
}

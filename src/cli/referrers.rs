//! `quinistry referrers`

use std::fmt::Write as _;

use super::remote::{Name, Remote};
use super::{human, plain};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    /// Those of this type only
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.parse()?;
        let client = self.remote.client()?;
        let found = super::block_on(async {
            let subject = client.resolve(&image).await?;
            Ok(client.referrers(&image, &subject.digest).await?)
        })?;
        let mut text = String::new();
        for one in found {
            let kind = one.artifact_type.as_deref().unwrap_or(&one.media_type);
            // Registries may leave the filtering to who asks.
            if self.artifact_type.as_deref().is_none_or(|wanted| wanted == kind) {
                writeln!(text, "{}  {}  {}", one.digest, human(one.size), plain(kind))?;
            }
        }
        super::print(text)
    }
}

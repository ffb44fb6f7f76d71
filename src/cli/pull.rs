//! `quinistry pull`

use crate::client::Selection;
use crate::layout::{Target, Writer};

use super::FormatArg;
use super::remote::{Name, Remote};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    /// Where to write it; '-' is standard output
    path: String,
    /// The form to write: one file for container engines, or an OCI layout folder
    #[arg(long, value_enum, default_value = "archive")]
    format: FormatArg,
    /// Take this image of several, such as linux/arm64, or 'all' of them; by default linux on this processor
    #[arg(long)]
    platform: Option<Selection>,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.parse()?;
        let target = Target::parse(&self.path);
        let to_stdout = target == Target::Stdout;
        let client = self.remote.client()?;
        // Before anything is fetched, so that a place that cannot be written costs nothing.
        let mut writer = Writer::create(target, self.format.into())?;
        let selection = self.platform.unwrap_or_default();
        let progress = super::progress::bars();
        let saved =
            super::block_on(async { Ok(client.pull(&image, &selection, &mut writer, &*progress).await?) })?;
        let pulled = image.with_digest(saved.descriptor.digest.clone());
        writer.finish(&[saved])?;
        if to_stdout { Ok(()) } else { super::print(format!("{pulled}\n")) }
    }
}

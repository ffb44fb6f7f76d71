//! `quinistry pull`: copies an image into a file or folder.

use clap::ValueHint;
use serde::Serialize;

use super::FormatArg;
use super::output::{OutputArgs, Report};
use super::remote::{ConnectionArgs, ImageArg};
use super::target::{allow_closed_pipe, ensure_one_output, target};
use crate::client::Selection;
use crate::layout::{Target, Writer};
use crate::oci::Digest;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: ImageArg,
    /// File or folder to write; '-' is standard output
    #[arg(value_hint = ValueHint::AnyPath)]
    path: String,
    /// Form to write: one file for container engines, or an OCI layout folder
    #[arg(long, value_enum, default_value = "archive")]
    format: FormatArg,
    /// Take this image of several, such as linux/arm64, or 'all' of them; by default linux on this processor
    #[arg(long)]
    platform: Option<Selection>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pulled {
    reference: String,
    digest: Digest,
    media_type: String,
    path: String,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = target(&self.path)?;
        ensure_one_output(&target, self.output)?;
        allow_closed_pipe(&target.clone(), self.pull(target))
    }

    fn pull(self, target: Target) -> anyhow::Result<()> {
        let image = self.name.image;
        let to_stdout = target == Target::Stdout;
        let client = self.connection.client()?;
        // Created before anything is fetched, so that an unwritable place is reported at once.
        let mut writer = Writer::create(target, self.format.into())?;
        let selection = self.platform.unwrap_or_default();
        let progress = super::progress::bars(self.output.is_quiet());
        let saved =
            super::block_on(async { Ok(client.pull(&image, &selection, &mut writer, &*progress).await?) })?;
        let descriptor = saved.descriptor.clone();
        writer.finish(&[saved])?;
        if to_stdout {
            return Ok(());
        }
        self.output.print(&Pulled {
            reference: image.with_digest(descriptor.digest.clone()).to_string(),
            digest: descriptor.digest,
            media_type: descriptor.media_type,
            path: self.path,
        })
    }
}

impl Report for Pulled {
    fn text(&self) -> String {
        format!("{}\n", self.reference)
    }

    fn essence(&self) -> String {
        format!("{}\n", self.digest)
    }
}

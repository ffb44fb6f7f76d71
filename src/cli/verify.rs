//! `quinistry verify`

use anyhow::ensure;

use crate::client::Selection;
use crate::oci::Digest;

use super::remote::{Name, Remote};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    /// Fail unless the image has this digest
    #[arg(long, value_name = "DIGEST")]
    expect: Option<Digest>,
    /// Verify only this image of several, such as linux/arm64
    #[arg(long)]
    platform: Option<Selection>,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.parse()?;
        let client = self.remote.client()?;
        let selection = self.platform.unwrap_or(Selection::All);
        let progress = super::progress::bars();
        let report = super::block_on(async { Ok(client.verify(&image, &selection, &*progress).await?) })?;
        if let Some(expected) = &self.expect {
            let found = [&report.resolved.digest, &report.root.digest];
            ensure!(
                found.contains(&expected),
                "{} has another digest: expected {expected}, got {}",
                image,
                report.resolved.digest
            );
        }
        let verified: Vec<&Digest> = report.images.iter().chain([&report.root.digest]).collect();
        let is_own = super::own::is_among(&verified)?;
        super::print(format!(
            "digest: {}\nverified: {} blobs, {}\nfixed point: {}\n",
            report.root.digest,
            report.blobs,
            super::human(report.bytes),
            if is_own { "yes" } else { "no" }
        ))
    }
}

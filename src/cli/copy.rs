//! `quinistry copy`: copies an image between registries.

mod sides;

use serde::Serialize;

use self::sides::SidesArgs;
use super::output::{OutputArgs, Report, complain, lines};
use super::remote::{self, ConnectionArgs};
use crate::oci::{Digest, ImageReference};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(
        value_name = "FROM",
        value_parser = remote::reference,
        help = "Image to copy: HOST[:PORT]/NAME[:TAG][@DIGEST]"
    )]
    from: ImageReference,
    /// Target in the same form, usually with a tag
    #[arg(value_name = "TO", value_parser = remote::reference)]
    to: ImageReference,
    /// Copy the referrers of the image, too: signatures, bills of materials and the like
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    sides: SidesArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Copied {
    reference: String,
    digest: Digest,
    referrers: Vec<Digest>,
    missing: Vec<Digest>,
    /// True if referrers were copied, too.
    #[serde(skip)]
    all: bool,
    /// Repository that received the referrers.
    #[serde(skip)]
    repository: String,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (from, to) = (self.from, self.to);
        let (source, target) = self.sides.clients(self.connection, &from, &to)?;
        let progress = super::progress::bars(self.output.is_quiet());
        let report =
            super::block_on(async { Ok(source.copy_to(&from, &target, &to, self.all, progress).await?) })?;
        for digest in &report.missing {
            complain(&format!(
                "warning: left out {digest}: it is listed as a referrer, and its manifest was not found"
            ));
        }
        self.output.print(&Copied {
            reference: remote::pinned(&to, &report.push.digest),
            digest: report.push.digest,
            referrers: report.push.referrers,
            missing: report.missing,
            all: self.all,
            repository: format!("{}/{}", to.host(), to.repository()),
        })
    }
}

impl Report for Copied {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.reference);
        text.extend(self.referrers.iter().map(|digest| format!("{}@{digest}\n", self.repository)));
        if self.all {
            text.extend([format!("and {} that refer to it\n", self.referrers.len())]);
        }
        text
    }

    fn essence(&self) -> String {
        lines(std::iter::once(&self.digest).chain(&self.referrers))
    }
}

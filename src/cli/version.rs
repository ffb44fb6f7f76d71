//! `quinistry version`: prints the version and this executable's fixed point.

use serde::Serialize;

use super::output::{OutputArgs, Report};
use crate::oci::Digest;
use crate::quine::{Executable, LayerForm, Quine, VERSION};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    version: &'static str,
    /// Revision of the source, if the build was given one.
    revision: Option<&'static str>,
    architecture: &'static str,
    /// Fixed point; null for an executable that cannot be an image.
    digest: Option<Digest>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let quine = Executable::current().and_then(|own| Quine::new(&own, LayerForm::default()));
        self.output.print(&Build {
            version: VERSION,
            revision: option_env!("QUINISTRY_REVISION"),
            architecture: Executable::architecture(),
            digest: quine.ok().map(|quine| quine.digest().clone()),
        })
    }
}

impl Report for Build {
    fn text(&self) -> String {
        let Self { version, architecture, .. } = self;
        let revision = self.revision.map(|revision| format!(" ({revision})")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("digest: {digest}\n")).unwrap_or_default();
        format!("quinistry {version}{revision} linux/{architecture}\n{digest}")
    }

    fn essence(&self) -> String {
        format!("{}\n", self.version)
    }
}

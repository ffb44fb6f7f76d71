//! `quinistry referrers`: lists the referrers of an image.

use std::collections::BTreeMap;

use serde::Serialize;

use super::output::{OutputArgs, Report, lines};
use super::remote::{ConnectionArgs, ImageArg};
use super::{format_bytes, sanitize};
use crate::oci::Digest;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: ImageArg,
    /// List referrers of this artifact type only
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerList {
    subject: Digest,
    referrers: Vec<Referrer>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    digest: Digest,
    media_type: String,
    artifact_type: String,
    size: u64,
    annotations: BTreeMap<String, String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.image;
        let client = self.connection.client()?;
        let (subject, found) = super::block_on(async {
            let subject = client.resolve(&image).await?.digest;
            let found = client.referrers(&image, &subject).await?;
            Ok((subject, found))
        })?;
        let mut referrers = Vec::new();
        for one in found {
            let artifact_type = one.artifact_type.unwrap_or_else(|| one.media_type.clone());
            // Registries may leave the filtering to the client.
            if self.artifact_type.as_ref().is_none_or(|wanted| *wanted == artifact_type) {
                let (digest, media_type, size) = (one.digest, one.media_type, one.size);
                let annotations = one.annotations;
                referrers.push(Referrer { digest, media_type, artifact_type, size, annotations });
            }
        }
        self.output.print(&ReferrerList { subject, referrers })
    }
}

impl Report for ReferrerList {
    fn text(&self) -> String {
        let line = |one: &Referrer| {
            format!("{}  {}  {}\n", one.digest, format_bytes(one.size), sanitize(&one.artifact_type))
        };
        self.referrers.iter().map(line).collect()
    }

    fn essence(&self) -> String {
        lines(self.referrers.iter().map(|one| &one.digest))
    }
}

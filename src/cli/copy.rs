//! `quinistry copy`

use std::collections::BTreeSet;

use crate::client::{Client, RemoteSource};
use crate::oci::{Digest, ImageReference};

use super::remote::{Remote, parse_name};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_name = "FROM", help = "What to copy: HOST[:PORT]/NAME[:TAG][@DIGEST]")]
    from: String,
    /// Where to: the same, usually with a tag
    #[arg(value_name = "TO")]
    to: String,
    /// Copy what refers to it, too: signatures, bills of materials and the like
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (from, to) = (parse_name(&self.from)?, parse_name(&self.to)?);
        let client = self.remote.client()?;
        let (digest, referrers) = super::block_on(async {
            let digest = copy(&client, &from, &to).await?;
            let referrers = if self.all { referrers(&client, &from, &to, &digest).await? } else { 0 };
            Ok((digest, referrers))
        })?;
        let tag = to.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let also = if self.all { format!("  and {referrers} that refer to it") } else { String::new() };
        super::print(format!("{}/{}{tag}@{digest}{also}\n", to.host(), to.repository()))
    }
}

async fn copy(client: &Client, from: &ImageReference, to: &ImageReference) -> anyhow::Result<Digest> {
    let source = RemoteSource::find(client, from).await?;
    // Within one registry nothing need be sent.
    let mount = (from.host() == to.host()).then(|| from.repository());
    let report = client.push(&source, to, mount, super::progress::bars()).await?;
    Ok(report.digest)
}

/// Copies what refers to a manifest, and what refers to that; how many.
async fn referrers(
    client: &Client,
    from: &ImageReference,
    to: &ImageReference,
    root: &Digest,
) -> anyhow::Result<usize> {
    let mut seen = BTreeSet::from([root.clone()]);
    let mut open = vec![root.clone()];
    while let Some(subject) = open.pop() {
        for referrer in client.referrers(from, &subject).await? {
            if seen.insert(referrer.digest.clone()) {
                let digest = referrer.digest;
                copy(client, &from.with_digest(digest.clone()), &to.with_digest(digest.clone())).await?;
                open.push(digest);
            }
        }
    }
    Ok(seen.len() - 1)
}

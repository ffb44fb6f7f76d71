//! `quinistry verify`: fetches and hashes every byte of an image.

use anyhow::ensure;
use serde::Serialize;

use super::output::{OutputArgs, Report};
use super::own::{self, Relation};
use super::remote::{ConnectionArgs, ImageArg};
use crate::client::{Client, Document, Selection, VerifyReport};
use crate::oci::{Digest, ImageReference};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: ImageArg,
    /// Fail unless the image has this digest
    #[arg(long, value_name = "DIGEST")]
    expect: Option<Digest>,
    /// Verify only this image of several, such as linux/arm64
    #[arg(long)]
    platform: Option<Selection>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifyResult {
    reference: String,
    digest: Digest,
    images: Vec<Digest>,
    blobs: usize,
    bytes: u64,
    relation: Relation,
    /// True if the image holds this executable's fixed point; null for an image that is not quinistry's.
    fixed_point: Option<bool>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.image;
        let client = self.connection.client()?;
        let selection = self.platform.unwrap_or(Selection::All);
        let progress = super::progress::bars(self.output.is_quiet());
        let (report, titles) = super::block_on(async {
            let report = client.verify(&image, &selection, &*progress).await?;
            let titles = titles(&client, &image, &report).await?;
            Ok((report, titles))
        })?;
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
        let is_quinistry = titles.iter().any(|title| title == own::IMAGE_TITLE);
        let relation = own::relation(&verified, is_quinistry)?;
        self.output.print(&VerifyResult {
            reference: image.to_string(),
            digest: report.root.digest,
            images: report.images,
            blobs: report.blobs,
            bytes: report.bytes,
            relation,
            fixed_point: relation.is_fixed_point(),
        })
    }
}

/// Fetches the titles that the verified images give themselves.
async fn titles(
    client: &Client,
    image: &ImageReference,
    report: &VerifyReport,
) -> anyhow::Result<Vec<String>> {
    let mut titles = Vec::new();
    for digest in &report.images {
        let manifest = client.manifest(&image.with_digest(digest.clone())).await?;
        if let Document::Image(mut document) = manifest.document()? {
            titles.extend(document.annotations.remove("org.opencontainers.image.title"));
        }
    }
    Ok(titles)
}

impl Report for VerifyResult {
    fn text(&self) -> String {
        let verified = format!("{}, {}", super::count(self.blobs, "blob"), super::format_bytes(self.bytes));
        let digest = &self.digest;
        match self.relation {
            Relation::Other => format!(
                "digest: {digest}\nnot a quinistry image: {verified} verified, no fixed point to compare\n"
            ),
            Relation::Served => format!("digest: {digest}\nverified: {verified}\nfixed point: yes\n"),
            Relation::Bootstrap => format!(
                "digest: {digest}\nverified: {verified}\n\
                 fixed point: yes, by the bootstrap image of this executable\n"
            ),
            Relation::Quinistry => format!(
                "digest: {digest}\nverified: {verified}\nfixed point: no, the image of another quinistry\n"
            ),
        }
    }

    fn essence(&self) -> String {
        format!("{}\n", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_blob_is_in_the_singular() {
        let verified = |blobs| {
            let result = VerifyResult {
                reference: "localhost:5000/quinistry".into(),
                digest: Digest::sha256(b"image"),
                images: Vec::new(),
                blobs,
                bytes: 2,
                relation: Relation::Other,
                fixed_point: None,
            };
            result.text()
        };
        assert!(verified(1).contains("image: 1 blob, 2 B verified"), "{}", verified(1));
        assert!(verified(2).contains("image: 2 blobs, 2 B verified"), "{}", verified(2));
    }
}

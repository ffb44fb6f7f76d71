//! `quinistry inspect`: shows the parts of an image.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::output::{OutputArgs, Report};
use super::remote::{ConnectionArgs, ImageArg};
use super::{format_bytes, sanitize};
use crate::client::{Client, Document, Manifest};
use crate::oci::{ConfigSummary, Descriptor, Digest, ImageReference, Platform, media_type};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: ImageArg,
    /// Print the manifest's exact bytes
    #[arg(long, conflicts_with_all = ["output", "quiet"])]
    raw: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspected {
    reference: String,
    digest: Digest,
    media_type: String,
    /// Platform of an image, if its configuration names one.
    platform: Option<String>,
    config: Option<BlobSummary>,
    layers: Vec<BlobSummary>,
    /// Length of all layers.
    size: u64,
    /// Images that an index lists.
    manifests: Vec<ChildSummary>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlobSummary {
    digest: Digest,
    media_type: String,
    size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChildSummary {
    digest: Digest,
    media_type: String,
    size: u64,
    platform: Option<String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.image;
        let client = self.connection.client()?;
        super::block_on(async {
            let manifest = client.manifest(&image).await?;
            if self.raw {
                return super::print(&manifest.bytes);
            }
            self.output.print(&inspect(&client, &image, &manifest).await?)
        })
    }
}

async fn inspect(client: &Client, image: &ImageReference, manifest: &Manifest) -> anyhow::Result<Inspected> {
    let mut inspected = Inspected {
        reference: image.to_string(),
        digest: manifest.descriptor.digest.clone(),
        media_type: manifest.descriptor.media_type.clone(),
        platform: None,
        config: None,
        layers: Vec::new(),
        size: 0,
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
    };
    match manifest.document()? {
        Document::Index(index) => {
            inspected.manifests = index.manifests.iter().map(ChildSummary::from).collect();
        }
        Document::Image(document) => {
            if media_type::is_image_config(&document.config.media_type) {
                let config = client.small_blob(image, &document.config).await?;
                if let Ok(ConfigSummary { os, architecture, .. }) = serde_json::from_slice(&config) {
                    inspected.platform = Some(format!("{os}/{architecture}"));
                }
            }
            inspected.config = Some(BlobSummary::from(&document.config));
            inspected.layers = document.layers.iter().map(BlobSummary::from).collect();
            inspected.size = document.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
            inspected.annotations = document.annotations;
        }
    }
    Ok(inspected)
}

fn name(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

impl Report for Inspected {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            writeln!(text, "{name:<12}{}", sanitize(value)).expect("writing to a string does not fail");
        };
        line("name", &self.reference);
        line("digest", self.digest.as_str());
        line("media type", &self.media_type);
        for child in &self.manifests {
            line("image", &format!("{}  {}", child.digest, child.platform.as_deref().unwrap_or("-")));
        }
        if let Some(platform) = &self.platform {
            line("platform", platform);
        }
        if let Some(config) = &self.config {
            line("config", &config.text());
            self.layers.iter().for_each(|layer| line("layer", &layer.text()));
            line("size", &format_bytes(self.size));
        }
        for (key, value) in &self.annotations {
            line("annotation", &format!("{key}={value}"));
        }
        text
    }

    fn essence(&self) -> String {
        format!("{}\n", self.digest)
    }
}

impl BlobSummary {
    fn text(&self) -> String {
        format!("{}  {}  {}", self.digest, format_bytes(self.size), self.media_type)
    }
}

impl From<&Descriptor> for BlobSummary {
    fn from(one: &Descriptor) -> Self {
        Self { digest: one.digest.clone(), media_type: one.media_type.clone(), size: one.size }
    }
}

impl From<&Descriptor> for ChildSummary {
    fn from(one: &Descriptor) -> Self {
        let BlobSummary { digest, media_type, size } = one.into();
        Self { digest, media_type, size, platform: one.platform.as_ref().map(name) }
    }
}

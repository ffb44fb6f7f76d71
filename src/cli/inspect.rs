//! `quinistry inspect`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::output::{Output, Report};
use super::remote::{Name, Remote};
use super::{human, plain};
use crate::client::{Client, Document, Manifest};
use crate::oci::{ConfigSummary, Descriptor, Digest, ImageReference, Platform, media_type};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    /// Print the manifest's exact bytes
    #[arg(long, conflicts_with_all = ["output", "quiet"])]
    raw: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspected {
    reference: String,
    digest: Digest,
    media_type: String,
    /// Platform of an image, if its configuration names one.
    platform: Option<String>,
    config: Option<Part>,
    layers: Vec<Part>,
    /// Length of all layers.
    size: u64,
    /// Images that an index lists.
    manifests: Vec<Child>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    digest: Digest,
    media_type: String,
    size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Child {
    digest: Digest,
    media_type: String,
    size: u64,
    platform: Option<String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.image;
        let client = self.remote.client()?;
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
            inspected.manifests = index.manifests.iter().map(Child::from).collect();
        }
        Document::Image(document) => {
            if media_type::is_image_config(&document.config.media_type) {
                let config = client.small_blob(image, &document.config).await?;
                if let Ok(ConfigSummary { os, architecture, .. }) = serde_json::from_slice(&config) {
                    inspected.platform = Some(format!("{os}/{architecture}"));
                }
            }
            inspected.config = Some(Part::from(&document.config));
            inspected.layers = document.layers.iter().map(Part::from).collect();
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
            writeln!(text, "{name:<12}{}", plain(value)).expect("writing to a string does not fail");
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
            line("size", &human(self.size));
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

impl Part {
    fn text(&self) -> String {
        format!("{}  {}  {}", self.digest, human(self.size), self.media_type)
    }
}

impl From<&Descriptor> for Part {
    fn from(one: &Descriptor) -> Self {
        Self { digest: one.digest.clone(), media_type: one.media_type.clone(), size: one.size }
    }
}

impl From<&Descriptor> for Child {
    fn from(one: &Descriptor) -> Self {
        let Part { digest, media_type, size } = one.into();
        Self { digest, media_type, size, platform: one.platform.as_ref().map(name) }
    }
}

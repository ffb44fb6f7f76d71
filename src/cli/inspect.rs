//! `quinistry inspect`

use std::fmt::Write as _;

use crate::client::{Client, Document, Manifest};
use crate::oci::{ConfigSummary, Descriptor, ImageReference, media_type};

use super::remote::{Name, Remote};
use super::{human, plain};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    /// Print the manifest's exact bytes
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.parse()?;
        let client = self.remote.client()?;
        super::block_on(async {
            let manifest = client.manifest(&image).await?;
            if self.raw {
                return super::print(&manifest.bytes);
            }
            super::print(summary(&client, &image, &manifest).await?)
        })
    }
}

async fn summary(client: &Client, image: &ImageReference, manifest: &Manifest) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<12}{}", plain(value)).expect("writing to a string does not fail");
    };
    line("name", &image.to_string());
    line("digest", manifest.descriptor.digest.as_str());
    line("media type", &manifest.descriptor.media_type);
    match manifest.document()? {
        Document::Index(index) => {
            for child in &index.manifests {
                let platform = child.platform.as_ref().map_or_else(
                    || String::from("-"),
                    |platform| {
                        let variant = platform
                            .variant
                            .as_ref()
                            .map(|variant| format!("/{variant}"))
                            .unwrap_or_default();
                        format!("{}/{}{variant}", platform.os, platform.architecture)
                    },
                );
                line("image", &format!("{}  {platform}", child.digest));
            }
        }
        Document::Image(document) => {
            if media_type::is_image_config(&document.config.media_type) {
                let config = client.small_blob(image, &document.config).await?;
                if let Ok(ConfigSummary { os, architecture, .. }) = serde_json::from_slice(&config) {
                    line("platform", &format!("{os}/{architecture}"));
                }
            }
            line("config", &content(&document.config));
            for layer in &document.layers {
                line("layer", &content(layer));
            }
            let total = document.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
            line("size", &human(total));
            for (key, value) in &document.annotations {
                line("annotation", &format!("{key}={value}"));
            }
        }
    }
    Ok(text)
}

fn content(descriptor: &Descriptor) -> String {
    format!("{}  {}  {}", descriptor.digest, human(descriptor.size), descriptor.media_type)
}

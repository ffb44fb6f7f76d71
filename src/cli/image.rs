//! `quinistry image`: this executable's own image, in parts or as a file.

use clap::Subcommand;

use super::target::{allow_closed_pipe, target};
use super::{FormatArg, LayerArg};
use crate::layout::{DockerImage, SavedImage, Target, Writer};
use crate::quine::{Blob, Executable, Flavour, Quine, REPOSITORY};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the digest of the manifest: the fixed point
    Digest(Which),
    /// Print the image's configuration
    Config(Which),
    /// Print the image's manifest
    Manifest(Which),
    /// Write the image to a file or folder, for `docker load`, `ctr images import`, `kind load`, …
    Save(Save),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// How the layer is stored
    #[arg(long, value_name = "FORM", default_value = "tar")]
    layer: LayerArg,

    /// Differ from the served image by one label, as an image that is loaded onto Kubernetes nodes must
    #[arg(long)]
    bootstrap: bool,
}

#[derive(Debug, clap::Args)]
struct Save {
    /// Where to; `-` is standard output
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: String,

    /// What to write
    #[arg(long, value_enum, default_value = "archive")]
    format: FormatArg,

    #[arg(long, value_name = "REF", value_parser = full_name, help = name_help())]
    name: Option<String>,

    #[command(flatten)]
    which: Which,
}

/// Under which name engines will know the image, if none is given: what the README's first example pulls; for a
/// bootstrap image, what the Helm chart and `e2e/generation.yaml` ask for, as it is published.
fn default_name(bootstrap: bool) -> String {
    if bootstrap {
        concat!("ghcr.io/quinistry/quinistry:", env!("CARGO_PKG_VERSION")).into()
    } else {
        format!("localhost:8080/{REPOSITORY}:latest")
    }
}

fn name_help() -> String {
    format!(
        "The name under which engines will know the image [default: {}; with --bootstrap: {}]",
        default_name(false),
        default_name(true)
    )
}

/// Parses host, repository and tag: engines look for nothing less, so an image of a shorter name would never
/// be found.
fn full_name(typed: &str) -> Result<String, String> {
    let name = super::remote::reference(typed)?;
    if name.digest().is_some() {
        return Err("names a digest, which an image has by itself: name a tag".into());
    }
    Ok(format!("{}/{}:{}", name.host(), name.repository(), name.reference()))
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Digest(which) => super::print(format!("{}\n", which.quine()?.digest())),
            What::Config(which) => print(which.quine()?.config()),
            What::Manifest(which) => print(which.quine()?.manifest()),
            What::Save(save) => save.run(),
        }
    }
}

impl Which {
    fn quine(&self) -> anyhow::Result<Quine> {
        let flavour = if self.bootstrap { Flavour::Bootstrap } else { Flavour::Served };
        Ok(Quine::with_flavour(&Executable::current()?, self.layer.into(), flavour)?)
    }
}

/// Prints the exact bytes, so that hashing the output gives the digest.
fn print(blob: &Blob) -> anyhow::Result<()> {
    super::print(blob.content.to_bytes()?)
}

impl Save {
    fn run(self) -> anyhow::Result<()> {
        let target = target(&self.path)?;
        allow_closed_pipe(&target.clone(), self.write(target))
    }

    fn write(self, target: Target) -> anyhow::Result<()> {
        let name = self.name.unwrap_or_else(|| default_name(self.which.bootstrap));
        let quine = self.which.quine()?;
        let mut writer = Writer::create(target, self.format.into())?;
        for blob in [quine.manifest(), quine.config(), quine.layer()] {
            let mut file = writer.begin_blob(&blob.descriptor)?;
            for chunk in blob.content.chunks() {
                file.append(&chunk?)?;
            }
            file.finish()?;
        }
        writer.finish(&[SavedImage {
            descriptor: quine.manifest().descriptor.clone(),
            name: Some(name),
            docker: Some(DockerImage {
                config: quine.config().digest().clone(),
                layers: vec![quine.layer().digest().clone()],
            }),
        }])?;
        Ok(())
    }
}

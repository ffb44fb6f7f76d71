//! `quinistry image`: prints parts of this executable's own image, or saves it.

use clap::Subcommand;

use super::target::{allow_closed_pipe, target};
use super::{FormatArg, LayerArg};
use crate::layout::{DockerImage, SavedImage, Target, Writer};
use crate::quine::{Blob, Executable, Flavour, Quine, REPOSITORY};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Print the digest of the manifest: the fixed point
    Digest(ImageArgs),
    /// Print the image's configuration
    Config(ImageArgs),
    /// Print the image's manifest
    Manifest(ImageArgs),
    /// Write the image to a file or folder, for `docker load`, `ctr images import`, `kind load`, …
    Save(SaveArgs),
}

#[derive(Debug, clap::Args)]
struct ImageArgs {
    /// Compression of the layer
    #[arg(long, value_name = "FORM", default_value = "tar")]
    layer: LayerArg,

    /// Differ from the served image by one label, as an image that is loaded onto Kubernetes nodes must
    #[arg(long)]
    bootstrap: bool,
}

#[derive(Debug, clap::Args)]
struct SaveArgs {
    /// File or folder to write; `-` is standard output
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: String,

    /// Form of the image
    #[arg(long, value_enum, default_value = "archive")]
    format: FormatArg,

    #[arg(long, value_name = "REF", value_parser = full_name, help = name_help())]
    name: Option<String>,

    #[command(flatten)]
    image: ImageArgs,
}

/// Returns the default name of the image in engines: the name that the README's first example pulls; for a
/// bootstrap image, the published name that the Helm chart and `e2e/generation.yaml` ask for.
fn default_name(bootstrap: bool) -> String {
    if bootstrap {
        concat!("ghcr.io/quinistry/quinistry:", env!("CARGO_PKG_VERSION")).into()
    } else {
        format!("localhost:8080/{REPOSITORY}:latest")
    }
}

fn name_help() -> String {
    format!(
        "Name of the image in container engines [default: {}; with --bootstrap: {}]",
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
        match self.command {
            ImageCommand::Digest(image) => super::print(format!("{}\n", image.quine()?.digest())),
            ImageCommand::Config(image) => print(image.quine()?.config()),
            ImageCommand::Manifest(image) => print(image.quine()?.manifest()),
            ImageCommand::Save(save) => save.run(),
        }
    }
}

impl ImageArgs {
    fn quine(&self) -> anyhow::Result<Quine> {
        let flavour = if self.bootstrap { Flavour::Bootstrap } else { Flavour::Served };
        Ok(Quine::with_flavour(&Executable::current()?, self.layer.into(), flavour)?)
    }
}

/// Prints the exact bytes, so that hashing the output gives the digest.
fn print(blob: &Blob) -> anyhow::Result<()> {
    super::print(blob.content.to_bytes()?)
}

impl SaveArgs {
    fn run(self) -> anyhow::Result<()> {
        let target = target(&self.path)?;
        allow_closed_pipe(&target.clone(), self.write(target))
    }

    fn write(self, target: Target) -> anyhow::Result<()> {
        let name = self.name.unwrap_or_else(|| default_name(self.image.bootstrap));
        let quine = self.image.quine()?;
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

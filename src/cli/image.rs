//! `quinistry image`: this executable's own image, in parts or as a file.

use std::io::Write as _;

use clap::Subcommand;

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
    path: String,

    /// What to write
    #[arg(long, value_enum, default_value = "archive")]
    format: FormatArg,

    #[arg(long, value_name = "REF", help = name_help())]
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

/// Host, repository and tag: an engine looks for nothing less, so an image of a shorter name would never be found.
fn full_name(typed: &str) -> anyhow::Result<String> {
    let name = super::remote::parse_name(typed)?;
    anyhow::ensure!(
        name.digest().is_none(),
        "'{name}' names a digest, which an image has by itself: name a tag"
    );
    Ok(format!("{}/{}:{}", name.host(), name.repository(), name.reference()))
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.what {
            What::Digest(which) => writeln!(out, "{}", which.quine()?.digest())?,
            What::Config(which) => print(&mut out, which.quine()?.config())?,
            What::Manifest(which) => print(&mut out, which.quine()?.manifest())?,
            What::Save(save) => save.run()?,
        }
        Ok(out.flush()?)
    }
}

impl Which {
    fn quine(&self) -> anyhow::Result<Quine> {
        let flavour = if self.bootstrap { Flavour::Bootstrap } else { Flavour::Served };
        Ok(Quine::with_flavour(&Executable::current()?, self.layer.into(), flavour)?)
    }
}

/// The exact bytes, so that hashing the output gives the digest.
fn print(out: &mut impl std::io::Write, blob: &Blob) -> std::io::Result<()> {
    blob.content.pieces().try_for_each(|piece| out.write_all(&piece?))
}

impl Save {
    fn run(self) -> anyhow::Result<()> {
        let name = full_name(&self.name.unwrap_or_else(|| default_name(self.which.bootstrap)))?;
        let quine = self.which.quine()?;
        let mut writer = Writer::create(Target::parse(&self.path), self.format.into())?;
        for blob in [quine.manifest(), quine.config(), quine.layer()] {
            let mut file = writer.begin_blob(&blob.descriptor)?;
            for piece in blob.content.pieces() {
                file.append(&piece?)?;
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

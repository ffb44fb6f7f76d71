//! `quinistry push`: pushes an archive or layout, or with `--self` this executable's own image.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueHint;
use serde::Serialize;

use super::LayerArg;
use super::exit::UsageError;
use super::output::{OutputArgs, Report, complain};
use super::remote::{ConnectionArgs, pinned};
use crate::client::{LayoutSource, PushSource};
use crate::escape;
use crate::layout::{Layout, Root};
use crate::oci::{Digest, ImageReference, RepositoryName};
use crate::quine::VERSION;

/// Both forms of the command, for the error of a third one.
const FORMS: &str = "`quinistry push PATH REF` pushes an archive or OCI layout, `quinistry push --self REF` the image \
                     of this executable";

#[derive(Debug, clap::Args)]
// A PATH goes before the REF and is not needed with --self.
#[command(allow_missing_positional = true)]
#[command(override_usage = "quinistry push [OPTIONS] PATH REF\n       quinistry push [OPTIONS] --self REF")]
pub(super) struct Args {
    /// Archive or OCI layout to push
    #[arg(value_hint = ValueHint::AnyPath)]
    path: Option<PathBuf>,
    // Parsed below, so that a path without a reference is answered with the two forms.
    #[arg(
        value_name = "REF",
        required = true,
        help = "HOST[:PORT]/NAME[:TAG][@DIGEST], for example localhost:5000/debian:12"
    )]
    reference: String,
    /// Push the image of this executable
    #[arg(long = "self", conflicts_with = "path")]
    own: bool,
    /// The earlier form of PATH
    #[arg(long, hide = true, value_name = "PATH", conflicts_with_all = ["path", "own", "layer"])]
    image: Option<PathBuf>,
    /// Compression of the layer of this executable's own image
    #[arg(long, value_name = "FORM", default_value = "tar", conflicts_with = "path")]
    layer: LayerArg,
    /// Take blobs from this repository of the same registry, instead of sending them
    #[arg(long, value_name = "NAME")]
    mount_from: Option<RepositoryName>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    reference: String,
    digest: Digest,
    /// The path that was pushed; null for this executable's own image.
    path: Option<PathBuf>,
    uploaded: usize,
    mounted: usize,
    existing: usize,
    /// Referrers of the image that were pushed from the same source.
    referrers: Vec<Digest>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = self.path.or(self.image);
        if path.is_none() && !self.own {
            let typed = super::sanitize(&escape::without_userinfo(&self.reference));
            return Err(UsageError(format!("PATH or --self is missing for '{typed}': {FORMS}")).into());
        }
        let image: ImageReference = self.reference.parse().map_err(|error| {
            let typed = escape::without_userinfo(&self.reference);
            UsageError(super::sanitize(&format!("'{typed}' is not the name of an image: {error}; {FORMS}")))
        })?;
        let client = self.connection.client()?;
        let layout = path.as_deref().map(Layout::open).transpose()?;
        let source: Box<dyn PushSource + '_> = match &layout {
            Some(layout) => Box::new(LayoutSource::new(layout, &choose(layout, &image)?.descriptor)),
            None => super::own::source(self.layer.into())?,
        };
        if layout.is_none() && !self.output.is_quiet() {
            complain(&format!("pushing the image of this executable, quinistry {VERSION}, to {image}"));
        }
        let progress = super::progress::bars(self.output.is_quiet());
        let report = super::block_on(async {
            Ok(client.push(&*source, &image, self.mount_from.as_ref(), progress).await?)
        })?;
        self.output.print(&Pushed {
            reference: pinned(&image, &report.digest),
            digest: report.digest,
            path: path.clone(),
            uploaded: report.uploaded,
            mounted: report.mounted,
            existing: report.existing,
            referrers: report.referrers,
        })
    }
}

impl Report for Pushed {
    fn text(&self) -> String {
        format!("{}\n", self.reference)
    }

    fn essence(&self) -> String {
        format!("{}\n", self.digest)
    }
}

/// Returns the only image, or the one with the name, the tag or the digest of the target.
fn choose<'a>(layout: &'a Layout, target: &ImageReference) -> anyhow::Result<&'a Root> {
    // A digest may be that of a signature, which is otherwise pushed with its subject.
    let roots = match target.digest() {
        Some(_) => layout.roots().iter().collect(),
        None => layout.images(),
    };
    let show = |path: &Path| path.display().to_string();
    let first = *roots.first().with_context(|| format!("{} holds no image", show(layout.path())))?;
    if roots.iter().all(|root| root.descriptor.digest == first.descriptor.digest) {
        return Ok(first);
    }
    let tag = target.reference().to_string();
    let fits = [
        |root: &Root, name: &str, _: &str| root.name.as_deref() == Some(name),
        |root: &Root, _: &str, tag: &str| root.descriptor.digest.as_str() == tag,
        |root: &Root, _: &str, tag: &str| {
            root.name.as_deref().is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
        },
    ];
    for fits in fits {
        let mut fitting = roots.iter().copied().filter(|root| fits(root, &target.to_string(), &tag));
        // An image may have several names.
        if let Some(root) = fitting.next()
            && fitting.all(|other| other.descriptor.digest == root.descriptor.digest)
        {
            return Ok(root);
        }
    }
    let names: Vec<_> = roots
        .iter()
        .map(|root| root.name.clone().unwrap_or_else(|| root.descriptor.digest.to_string()))
        .collect();
    bail!(
        "{} holds {} images, and none of them fits {target} alone: {}; push to the tag or digest of one",
        show(layout.path()),
        roots.len(),
        super::sanitize(&names.join(", "))
    )
}

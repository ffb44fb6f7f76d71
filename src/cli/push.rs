//! `quinistry push`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::client::{LayoutSource, PushSource};
use crate::layout::{Layout, Root};
use crate::oci::{ImageReference, RepositoryName};

use super::LayerArg;
use super::remote::{Name, Remote};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    /// Push the image in this archive or OCI layout instead of this program's own
    #[arg(long = "image", value_name = "PATH", id = "path")]
    path: Option<PathBuf>,
    /// How the layer of this program's own image is stored
    #[arg(long, value_name = "FORM", default_value = "tar", conflicts_with = "path")]
    layer: LayerArg,
    /// Take blobs from this repository of the same registry, instead of sending them
    #[arg(long, value_name = "NAME")]
    mount_from: Option<RepositoryName>,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.parse()?;
        let client = self.remote.client()?;
        let layout = self.path.as_deref().map(Layout::open).transpose()?;
        let source: Box<dyn PushSource + '_> = match &layout {
            Some(layout) => Box::new(LayoutSource::new(layout, &choose(layout, &image)?.descriptor)),
            None => super::own::source(self.layer.into())?,
        };
        let progress = super::progress::bars();
        let report = super::block_on(async {
            Ok(client.push(&*source, &image, self.mount_from.as_ref(), progress).await?)
        })?;
        let tag = image.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let (host, name) = (image.host(), image.repository());
        super::print(format!("{host}/{name}{tag}@{}\n", report.digest))
    }
}

/// The only image, or the one that bears the name, the tag or the digest that is pushed to.
fn choose<'a>(layout: &'a Layout, target: &ImageReference) -> anyhow::Result<&'a Root> {
    // A digest may be that of a signature, which is otherwise pushed with what it refers to.
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
        if let (Some(root), None) = (fitting.next(), fitting.next()) {
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
        super::plain(&names.join(", "))
    )
}

//! This executable as an image, as the subcommands that deal with registries see it.

use serde::Serialize;

use crate::client::{BlobLocation, BoxError, PushSource};
use crate::oci::{Descriptor, Digest};
use crate::quine::{Executable, Flavour, LayerForm, Quine};

/// The title that every image of quinistry gives itself.
pub(super) const TITLE: &str = "quinistry";

/// The relation of an image to this executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Relation {
    /// The image that this executable serves.
    Served,
    /// The image of this executable that is loaded onto nodes: it serves the same fixed point.
    Bootstrap,
    /// An image of another build or version of quinistry.
    Quinistry,
    /// Any other image.
    Other,
}

// === impl Relation ===

impl Relation {
    /// Returns true if the image holds the fixed point of this executable; `None` where there is none to
    /// compare.
    pub(super) fn is_fixed_point(self) -> Option<bool> {
        match self {
            Self::Served | Self::Bootstrap => Some(true),
            Self::Quinistry => Some(false),
            Self::Other => None,
        }
    }
}

/// The image of this executable, to be pushed.
pub(super) fn source(form: LayerForm) -> anyhow::Result<Box<dyn PushSource>> {
    Ok(Box::new(Own(Quine::new(&Executable::current()?, form)?)))
}

/// Compares verified manifests with this executable's own. Images of other titles are not compared:
/// compressing takes longer than all else. Forms are computed until one fits.
pub(super) fn relation(digests: &[&Digest], is_quinistry: bool) -> anyhow::Result<Relation> {
    if !is_quinistry {
        return Ok(Relation::Other);
    }
    let executable = Executable::current()?;
    for form in LayerForm::ALL {
        for (flavour, relation) in
            [(Flavour::Served, Relation::Served), (Flavour::Bootstrap, Relation::Bootstrap)]
        {
            if digests.contains(&Quine::with_flavour(&executable, form, flavour)?.digest()) {
                return Ok(relation);
            }
        }
    }
    Ok(Relation::Quinistry)
}

struct Own(Quine);

impl PushSource for Own {
    fn root(&self) -> &Descriptor {
        &self.0.manifest().descriptor
    }

    fn open(&self, digest: &Digest) -> Result<BlobLocation, BoxError> {
        let blobs = [self.0.manifest(), self.0.config(), self.0.layer()];
        let blob = blobs.into_iter().find(|blob| blob.digest() == digest);
        let blob = blob.ok_or_else(|| format!("{digest} is not part of this executable's image"))?;
        Ok(BlobLocation::Local(Box::new(blob.content.reader())))
    }
}

//! This executable's image for the commands that use registries: as a source to push, and in comparisons.

use serde::Serialize;

use crate::client::{BlobLocation, BoxError, PushSource};
use crate::oci::{Descriptor, Digest};
use crate::quine::{Executable, Flavour, LayerForm, Quine};

/// Title in the annotations of every image of quinistry.
pub(super) const IMAGE_TITLE: &str = "quinistry";

/// Relation of an image to this executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Relation {
    /// The image is the one that this executable serves.
    Served,
    /// The image is this executable's bootstrap image, which serves the same fixed point.
    Bootstrap,
    /// The image is of another build or version of quinistry.
    Quinistry,
    /// The image is not quinistry's.
    Other,
}

// === impl Relation ===

impl Relation {
    /// Returns true if the image holds the fixed point of this executable; `None` if the image has no fixed
    /// point.
    pub(super) fn is_fixed_point(self) -> Option<bool> {
        match self {
            Self::Served | Self::Bootstrap => Some(true),
            Self::Quinistry => Some(false),
            Self::Other => None,
        }
    }
}

/// Returns the image of this executable as a source to push.
pub(super) fn source(form: LayerForm) -> anyhow::Result<Box<dyn PushSource>> {
    Ok(Box::new(ExecutableImage(Quine::new(&Executable::current()?, form)?)))
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

struct ExecutableImage(Quine);

impl PushSource for ExecutableImage {
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

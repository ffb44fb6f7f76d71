//! This executable as an image, as the subcommands that deal with registries see it.

use crate::client::{BoxError, Content, PushSource};
use crate::oci::{Descriptor, Digest};
use crate::quine::{Executable, LayerForm, Quine};

/// The image of this executable, to be pushed.
pub(super) fn source(form: LayerForm) -> anyhow::Result<Box<dyn PushSource>> {
    Ok(Box::new(Own(Quine::new(&Executable::current()?, form)?)))
}

/// Whether one of these is the manifest digest of this executable's image, in any form. Forms are computed until
/// one fits, because compressing takes longer than all else.
pub(super) fn is_among(digests: &[&Digest]) -> anyhow::Result<bool> {
    let executable = Executable::current()?;
    for form in LayerForm::ALL {
        if digests.contains(&Quine::new(&executable, form)?.digest()) {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Own(Quine);

impl PushSource for Own {
    fn root(&self) -> &Descriptor {
        &self.0.manifest().descriptor
    }

    fn open(&self, digest: &Digest) -> Result<Content, BoxError> {
        let blobs = [self.0.manifest(), self.0.config(), self.0.layer()];
        let blob = blobs.into_iter().find(|blob| blob.digest() == digest);
        let blob = blob.ok_or_else(|| format!("{digest} is no part of this executable's image"))?;
        Ok(Content::Local(Box::new(blob.content.reader())))
    }
}

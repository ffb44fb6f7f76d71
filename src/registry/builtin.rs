//! The built-in repository: one image, that of the running executable, which nobody can change.

use quinistry_oci::{Digest, Reference, RepositoryName, Tag};
use quinistry_quine::{Quine, REPOSITORY, VERSION};

use crate::api::references;
use crate::api::response::error::Error;
use crate::api::response::served_content::Entity;

/// The quine, ready to be served.
#[derive(Clone, Debug)]
pub(crate) struct Builtin {
    digests: [Digest; 3],
    manifest: Entity,
    config: Entity,
    layer: Entity,
    /// Sorted as `/tags/list` wants them.
    tags: Vec<Tag>,
}

impl Builtin {
    pub(crate) fn new(quine: &Quine) -> Self {
        let mut tags: Vec<Tag> = ["latest", VERSION]
            .map(|tag| tag.parse().expect("'latest' and a semantic version are tags"))
            .into();
        tags.sort_unstable();
        Self {
            digests: [quine.manifest(), quine.config(), quine.layer()].map(|blob| blob.digest().clone()),
            manifest: Entity::manifest(
                quine.digest(),
                &quine.manifest().descriptor.media_type,
                &quine.manifest().content,
            ),
            config: Entity::blob(quine.config().digest(), &quine.config().content),
            layer: Entity::blob(quine.layer().digest(), &quine.layer().content),
            tags,
        }
    }

    /// Whether that is its name.
    pub(crate) fn is(name: &RepositoryName) -> bool {
        name.as_str() == REPOSITORY
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    pub(crate) fn manifest(&self, reference: &str) -> Result<&Entity, Error> {
        let known = match references::reference(reference)? {
            Some(Reference::Tag(tag)) => self.tags.contains(&tag),
            Some(Reference::Digest(digest)) => digest == self.digests[0],
            None => false,
        };
        if known { Ok(&self.manifest) } else { Err(Error::ManifestUnknown) }
    }

    pub(crate) fn blob(&self, digest: &str) -> Result<&Entity, Error> {
        let [_, config, layer] = &self.digests;
        match references::digest(digest)? {
            Some(digest) if digest == *config => Ok(&self.config),
            Some(digest) if digest == *layer => Ok(&self.layer),
            _ => Err(Error::BlobUnknown),
        }
    }
}

//! Built-in repository: one read-only image, that of the running executable.

use quinistry_oci::{Digest, Reference, RepositoryName, Tag};
use quinistry_quine::{Quine, REPOSITORY, VERSION};

use crate::api::references;
use crate::api::response::error::Error;
use crate::api::response::served_content::ServedContent;

/// Quine with its response headers, ready to be served.
#[derive(Clone, Debug)]
pub(crate) struct Builtin {
    digests: [Digest; 3],
    manifest: ServedContent,
    config: ServedContent,
    layer: ServedContent,
    /// Tags in the order of `/tags/list`.
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
            manifest: ServedContent::manifest(
                quine.digest(),
                &quine.manifest().descriptor.media_type,
                &quine.manifest().content,
            ),
            config: ServedContent::blob(quine.config().digest(), &quine.config().content),
            layer: ServedContent::blob(quine.layer().digest(), &quine.layer().content),
            tags,
        }
    }

    /// Returns true if `name` is the built-in repository's name.
    pub(crate) fn is_builtin(name: &RepositoryName) -> bool {
        name.as_str() == REPOSITORY
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    pub(crate) fn manifest(&self, reference: &str) -> Result<&ServedContent, Error> {
        let known = match references::reference(reference)? {
            Some(Reference::Tag(tag)) => self.tags.contains(&tag),
            Some(Reference::Digest(digest)) => digest == self.digests[0],
            None => false,
        };
        if known { Ok(&self.manifest) } else { Err(Error::ManifestUnknown) }
    }

    pub(crate) fn blob(&self, digest: &str) -> Result<&ServedContent, Error> {
        let [_, config, layer] = &self.digests;
        match references::digest(digest)? {
            Some(digest) if digest == *config => Ok(&self.config),
            Some(digest) if digest == *layer => Ok(&self.layer),
            _ => Err(Error::BlobUnknown),
        }
    }
}

//! The registry: HTTP over the quine.
//!
//! Speaks the OCI distribution-spec v1.1, read-only: one built-in repository, `quinistry`, at the tags `latest`
//! and this build's version, and by digest. [`router`] answers requests, and can be mounted in any axum program;
//! [`serve`] puts it behind a listener with the deadlines that the open network asks for. Knows nothing of
//! command lines, signals or Kubernetes.

mod answer;
mod body;
mod entity;
mod error;
mod listing;
mod panic;
mod range;
mod referrers;
mod route;
mod server;
mod socket;

use std::sync::Arc;

use axum::Router;

use self::entity::Entity;
use self::error::Error;
use crate::oci::{Digest, DigestError, Reference, ReferenceError, Tag};
use crate::quine::{self, Quine};

pub use server::{Limits, serve};

/// What the registry serves. Clones share it.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    digests: [Digest; 3],
    manifest: Entity,
    config: Entity,
    layer: Entity,
    /// Sorted as `/tags/list` wants them.
    tags: Vec<Tag>,
}

impl State {
    /// A registry whose built-in repository holds `quine`.
    #[must_use]
    pub fn new(quine: &Quine) -> Self {
        let mut tags: Vec<Tag> = ["latest", quine::VERSION]
            .map(|tag| tag.parse().expect("'latest' and a semantic version are tags"))
            .into();
        tags.sort_unstable();
        Self(Arc::new(Inner {
            digests: [quine.manifest(), quine.config(), quine.layer()].map(|blob| blob.digest().clone()),
            manifest: Entity::manifest(quine.manifest()),
            config: Entity::blob(quine.config()),
            layer: Entity::blob(quine.layer()),
            tags,
        }))
    }

    fn tags(&self) -> &[Tag] {
        &self.0.tags
    }

    fn manifest(&self, reference: &str) -> Result<&Entity, Error> {
        let known = match reference.parse() {
            Ok(Reference::Tag(tag)) => self.0.tags.contains(&tag),
            Ok(Reference::Digest(digest)) => digest == self.0.digests[0],
            Err(ReferenceError::Digest(error @ DigestError::Malformed)) => return Err(Error::Digest(error)),
            // Such a tag cannot exist, and asking for what does not exist is no error of form.
            Err(ReferenceError::Tag(_) | ReferenceError::Digest(_)) => false,
        };
        if known { Ok(&self.0.manifest) } else { Err(Error::ManifestUnknown) }
    }

    fn blob(&self, digest: &str) -> Result<&Entity, Error> {
        let [_, config, layer] = &self.0.digests;
        match digest.parse::<Digest>() {
            Ok(digest) if digest == *config => Ok(&self.0.config),
            Ok(digest) if digest == *layer => Ok(&self.0.layer),
            Ok(_) | Err(DigestError::Unsupported) => Err(Error::BlobUnknown),
            Err(error @ DigestError::Malformed) => Err(Error::Digest(error)),
        }
    }
}

/// The registry as an axum router, to serve or to embed. The executable must be static, so that it can be the image,
/// which the programs that rustdoc makes of examples are not: this one is compiled, but not run.
///
/// ```no_run
/// use quinistry::quine::{Executable, LayerForm, Quine};
/// use quinistry::registry::{State, router};
///
/// let quine = Quine::new(&Executable::current()?, LayerForm::Tar)?;
/// let app: axum::Router = router(State::new(&quine));
/// # Ok::<(), quinistry::quine::ExecutableError>(())
/// ```
pub fn router(state: State) -> Router {
    // One wildcard: repository names hold slashes, so only a parser that reads from the right can route them.
    Router::new().fallback(answer::answer).with_state(state)
}

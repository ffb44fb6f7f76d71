//! Roots of collection in a store that keeps named images. Pure.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use quinistry_oci::{Algorithm, Digest, RepositoryName};
use quinistry_store::{LooseRevision, RevisionRules};

use super::times::clock_tolerance;
use crate::peers::ContentKey;

/// Images that stay with all that they need, and the time until which the names have decided about others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedRoots {
    images: HashMap<RepositoryName, HashSet<Digest>>,
    decided: SystemTime,
}

/// Rules by which collection removes what no name needs; without roots, all manifests stay.
#[derive(Clone, Debug)]
pub(super) struct NamedRules(pub(super) Option<NamedRoots>);

impl NamedRoots {
    pub(super) fn new<'a>(images: impl Iterator<Item = &'a ContentKey>, decided: SystemTime) -> Self {
        let mut by_repository: HashMap<RepositoryName, HashSet<Digest>> = HashMap::new();
        for (repository, digest) in images {
            by_repository.entry(repository.clone()).or_default().insert(digest.clone());
        }
        Self { images: by_repository, decided }
    }

    /// Returns true if a manifest stays: it is named, or was pushed after the names have decided.
    pub(super) fn hold(&self, repository: &RepositoryName, digest: &Digest, pushed: SystemTime) -> bool {
        let named = self.images.get(repository);
        let is_later = pushed + clock_tolerance() >= self.decided;
        is_later || named.is_some_and(|named| named.contains(digest))
    }

    /// Returns true if all manifests of a repository stay, because the SHA-256 of a named one is not known.
    pub(super) fn hold_all(&self, repository: &RepositoryName) -> bool {
        let is_other = |digest: &Digest| digest.algorithm() != Algorithm::Sha256;
        self.images.get(repository).is_some_and(|named| named.iter().any(is_other))
    }
}

impl RevisionRules for NamedRules {
    fn kept(&self, repository: &RepositoryName, loose: &[LooseRevision]) -> HashSet<Digest> {
        let kept = loose.iter().filter(|revision| self.holds(repository, revision));
        kept.map(|revision| revision.digest.clone()).collect()
    }

    fn holds(&self, repository: &RepositoryName, revision: &LooseRevision) -> bool {
        let LooseRevision { digest, pushed } = revision;
        self.0.as_ref().is_none_or(|roots| roots.hold(repository, digest, *pushed))
    }

    /// Signatures of what stays stay with it, and go with what goes.
    fn keeps_referrers(&self, repository: &RepositoryName) -> bool {
        self.keeps_all(repository)
    }

    fn keeps_all(&self, repository: &RepositoryName) -> bool {
        self.0.as_ref().is_none_or(|roots| roots.hold_all(repository))
    }
}

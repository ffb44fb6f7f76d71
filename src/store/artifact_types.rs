//! Cache of the artifact types of a manifest's referrers, so that a query for one type reads only the
//! descriptors of that type.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinistry_oci::{Digest, RepositoryName};

/// Least number of referrers whose types are worth caching.
const MIN_CACHED_REFERRERS: usize = 256;

/// Capacity in referrers of all manifests together, of about 150 bytes each.
const ARTIFACT_TYPE_CAPACITY: usize = 100_000;

/// Digest and artifact type of a referrer.
pub(super) type Typed = (Digest, Option<Arc<str>>);

/// All referrers of a subject, with the version of the state that they are of.
type VersionedTypes = (String, Arc<[Typed]>);

/// Cache of types by repository and subject, each for one version of the repository's manifests.
#[derive(Debug, Default)]
pub(super) struct ArtifactTypes(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<RepositoryName, HashMap<Digest, VersionedTypes>>,
    count: usize,
    /// Number of changes of repositories.
    changes: u64,
}

impl ArtifactTypes {
    /// Returns all referrers of a subject, in order, if they are cached for that version of the repository.
    pub(super) fn get(&self, name: &RepositoryName, subject: &Digest, version: &str) -> Option<Arc<[Typed]>> {
        let inner = self.inner();
        inner.known.get(name)?.get(subject).filter(|(of, _)| of == version).map(|(_, types)| types.clone())
    }

    /// Returns the present number of changes. Call this before descriptors are read.
    pub(super) fn begin(&self) -> u64 {
        self.inner().changes
    }

    /// Caches all referrers of a subject, unless a repository was changed since the read began.
    pub(super) fn put(
        &self,
        begun: u64,
        name: &RepositoryName,
        subject: &Digest,
        version: String,
        types: Vec<Typed>,
    ) {
        let mut inner = self.inner();
        if inner.changes != begun || !(MIN_CACHED_REFERRERS..=ARTIFACT_TYPE_CAPACITY).contains(&types.len()) {
            return;
        }
        if inner.count + types.len() > ARTIFACT_TYPE_CAPACITY {
            inner.known.clear();
            inner.count = 0;
        }
        inner.count += types.len();
        let before =
            inner.known.entry(name.clone()).or_default().insert(subject.clone(), (version, types.into()));
        inner.count -= before.map_or(0, |(_, types)| types.len());
    }

    /// Removes the entries of a repository. Call before the repository is changed, and afterwards.
    pub(super) fn invalidate(&self, name: &RepositoryName) {
        let mut inner = self.inner();
        inner.changes += 1;
        let removed = inner.known.remove(name);
        inner.count -= removed.into_iter().flatten().map(|(_, (_, types))| types.len()).sum::<usize>();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing above panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_cached_for_one_version_until_a_change() {
        let types = ArtifactTypes::default();
        let (name, other) = ("a".parse().unwrap(), "b".parse().unwrap());
        let subject = Digest::sha256(b"");
        let many = |count: usize| vec![(subject.clone(), None); count];
        let put = |begun, name, count| types.put(begun, name, &subject, "1".into(), many(count));
        put(types.begin(), &name, MIN_CACHED_REFERRERS - 1);
        assert!(types.get(&name, &subject, "1").is_none());
        put(types.begin(), &name, MIN_CACHED_REFERRERS);
        put(types.begin(), &other, MIN_CACHED_REFERRERS);
        assert_eq!(types.get(&name, &subject, "1").unwrap().len(), MIN_CACHED_REFERRERS);
        assert!(types.get(&name, &subject, "2").is_none());
        let before = types.begin();
        types.invalidate(&name);
        assert!(types.get(&name, &subject, "1").is_none());
        assert!(types.get(&other, &subject, "1").is_some());
        put(before, &name, MIN_CACHED_REFERRERS);
        assert!(types.get(&name, &subject, "1").is_none());
        put(types.begin(), &name, ARTIFACT_TYPE_CAPACITY);
        assert!(types.get(&other, &subject, "1").is_none(), "all make room");
        put(types.begin(), &name, ARTIFACT_TYPE_CAPACITY);
        assert_eq!(types.inner().count, ARTIFACT_TYPE_CAPACITY);
    }
}

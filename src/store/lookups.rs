//! What references to manifests meant when they were looked up: so that what everybody pulls is answered from memory.
//!
//! What this program changes is forgotten at once. Another program may change the same folder, and nobody tells us; so
//! nothing is believed for longer than [`BELIEVED`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::oci::{Digest, Reference, RepositoryName};

/// How late another program's changes are seen.
const BELIEVED: Duration = Duration::from_secs(1);

/// So many are remembered; when there are more, all are forgotten.
const MOST: usize = 8192;

/// What a reference means.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    /// By which it was asked for, or that its tag was pushed with.
    pub(super) digest: Digest,
    /// Where its bytes lie.
    pub(super) canonical: Digest,
    /// The type that it was pushed with, if its bytes do not tell it.
    pub(super) pushed_as: Option<&'static str>,
}

#[derive(Debug, Default)]
pub(super) struct Meanings(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<RepositoryName, HashMap<Reference, (Meaning, Instant)>>,
    count: usize,
    /// How often something was changed.
    changes: u64,
}

/// When a look-up began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    changes: u64,
    at: Instant,
}

impl Meanings {
    /// To be asked before a reference is looked up.
    pub(super) fn begin(&self) -> Begun {
        Begun { changes: self.inner().changes, at: Instant::now() }
    }

    /// What was found; unless something was changed since, in which case it may be too old.
    pub(super) fn found(&self, begun: Begun, name: &RepositoryName, reference: &Reference, meaning: Meaning) {
        let mut inner = self.inner();
        if inner.changes != begun.changes {
            return;
        }
        if inner.count >= MOST {
            inner.known.clear();
            inner.count = 0;
        }
        let of_name = inner.known.entry(name.clone()).or_default();
        let before = of_name.insert(reference.clone(), (meaning, begun.at));
        inner.count += usize::from(before.is_none());
    }

    /// What a reference means, if that was looked up a moment ago and nothing in its repository has changed since.
    pub(super) fn get(&self, name: &RepositoryName, reference: &Reference) -> Option<Meaning> {
        let inner = self.inner();
        let (meaning, since) = inner.known.get(name)?.get(reference)?;
        (since.elapsed() < BELIEVED).then(|| meaning.clone())
    }

    /// Runs what changes what references of a repository mean. Who looks one up meanwhile sees the storage as it is.
    pub(super) fn changing<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        self.forget(name);
        // Also if it panics: then nobody knows what is so.
        let _after = Forget { meanings: self, name };
        change()
    }

    fn forget(&self, name: &RepositoryName) {
        let mut inner = self.inner();
        inner.changes += 1;
        let gone = inner.known.remove(name).map_or(0, |of_name| of_name.len());
        inner.count -= gone;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing below panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forget<'a> {
    meanings: &'a Meanings,
    name: &'a RepositoryName,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.meanings.forget(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn latest() -> Reference {
        "latest".parse().unwrap()
    }

    fn meaning(bytes: &[u8]) -> Meaning {
        let digest = Digest::sha256(bytes);
        Meaning { canonical: digest.clone(), digest, pushed_as: None }
    }

    fn meant(meanings: &Meanings, of: &str) -> Option<Digest> {
        meanings.get(&name(of), &latest()).map(|meaning| meaning.digest)
    }

    #[test]
    fn what_is_changed_is_forgotten_and_nothing_else() {
        let meanings = Meanings::default();
        for of in ["a", "b"] {
            meanings.found(meanings.begin(), &name(of), &latest(), meaning(b"1"));
        }
        meanings.changing(&name("a"), || assert_eq!(meant(&meanings, "a"), None));
        assert_eq!((meant(&meanings, "a"), meant(&meanings, "b")), (None, Some(Digest::sha256(b"1"))));
    }

    #[test]
    fn what_was_looked_up_before_a_change_or_during_it_is_not_remembered() {
        let meanings = Meanings::default();
        let before = meanings.begin();
        let during = meanings.changing(&name("a"), || meanings.begin());
        for begun in [before, during] {
            meanings.found(begun, &name("a"), &latest(), meaning(b"old"));
            assert_eq!(meant(&meanings, "a"), None);
        }
        meanings.found(meanings.begin(), &name("a"), &latest(), meaning(b"new"));
        assert_eq!(meant(&meanings, "a"), Some(Digest::sha256(b"new")));
    }

    #[test]
    fn what_was_looked_up_long_ago_is_not_believed() {
        let meanings = Meanings::default();
        let Some(long_ago) = Instant::now().checked_sub(BELIEVED) else { return };
        meanings.found(Begun { at: long_ago, ..meanings.begin() }, &name("a"), &latest(), meaning(b"1"));
        assert_eq!(meant(&meanings, "a"), None);
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let meanings = Meanings::default();
        for i in 0..MOST + 10 {
            meanings.found(meanings.begin(), &name("a"), &format!("v{i}").parse().unwrap(), meaning(b"1"));
        }
        let inner = meanings.inner();
        assert_eq!((inner.count, inner.known[&name("a")].len()), (10, 10));
    }
}

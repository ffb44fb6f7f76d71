//! Times at which tags were pushed, for targets that give each object the time of its copy.
//!
//! Retention counts from the time of a tag's last change. A folder is given the times of the source; for a
//! bucket, one object of each repository has them. An entry holds for the tag as it was copied: once the tag
//! is pushed again, its own time holds.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName, Tag};

use crate::layout;
use crate::storage::{Storage, StorageError};

/// Longest list of times that is read, in bytes: those of two million tags.
const MAX_TIMES_BYTES: u64 = 256 * 1024 * 1024;

/// Time by which a storage's clock may be behind the time that it gives an object: most stores tell whole
/// seconds.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);

/// Times at which tags of a repository were pushed before they were copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushedTimes(HashMap<Tag, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    digest: Digest,
    /// Time of the push, in milliseconds since 1970.
    pushed: u64,
    /// Time by the target's clock at which the tag was copied.
    copied: u64,
}

// === impl PushedTimes ===

impl PushedTimes {
    /// Reads the times of a repository; empty where none were copied.
    pub fn read(storage: &dyn Storage, repository: &RepositoryName) -> Result<Self, StorageError> {
        let found = storage.read(&layout::pushed_times(repository), MAX_TIMES_BYTES)?;
        Ok(found.as_deref().map(Self::parse).unwrap_or_default())
    }

    /// Returns the time at which a tag was pushed that refers to `digest` and was changed at `modified`.
    #[must_use]
    pub fn of(&self, tag: &Tag, digest: &Digest, modified: SystemTime) -> SystemTime {
        match self.0.get(tag) {
            Some(entry) if entry.digest == *digest && millis(modified) <= entry.copied => {
                SystemTime::UNIX_EPOCH + Duration::from_millis(entry.pushed)
            }
            _ => modified,
        }
    }

    /// Adds a tag that was pushed at `pushed`, and that the target has had since `copied`.
    pub(super) fn insert(&mut self, tag: &Tag, digest: &Digest, pushed: SystemTime, copied: SystemTime) {
        let (pushed, copied) = (millis(pushed), millis(copied));
        self.0.insert(tag.clone(), Entry { digest: digest.clone(), pushed, copied });
    }

    /// Takes over the entry of a tag, if there is one.
    pub(super) fn keep(&mut self, tag: &Tag, noted: &Self) {
        self.0.extend(noted.0.get(tag).map(|entry| (tag.clone(), entry.clone())));
    }

    /// Takes over the entry of a tag if it says that the tag was pushed at `pushed`, and changed at
    /// `modified`. Returns true if it does.
    pub(super) fn keep_for(
        &mut self,
        tag: &Tag,
        digest: &Digest,
        (pushed, modified): (SystemTime, SystemTime),
        noted: &Self,
    ) -> bool {
        let is_right = noted.0.get(tag).is_some_and(|entry| {
            entry.digest == *digest && millis(modified) <= entry.copied && entry.pushed == millis(pushed)
        });
        if is_right {
            self.keep(tag, noted);
        }
        is_right
    }

    /// Returns the time by which a tag that was just written is known, whatever time its store has given it.
    pub(super) fn just_copied(storage: &dyn Storage) -> SystemTime {
        storage.now() + CLOCK_GRAIN
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn parse(bytes: &[u8]) -> Self {
        let entry = |line: &str| {
            let mut fields = line.split(' ');
            let tag = fields.next()?.parse().ok()?;
            let digest = fields.next()?.parse().ok()?;
            let (pushed, copied) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            Some((tag, Entry { digest, pushed, copied }))
        };
        Self(String::from_utf8_lossy(bytes).lines().filter_map(entry).collect())
    }

    /// Returns the bytes that [`read`](Self::read) reads: a line for each tag, in order, with the tag, its
    /// digest, and the times of the push and of the copy in milliseconds since 1970.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_unstable_by_key(|(tag, _)| tag.as_str());
        let mut text = String::new();
        for (tag, Entry { digest, pushed, copied }) in entries {
            writeln!(text, "{tag} {digest} {pushed} {copied}").expect("writing to a string does not fail");
        }
        text.into_bytes()
    }
}

/// Returns a time in milliseconds since 1970; 0 for one before.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_time_holds_until_the_tag_is_pushed_again() {
        let (tag, digest): (Tag, _) = ("v1".parse().unwrap(), Digest::sha256(b"one"));
        let mut times = PushedTimes::default();
        times.insert(&tag, &digest, at(100), at(5000));
        let times = PushedTimes::parse(&times.to_bytes());
        assert_eq!(times.of(&tag, &digest, at(5000)), at(100));
        assert_eq!(times.of(&tag, &digest, at(5001)), at(5001), "pushed again");
        assert_eq!(times.of(&tag, &Digest::sha256(b"two"), at(5000)), at(5000), "moved");
        assert_eq!(times.of(&"v2".parse().unwrap(), &digest, at(5000)), at(5000), "not copied");
    }

    #[test]
    fn lines_that_are_not_understood_are_left_out() {
        assert!(PushedTimes::parse(b"\xff\nv1 sha256:00 1 2\nv1\n").is_empty());
    }
}

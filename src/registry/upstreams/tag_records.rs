//! Records of an upstream's tags, and the next step of a request for one. Pure.
//!
//! The stored tag is the lasting part: its link names the manifest, and outlives a restart. How old it is stays in
//! memory, so that each tag counts as old after a restart: the upstream is asked once, and without an answer the stored
//! manifest is served.

use std::time::{Duration, Instant};

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::bounded_map::BoundedMap;

/// Capacity in tags. A tag that is forgotten counts as old.
const CAPACITY: usize = 100_000;

/// Greatest number of tags that wait for one manifest.
const MAX_AWAITING_TAGS: usize = 16;

/// Shortest time for which a tag waits for its manifest: a client asks for both in one pull, also where each request for
/// a tag asks the upstream.
const MIN_AWAITING_LIFETIME: Duration = Duration::from_mins(1);

/// Headers of a manifest that is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownHead {
    pub(crate) digest: Digest,
    pub(crate) media_type: &'static str,
    pub(crate) length: u64,
}

/// Knowledge of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TagRecord {
    known: KnownTag,
    /// Time until which the upstream is not asked.
    due: Instant,
}

/// Manifest that a tag means by the upstream's last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum KnownTag {
    /// The stored manifest.
    Stored {
        /// The upstream has not confirmed the manifest when it was asked last.
        is_stale: bool,
    },
    /// A manifest of these headers, while the tag was not stored.
    Unstored(KnownHead),
    /// Another manifest than the one that the stored tag means. The store does not take the change.
    Moved {
        /// Manifest that the stored tag means.
        from: Digest,
        to: KnownHead,
    },
}

/// Next step of a request for a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TagStep {
    /// Serve the stored manifest.
    Serve {
        /// The upstream has not confirmed the manifest.
        is_stale: bool,
    },
    /// Answer HEAD by these headers.
    Head(KnownHead),
    /// Ask the upstream whether the tag still means the stored manifest.
    Refresh,
    /// Ask the upstream for this manifest, which the tag means instead of the stored one.
    Moved(Digest),
    /// Ask the upstream for the manifest, of which nothing is stored.
    Cold,
}

/// Knowledge of the tags of one upstream.
#[derive(Debug)]
pub(crate) struct TagRecords {
    records: BoundedMap<(RepositoryName, Tag), TagRecord>,
    /// Tags of manifests that clients know by HEAD, and will pull by digest, each with the end of its wait.
    awaiting: BoundedMap<(RepositoryName, Digest), Vec<(Tag, Instant)>>,
}

impl Default for TagRecords {
    fn default() -> Self {
        Self { records: BoundedMap::new(CAPACITY), awaiting: BoundedMap::new(CAPACITY) }
    }
}

impl TagRecords {
    /// Returns the next step of a request for a tag.
    pub(crate) fn step(
        &self,
        key: &(RepositoryName, Tag),
        stored: Option<&Digest>,
        is_head: bool,
        now: Instant,
    ) -> TagStep {
        match (stored, self.known(key, now)) {
            (Some(stored), Some(KnownTag::Moved { from, to })) if from == stored => {
                if is_head {
                    TagStep::Head(to.clone())
                } else {
                    TagStep::Moved(to.digest.clone())
                }
            }
            (Some(_), Some(KnownTag::Stored { is_stale })) => TagStep::Serve { is_stale: *is_stale },
            // Another replica has stored the tag since.
            (Some(_), Some(KnownTag::Unstored(_) | KnownTag::Moved { .. })) => {
                TagStep::Serve { is_stale: false }
            }
            (Some(_), None) => TagStep::Refresh,
            (None, Some(KnownTag::Unstored(head) | KnownTag::Moved { to: head, .. })) if is_head => {
                TagStep::Head(head.clone())
            }
            (None, _) => TagStep::Cold,
        }
    }

    /// Returns what a tag means, unless the upstream is to be asked again.
    fn known(&self, key: &(RepositoryName, Tag), now: Instant) -> Option<&KnownTag> {
        self.records.get(key).filter(|record| now < record.due).map(|record| &record.known)
    }

    /// Notes that the stored tag is served until `due`.
    pub(crate) fn note_stored(&mut self, key: (RepositoryName, Tag), due: Instant, is_stale: bool) {
        self.records.insert(key, TagRecord { known: KnownTag::Stored { is_stale }, due }, 1);
    }

    /// Notes that a tag means another manifest than the stored one, which the store does not take.
    pub(crate) fn note_moved(
        &mut self,
        key: (RepositoryName, Tag),
        from: Digest,
        to: KnownHead,
        due: Instant,
    ) {
        self.records.insert(key, TagRecord { known: KnownTag::Moved { from, to }, due }, 1);
    }

    /// Notes the headers of a tag of which nothing is stored. They are believed for `ttl`.
    pub(crate) fn note_head(
        &mut self,
        (name, tag): (RepositoryName, Tag),
        head: KnownHead,
        (now, ttl): (Instant, Duration),
    ) {
        let manifest = (name.clone(), head.digest.clone());
        let mut tags = self.awaiting.remove(&manifest).unwrap_or_default();
        tags.retain(|(other, until)| *other != tag && now < *until);
        if tags.len() < MAX_AWAITING_TAGS {
            tags.push((tag.clone(), now + ttl.max(MIN_AWAITING_LIFETIME)));
        }
        let weight = tags.len();
        self.awaiting.insert(manifest, tags, weight);
        self.records.insert((name, tag), TagRecord { known: KnownTag::Unstored(head), due: now + ttl }, 1);
    }

    /// Returns the tags that mean a manifest by the upstream's last answers to HEAD, as far as these are not old, and will
    /// be stored with the manifest.
    pub(crate) fn take_awaiting(&mut self, name: &RepositoryName, digest: &Digest, now: Instant) -> Vec<Tag> {
        let tags = self.awaiting.remove(&(name.clone(), digest.clone())).unwrap_or_default();
        let means = |tag: &Tag| {
            let known = self.records.get(&(name.clone(), tag.clone())).map(|record| &record.known);
            matches!(known, Some(KnownTag::Unstored(head)) if head.digest == *digest)
        };
        tags.into_iter().filter(|(tag, until)| now < *until && means(tag)).map(|(tag, _)| tag).collect()
    }

    /// Notes which of the tags that have waited are stored. Each is served as long as its headers were; the others are
    /// asked for again.
    pub(crate) fn note_taken(&mut self, name: &RepositoryName, taken: &[Tag], stored: &[Tag]) {
        for tag in taken {
            let key = (name.clone(), tag.clone());
            if let Some(record) = self.records.remove(&key)
                && stored.contains(tag)
            {
                self.note_stored(key, record.due, false);
            }
        }
    }

    /// Forgets the tags of a repository, which counts as old then.
    pub(crate) fn forget(&mut self, name: &RepositoryName) {
        self.records.retain(|(other, _)| other != name);
        self.awaiting.retain(|(other, _)| other != name);
    }

    /// Forgets one tag.
    pub(crate) fn forget_tag(&mut self, key: &(RepositoryName, Tag)) {
        self.records.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(tag: &str) -> (RepositoryName, Tag) {
        ("hub/library/a".parse().unwrap(), tag.parse().unwrap())
    }

    fn head(bytes: &[u8]) -> KnownHead {
        let media_type = quinistry_oci::media_type::OCI_MANIFEST;
        KnownHead { digest: Digest::sha256(bytes), media_type, length: bytes.len() as u64 }
    }

    /// Digest that the store has for a tag.
    fn stored() -> Digest {
        Digest::sha256(b"stored")
    }

    #[test]
    fn a_tag_is_asked_for_when_it_is_due_and_after_a_restart() {
        let (mut records, now) = (TagRecords::default(), Instant::now());
        let due = now + Duration::from_secs(10);
        assert_eq!(records.step(&key("a"), Some(&stored()), false, now), TagStep::Refresh);
        assert_eq!(records.step(&key("a"), None, false, now), TagStep::Cold);
        records.note_stored(key("a"), due, false);
        for is_head in [false, true] {
            assert_eq!(
                records.step(&key("a"), Some(&stored()), is_head, now),
                TagStep::Serve { is_stale: false }
            );
            assert_eq!(records.step(&key("a"), Some(&stored()), is_head, due), TagStep::Refresh);
            // The stored manifest was deleted.
            assert_eq!(records.step(&key("a"), None, is_head, now), TagStep::Cold);
        }
        records.note_stored(key("a"), due, true);
        assert_eq!(records.step(&key("a"), Some(&stored()), false, now), TagStep::Serve { is_stale: true });
        records.forget(&key("a").0);
        assert_eq!(records.step(&key("a"), Some(&stored()), false, now), TagStep::Refresh);
    }

    #[test]
    fn headers_answer_head_and_their_tags_wait_for_the_manifest() {
        let (mut records, now) = (TagRecords::default(), Instant::now());
        let ttl = Duration::from_mins(15);
        let due = now + ttl;
        for tag in ["a", "a", "b"] {
            records.note_head(key(tag), head(b"one"), (now, ttl));
        }
        records.note_head(key("c"), head(b"two"), (now, ttl));
        records.note_head(key("b"), head(b"two"), (now, ttl));
        assert_eq!(records.step(&key("a"), None, true, now), TagStep::Head(head(b"one")));
        assert_eq!(records.step(&key("a"), None, false, now), TagStep::Cold);
        assert_eq!(records.step(&key("a"), None, true, due), TagStep::Cold);
        // The tag b means another manifest by now.
        let (name, tag) = key("a");
        let tags = records.take_awaiting(&name, &head(b"one").digest, now);
        assert_eq!(tags, [tag]);
        records.note_taken(&name, &tags, &tags);
        assert_eq!(records.step(&key("a"), Some(&stored()), true, now), TagStep::Serve { is_stale: false });
        assert_eq!(records.take_awaiting(&name, &head(b"one").digest, now), []);
        let tags = records.take_awaiting(&name, &head(b"two").digest, now);
        assert_eq!(tags.len(), 2);
        // Another writer has given both to other manifests.
        records.note_taken(&name, &tags, &[]);
        assert_eq!(records.step(&key("c"), Some(&stored()), true, now), TagStep::Refresh);
        records.note_head(key("c"), head(b"two"), (now, ttl));
        assert_eq!(records.take_awaiting(&name, &head(b"two").digest, due), []);
        // Where each request asks, the pull that began with HEAD still stores its tag.
        records.note_head(key("c"), head(b"two"), (now, Duration::ZERO));
        let soon = now + Duration::from_secs(30);
        assert_eq!(records.step(&key("c"), None, true, soon), TagStep::Cold);
        assert_eq!(records.take_awaiting(&name, &head(b"two").digest, soon), [key("c").1]);
    }

    #[test]
    fn a_tag_that_has_moved_and_cannot_be_stored_is_known_until_it_is_due() {
        let (mut records, now) = (TagRecords::default(), Instant::now());
        let due = now + Duration::from_secs(10);
        records.note_moved(key("a"), stored(), head(b"one"), due);
        let step = |stored: Option<&Digest>, is_head, now| records.step(&key("a"), stored, is_head, now);
        assert_eq!(step(Some(&stored()), true, now), TagStep::Head(head(b"one")));
        assert_eq!(step(Some(&stored()), false, now), TagStep::Moved(head(b"one").digest));
        assert_eq!(step(Some(&stored()), false, due), TagStep::Refresh);
        assert_eq!(step(None, true, now), TagStep::Head(head(b"one")));
        // Another replica has moved the tag.
        let other = head(b"two").digest;
        assert_eq!(step(Some(&other), false, now), TagStep::Serve { is_stale: false });
    }
}

//! Copying of links to blobs, and of manifests once all of their parts are there.

use bytes::Bytes;
use quinistry_oci::{Digest, Manifest, media_type};

use super::blobs::PartState;
use super::listing::Pair;
use super::repository::{Compared, Item, RepositoryCopy};
use crate::MAX_LINK_BYTES;
use crate::layout::{Key, blob};
use crate::storage::{Entry, StorageError};

/// Number of manifests in memory at once, for each repository that is copied.
const MANIFESTS_AT_ONCE: usize = 16;

/// Greatest number of indexes that lie in each other: builders make two.
const MAX_DEPTH: usize = 32;

/// Longest media type, in bytes.
const MAX_MEDIA_TYPE_BYTES: u64 = 1024;

/// Manifest of a repository: its link, and its media type if there is one.
#[derive(Debug)]
pub(super) struct Revision {
    digest: Digest,
    link: Pair,
    media_type: Option<Pair>,
}

/// Revision with the bytes of its objects.
struct ReadRevision {
    revision: Revision,
    /// Digest of the manifest's bytes.
    canonical: Digest,
    link: Bytes,
    media_type: Option<Bytes>,
}

/// Parts of a manifest: those that are blobs, and those that may be manifests.
struct Parts {
    blobs: Vec<Digest>,
    manifests: Vec<Digest>,
}

impl RepositoryCopy<'_> {
    /// Copies links to blobs, of which the target has the bytes.
    pub(super) fn copy_layers(&mut self, batch: Vec<(Item, Pair)>) -> Result<(), StorageError> {
        let layers = batch.into_iter().filter_map(|(item, pair)| match item {
            Item::Layer(digest) => Some((digest, pair)),
            _ => None,
        });
        let Compared { equal, different } = self.compare(layers.collect(), MAX_LINK_BYTES, true)?;
        for (digest, _) in &equal {
            self.layers.insert(digest);
        }
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for (digest, pair, bytes) in &different {
            let Some(canonical) = self.canonical(digest, &pair.key, bytes) else { continue };
            match self.pass.ensure_blob(&canonical)? {
                PartState::Whole => {
                    self.layers.insert(digest);
                    entries.push((pair.key.clone(), bytes));
                }
                PartState::Missing => self.pass.report().dangling += 1,
                // The blob is a fault already.
                PartState::Failed => {}
            }
        }
        self.write(&[&entries])?;
        self.pass.report().links += entries.len() as u64;
        Ok(())
    }

    /// Copies manifests. Indexes wait until all others are there.
    pub(super) fn copy_manifests(&mut self, batch: Vec<(Item, Pair)>) -> Result<(), StorageError> {
        let mut revisions: Vec<Revision> = Vec::new();
        for (item, pair) in batch {
            match item {
                Item::Revision(digest) => revisions.push(Revision { digest, link: pair, media_type: None }),
                // A media type without a link is left of a push that was cut off.
                Item::MediaType(digest) => {
                    if let Some(last) = revisions.last_mut().filter(|last| last.digest == digest) {
                        last.media_type = Some(pair);
                    }
                }
                _ => {}
            }
        }
        let mut missing = Vec::new();
        for revision in revisions {
            let objects = [Some(&revision.link), revision.media_type.as_ref()];
            let is_there = objects.into_iter().flatten().all(Pair::has_equal_lengths);
            if is_there && !self.pass.wanted.verifies {
                self.pass.report().unchanged += 1;
                self.revisions.insert(&revision.digest);
                self.set_revision_time(&revision)?;
            } else {
                missing.push(revision);
            }
        }
        self.copy_revisions(missing, true)
    }

    /// Copies the indexes that waited.
    pub(super) fn copy_indexes(&mut self) -> Result<(), StorageError> {
        let indexes = std::mem::take(&mut self.indexes);
        self.copy_revisions(indexes, false)
    }

    fn copy_revisions(&mut self, revisions: Vec<Revision>, leaves_indexes: bool) -> Result<(), StorageError> {
        let mut rest = revisions.into_iter().peekable();
        while rest.peek().is_some() {
            let some = rest.by_ref().take(MANIFESTS_AT_ONCE).collect();
            let read = self.read_revisions(some)?;
            let keys: Vec<Key> = read.iter().map(|one| blob(&one.canonical)).collect();
            let manifests = self.pass.read(&keys, Manifest::MAX_LEN as u64)?;
            let mut whole = Vec::new();
            for (one, bytes) in read.into_iter().zip(manifests) {
                // An index around this one may have brought it.
                if self.revisions.contains(&one.revision.digest) {
                    continue;
                }
                let parts = Parts::of(&bytes.unwrap_or_default(), one.media_type.as_deref());
                if leaves_indexes && !parts.manifests.is_empty() {
                    self.indexes.push(one.revision);
                } else if self.has_parts(&one.revision.digest, &parts)? {
                    whole.push(one);
                }
            }
            self.write_revisions(&whole)?;
        }
        Ok(())
    }

    /// Reads revisions whose manifests the target has, or gets now.
    fn read_revisions(&mut self, revisions: Vec<Revision>) -> Result<Vec<ReadRevision>, StorageError> {
        let keys: Vec<Key> = revisions.iter().map(|revision| revision.link.key.clone()).collect();
        let links = self.pass.read(&keys, MAX_LINK_BYTES)?;
        let mut all = Vec::new();
        for (revision, link) in revisions.into_iter().zip(links) {
            let Some(link) = link else { continue };
            let Some(canonical) = self.canonical(&revision.digest, &revision.link.key, &link) else {
                self.failed.insert(revision.digest);
                continue;
            };
            match self.pass.ensure_blob(&canonical)? {
                PartState::Whole => {}
                PartState::Missing => {
                    self.pass.report().dangling += 1;
                    continue;
                }
                PartState::Failed => {
                    self.fail(&revision.digest, "its bytes could not be copied");
                    continue;
                }
            }
            let media_type = match &revision.media_type {
                Some(pair) => {
                    self.pass.read(std::slice::from_ref(&pair.key), MAX_MEDIA_TYPE_BYTES)?.pop().flatten()
                }
                None => None,
            };
            all.push(ReadRevision { revision, canonical, link, media_type });
        }
        Ok(all)
    }

    fn write_revisions(&mut self, whole: &[ReadRevision]) -> Result<(), StorageError> {
        let media_types: Vec<Entry<'_>> = whole
            .iter()
            .filter_map(|one| {
                let (pair, bytes) = one.revision.media_type.as_ref().zip(one.media_type.as_ref())?;
                Some((pair.key.clone(), &bytes[..]))
            })
            .collect();
        let links: Vec<Entry<'_>> =
            whole.iter().map(|one| (one.revision.link.key.clone(), &one.link[..])).collect();
        // What is verified is counted as copied only if the target lacked it.
        let new = whole.iter().filter(|one| one.revision.link.to.is_none()).count() as u64;
        self.write(&[&media_types, &links])?;
        {
            let mut report = self.pass.report();
            report.manifests += new;
            report.unchanged += whole.len() as u64 - new;
        }
        for one in whole {
            self.revisions.insert(&one.revision.digest);
            self.set_revision_time(&one.revision)?;
        }
        Ok(())
    }

    /// Gives the link of a manifest the time of the source: retention counts the age of manifests without
    /// tags from it.
    fn set_revision_time(&self, revision: &Revision) -> Result<(), StorageError> {
        let Pair { key, from: Some(from), to } = &revision.link else { return Ok(()) };
        let is_set = to.as_ref().is_some_and(|to| to.modified == from.modified);
        if !is_set && !self.pass.wanted.is_dry_run {
            self.pass.to.set_modified(key, from.modified)?;
        }
        Ok(())
    }

    /// Returns true if the target has all parts of a manifest that the source has. Parts are copied that the
    /// source was given after its listing.
    fn has_parts(&mut self, digest: &Digest, parts: &Parts) -> Result<bool, StorageError> {
        for part in &parts.blobs {
            if self.layer(part)? == PartState::Failed {
                self.fail(digest, &format!("its blob {part} could not be copied"));
                return Ok(false);
            }
        }
        for part in &parts.manifests {
            let state = match self.revision(part)? {
                // An entry of an index may be a blob, as caches of builders have them.
                PartState::Missing => self.layer(part)?,
                state => state,
            };
            if state == PartState::Failed {
                self.fail(digest, &format!("its part {part} could not be copied"));
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fail(&mut self, digest: &Digest, reason: &str) {
        if self.failed.insert(digest.clone()) {
            self.pass.add_fault(&format_args!("{}@{digest}", self.name), &reason);
        }
    }

    /// Returns the state of a blob of the repository.
    fn layer(&mut self, digest: &Digest) -> Result<PartState, StorageError> {
        if self.layers.contains(digest) {
            return Ok(PartState::Whole);
        }
        let key = self.place().layer_link(digest);
        let read = self.pass.read(std::slice::from_ref(&key), MAX_LINK_BYTES)?.pop().flatten();
        let Some(bytes) = read else { return Ok(PartState::Missing) };
        let Some(canonical) = self.canonical(digest, &key, &bytes) else { return Ok(PartState::Failed) };
        let state = self.pass.ensure_blob(&canonical)?;
        if state == PartState::Whole {
            self.write(&[&[(key, &bytes)]])?;
            self.pass.report().links += 1;
            self.layers.insert(digest);
        }
        Ok(state)
    }

    /// Returns the state of a manifest of the repository.
    pub(super) fn revision(&mut self, digest: &Digest) -> Result<PartState, StorageError> {
        if self.revisions.contains(digest) {
            return Ok(PartState::Whole);
        }
        if self.failed.contains(digest) {
            return Ok(PartState::Failed);
        }
        if self.depth >= MAX_DEPTH {
            self.fail(digest, &format!("lies in more than {MAX_DEPTH} indexes"));
            return Ok(PartState::Failed);
        }
        let pair = |key: Key| -> Result<Option<Pair>, StorageError> {
            let Some(from) = self.pass.from.head(&key)? else { return Ok(None) };
            let to = self.pass.to.head(&key)?;
            Ok(Some(Pair { key, from: Some(from), to }))
        };
        let Some(link) = pair(self.place().revision_link(digest))? else { return Ok(PartState::Missing) };
        let media_type = pair(self.place().revision_type(digest))?;
        self.depth += 1;
        let copied = self.copy_revisions(vec![Revision { digest: digest.clone(), link, media_type }], false);
        self.depth -= 1;
        copied?;
        Ok(if self.revisions.contains(digest) {
            PartState::Whole
        } else if self.failed.contains(digest) {
            PartState::Failed
        } else {
            PartState::Missing
        })
    }
}

// === impl Parts ===

impl Parts {
    /// Returns the parts of a manifest. Of one that is not understood, every digest in its text may be a
    /// part.
    fn of(bytes: &[u8], pushed_as: Option<&[u8]>) -> Self {
        let pushed_as = pushed_as.and_then(|text| std::str::from_utf8(text).ok()).map(str::trim);
        let media_type = pushed_as.or_else(|| Manifest::type_of(bytes));
        let manifest = if media_type == Some(media_type::DOCKER_SCHEMA_1) {
            Manifest::of_schema_1(bytes)
        } else {
            Manifest::parse(bytes, media_type)
        };
        match manifest {
            Ok(manifest) if !Manifest::has_other_spelling(bytes) => Self {
                blobs: manifest.blobs.into_iter().chain(manifest.foreign).map(|part| part.digest).collect(),
                manifests: manifest.manifests.into_iter().map(|part| part.digest).collect(),
            },
            _ => Self { blobs: Vec::new(), manifests: Manifest::mentions(bytes).into_iter().collect() },
        }
    }
}

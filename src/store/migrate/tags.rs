//! Copying of the entries of tags' indexes, of the rows of referrers, and of tags with their times.

use std::time::SystemTime;

use quinistry_oci::{Digest, Manifest, Tag};

use super::blobs::{PartState, link_target};
use super::listing::Pair;
use super::pushed::PushedTimes;
use super::repository::{Compared, Item, RepositoryCopy};
use crate::MAX_LINK_BYTES;
use crate::layout::{self, Key};
use crate::storage::{Entry, StorageError};

/// Number of tags that are copied at once.
const TAGS_AT_ONCE: usize = 256;

/// Tag to write: its digest, the entry of its index, and its own.
struct NewTag {
    tag: Tag,
    digest: Digest,
    pair: Pair,
    bytes: bytes::Bytes,
}

/// Times of a repository's tags.
struct TagTimes {
    /// Times that the source has got from its own source.
    of_source: PushedTimes,
    /// Times that an earlier pass has noted in the target.
    noted: PushedTimes,
    /// Times to note.
    wanted: PushedTimes,
}

impl RepositoryCopy<'_> {
    /// Copies entries of tags' indexes, by which distribution finds what a tag has meant.
    pub(super) fn copy_index_entries(&mut self, batch: Vec<(Item, Pair)>) -> Result<(), StorageError> {
        let Compared { different, .. } = self.compare(batch, MAX_LINK_BYTES, true)?;
        // Distribution lists a tag that has an index, although the tag itself is not copied.
        let is_left_out = |item: &Item| matches!(item, Item::Index(digest) if self.failed.contains(digest));
        let entries: Vec<Entry<'_>> = different
            .iter()
            .filter(|(item, ..)| !is_left_out(item))
            .map(|(_, pair, bytes)| (pair.key.clone(), &bytes[..]))
            .collect();
        self.write(&[&entries])?;
        self.pass.report().others += entries.len() as u64;
        Ok(())
    }

    /// Copies the rows of referrers that the target has.
    pub(super) fn copy_rows(&mut self, batch: Vec<(Item, Pair)>) -> Result<(), StorageError> {
        let Compared { different, .. } = self.compare(batch, Manifest::MAX_LEN as u64, true)?;
        let is_there = |item: &Item| matches!(item, Item::Row(digest) if self.revisions.contains(digest));
        let entries: Vec<Entry<'_>> = different
            .iter()
            .filter(|(item, ..)| is_there(item))
            .map(|(_, pair, bytes)| (pair.key.clone(), &bytes[..]))
            .collect();
        self.write(&[&entries])?;
        self.pass.report().others += entries.len() as u64;
        Ok(())
    }

    /// Copies tags whose manifests the target has, and their times.
    pub(super) fn copy_tags(&mut self) -> Result<(), StorageError> {
        let mut rest = std::mem::take(&mut self.tags).into_iter().peekable();
        if rest.peek().is_none() {
            return Ok(());
        }
        let mut times = TagTimes {
            of_source: PushedTimes::read(self.pass.from, self.name)?,
            noted: PushedTimes::read(self.pass.to, self.name)?,
            wanted: PushedTimes::default(),
        };
        while rest.peek().is_some() {
            let mut some = Vec::new();
            for (tag, pair) in rest.by_ref().take(TAGS_AT_ONCE) {
                if self.is_known(&pair) {
                    self.pass.report().unchanged += 1;
                    times.wanted.keep(&tag, &times.noted);
                } else {
                    some.push((tag, pair));
                }
            }
            self.copy_some_tags(some, &mut times)?;
        }
        if times.wanted.is_empty() || times.wanted == times.noted {
            return Ok(());
        }
        self.write(&[&[(layout::pushed_times(self.name), &times.wanted.to_bytes())]])
    }

    /// Returns true if an earlier pass has compared a tag that was not changed since.
    fn is_known(&self, pair: &Pair) -> bool {
        let is_old = |since| pair.from.as_ref().is_some_and(|from| from.modified < since);
        self.pass.wanted.tags_since.is_some_and(is_old) && pair.has_equal_lengths()
    }

    fn copy_some_tags(&mut self, tags: Vec<(Tag, Pair)>, times: &mut TagTimes) -> Result<(), StorageError> {
        self.pass.observer.looked_at(tags.len() as u64);
        let Compared { equal, different } = self.compare(tags, MAX_LINK_BYTES, false)?;
        self.set_equal_times(equal, times)?;
        let mut new: Vec<NewTag> = Vec::new();
        for (tag, pair, bytes) in different {
            let subject = format!("{}:{tag}", self.name);
            let Some(digest) = link_target(&bytes) else {
                self.pass.add_fault(&pair.key, &"is not a valid link");
                continue;
            };
            if pair.to.is_some() && !self.pass.wanted.overwrites {
                self.pass.add_fault(
                    &subject,
                    &"refers to another manifest in the target, and stays as it is there",
                );
                continue;
            }
            match self.revision(&digest)? {
                PartState::Whole => new.push(NewTag { tag, digest, pair, bytes }),
                PartState::Missing => {
                    self.pass.add_fault(
                        &subject,
                        &format_args!("refers to {digest}, which the source does not have"),
                    );
                }
                PartState::Failed => {
                    self.pass
                        .add_fault(&subject, &format_args!("refers to {digest}, which could not be copied"));
                }
            }
        }
        self.write_tags(&new, times)
    }

    fn write_tags(&mut self, new: &[NewTag], times: &mut TagTimes) -> Result<(), StorageError> {
        // The entry of a tag that was pushed after the listing of indexes was not copied yet.
        let place = self.place();
        let keys: Vec<Key> = new.iter().map(|new| place.tag_index(&new.tag, &new.digest)).collect();
        let indexes = if keys.is_empty() { Vec::new() } else { self.pass.read(&keys, MAX_LINK_BYTES)? };
        let indexes: Vec<Entry<'_>> = keys
            .iter()
            .zip(&indexes)
            .filter_map(|(key, bytes)| Some((key.clone(), bytes.as_deref()?)))
            .collect();
        let currents: Vec<Entry<'_>> = new.iter().map(|new| (new.pair.key.clone(), &new.bytes[..])).collect();
        self.write(&[&indexes, &currents])?;
        self.pass.report().tags += new.len() as u64;
        if self.pass.wanted.is_dry_run {
            return Ok(());
        }
        let copied = PushedTimes::just_copied(self.pass.to);
        for NewTag { tag, digest, pair, .. } in new {
            let Some(from) = &pair.from else { continue };
            let pushed = times.of_source.of(tag, digest, from.modified);
            if !self.pass.to.set_modified(&pair.key, pushed)? {
                times.wanted.insert(tag, digest, pushed, copied);
            }
        }
        Ok(())
    }

    /// Gives tags that were copied before the times of the source, unless they have them.
    fn set_equal_times(&self, equal: Vec<(Tag, Pair)>, times: &mut TagTimes) -> Result<(), StorageError> {
        if self.pass.wanted.is_dry_run {
            return Ok(());
        }
        let keys: Vec<Key> = equal.iter().map(|(_, pair)| pair.key.clone()).collect();
        let read = if keys.is_empty() { Vec::new() } else { self.pass.to.read_all(&keys, MAX_LINK_BYTES)? };
        for ((tag, pair), bytes) in equal.into_iter().zip(read) {
            let (Some(from), Some(to)) = (&pair.from, &pair.to) else { continue };
            let Some(digest) = bytes.as_deref().and_then(link_target) else { continue };
            let pushed = times.of_source.of(&tag, &digest, from.modified);
            self.set_time(&tag, &digest, &pair.key, (pushed, to.modified), times)?;
        }
        Ok(())
    }

    fn set_time(
        &self,
        tag: &Tag,
        digest: &Digest,
        key: &Key,
        (pushed, modified): (SystemTime, SystemTime),
        times: &mut TagTimes,
    ) -> Result<(), StorageError> {
        if pushed == modified || self.pass.to.set_modified(key, pushed)? {
            return Ok(());
        }
        if !times.wanted.keep_for(tag, digest, (pushed, modified), &times.noted) {
            times.wanted.insert(tag, digest, pushed, modified);
        }
        Ok(())
    }
}

//! Tags on a shared storage, found by flat scans and removed under conditions.
//!
//! The keys of a tag stand together in the order of bytes, but those of `v1` stand behind those of `v1-rc` and
//! `v1.0`, since `-` and `.` sort before `/`. Only the order of whole keys is relied on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use bytes::Bytes;
use quinistry_oci::{Digest, RepositoryName, Tag};

use crate::layout::{Key, RepositoryKeys, TAG_LINK};
use crate::storage::{Created, Fence, Meta, ObjectTag, Removed, SCAN_PAGE_SIZE};
use crate::{MAX_LINK_BYTES, Store, StoreError};

/// Number of scans of one tag list at a time.
const SCANS_AT_ONCE: usize = 16;

/// First characters of tags, in the order of their bytes (distribution-spec, "Pulling manifests").
const FIRST_CHARACTERS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/// Attempts to remove a tag that is written again and again.
const MAX_REMOVALS: usize = 8;

/// Part of a repository's tags, by the keys that it lies between.
#[derive(Clone, Debug, Default)]
struct TagRange {
    /// Key after which the range begins; `None` for the first tag.
    after: Option<Key>,
    /// Last first character of the range; `None` for all behind.
    until: Option<char>,
}

/// Keys of one tag.
#[derive(Debug)]
struct TagKeys {
    /// Fence from before the keys were read.
    fence: Option<Fence>,
    link: Meta,
    /// Index entries, with their metadata.
    index: Vec<(Key, Meta)>,
}

impl Store {
    /// Returns all tags of a repository in order; `None` if the repository has no key of a tag.
    pub(crate) fn scan_tags(&self, name: &RepositoryName) -> Result<Option<Vec<Tag>>, StoreError> {
        let tags = Mutex::new(Vec::new());
        let has_keys = self.visit_tags(name, TAG_LINK, &|tag, rest, _| {
            if rest == TAG_LINK
                && let Ok(tag) = tag.parse::<Tag>()
            {
                tags.lock().unwrap_or_else(PoisonError::into_inner).push(tag);
            }
        })?;
        let mut tags = tags.into_inner().unwrap_or_else(PoisonError::into_inner);
        tags.sort_unstable();
        tags.dedup();
        Ok(has_keys.then_some(tags))
    }

    /// Visits the keys of all tags, in any order: with the tag's name, the path beneath it and the metadata. May leave
    /// out the keys of a tag that stand behind the path `enough`. Returns true if there are any.
    fn visit_tags(
        &self,
        name: &RepositoryName,
        enough: &str,
        visit: &(dyn Fn(&str, &str, &Meta) + Sync),
    ) -> Result<bool, StoreError> {
        let mut all = TagRange::default();
        let has_keys = self.visit_page(name, &mut all, enough, visit)?;
        let Some(after) = all.after else { return Ok(has_keys) };
        // More than one page: by first characters, several at once.
        let place = RepositoryKeys(name);
        let folder = place.tags();
        let is_left =
            |begin: &char| after.beneath(&folder).is_none_or(|(tag, _)| tag < begin.to_string().as_str());
        let behind = FIRST_CHARACTERS.chars().filter(is_left);
        let behind = behind.map(|begin| TagRange { after: Some(place.tags_from(begin)), until: Some(begin) });
        let first = after.beneath(&folder).and_then(|(tag, _)| tag.chars().next());
        let ranges: Vec<TagRange> =
            [TagRange { after: Some(after.clone()), until: first }].into_iter().chain(behind).collect();
        let next = AtomicUsize::new(0);
        let scan = || -> Result<(), StoreError> {
            while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut range = range.clone();
                if !self.has_tags(&folder, &range)? {
                    continue;
                }
                while range.after.is_some() {
                    self.visit_page(name, &mut range, enough, visit)?;
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let scans: Vec<_> = (0..SCANS_AT_ONCE.min(ranges.len())).map(|_| scope.spawn(scan)).collect();
            scans.into_iter().try_for_each(|scan| scan.join().expect("a scan does not panic"))
        })?;
        Ok(true)
    }

    /// Returns true if a range has keys. Most of the first characters begin no tag, and a whole page would be read to
    /// learn that.
    fn has_tags(&self, folder: &Key, range: &TagRange) -> Result<bool, StoreError> {
        let page = self.storage().scan(folder, range.after.as_ref(), 1)?;
        let first = page.entries.first().and_then(|(key, _)| key.beneath(folder)?.0.chars().next());
        Ok(first.is_some_and(|first| range.until.is_none_or(|until| first <= until)))
    }

    /// Visits one page of a range, which then begins behind the page; its beginning is `None` at the end.
    fn visit_page(
        &self,
        name: &RepositoryName,
        range: &mut TagRange,
        enough: &str,
        visit: &(dyn Fn(&str, &str, &Meta) + Sync),
    ) -> Result<bool, StoreError> {
        let place = RepositoryKeys(name);
        let folder = place.tags();
        let page = self.storage().scan(&folder, range.after.as_ref(), SCAN_PAGE_SIZE)?;
        range.after = page.next;
        for (key, meta) in &page.entries {
            let Some((tag, rest)) = key.beneath(&folder) else { continue };
            let is_behind = |last: char| tag.chars().next().is_some_and(|first| first > last);
            if range.until.is_some_and(is_behind) {
                range.after = None;
                break;
            }
            visit(tag, rest, meta);
        }
        // A tag that was moved many times has an index of many keys.
        if let Some((tag, rest)) = range.after.as_ref().and_then(|after| after.beneath(&folder))
            && rest >= enough
        {
            range.after = Some(place.behind_tag(tag));
        }
        Ok(!page.entries.is_empty())
    }

    /// Returns the tags that refer to a manifest by any of its digests.
    ///
    /// Each has an index entry of the digest, which is written before the tag. Where the storage gives equal bytes
    /// equal tags, a link is also recognised by `like`, the tags of links with the same bytes.
    pub(super) fn tags_referring_to(
        &self,
        name: &RepositoryName,
        digests: &[Digest],
        like: &[ObjectTag],
    ) -> Result<Vec<Tag>, StoreError> {
        let place = RepositoryKeys(name);
        let entries: Vec<String> = digests.iter().map(index_path).collect();
        let last = entries.iter().max().map_or(TAG_LINK, String::as_str);
        let found: Mutex<BTreeSet<String>> = Mutex::default();
        self.visit_tags(name, last, &|tag, rest, meta| {
            if rest == TAG_LINK && like.contains(&meta.tag) || entries.iter().any(|entry| entry == rest) {
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.to_owned());
            }
        })?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tags: Vec<Tag> = found.into_iter().filter_map(|tag| tag.parse().ok()).collect();
        let keys: Vec<Key> = tags.iter().map(|tag| place.tag_link(tag)).collect();
        let links = self.storage().read_all(&keys, MAX_LINK_BYTES)?;
        let refers =
            |link: Option<Bytes>| link.as_ref().and_then(digest_of).is_some_and(|of| digests.contains(&of));
        Ok(tags.into_iter().zip(links).filter_map(|(tag, link)| refers(link).then_some(tag)).collect())
    }

    /// Gives a manifest tags that are absent. Fails if one of them refers to another manifest, and then removes those
    /// that it created.
    pub(crate) fn create_shared_tags(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        let mut created = Vec::new();
        for tag in tags {
            let key = RepositoryKeys(name).tag_link(tag);
            let existing = match self.storage().create(&key, digest.as_str().as_bytes())? {
                Created::New => {
                    created.push(tag);
                    continue;
                }
                Created::Exists(link) => digest_of(&link),
            };
            let Some(existing) = existing else {
                // A link that another program has torn refers to no manifest.
                self.put_tags(name, std::slice::from_ref(tag), digest)?;
                continue;
            };
            if existing == *digest || self.revision(name, &existing)? == self.revision(name, digest)? {
                continue;
            }
            for created in created {
                self.remove_shared_tag_of(name, created, std::slice::from_ref(digest), None)?;
            }
            return Err(StoreError::TagExists(tag.clone()));
        }
        Ok(())
    }

    /// Removes a tag, whatever it refers to. Returns false if there was none. A push that comes in between counts as
    /// later, and stays.
    pub(crate) fn remove_shared_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<bool, StoreError> {
        let Some(keys) = self.keys_of_tag(name, tag)? else { return Ok(false) };
        match self.remove_within(keys.fence, &RepositoryKeys(name).tag_link(tag), &keys.link.tag)? {
            Some(Removed::Removed) => self.remove_index(name, tag, &keys)?,
            Some(Removed::Changed | Removed::Absent) => {}
            None => return Err(StoreError::Unvouched),
        }
        Ok(true)
    }

    /// Removes a tag if its link has this metadata. Returns false if it was written or removed since.
    pub(crate) fn remove_shared_tag_if(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        judged: &Meta,
    ) -> Result<bool, StoreError> {
        let Some(keys) = self.keys_of_tag(name, tag)?.filter(|keys| keys.link == *judged) else {
            return Ok(false);
        };
        let link = RepositoryKeys(name).tag_link(tag);
        let is_removed = self.remove_within(keys.fence, &link, &judged.tag)? == Some(Removed::Removed);
        if is_removed {
            self.remove_index(name, tag, &keys)?;
        }
        Ok(is_removed)
    }

    /// Removes a tag if it refers to one of `digests`, and was not written since `begun`.
    pub(crate) fn remove_shared_tag_of(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digests: &[Digest],
        begun: Option<SystemTime>,
    ) -> Result<(), StoreError> {
        let key = RepositoryKeys(name).tag_link(tag);
        let mut is_unknown = false;
        for _ in 0..MAX_REMOVALS {
            let Some(keys) = self.keys_of_tag(name, tag)? else { return Ok(()) };
            if begun.is_some_and(|begun| keys.link.modified >= begun) {
                return Ok(());
            }
            if !self.link(&key)?.is_some_and(|target| digests.contains(&target)) {
                return Ok(());
            }
            self.check_heard()?;
            match self.remove_within(keys.fence, &key, &keys.link.tag)? {
                Some(Removed::Removed | Removed::Absent) => return self.remove_index(name, tag, &keys),
                removed => is_unknown = removed.is_none(),
            }
        }
        if is_unknown { Err(StoreError::Unvouched) } else { Ok(()) }
    }

    fn keys_of_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<TagKeys>, StoreError> {
        let place = RepositoryKeys(name);
        let link_key = place.tag_link(tag);
        let fence = self.storage().fence();
        let (mut link, mut index) = (None, Vec::new());
        self.scan(&place.tag(tag), |key, meta| {
            if key == link_key {
                link = Some(meta);
            } else {
                index.push((key, meta));
            }
            Ok(())
        })?;
        Ok(link.map(|link| TagKeys { fence, link, index }))
    }

    /// Removes the index entries of a removed tag, but not that of a push that has come since.
    ///
    /// A push writes its entry, then the tag, and then looks whether the entry is there. An entry that is newer than
    /// the removed tag is left to its push; one that looks older and is removed is put back by the push, or, if the
    /// push was over before, here.
    fn remove_index(&self, name: &RepositoryName, tag: &Tag, keys: &TagKeys) -> Result<(), StoreError> {
        let place = RepositoryKeys(name);
        let link = place.tag_link(tag);
        let now = self.link(&link)?.map(|digest| place.tag_index(tag, &digest));
        let is_old =
            |(key, meta): &&(Key, Meta)| meta.modified <= keys.link.modified && Some(key) != now.as_ref();
        let mut removed = Vec::new();
        for (key, meta) in keys.index.iter().filter(is_old) {
            if self.remove_within(keys.fence, key, &meta.tag)? == Some(Removed::Removed) {
                removed.push(key);
            }
        }
        if !removed.is_empty()
            && let Some(digest) = self.link(&link)?
            && removed.contains(&&place.tag_index(tag, &digest))
        {
            self.index_tags(name, std::slice::from_ref(tag), &digest)?;
        }
        Ok(())
    }
}

/// Returns the path of an index entry beneath the folder of its tag.
fn index_path(digest: &Digest) -> String {
    format!("index/{}/{}/link", digest.algorithm().as_str(), digest.hex())
}

/// Returns the digest that the bytes of a link name.
fn digest_of(link: &Bytes) -> Option<Digest> {
    std::str::from_utf8(link).ok()?.trim().parse().ok()
}

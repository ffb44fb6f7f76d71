//! Commits and removals of manifests on a shared storage, in an order that holds against each other.
//!
//! A push writes a tag, and then looks whether the revision is still there; a removal removes the revision, and then
//! looks for tags that refer to it. Keys and lists show each change at once, so that of both at the same time one sees
//! the other and puts the revision back: no tag stays without its revision. The index entry of a tag, by which the
//! removal of a manifest finds the tag, is kept against removals of the tag in the same way.

use std::time::SystemTime;

use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName, Tag, to_json};

use crate::blobs::link_to;
use crate::gc::online::safeguard::Safeguard;
use crate::intents::{Intent, ignore_intent_to_tag};
use crate::layout::{Key, RepositoryKeys, blob};
use crate::manifests::{MAX_STORED_MANIFEST_BYTES, tag_indexes};
use crate::storage::{Entry, Meta, ObjectTag};
use crate::{MAX_LINK_BYTES, Store, StoreError, Usage};

/// Attempts to put a revision back that removals take away again and again.
const MAX_REPAIRS: usize = 8;

/// Manifest that is about to be removed or tagged, as far as it must be known to be put back.
#[derive(Debug, Default)]
struct Remains {
    /// Media type and descriptor, which belong before the links.
    rows: Vec<(Key, Vec<u8>)>,
    /// True if the manifest is a referrer.
    has_subject: bool,
}

// === impl Remains ===

impl Remains {
    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.rows.iter().map(|(key, row)| (key.clone(), &row[..]))
    }
}

impl Store {
    /// Removes a manifest with all of its tags. Returns the usage that this freed, and the tags.
    pub(crate) fn delete_shared_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<(Usage, Vec<Tag>), StoreError> {
        let digests = self.names_of(name, digest)?;
        let tags = self.tags_referring_to(name, &digests, &self.link_tags(name, &digests)?)?;
        self.check_deletable(name, &tags)?;
        let freed = Usage { bytes: self.quota_bytes(name, &digests[0])?, tags: tags.len() as u64 };
        let all = Intent::Delete { repository: name.clone(), digests, tags: tags.clone() };
        self.carry_out(&all, || Ok(()))?;
        Ok((freed, tags))
    }

    /// Finishes the tagging of a manifest that another replica began, but for the existing tags that are left: those
    /// that were written since, in the same second as well, or all. Of times in whole seconds, equal ones have no order,
    /// and the change that is finished was not acknowledged.
    ///
    /// Between the look at an existing tag and the write a push can come, which is then overwritten. Storages have no
    /// conditional write to exclude that; the requests follow each other, so that the time for it is one round trip.
    pub(crate) fn finish_shared_tags(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        tags: &[Tag],
        is_left: &dyn Fn(&Tag, &Meta) -> bool,
    ) -> Result<(), StoreError> {
        let digests = match self.names_of(name, digest) {
            Err(StoreError::ManifestUnknown) => Vec::new(),
            digests => digests?,
        };
        let remains = digests.iter().map(|digest| self.remains(name, digest));
        let remains: Option<Vec<Remains>> = remains.collect::<Result<_, _>>()?;
        let (Some(remains), Some(canonical)) = (remains, digests.first()) else {
            ignore_intent_to_tag(name, digest);
            return Ok(());
        };
        let place = RepositoryKeys(name);
        self.index_tags(name, tags, digest)?;
        for tag in tags {
            let key = place.tag_link(tag);
            let found = self.storage().head(&key)?;
            self.check_heard()?;
            match found {
                None => drop(self.storage().create(&key, digest.as_str().as_bytes())?),
                Some(link) if is_left(tag, &link) => {}
                Some(_) => self.put_tags(name, std::slice::from_ref(tag), digest)?,
            }
        }
        let rows: Vec<Entry<'_>> = remains.iter().flat_map(Remains::entries).collect();
        let links: Vec<Entry<'_>> =
            digests.iter().map(|digest| link_to(place.revision_link(digest), canonical)).collect();
        let index: Vec<Entry<'_>> = tag_indexes(name, tags, digest).collect();
        self.keep_revision(&rows, &links, &index)
    }

    /// Carries out a removal. Steps of an intent that was written at `begun` leave what was written since, in the same
    /// second as well.
    pub(crate) fn perform_shared_delete(
        &self,
        name: &RepositoryName,
        digests: &[Digest],
        tags: &[Tag],
        begun: Option<SystemTime>,
    ) -> Result<(), StoreError> {
        let place = RepositoryKeys(name);
        for tag in tags {
            self.remove_shared_tag_of(name, tag, digests, begun)?;
        }
        let like = self.link_tags(name, digests)?;
        let remains = digests.iter().map(|digest| self.remains(name, digest));
        let remains: Vec<Option<Remains>> = remains.collect::<Result<_, _>>()?;
        let remains: Vec<Remains> = remains.into_iter().flatten().collect();
        // The SHA-256, by which the bytes are found, goes last.
        for digest in digests.iter().rev() {
            let link = place.revision_link(digest);
            if let Some(begun) = begun
                && self.storage().head(&link)?.is_some_and(|found| found.modified >= begun)
            {
                continue;
            }
            self.remove_referrer(name, digest)?;
            self.remove_while_heard(&link)?;
            self.storage().clear(&place.revision(digest))?;
        }
        if remains.iter().any(|remains| remains.has_subject) {
            // Another program may push the manifest again, and then it has no descriptor.
            self.storage().remove(&place.referrers_version())?;
        }
        // A push may have come in between.
        if self.tags_referring_to(name, digests, &like)?.is_empty() {
            return Ok(());
        }
        let rows: Vec<Entry<'_>> = remains.iter().flat_map(Remains::entries).collect();
        let Some(canonical) = digests.first() else { return Ok(()) };
        let links: Vec<Entry<'_>> =
            digests.iter().map(|digest| link_to(place.revision_link(digest), canonical)).collect();
        Ok(self.storage().write(&[&rows, &links])?)
    }

    /// Returns the tags of a manifest's links, whose bytes are those of the tags that refer to it.
    fn link_tags(&self, name: &RepositoryName, digests: &[Digest]) -> Result<Vec<ObjectTag>, StoreError> {
        let heads =
            digests.iter().map(|digest| self.storage().head(&RepositoryKeys(name).revision_link(digest)));
        let heads = heads.collect::<Result<Vec<_>, _>>()?;
        Ok(heads.into_iter().flatten().map(|meta| meta.tag).collect())
    }

    /// Reads what belongs to a manifest; `None` if the repository does not have it.
    fn remains(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Remains>, StoreError> {
        let mut remains = Remains::default();
        let Some(canonical) = self.revision(name, digest)? else { return Ok(None) };
        // A damaged manifest cannot be described, and a push brings all of it.
        let Ok(known) = self.content(&canonical) else { return Ok(Some(remains)) };
        let pushed_as = self.pushed_as(name, digest)?;
        let place = RepositoryKeys(name);
        if let Some(pushed_as) = pushed_as {
            remains.rows.push((place.revision_type(digest), pushed_as.as_bytes().to_vec()));
        }
        let parsed = Manifest::parse(&known.bytes, Some(pushed_as.unwrap_or(known.media_type)));
        if let Ok(manifest) = parsed
            && let Some(subject) = &manifest.subject
        {
            let row = to_json(&manifest.descriptor(digest, known.bytes.len() as u64));
            remains.rows.push((place.referrer(subject, digest), row));
            remains.has_subject = true;
        }
        Ok(Some(remains))
    }

    /// Returns the SHA-256 of a manifest that a repository has. Reads the bytes at the same time, unless they are
    /// cached.
    pub(crate) fn revision_with_bytes(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        if digest.algorithm() != Algorithm::Sha256 || self.0.manifest_cache.get(digest).is_some() {
            return self.revision(name, digest);
        }
        let keys = [RepositoryKeys(name).revision_link(digest), blob(digest)];
        let mut read = self.storage().read_all(&keys, MAX_STORED_MANIFEST_BYTES)?.into_iter();
        let (Some(Some(link)), bytes) = (read.next(), read.next().flatten()) else { return Ok(None) };
        if link.trim_ascii() != digest.as_str().as_bytes() {
            tracing::warn!(key = %keys[0], "ignoring link without a valid digest");
            return Ok(None);
        }
        if let Some(bytes) = bytes.filter(|bytes| digest.matches(bytes)) {
            self.remember_manifest(digest, bytes);
        }
        Ok(Some(digest.clone()))
    }

    /// Puts the links of a tagged manifest and the index entries of its tags back, with the entries that belong before
    /// them, until all are seen after the tags were written. Does nothing on a storage of this process alone.
    pub(crate) fn keep_revision(
        &self,
        before: &[Entry<'_>],
        links: &[Entry<'_>],
        index: &[Entry<'_>],
    ) -> Result<(), StoreError> {
        if !self.is_shared() || !self.has(Safeguard::CreateStageFive) {
            return Ok(());
        }
        for _ in 0..MAX_REPAIRS {
            if self.has_links(links, index)? {
                return Ok(());
            }
            self.storage().write(&[before, links, index])?;
        }
        // Each attempt lost against another removal: the last of them came after this push.
        Ok(())
    }

    /// Returns true if the links of a manifest exist, and the index entries of its tags, unless removals recognise the
    /// tags without.
    fn has_links(&self, links: &[Entry<'_>], index: &[Entry<'_>]) -> Result<bool, StoreError> {
        let (Some(shared), [(first, bytes), others @ ..]) = (&self.0.shared, links) else { return Ok(true) };
        // A tag is recognised by the tag of the SHA-256 link, which must have the same bytes.
        let has_same_bytes = index.iter().all(|(_, entry)| entry == bytes);
        let has_content_tags = shared.has_content_tags.get().copied();
        if has_same_bytes && has_content_tags == Some(true) {
            let heads = links.iter().map(|(link, _)| self.storage().head(link));
            return Ok(heads.collect::<Result<Vec<_>, _>>()?.iter().all(Option::is_some));
        }
        let mut pairs: Vec<(Key, Key)> =
            index.iter().chain(others).map(|(entry, _)| (first.clone(), entry.clone())).collect();
        let compared = index.first().filter(|_| has_same_bytes && has_content_tags.is_none());
        pairs.extend(compared.map(|(entry, _)| (entry.clone(), first.clone())));
        let found = self.storage().look_up(&pairs, MAX_LINK_BYTES)?;
        if compared.is_some()
            && let (Some(entry), Some(link)) = (found.first(), found.last())
            && let (Some(entry), Some(link)) = (&entry.target, &link.target)
        {
            shared.has_content_tags.get_or_init(|| entry.tag == link.tag);
        }
        Ok(found.iter().all(|found| found.link.is_some() && found.target.is_some()))
    }
}

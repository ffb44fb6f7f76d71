//! Copies of the storage, with their last use and what they refer to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName, Tag};

use super::plan::{CopyFacts, Lengths};
use crate::gc::online::subject::ContentId;
use crate::layout::{Key, RepositoryKeys, blob, copy_records, recorded_copy};
use crate::manifests::MAX_STORED_MANIFEST_BYTES;
use crate::storage::Meta;
use crate::{MAX_LINK_BYTES, Store, StoreError};

/// Manifests that are read at once: each may be long.
const MANIFESTS_AT_ONCE: usize = 16;

/// Nesting of indexes and referrers along which a use is passed on.
const MAX_DEPTH: usize = 8;

/// Record of a copy.
#[derive(Clone, Debug)]
pub(super) struct RecordedCopy {
    /// SHA-256 of the manifest.
    pub(super) digest: Digest,
    /// Metadata of the record, whose time is that of the last use.
    pub(super) record: Meta,
}

/// Records of copies, by repository.
pub(super) type RecordedCopies = BTreeMap<RepositoryName, Vec<RecordedCopy>>;

/// Facts about a copy, and the copies that it keeps in use: children of an index, and referrers of a subject.
struct Described {
    facts: CopyFacts,
    children: Vec<ContentId>,
    subject: Option<ContentId>,
}

/// Question about the copies of a repository.
pub(super) struct FactsQuery<'a> {
    pub(super) name: &'a RepositoryName,
    pub(super) upstream: usize,
    /// Returns true for the tags whose manifests stay, with all that these lead to.
    pub(super) is_protected: &'a dyn Fn(&Tag) -> bool,
}

impl Store {
    /// Reads the records of all copies of the repositories that are wanted.
    pub(super) fn recorded_copies(
        &self,
        is_wanted: &dyn Fn(&RepositoryName) -> bool,
    ) -> Result<RecordedCopies, StoreError> {
        let mut found = RecordedCopies::new();
        self.scan(&copy_records(), |key, record| {
            if let Some((name, digest)) = recorded_copy(&key)
                && is_wanted(&name)
            {
                found.entry(name).or_default().push(RecordedCopy { digest, record });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Reads what the copies of a repository refer to. Returns facts in the order of the records; `None` for a record whose
    /// manifest the repository does not have.
    pub(super) fn copy_facts(
        &self,
        query: &FactsQuery<'_>,
        recorded: &[RecordedCopy],
    ) -> Result<Vec<Option<CopyFacts>>, StoreError> {
        let place = RepositoryKeys(query.name);
        let blobs = self.storage().list(&place.layers(Algorithm::Sha256))?.unwrap_or_default();
        let linked: HashSet<ContentId> = blobs.iter().filter_map(|hex| ContentId::of_hex(hex)).collect();
        let protected = self.protected_manifests(query)?;
        let mut described: Vec<Option<Described>> = Vec::with_capacity(recorded.len());
        for recorded in recorded.chunks(MANIFESTS_AT_ONCE) {
            let links: Vec<Key> = recorded.iter().map(|copy| place.revision_link(&copy.digest)).collect();
            let links = self.storage().read_all(&links, MAX_LINK_BYTES)?;
            let bytes: Vec<Key> = recorded.iter().map(|copy| blob(&copy.digest)).collect();
            let bytes = self.storage().read_all(&bytes, MAX_STORED_MANIFEST_BYTES)?;
            for ((copy, link), bytes) in recorded.iter().zip(links).zip(bytes) {
                let bytes = bytes.unwrap_or_default();
                described.push(match link {
                    Some(_) => self.describe_copy(query, copy, &bytes, (&linked, &protected))?,
                    None => None,
                });
            }
        }
        pass_on(&mut described);
        Ok(described.into_iter().map(|copy| copy.map(|copy| copy.facts)).collect())
    }

    /// Reads the lengths of what copies need, as far as they are not known yet: one request for each content.
    pub(super) fn read_lengths<'a>(
        &self,
        copies: impl Iterator<Item = &'a CopyFacts>,
        lengths: &mut Lengths,
    ) -> Result<(), StoreError> {
        for content in copies.flat_map(|copy| &copy.content) {
            if !lengths.contains_key(content) {
                let length = self.storage().head(&blob(&content.digest()))?.map_or(0, |meta| meta.length);
                lengths.insert(*content, length);
            }
        }
        Ok(())
    }

    /// Returns the manifests of the tags that are protected.
    fn protected_manifests(&self, query: &FactsQuery<'_>) -> Result<HashSet<ContentId>, StoreError> {
        let place = RepositoryKeys(query.name);
        let mut protected = HashSet::new();
        for tag in self.storage().list(&place.tags())?.unwrap_or_default() {
            let Some(tag) = tag.parse().ok().filter(|tag| (query.is_protected)(tag)) else { continue };
            let target = self.link(&place.tag_link(&tag))?;
            if let Some(target) = target {
                protected.extend(self.manifest_id(query.name, &target)?);
            }
        }
        Ok(protected)
    }

    /// Returns the content of a manifest by any of its names: those by SHA-512 are links to the one by SHA-256.
    fn manifest_id(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<ContentId>, StoreError> {
        Ok(match digest.algorithm() {
            Algorithm::Sha256 => ContentId::of(digest),
            Algorithm::Sha512 => self.revision(name, digest)?.as_ref().and_then(ContentId::of),
        })
    }

    /// Describes a copy. One whose bytes are no manifest has nothing but its own bytes, and goes as any other.
    fn describe_copy(
        &self,
        query: &FactsQuery<'_>,
        copy: &RecordedCopy,
        bytes: &bytes::Bytes,
        (linked, protected): (&HashSet<ContentId>, &HashSet<ContentId>),
    ) -> Result<Option<Described>, StoreError> {
        let Some(own) = ContentId::of(&copy.digest) else { return Ok(None) };
        let mut content = HashSet::from([own]);
        let media_type = Manifest::type_of(bytes).unwrap_or(quinistry_oci::media_type::OCI_MANIFEST);
        let manifest = Manifest::parse(bytes, Some(media_type)).ok();
        let (mut children, mut subject) = (Vec::new(), None);
        if let Some(manifest) = manifest {
            let blobs = manifest.blobs.iter().chain(&manifest.foreign);
            let blobs = blobs.filter_map(|blob| ContentId::of(&blob.digest));
            content.extend(blobs.filter(|blob| linked.contains(blob)));
            for child in &manifest.manifests {
                children.extend(self.manifest_id(query.name, &child.digest)?);
            }
            if let Some(digest) = &manifest.subject {
                subject = self.manifest_id(query.name, digest)?;
            }
        }
        let facts = CopyFacts {
            upstream: query.upstream,
            used: copy.record.modified,
            is_protected: protected.contains(&own),
            own,
            keepers: Vec::new(),
            depth: 0,
            content: content.into_iter().collect(),
        };
        Ok(Some(Described { facts, children, subject }))
    }
}

/// Passes the use of an index on to its children, and that of a subject to its referrers: a client that has an image
/// asks for the tag alone, and another client that asks for the tag needs the image.
fn pass_on(described: &mut [Option<Described>]) {
    let places: HashMap<ContentId, usize> =
        described.iter().enumerate().filter_map(|(at, copy)| Some((copy.as_ref()?.facts.own, at))).collect();
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for (at, copy) in described.iter().enumerate() {
        let Some(copy) = copy else { continue };
        edges.extend(copy.children.iter().filter_map(|child| Some((at, *places.get(child)?))));
        edges.extend(copy.subject.and_then(|subject| Some((*places.get(&subject)?, at))));
    }
    for (from, to) in &edges {
        let Some(keeper) = described[*from].as_ref().map(|copy| copy.facts.own) else { continue };
        if let Some(target) = &mut described[*to] {
            target.facts.keepers.push(keeper);
        }
    }
    let state = |described: &[Option<Described>], at: usize| -> Option<(SystemTime, bool, usize)> {
        described[at].as_ref().map(|copy| (copy.facts.used, copy.facts.is_protected, copy.facts.depth))
    };
    for _ in 0..MAX_DEPTH {
        let mut has_changed = false;
        for (from, to) in &edges {
            let Some((used, is_protected, depth)) = state(described, *from) else { continue };
            let Some(target) = &mut described[*to] else { continue };
            let facts = &mut target.facts;
            has_changed |= used > facts.used || is_protected && !facts.is_protected || depth >= facts.depth;
            facts.depth = facts.depth.max(depth + 1);
            facts.used = facts.used.max(used);
            facts.is_protected |= is_protected;
        }
        if !has_changed {
            return;
        }
    }
}

//! Copies of the storage, with their last use and what they refer to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName, Tag};

use super::plan::{CopyFacts, Lengths};
use super::references::{CopyMemory, CopyReferences};
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
        memory: &mut CopyMemory,
    ) -> Result<Vec<Option<CopyFacts>>, StoreError> {
        let place = RepositoryKeys(query.name);
        let blobs = self.storage().list(&place.layers(Algorithm::Sha256))?.unwrap_or_default();
        let linked: HashSet<ContentId> = blobs.iter().filter_map(|hex| ContentId::of_hex(hex)).collect();
        let protected = self.protected_manifests(query)?;
        let mut described: Vec<Option<Described>> = Vec::with_capacity(recorded.len());
        for recorded in recorded.chunks(MANIFESTS_AT_ONCE) {
            let links: Vec<Key> = recorded.iter().map(|copy| place.revision_link(&copy.digest)).collect();
            let links = self.storage().read_all(&links, MAX_LINK_BYTES)?;
            let references = self.read_references(query.name, recorded, memory)?;
            for ((copy, link), references) in recorded.iter().zip(links).zip(references) {
                let own = ContentId::of(&copy.digest).filter(|_| link.is_some());
                described.push(
                    own.map(|own| describe_copy(query, (copy, own), &references, (&linked, &protected))),
                );
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
        memory: &CopyMemory,
    ) -> Result<(), StoreError> {
        for content in copies.flat_map(|copy| &copy.content) {
            if !lengths.contains_key(content) {
                let length = match memory.length(*content) {
                    Some(length) => length,
                    None => self.storage().head(&blob(&content.digest()))?.map_or(0, |meta| meta.length),
                };
                lengths.insert(*content, length);
            }
        }
        Ok(())
    }

    /// Returns what copies refer to, in their order. Reads the manifests that are not remembered.
    fn read_references(
        &self,
        name: &RepositoryName,
        recorded: &[RecordedCopy],
        memory: &mut CopyMemory,
    ) -> Result<Vec<Arc<CopyReferences>>, StoreError> {
        let own = |copy: &RecordedCopy| ContentId::of(&copy.digest);
        let is_known = |copy: &RecordedCopy| own(copy).is_some_and(|own| memory.knows(own));
        let unknown: Vec<Key> =
            recorded.iter().filter(|copy| !is_known(copy)).map(|copy| blob(&copy.digest)).collect();
        let read = self.storage().read_all(&unknown, MAX_STORED_MANIFEST_BYTES)?;
        let mut read: HashMap<Key, Option<Bytes>> = unknown.into_iter().zip(read).collect();
        let mut references = Vec::with_capacity(recorded.len());
        for copy in recorded {
            let known = own(copy).and_then(|own| memory.get(own));
            let found = if let Some(known) = known {
                known
            } else {
                let bytes = read.remove(&blob(&copy.digest)).flatten();
                let found = Arc::new(self.references_of(name, bytes.as_ref())?);
                if let Some(own) = own(copy) {
                    memory.remember(own, &found);
                }
                found
            };
            references.push(found);
        }
        Ok(references)
    }

    /// Parses a manifest. One whose bytes are no manifest refers to nothing, and its copy goes as any other.
    fn references_of(
        &self,
        name: &RepositoryName,
        bytes: Option<&Bytes>,
    ) -> Result<CopyReferences, StoreError> {
        let Some(bytes) = bytes else { return Ok(CopyReferences::default()) };
        let media_type = Manifest::type_of(bytes).unwrap_or(quinistry_oci::media_type::OCI_MANIFEST);
        let Ok(manifest) = Manifest::parse(bytes, Some(media_type)) else {
            return Ok(CopyReferences { is_final: true, ..CopyReferences::default() });
        };
        let blobs = manifest.blobs.iter().chain(&manifest.foreign);
        let mut named = manifest.manifests.iter().map(|child| &child.digest).chain(&manifest.subject);
        let is_final = named.all(|digest| digest.algorithm() == Algorithm::Sha256);
        let mut children = Vec::with_capacity(manifest.manifests.len());
        for child in &manifest.manifests {
            children.extend(self.manifest_id(name, &child.digest)?);
        }
        let subject = manifest.subject.as_ref().map(|subject| self.manifest_id(name, subject));
        Ok(CopyReferences {
            blobs: blobs.filter_map(|blob| ContentId::of(&blob.digest)).collect(),
            children: children.into(),
            subject: subject.transpose()?.flatten(),
            is_final,
        })
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
}

/// Describes a copy, of whose blobs those count that the repository has.
fn describe_copy(
    query: &FactsQuery<'_>,
    (copy, own): (&RecordedCopy, ContentId),
    references: &CopyReferences,
    (linked, protected): (&HashSet<ContentId>, &HashSet<ContentId>),
) -> Described {
    let blobs = references.blobs.iter().copied().filter(|blob| linked.contains(blob));
    let content: HashSet<ContentId> = blobs.chain([own]).collect();
    let facts = CopyFacts {
        upstream: query.upstream,
        used: copy.record.modified,
        is_protected: protected.contains(&own),
        own,
        keepers: Vec::new(),
        depth: 0,
        content: content.into_iter().collect(),
    };
    Described { facts, children: references.children.to_vec(), subject: references.subject }
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

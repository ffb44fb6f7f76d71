//! Copying of repositories, each in the order of its keys.

use std::collections::HashSet;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, RepositoryName, Tag};

use super::known::KnownDigests;
use super::listing::{Pair, Pairs};
use super::parts::Revision;
use super::pass::Pass;
use super::removal::Gone;
use super::workers::share_out;
use crate::layout::{self, Key, RepositoryKeys};
use crate::storage::{Entry, StorageError};

/// Number of short objects that are copied at once.
const OBJECTS_AT_ONCE: usize = 256;

/// Number of rows of referrers that are copied at once. A row has the annotations of a manifest.
const ROWS_AT_ONCE: usize = 16;

/// Object of a repository, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Link to a blob.
    Layer(Digest),
    /// Link to a manifest.
    Revision(Digest),
    /// Media type of a manifest.
    MediaType(Digest),
    /// Entry of a tag's index, with the manifest that it names.
    Index(Digest),
    /// Row of a referrer.
    Row(Digest),
    Tag(Tag),
    /// Part of an upload session.
    Upload,
    /// Object that neither this program nor distribution reads.
    Foreign,
}

/// Objects that are copied by one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Layer,
    Revision,
    Index,
    Row,
}

/// Objects of the source that were compared with those of the target.
pub(super) struct Compared<T> {
    /// Objects that the target has.
    pub(super) equal: Vec<(T, Pair)>,
    /// Objects that the target lacks, or has with other bytes; with those of the source.
    pub(super) different: Vec<(T, Pair, Bytes)>,
}

/// Copy of one repository.
pub(super) struct RepositoryCopy<'a> {
    pub(super) pass: &'a Pass<'a>,
    pub(super) name: &'a RepositoryName,
    /// Blobs that the target's repository has.
    pub(super) layers: KnownDigests,
    /// Manifests that the target's repository has, with all of their parts.
    pub(super) revisions: KnownDigests,
    /// Manifests that cannot be copied.
    pub(super) failed: HashSet<Digest>,
    /// Indexes, which follow all other manifests.
    pub(super) indexes: Vec<Revision>,
    /// Tags, which follow all else.
    pub(super) tags: Vec<(Tag, Pair)>,
    /// Objects that the target alone has.
    pub(super) gone: Vec<Gone>,
    /// The target lists the repository.
    pub(super) is_registered: bool,
    /// Number of indexes around the manifest that is copied.
    pub(super) depth: usize,
}

/// Copies what the repositories of the target lack.
pub(super) fn copy_all(pass: &Pass<'_>) -> Result<(), StorageError> {
    let folder = layout::repositories();
    let mut pairs = Pairs::new(pass.from, pass.to, &folder, None);
    let next = || -> Result<Option<RepositoryName>, StorageError> {
        while let Some(pair) = pairs.next()? {
            let path =
                pair.key.as_str().strip_prefix(folder.as_str()).and_then(|path| path.strip_prefix('/'));
            // The first component that begins with `_` is not one of the name.
            let Some((name, _)) = path.and_then(|path| path.split_once("/_")) else { continue };
            pairs.skip_to(&layout::behind_repository(name));
            match name.parse() {
                Ok(name) => return Ok(Some(name)),
                Err(error) if pair.from.is_some() => pass.add_fault(&name, &error),
                Err(_) => {}
            }
        }
        Ok(None)
    };
    share_out(pass.wanted.jobs, next, |name| RepositoryCopy::new(pass, &name).run())
}

// === impl Item ===

impl Item {
    /// Returns the object with a path beneath a repository's folder.
    fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').collect();
        let digest = |algorithm: &str, hex: &str| format!("{algorithm}:{hex}").parse::<Digest>().ok();
        let item = match &parts[..] {
            ["_uploads", ..] => Some(Self::Upload),
            ["_layers", algorithm, hex, "link"] => digest(algorithm, hex).map(Self::Layer),
            ["_manifests", "revisions", algorithm, hex, "link"] => digest(algorithm, hex).map(Self::Revision),
            ["_manifests", "revisions", algorithm, hex, "mediatype"] => {
                digest(algorithm, hex).map(Self::MediaType)
            }
            ["_manifests", "tags", tag, "current", "link"] => tag.parse().ok().map(Self::Tag),
            ["_manifests", "tags", _, "index", algorithm, hex, "link"] => {
                digest(algorithm, hex).map(Self::Index)
            }
            ["_referrers", _, _, algorithm, hex] => digest(algorithm, hex).map(Self::Row),
            _ => None,
        };
        item.unwrap_or(Self::Foreign)
    }

    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Layer(_) => Some(Kind::Layer),
            Self::Revision(_) | Self::MediaType(_) => Some(Kind::Revision),
            Self::Index(_) => Some(Kind::Index),
            Self::Row(_) => Some(Kind::Row),
            Self::Tag(_) | Self::Upload | Self::Foreign => None,
        }
    }
}

// === impl RepositoryCopy ===

impl<'a> RepositoryCopy<'a> {
    fn new(pass: &'a Pass<'a>, name: &'a RepositoryName) -> Self {
        Self {
            pass,
            name,
            layers: KnownDigests::default(),
            revisions: KnownDigests::default(),
            failed: HashSet::new(),
            indexes: Vec::new(),
            tags: Vec::new(),
            gone: Vec::new(),
            is_registered: false,
            depth: 0,
        }
    }

    pub(super) fn place(&self) -> RepositoryKeys<'a> {
        RepositoryKeys(self.name)
    }

    fn run(mut self) -> Result<(), StorageError> {
        let has_source = self.copy_objects()?;
        self.copy_tags()?;
        if self.pass.wanted.removes {
            self.remove_gone(has_source)?;
        }
        Ok(())
    }

    /// Copies all but the tags, which it collects. Returns true if the source has the repository.
    fn copy_objects(&mut self) -> Result<bool, StorageError> {
        let (folder, end) = (layout::repository(self.name), layout::behind_repository(self.name.as_str()));
        let begin = layout::before_repository(self.name.as_str());
        let mut pairs = Pairs::new(self.pass.from, self.pass.to, &folder, Some(&begin));
        let mut has_source = false;
        let mut batch: Vec<(Item, Pair)> = Vec::new();
        while let Some(pair) = pairs.next()? {
            if pair.key >= end {
                break;
            }
            let item = Item::of(&pair.key.as_str()[folder.as_str().len() + 1..]);
            if item == Item::Upload {
                pairs.skip_to(&layout::behind_folder(self.name.as_str(), "uploads"));
                continue;
            }
            if pair.from.is_none() {
                self.note_gone(item, pair.key);
                continue;
            }
            has_source |= item != Item::Foreign;
            let Some(kind) = item.kind() else {
                if let Item::Tag(tag) = item {
                    self.tags.push((tag, pair));
                }
                continue;
            };
            let present = batch.first().and_then(|(first, _)| first.kind());
            let most = if kind == Kind::Row { ROWS_AT_ONCE } else { OBJECTS_AT_ONCE };
            // The media type of a manifest stays with its link.
            let is_full = batch.len() >= most && !matches!(item, Item::MediaType(_));
            if present.is_some_and(|present| present != kind || is_full) {
                self.copy_batch(std::mem::take(&mut batch))?;
                if kind != Kind::Revision {
                    self.copy_indexes()?;
                }
            }
            batch.push((item, pair));
        }
        self.copy_batch(batch)?;
        self.copy_indexes()?;
        Ok(has_source)
    }

    fn copy_batch(&mut self, batch: Vec<(Item, Pair)>) -> Result<(), StorageError> {
        self.pass.observer.looked_at(batch.len() as u64);
        match batch.first().and_then(|(item, _)| item.kind()) {
            Some(Kind::Layer) => self.copy_layers(batch),
            Some(Kind::Revision) => self.copy_manifests(batch),
            Some(Kind::Index) => self.copy_index_entries(batch),
            Some(Kind::Row) => self.copy_rows(batch),
            None => Ok(()),
        }
    }

    /// Splits objects of the source into those that the target has, and the others with their bytes. Lengths
    /// are trusted to tell where the key says what the bytes are. Objects that cannot be read are faults.
    pub(super) fn compare<T>(
        &self,
        objects: Vec<(T, Pair)>,
        max_bytes: u64,
        trusts_lengths: bool,
    ) -> Result<Compared<T>, StorageError> {
        let (mut equal, mut other) = (Vec::new(), Vec::new());
        let trusts_lengths = trusts_lengths && !self.pass.wanted.verifies;
        for object in objects {
            let is_equal = trusts_lengths && object.1.has_equal_lengths();
            if is_equal { equal.push(object) } else { other.push(object) }
        }
        let keys: Vec<Key> = other.iter().map(|(_, pair)| pair.key.clone()).collect();
        let read = if keys.is_empty() { Vec::new() } else { self.pass.read(&keys, max_bytes)? };
        let both = other.iter().filter(|(_, pair)| pair.has_equal_lengths());
        let keys: Vec<Key> = both.map(|(_, pair)| pair.key.clone()).collect();
        let mut there =
            if keys.is_empty() { Vec::new() } else { self.pass.to.read_all(&keys, max_bytes)? }.into_iter();
        let mut different = Vec::new();
        for ((object, pair), bytes) in other.into_iter().zip(read) {
            let there = if pair.has_equal_lengths() { there.next().flatten() } else { None };
            match bytes {
                Some(bytes) if there.as_ref() == Some(&bytes) => equal.push((object, pair)),
                Some(bytes) => different.push((object, pair, bytes)),
                // Removed since the listing.
                None => {}
            }
        }
        self.pass.report().unchanged += equal.len() as u64;
        Ok(Compared { equal, different })
    }

    /// Writes entries of the repository in stages. Before the first one, a target that lists repositories by
    /// registers is given the repository's.
    pub(super) fn write(&mut self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        if stages.iter().all(|stage| stage.is_empty()) {
            return Ok(());
        }
        let to = self.pass.to;
        if !self.is_registered && to.abilities().is_shared && !self.pass.wanted.is_dry_run {
            to.create(&layout::register(self.name), &[])?;
        }
        self.is_registered = true;
        self.pass.write(stages)
    }

    /// Returns the digest of the bytes to which a link of a name leads; `None`, and a fault, if the link is
    /// not valid.
    pub(super) fn canonical(&self, digest: &Digest, key: &Key, bytes: &[u8]) -> Option<Digest> {
        let target = super::blobs::link_target(bytes).filter(|target| match digest.algorithm() {
            Algorithm::Sha256 => target == digest,
            Algorithm::Sha512 => target.algorithm() == Algorithm::Sha256,
        });
        if target.is_none() {
            self.pass.add_fault(key, &"is not a valid link");
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_by_their_keys() {
        let digest = Digest::sha256(b"");
        let hex = digest.hex();
        let tag: Tag = "v1".parse().unwrap();
        for (path, item) in [
            (format!("_layers/sha256/{hex}/link"), Item::Layer(digest.clone())),
            (format!("_manifests/revisions/sha256/{hex}/link"), Item::Revision(digest.clone())),
            (format!("_manifests/revisions/sha256/{hex}/mediatype"), Item::MediaType(digest.clone())),
            (format!("_manifests/revisions/sha256/{hex}/signatures/sha256/{hex}/link"), Item::Foreign),
            ("_manifests/tags/v1/current/link".to_owned(), Item::Tag(tag)),
            ("_manifests/tags/-/current/link".to_owned(), Item::Foreign),
            (format!("_manifests/tags/v1/index/sha256/{hex}/link"), Item::Index(digest.clone())),
            (format!("_referrers/sha256/{hex}/sha256/{hex}"), Item::Row(digest)),
            ("_referrers/stamp".to_owned(), Item::Foreign),
            ("_uploads/one/data".to_owned(), Item::Upload),
            ("_layers/sha256/00/link".to_owned(), Item::Foreign),
            ("_other".to_owned(), Item::Foreign),
        ] {
            assert_eq!(Item::of(&path), item, "{path}");
        }
    }
}

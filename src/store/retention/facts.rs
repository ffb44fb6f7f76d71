//! Facts about the tags of a repository, read from the storage and from the records of pulls.

use std::fmt;
use std::time::SystemTime;

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::plan::TagFacts;
use super::run::RetentionInputs;
use crate::layout::{RepositoryKeys, TAG_LINK};
use crate::migrate::PushedTimes;
use crate::storage::Meta;
use crate::{LastPull, MAX_LINK_BYTES, Pulls, Store, StoreError};

/// Number of links that are read at once.
const LINKS_AT_ONCE: usize = 256;

/// Records of the pulls of all repositories.
pub trait PullRecords: fmt::Debug + Send + Sync {
    /// Reads the records of a repository.
    fn of(&self, repository: &RepositoryName) -> Result<Box<dyn PullHistory>, StoreError>;
}

/// Records of the pulls of one repository.
pub trait PullHistory {
    /// Returns the last recorded pull of a tag.
    fn tag(&self, tag: &Tag) -> Option<SystemTime>;

    /// Returns the last recorded pull of a manifest by its digest.
    fn manifest(&self, digest: &Digest) -> Option<SystemTime>;

    /// Returns the begin of the recording; `None` if pulls are not recorded.
    fn recording_since(&self) -> Option<SystemTime>;
}

/// Records of a registry that records no pulls.
#[derive(Clone, Copy, Debug)]
pub struct NoPulls;

/// Facts about all tags of a repository.
#[derive(Debug)]
pub(crate) struct RepositoryFacts {
    /// Facts about each tag, and the metadata of the link that they were read from.
    pub(crate) tags: Vec<(TagFacts, Meta)>,
    pub(super) recording_since: Option<SystemTime>,
}

// === impl NoPulls ===

impl PullRecords for NoPulls {
    fn of(&self, _: &RepositoryName) -> Result<Box<dyn PullHistory>, StoreError> {
        Ok(Box::new(Self))
    }
}

impl PullHistory for NoPulls {
    fn tag(&self, _: &Tag) -> Option<SystemTime> {
        None
    }

    fn manifest(&self, _: &Digest) -> Option<SystemTime> {
        None
    }

    fn recording_since(&self) -> Option<SystemTime> {
        None
    }
}

impl PullRecords for Store {
    fn of(&self, repository: &RepositoryName) -> Result<Box<dyn PullHistory>, StoreError> {
        Ok(Box::new(self.last_pulls(repository)?))
    }
}

impl PullHistory for Pulls {
    fn tag(&self, tag: &Tag) -> Option<SystemTime> {
        time_of(Self::tag(self, tag))
    }

    fn manifest(&self, digest: &Digest) -> Option<SystemTime> {
        time_of(Self::manifest(self, digest))
    }

    fn recording_since(&self) -> Option<SystemTime> {
        Self::recording_since(self)
    }
}

const fn time_of(last: LastPull) -> Option<SystemTime> {
    match last {
        LastPull::At(time) => Some(time),
        LastPull::Unknown => None,
    }
}

impl Store {
    /// Reads the facts about all tags of a repository. A tag whose link holds no digest has none, and stays.
    pub(crate) fn retention_facts(
        &self,
        name: &RepositoryName,
        inputs: &RetentionInputs<'_>,
    ) -> Result<RepositoryFacts, StoreError> {
        let pulls = inputs.pulls.of(name)?;
        let place = RepositoryKeys(name);
        let folder = place.tags();
        // The metadata is read before the link: a push in between makes the removal of what was judged fail.
        let mut found: Vec<(Tag, Meta)> = Vec::new();
        self.scan(&folder, |key, meta| {
            if let Some((tag, TAG_LINK)) = key.beneath(&folder)
                && let Ok(tag) = tag.parse()
            {
                found.push((tag, meta));
            }
            Ok(())
        })?;
        let times = PushedTimes::read(self.storage(), name)?;
        let mut tags = Vec::with_capacity(found.len());
        for found in found.chunks(LINKS_AT_ONCE) {
            let keys: Vec<_> = found.iter().map(|(tag, _)| place.tag_link(tag)).collect();
            let links = self.storage().read_all(&keys, MAX_LINK_BYTES)?;
            for ((tag, meta), link) in found.iter().zip(links) {
                let text = link.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
                let Some(digest) = text.and_then(|text| text.trim().parse().ok()) else {
                    tracing::warn!(key = %place.tag_link(tag), "ignoring link without a valid digest");
                    continue;
                };
                let facts = TagFacts {
                    pushed: times.of(tag, &digest, meta.modified),
                    pulled: pulls.tag(tag).max(pulls.manifest(&digest)),
                    is_protected: (inputs.is_protected)(name, tag) || self.is_protected_tag(name, tag),
                    tag: tag.clone(),
                    digest,
                };
                tags.push((facts, meta.clone()));
            }
        }
        Ok(RepositoryFacts { tags, recording_since: pulls.recording_since() })
    }
}

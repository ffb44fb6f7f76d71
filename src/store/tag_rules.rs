//! Rules that keep tags from being moved or deleted.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use quinistry_oci::{RepositoryName, Tag};

use super::layout::RepositoryKeys;
use super::{Store, StoreError, Tagged};

/// Rules about tags, which the store asks before each change of one. Must not wait.
pub trait TagRules: fmt::Debug + Send + Sync {
    /// Returns true if a tag keeps its first manifest, and cannot be deleted.
    fn is_immutable(&self, repository: &RepositoryName, tag: &Tag) -> bool;

    /// Returns true if a tag cannot be deleted, though it can be moved.
    fn is_protected(&self, repository: &RepositoryName, tag: &Tag) -> bool;
}

/// Rules in use.
#[derive(Debug, Default)]
pub(super) struct CurrentTagRules(RwLock<Option<Arc<dyn TagRules>>>);

impl Store {
    /// Replaces the rules about tags. Changes that have begun end with the former ones.
    pub fn set_tag_rules(&self, rules: Option<Arc<dyn TagRules>>) {
        *self.0.tag_rules.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn tag_rules(&self) -> Option<Arc<dyn TagRules>> {
        self.0.tag_rules.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns true if a tag keeps its first manifest, and clients cannot delete it.
    #[must_use]
    pub fn is_immutable_tag(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.tag_rules().is_some_and(|rules| rules.is_immutable(name, tag))
    }

    /// Returns true if neither clients nor retention may delete a tag.
    #[must_use]
    pub fn is_protected_tag(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.tag_rules().is_some_and(|rules| rules.is_protected(name, tag))
    }

    /// Returns those of the tags that are immutable.
    pub(super) fn immutable_tags(&self, name: &RepositoryName, tags: &[Tag]) -> Vec<Tag> {
        let Some(rules) = self.tag_rules() else { return Vec::new() };
        tags.iter().filter(|tag| rules.is_immutable(name, tag)).cloned().collect()
    }

    /// Fails if one of the immutable tags refers to another manifest than that with these bytes. Returns the tags that
    /// refer to it already.
    pub(super) fn check_immutable(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        Tagged { digest, tags }: Tagged<'_>,
    ) -> Result<Vec<Tag>, StoreError> {
        let mut existing = Vec::new();
        for tag in tags {
            let Some(target) = self.link(&RepositoryKeys(name).tag_link(tag))? else { continue };
            // The manifest may have been pushed by another hash before.
            if target != *digest && !target.matches(bytes) {
                return Err(StoreError::TagImmutable { tag: tag.clone(), digest: target });
            }
            existing.push(tag.clone());
        }
        Ok(existing)
    }

    /// Fails if one of the tags must not be deleted.
    pub(super) fn check_deletable(&self, name: &RepositoryName, tags: &[Tag]) -> Result<(), StoreError> {
        let Some(rules) = self.tag_rules() else { return Ok(()) };
        for tag in tags {
            if rules.is_immutable(name, tag)
                && let Some(digest) = self.link(&RepositoryKeys(name).tag_link(tag))?
            {
                return Err(StoreError::TagImmutable { tag: tag.clone(), digest });
            }
            if rules.is_protected(name, tag) {
                return Err(StoreError::TagProtected(tag.clone()));
            }
        }
        Ok(())
    }

    /// Names the digest of an immutable tag that another writer has created since the check.
    pub(super) fn explain_existing(
        &self,
        name: &RepositoryName,
        immutable: &[Tag],
        error: StoreError,
    ) -> StoreError {
        match error {
            StoreError::TagExists(tag) if immutable.contains(&tag) => {
                match self.link(&RepositoryKeys(name).tag_link(&tag)) {
                    Ok(Some(digest)) => StoreError::TagImmutable { tag, digest },
                    _ => StoreError::TagExists(tag),
                }
            }
            error => error,
        }
    }
}

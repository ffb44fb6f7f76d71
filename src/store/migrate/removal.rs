//! Removal of what the target has and the source does not: what was removed there since the first pass.
//!
//! The bytes of blobs stay: the collection of the target removes those that nothing needs.

use quinistry_oci::{Digest, Tag};

use super::repository::{Item, RepositoryCopy};
use crate::layout::{self, Key};
use crate::storage::StorageError;

/// Object that the target alone has. The order is that of the removals: an object goes before those that it
/// needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gone {
    Tag(Tag),
    Row(Key),
    Index(Key),
    Revision(Digest),
    MediaType(Key),
    Layer(Digest),
}

impl RepositoryCopy<'_> {
    /// Notes an object that the target alone has.
    pub(super) fn note_gone(&mut self, item: Item, key: Key) {
        if !self.pass.wanted.removes {
            return;
        }
        self.gone.extend(match item {
            Item::Tag(tag) => Some(Gone::Tag(tag)),
            Item::Row(_) => Some(Gone::Row(key)),
            Item::Index(_) => Some(Gone::Index(key)),
            Item::Revision(digest) => Some(Gone::Revision(digest)),
            Item::MediaType(_) => Some(Gone::MediaType(key)),
            Item::Layer(digest) => Some(Gone::Layer(digest)),
            Item::Upload | Item::Foreign => None,
        });
    }

    /// Removes what the target alone has; of a repository that the source does not have, all.
    pub(super) fn remove_gone(&mut self, has_source: bool) -> Result<(), StorageError> {
        let mut gone = std::mem::take(&mut self.gone);
        gone.sort_unstable();
        self.pass.report().removed += gone.len() as u64;
        if self.pass.wanted.is_dry_run {
            return Ok(());
        }
        let (to, place) = (self.pass.to, self.place());
        for gone in &gone {
            match gone {
                // The folder would remain, and count as a tag, a manifest or a blob.
                Gone::Tag(tag) => self.remove_with_folder(&place.tag_link(tag), &place.tag(tag))?,
                Gone::Revision(digest) => {
                    self.remove_with_folder(&place.revision_link(digest), &place.revision(digest))?;
                }
                Gone::Layer(digest) => {
                    self.remove_with_folder(&place.layer_link(digest), &place.layer(digest))?;
                }
                Gone::Row(key) | Gone::Index(key) | Gone::MediaType(key) => {
                    to.remove(key)?;
                }
            }
        }
        if !has_source && !gone.is_empty() {
            for folder in [place.manifests(), place.all_layers(), place.all_referrers()] {
                to.clear(&folder)?;
            }
            for key in [layout::register(self.name), layout::pushed_times(self.name)] {
                to.remove(&key)?;
            }
        }
        Ok(())
    }

    fn remove_with_folder(&self, key: &Key, folder: &Key) -> Result<(), StorageError> {
        if !self.pass.to.abilities().clears_at_once {
            self.pass.to.remove(key)?;
        }
        self.pass.to.clear(folder).map(drop)
    }
}

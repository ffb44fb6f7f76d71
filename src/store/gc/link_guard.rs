//! Exclusion between writers that link content and writers that free it.
//!
//! Bytes are stored once, and belong to a repository by a link. On a storage that is not persistent the bytes
//! are freed with their last link; elsewhere they stay until a collection finds no link, since other programs
//! may be about to link them. Called by every change of the store that adds or removes links to content.

use std::sync::{PoisonError, RwLock};

use quinistry_oci::{Digest, RepositoryName, WithCauses};

use super::blob_folder;
use crate::layout::{RepositoryKeys, blob};
use crate::{Store, StoreError};

/// Lock that is shared by writers that link bytes which they have found or stored, and exclusive for one that
/// frees bytes.
#[derive(Debug, Default)]
pub(crate) struct LinkGuard(RwLock<()>);

impl LinkGuard {
    /// Runs a change while no writer of this process links bytes.
    pub(crate) fn exclusively<T>(&self, change: impl FnOnce() -> T) -> T {
        let _exclusive = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change()
    }
}

impl Store {
    /// Adds links to bytes: `link` finds or stores the bytes, which are not freed until it returns.
    pub(crate) fn add_links<T>(
        &self,
        canonical: &Digest,
        link: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let linked = {
            // The lock guards no memory, so that a panic under it leaves nothing behind that a crash would
            // not.
            let _shared = self.0.link_guard.0.read().unwrap_or_else(PoisonError::into_inner);
            link()
        };
        // Bytes whose link failed on a full storage must not stay unreferenced.
        if linked.is_err()
            && let Err(error) = self.remove_links(canonical, || Ok(()))
        {
            tracing::warn!(error = %WithCauses(&error), %canonical, "cannot free content that was not linked");
        }
        linked
    }

    /// Removes links to bytes, and frees the bytes with the last link, unless the storage leaves that to a
    /// collection.
    pub(crate) fn remove_links(
        &self,
        canonical: &Digest,
        unlink: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.is_persistent() {
            return unlink();
        }
        let _exclusive = self.0.link_guard.0.write().unwrap_or_else(PoisonError::into_inner);
        unlink()?;
        if !self.is_linked(canonical)? && self.clear(&blob(canonical), &blob_folder(canonical))? {
            self.remove_aliases(&[canonical].into())?;
        }
        Ok(())
    }

    /// Returns true if any repository has the content, as a blob or as a manifest. Content with another name
    /// is also linked by its SHA-256.
    fn is_linked(&self, canonical: &Digest) -> Result<bool, StoreError> {
        for name in self.folders_with(&["_manifests", "_layers"])? {
            let Ok(name) = name.parse::<RepositoryName>() else { continue };
            let place = RepositoryKeys(&name);
            for link in [place.layer_link(canonical), place.revision_link(canonical)] {
                if self.storage().exists(&link)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

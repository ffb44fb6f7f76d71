//! Who links bytes and who frees them, so that neither undoes the other.
//!
//! Bytes lie once, and are a repository's by a link. On a storage that ends with the process they go with their last link;
//! elsewhere they stay until a collection finds that nothing leads to them, since other programs may be about to link
//! them. Called by whatever in the store makes or removes links to content.

use std::sync::{PoisonError, RwLock};

use quinistry_oci::{Digest, RepositoryName};

use super::blob_folder;
use crate::layout::Place;
use crate::{Store, StoreError};

/// Held by many while each links bytes that it has seen or put there; by one alone while it frees bytes.
#[derive(Debug, Default)]
pub(crate) struct Links(RwLock<()>);

impl Store {
    /// Makes links to bytes: `link` first looks for these, or puts them there. Nobody frees them meanwhile.
    pub(crate) fn linking<T>(
        &self,
        canonical: &Digest,
        link: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let linked = {
            // The lock guards no memory, so that a panic under it leaves nothing behind that a crash would not.
            let _links = self.0.links.0.read().unwrap_or_else(PoisonError::into_inner);
            link()
        };
        // Bytes for whose link there was no room are not to stay for nobody.
        if linked.is_err()
            && let Err(error) = self.unlinking(canonical, || Ok(()))
        {
            tracing::warn!(%error, %canonical, "failed to free what could not be linked");
        }
        linked
    }

    /// Removes links to bytes, and these with the last one where they are not left to a collection.
    pub(crate) fn unlinking(
        &self,
        canonical: &Digest,
        unlink: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.storage().is_persistent() {
            return unlink();
        }
        let _links = self.0.links.0.write().unwrap_or_else(PoisonError::into_inner);
        unlink()?;
        if !self.is_linked(canonical)? && self.storage().remove(&blob_folder(canonical))? {
            self.sweep_aliases(&[canonical].into())?;
        }
        Ok(())
    }

    /// Whether any repository has it, as a blob or as a manifest. Whatever else it is called, it is also linked by its own
    /// digest.
    fn is_linked(&self, canonical: &Digest) -> Result<bool, StoreError> {
        for name in self.folders_with(&["_manifests", "_layers"])? {
            let Ok(name) = name.parse::<RepositoryName>() else { continue };
            let place = Place(&name);
            for link in [place.layer_link(canonical), place.revision_link(canonical)] {
                if self.storage().exists(&link)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

//! Calls that ask the store for several objects at once, or for nothing.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, StreamExt as _};
use quinistry_oci::Content;
use quinistry_store::{Key, LookedUp, Meta, StorageError};

use super::{Bucket, REQUESTS_AT_ONCE, collect, failed, meta};
use crate::SignedMethod;
use crate::objects::present;

impl Bucket {
    /// Reads links, and looks up their targets, all side by side.
    pub(super) async fn look_up_pairs(
        &self,
        pairs: &[(Key, Key)],
        max_bytes: u64,
    ) -> Result<Vec<LookedUp>, StorageError> {
        let look_up = pairs.iter().map(|(link, target)| async move {
            let (link, target) =
                futures_util::try_join!(self.read_short(link, max_bytes), self.look_up_one(target))?;
            Ok(LookedUp { link, target })
        });
        stream::iter(look_up).buffered(REQUESTS_AT_ONCE).try_collect().await
    }

    /// Looks up an object; `None` if it is absent.
    pub(super) async fn look_up_one(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        let found = present(self.objects().head(key.as_str()).await).map_err(failed("look up", key))?;
        Ok(found.as_ref().map(meta))
    }

    /// Looks up objects side by side; `None` for those that are absent.
    pub(super) async fn look_up_all(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>, StorageError> {
        let heads = keys.iter().map(|key| self.look_up_one(key));
        stream::iter(heads).buffered(REQUESTS_AT_ONCE).try_collect().await
    }

    /// Reads objects side by side.
    pub(super) async fn read_side_by_side(
        &self,
        keys: &[Key],
        max_bytes: u64,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let read = keys.iter().map(|key| self.read_short(key, max_bytes));
        stream::iter(read).buffered(REQUESTS_AT_ONCE).try_collect().await
    }

    /// Reads an object; `None` if it is absent or too long.
    async fn read_short(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, StorageError> {
        let found =
            present(self.objects().get(key.as_str(), None, None).await).map_err(failed("read", key))?;
        let Some(object) = found else { return Ok(None) };
        match collect(object, max_bytes, key).await {
            Err(StorageError::TooLong { .. }) => Ok(None),
            read => read.map(Some),
        }
    }

    /// Returns content that is read when it is needed, from metadata that was read a moment ago.
    pub(super) fn open_unread(&self, key: &Key, meta: &Meta) -> Option<Content> {
        let version = meta.tag.version()?;
        Some(self.remote_content(key, version.to_owned(), meta.length))
    }

    /// Returns a signed URL of an object, if the store accepts one.
    pub(super) fn signed_url(&self, key: &Key, lifetime: Duration) -> Option<String> {
        let signs = self.0.abilities.signs_urls;
        signs.then(|| self.objects().sign(SignedMethod::Get, key.as_str(), lifetime)).flatten()
    }
}

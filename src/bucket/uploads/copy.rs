//! Copies within the bucket, made by the store.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use quinistry_store::StorageError;

use super::Shared;
use super::completion;
use super::failure::failed;
use super::sizes::MAX_PARTS;
use crate::{Multipart, ObjectError, Objects, Part};

/// Copies an object of `length` bytes: as a whole, or a longer one in parts.
pub(super) async fn copy(
    shared: &Arc<Shared>,
    from: &str,
    to: &str,
    length: u64,
) -> Result<(), StorageError> {
    let copied = if length <= shared.transfers.copy_threshold_bytes || !shared.copies_parts {
        shared.objects.copy(from, to).await.map(drop)
    } else {
        copy_in_parts(shared, from, to, length).await
    };
    copied.map_err(failed("copy to", to))
}

async fn copy_in_parts(shared: &Arc<Shared>, from: &str, to: &str, length: u64) -> Result<(), ObjectError> {
    let id = shared.objects.create_multipart(to).await?;
    let upload = Multipart { key: to, id: &id };
    let copied = copy_parts(shared, from, upload, length).await;
    if copied.is_err()
        && let Err(error) = shared.objects.abort(upload).await
    {
        tracing::warn!(%error, key = to, "cannot abort copy, leaving it until it expires");
    }
    copied
}

async fn copy_parts(
    shared: &Shared,
    from: &str,
    upload: Multipart<'_>,
    length: u64,
) -> Result<(), ObjectError> {
    let objects: &dyn Objects = &*shared.objects;
    let size = shared.transfers.copy_part_bytes.max(length.div_ceil(u64::from(MAX_PARTS)));
    let numbers = 1..=u32::try_from(length.div_ceil(size)).expect("at most 10,000 parts");
    let copies = numbers.map(|number| {
        let start = u64::from(number - 1) * size;
        objects.copy_part(upload, number, from, start..(start + size).min(length))
    });
    let copies = stream::iter(copies).buffer_unordered(shared.transfers.copy_parts_at_once.clamp(1, 32));
    let mut parts: Vec<Part> = copies.try_collect().await?;
    parts.sort_unstable_by_key(|part| part.number);
    completion::complete(shared, upload, &parts, Some(length)).await.map(drop)
}

//! Copies within the bucket, made by the store, or by reading and writing where the store refuses them.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use quinistry_store::StorageError;

use super::Shared;
use super::assembly::Assembly;
use super::completion;
use super::parts::PartWriter;
use super::progress::Progress;
use super::sizes::MAX_PARTS;
use crate::storage::failed;
use crate::{Multipart, ObjectError, ObjectErrorKind, Objects, Part};

/// Copies an object of `length` bytes: as a whole, or a longer one in parts. A store may have neither request, and
/// refuses to copy a whole object of more than 5 GiB.
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
    match copied {
        Err(error) if error.kind == ObjectErrorKind::Refused => {
            tracing::debug!(%error, "the store refuses a copy, reading and writing the object");
            copy_through_memory(shared, from, to, length).await
        }
        copied => copied.map_err(failed("copy to", to)),
    }
}

/// Copies an object by reading and writing it, a part at a time.
async fn copy_through_memory(
    shared: &Arc<Shared>,
    from: &str,
    to: &str,
    length: u64,
) -> Result<(), StorageError> {
    let progress = Progress::new(shared.sizes(Some(length)), None);
    let mut assembly = Assembly::new(shared, progress, PartWriter::new(shared, to.to_owned()));
    assembly.length = Some(length);
    let mut body = shared.objects.get(from, None, None).await.map_err(failed("read", from))?.body;
    while let Some(bytes) = body.try_next().await.map_err(failed("read", from))? {
        assembly.append(&bytes).await?;
    }
    if assembly.progress.offset() != length {
        return Err(StorageError::Broken);
    }
    if assembly.progress.parts() == 0 { assembly.put_at(to).await } else { assembly.complete().await }
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

//! Folder of a session in the bucket: `s.<number>`, the records; `startedat`, by which distribution's purge
//! ends the session; `data`, the key of the parts; `ended`, once the session has ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use quinistry_store::{StorageError, UploadId};

use super::Shared;
use super::failure::failed;
use super::record::{InvalidRecord, MAX_LINE_BYTES, Record};
use crate::memory::BlockBuffer;
use crate::{ListingQuery, Multipart, ObjectError, ObjectErrorKind, ObjectMeta};

/// Greatest number of keys in a page of a list, and of keys that one request removes.
const PAGE_KEYS: usize = 1_000;

/// Number of records that one page of a list surely holds, with the other keys of the folder.
const FEW_RECORDS: u64 = 900;

/// Greatest number of pieces that are read at the same time.
const READS_AT_ONCE: usize = 16;

/// Age from which on the folder of an ended session counts as a leftover. Until then, late requests of its
/// client may come.
const ENDED_AGE: Duration = Duration::from_mins(10);

const ENDED: &str = "ended";

/// Folder of a session, as a list shows it.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Number of the last record.
    pub(super) last: Option<u64>,
    pub(super) is_ended: bool,
    /// Time of the last change.
    pub(super) modified: Option<SystemTime>,
    /// All keys.
    keys: Vec<String>,
}

pub(super) fn record_key(folder: &str, seq: u64) -> String {
    format!("{folder}/s.{seq:010}")
}

pub(super) fn data_key(folder: &str) -> String {
    format!("{folder}/data")
}

pub(super) fn started_key(folder: &str) -> String {
    format!("{folder}/startedat")
}

pub(super) fn ended_key(folder: &str) -> String {
    format!("{folder}/{ENDED}")
}

/// Calls `visit` with the objects whose keys begin with a prefix, in order.
async fn list(
    shared: &Shared,
    prefix: &str,
    visit: impl FnMut(String, ObjectMeta),
) -> Result<(), StorageError> {
    list_after(shared, prefix, None, visit).await
}

/// Calls `visit` with the objects whose keys begin with a prefix, in order, from behind a key on.
async fn list_after(
    shared: &Shared,
    prefix: &str,
    mut after: Option<String>,
    mut visit: impl FnMut(String, ObjectMeta),
) -> Result<(), StorageError> {
    loop {
        let query = ListingQuery { prefix, after: after.as_deref(), limit: PAGE_KEYS };
        let page = shared.objects.list(query).await.map_err(failed("list", prefix))?;
        let last = page.entries.last().map(|(key, _)| key.clone());
        page.entries.into_iter().for_each(|(key, meta)| visit(key, meta));
        if !page.is_truncated || last.is_none() {
            return Ok(());
        }
        after = last;
    }
}

/// Lists the folder of a session.
pub(super) async fn look(shared: &Shared, folder: &str) -> Result<Folder, StorageError> {
    let mut found = Folder::default();
    list(shared, &format!("{folder}/"), |key, meta| {
        found.modified = found.modified.max(Some(meta.modified));
        let name = &key[folder.len() + 1..];
        found.is_ended |= name == ENDED;
        found.last = found.last.max(name.strip_prefix("s.").and_then(|seq| seq.parse().ok()));
        found.keys.push(key);
    })
    .await?;
    Ok(found)
}

/// Looks for the last record of a session, and for its end. Of a session with many records, those before `known` are
/// not listed: each request of thousands would list all that came before.
pub(super) async fn look_for_last(
    shared: &Shared,
    folder: &str,
    known: Option<u64>,
) -> Result<Folder, StorageError> {
    let Some(known) = known.filter(|known| *known >= FEW_RECORDS) else { return look(shared, folder).await };
    let (prefix, mut last) = (format!("{folder}/s."), None);
    let records = list_after(shared, &prefix, Some(record_key(folder, known - 1)), |key, _| {
        last = last.max(key[prefix.len()..].parse().ok());
    });
    let ended = async {
        match shared.objects.head(&ended_key(folder)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ObjectErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("look up", folder)(error)),
        }
    };
    let (listed, is_ended) = futures_util::future::join(records, ended).await;
    listed?;
    Ok(Folder { last, is_ended: is_ended?, ..Folder::default() })
}

/// Returns the sessions in a folder of sessions, but for those that have just ended.
pub(super) async fn sessions(shared: &Shared, folder: &str) -> Result<Vec<UploadId>, StorageError> {
    let mut found: Vec<UploadId> = Vec::new();
    let mut just_ended = Vec::new();
    let now = shared.now();
    list(shared, &format!("{folder}/"), |key, meta| {
        let Some((name, rest)) = key[folder.len() + 1..].split_once('/') else { return };
        let Ok(id) = name.parse::<UploadId>() else { return };
        let age = now.duration_since(meta.modified).unwrap_or_default();
        if rest == ENDED && age < ENDED_AGE {
            just_ended.push(id.clone());
        }
        if found.last() != Some(&id) {
            found.push(id);
        }
    })
    .await?;
    found.retain(|id| !just_ended.contains(id));
    Ok(found)
}

/// Bytes that a record holds, which are read when they are needed.
pub(super) struct Piece {
    key: String,
    length: u64,
    /// Bytes that came with the line of the record.
    beginning: Bytes,
    rest: BoxStream<'static, Result<Bytes, ObjectError>>,
}

/// Reads a record, and opens the bytes that it holds; `None` if it was removed.
pub(super) async fn record(
    shared: &Shared,
    folder: &str,
    seq: u64,
) -> Result<Option<(Record, Piece)>, StorageError> {
    let key = record_key(folder, seq);
    let mut object = match shared.objects.get(&key, None, None).await {
        Ok(object) => object,
        Err(error) if error.kind == ObjectErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &key)(error)),
    };
    let mut line = Vec::new();
    let beginning = loop {
        let chunk = object.body.try_next().await.map_err(failed("read", &key))?;
        let Some(chunk) = chunk.filter(|chunk| line.len() + chunk.len() <= MAX_LINE_BYTES) else {
            return Err(not_understood(key));
        };
        if let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&chunk[..end]);
            break chunk.slice(end + 1..);
        }
        line.extend_from_slice(&chunk);
    };
    let Ok(record) = Record::decode(seq, &line) else { return Err(not_understood(key)) };
    let length = object.meta.length.saturating_sub(line.len() as u64 + 1);
    Ok(Some((record, Piece { key, length, beginning, rest: object.body })))
}

fn not_understood(key: String) -> StorageError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, InvalidRecord);
    StorageError::Io { what: "understand", key, source }
}

// === impl Piece ===

impl Piece {
    /// Returns the number of bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads the bytes into a buffer that has room for `room` bytes, and returns their number.
    pub(super) async fn read_into(
        mut self,
        buffer: &mut BlockBuffer,
        room: u64,
    ) -> Result<u64, StorageError> {
        let mut read = 0;
        let mut chunk = std::mem::take(&mut self.beginning);
        loop {
            read += chunk.len() as u64;
            if read > room {
                return Err(StorageError::Broken);
            }
            buffer.extend(&chunk);
            match self.rest.try_next().await.map_err(failed("read", &self.key))? {
                Some(next) => chunk = next,
                None if read == self.length => return Ok(read),
                None => return Err(StorageError::Broken),
            }
        }
    }
}

/// Reads the bytes of a session that are in no part, in order, into a buffer that has room for them. Several records
/// are asked for at once, and no more of each is in memory than its connection holds.
pub(super) async fn read_pieces(
    shared: &Shared,
    folder: &str,
    last: &Record,
    buffer: &mut BlockBuffer,
) -> Result<(), StorageError> {
    let opened = (last.pieces_from..=last.seq).map(|seq| record(shared, folder, seq));
    let mut opened = stream::iter(opened).buffered(READS_AT_ONCE);
    let mut left = last.in_no_part();
    while let Some(found) = opened.try_next().await? {
        let (_, piece) = found.ok_or(StorageError::Broken)?;
        left -= piece.read_into(buffer, left).await?;
    }
    if left == 0 { Ok(()) } else { Err(StorageError::Broken) }
}

/// Removes objects, as far as they exist.
pub(super) async fn remove(shared: &Shared, keys: &[String]) -> Result<(), StorageError> {
    for keys in keys.chunks(PAGE_KEYS) {
        let lost = shared.objects.delete_many(keys).await.map_err(failed("remove", &keys[0]))?;
        if let Some((key, error)) = lost.into_iter().next() {
            return Err(failed("remove", &key)(error));
        }
    }
    Ok(())
}

/// Aborts the uploads in parts of a session, and removes its folder, but for the note that it has ended.
/// Returns true if there was anything.
pub(super) async fn clear(shared: &Shared, folder: &str) -> Result<bool, StorageError> {
    let data = data_key(folder);
    let pending = shared.objects.list_uploads(&data).await.map_err(failed("list the uploads of", &data))?;
    for upload in &pending {
        let upload = Multipart { key: &upload.key, id: &upload.id };
        shared.objects.abort(upload).await.map_err(failed("abort the upload of", upload.key))?;
    }
    let mut keys = look(shared, folder).await?.keys;
    let ended = ended_key(folder);
    keys.retain(|key| *key != ended);
    remove(shared, &keys).await?;
    Ok(!keys.is_empty() || !pending.is_empty())
}

/// Removes all of a session. Returns true if there was anything.
pub(super) async fn discard(shared: &Arc<Shared>, folder: &str) -> Result<bool, StorageError> {
    let is_cleared = clear(shared, folder).await?;
    let found = look(shared, folder).await?;
    remove(shared, &found.keys).await?;
    Ok(is_cleared || !found.keys.is_empty())
}

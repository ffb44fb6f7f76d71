//! Folder of a session in the bucket: `s.<number>`, the records; `startedat`, by which distribution's purge
//! ends the session; `data.<random>`, the object of the parts. An empty record is the mark of the session's end: no
//! other process, however little it knows of the end, then creates the record of that number.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use quinistry_store::{Leftover, StorageError, UploadId};
use uuid::Uuid;

use super::Shared;
use super::record::{InvalidRecord, MAX_LINE_BYTES, Record};
use crate::memory::BlockBuffer;
use crate::objects::present;
use crate::storage::failed;
use crate::{Condition, ListingQuery, Multipart, ObjectError, ObjectErrorKind, ObjectMeta, Payload};

/// Greatest number of keys in a page of a list, and of keys that one request removes.
const PAGE_KEYS: usize = 1_000;

/// Number of records that one page of a list surely holds, with the other keys of the folder.
const FEW_RECORDS: u64 = 900;

/// Greatest number of pieces that are read at the same time.
const READS_AT_ONCE: usize = 16;

/// Beginning of the names of objects of uploads in parts.
const DATA: &str = "data.";

/// Greatest number of records that other processes create while the mark of a session's end is set.
const MAX_RACES: u32 = 8;

/// Age from which on the folder of an ended session counts as a leftover. Until then, late requests of its
/// client may come.
pub(super) const ENDED_AGE: Duration = Duration::from_mins(10);

/// Folder of a session, as a list shows it.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Number of the last record.
    pub(super) last: Option<u64>,
    pub(super) is_ended: bool,
    /// Time of the last change.
    pub(super) modified: Option<SystemTime>,
    /// All keys but that of the mark of the end.
    keys: Vec<String>,
    /// Keys of marks of the end.
    marks: Vec<String>,
}

// === impl Folder ===

impl Folder {
    /// Adds an object. The key of the folder has `length` bytes.
    fn add(&mut self, length: usize, key: String, meta: &ObjectMeta) {
        self.modified = self.modified.max(Some(meta.modified));
        let name = &key[length + 1..];
        self.last = self.last.max(record_seq(name));
        if is_end_mark(name, meta) {
            self.is_ended = true;
            self.marks.push(key);
        } else {
            self.keys.push(key);
        }
    }
}

pub(super) fn record_key(folder: &str, seq: u64) -> String {
    format!("{folder}/s.{seq:010}")
}

/// Returns the key of the object of a new upload in parts. Each upload has its own, so that no process replaces the
/// object of another one between its end and its copy.
pub(super) fn new_data_key(folder: &str) -> String {
    format!("{folder}/{DATA}{}", Uuid::new_v4().simple())
}

/// Returns true for names of objects of uploads in parts.
pub(super) fn is_data_name(name: &str) -> bool {
    name.strip_prefix(DATA).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
}

/// Returns the name of an object in its folder.
pub(super) fn name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

/// Returns true if an object is the mark of a session's end: a record has at least a line.
fn is_end_mark(name: &str, meta: &ObjectMeta) -> bool {
    meta.length == 0 && record_seq(name).is_some()
}

fn record_seq(name: &str) -> Option<u64> {
    name.strip_prefix("s.")?.parse().ok()
}

pub(super) fn started_key(folder: &str) -> String {
    format!("{folder}/startedat")
}

/// Calls `visit` with the objects whose keys begin with a prefix, in order.
pub(super) async fn list(
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
    list(shared, &format!("{folder}/"), |key, meta| found.add(folder.len(), key, &meta)).await?;
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
    let mut found = Folder::default();
    let after = Some(record_key(folder, known - 1));
    list_after(shared, &format!("{folder}/s."), after, |key, meta| found.add(folder.len(), key, &meta))
        .await?;
    Ok(found)
}

/// Returns the sessions in a folder of sessions that have not ended, with the times since their last changes.
pub(super) async fn sessions(shared: &Shared, folder: &str) -> Result<Vec<Leftover>, StorageError> {
    let found = all_sessions(shared, folder).await?;
    let open = found.into_iter().filter(|(_, found)| !found.is_ended);
    let now = shared.now();
    let idle = |found: &Folder| Some(now.duration_since(found.modified?).unwrap_or_default());
    Ok(open.map(|(id, found)| Leftover { id, idle: idle(&found) }).collect())
}

/// Removes what the sessions in a folder of sessions that have ended have left; of those whose ends are some time ago,
/// the marks as well. Returns the number of the latter.
pub(super) async fn remove_ended(shared: &Shared, folder: &str) -> Result<usize, StorageError> {
    let now = shared.now();
    let is_left = |found: &Folder| {
        let age = found.modified.and_then(|modified| now.duration_since(modified).ok());
        age.is_some_and(|age| age >= ENDED_AGE)
    };
    let mut ended = all_sessions(shared, folder).await?;
    ended.retain(|(_, found)| found.is_ended);
    let keys: Vec<String> = ended.iter().flat_map(|(_, found)| &found.keys).cloned().collect();
    ended.retain(|(_, found)| is_left(found));
    let marks: Vec<String> = ended.iter().flat_map(|(_, found)| &found.marks).cloned().collect();
    // The marks are the last ones: a session whose removal is interrupted does not begin again.
    for keys in [keys, marks] {
        remove(shared, &keys).await?;
    }
    Ok(ended.len())
}

/// Lists a folder of sessions.
async fn all_sessions(shared: &Shared, folder: &str) -> Result<Vec<(UploadId, Folder)>, StorageError> {
    let mut all: Vec<(UploadId, Folder)> = Vec::new();
    list(shared, &format!("{folder}/"), |key, meta| {
        let Some((name, _)) = key[folder.len() + 1..].split_once('/') else { return };
        let Ok(id) = name.parse::<UploadId>() else { return };
        let length = folder.len() + 1 + name.len();
        if all.last().is_none_or(|(last, _)| *last != id) {
            all.push((id, Folder::default()));
        }
        if let Some((_, found)) = all.last_mut() {
            found.add(length, key, &meta);
        }
    })
    .await?;
    Ok(all)
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
    let found = present(shared.objects.get(&key, None, None).await).map_err(failed("read", &key))?;
    let Some(mut object) = found else { return Ok(None) };
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

/// Ends a session, so that no process continues it.
pub(super) async fn mark_ended(shared: &Shared, folder: &str) -> Result<(), StorageError> {
    for _ in 0..MAX_RACES {
        let found = look(shared, folder).await?;
        if found.is_ended {
            return Ok(());
        }
        let key = record_key(folder, found.last.unwrap_or(0) + 1);
        match shared.objects.put(&key, Payload::default(), Condition::Absent).await {
            Ok(_) => return Ok(()),
            // Another process has acknowledged bytes in between.
            Err(error) if error.kind == ObjectErrorKind::Precondition => {}
            Err(error) => return Err(failed("write", &key)(error)),
        }
    }
    Err(StorageError::Overtaken)
}

/// Aborts the uploads in parts of a session, and removes its folder, but for the mark that it has ended.
/// Returns true if there was anything.
pub(super) async fn clear(shared: &Shared, folder: &str) -> Result<bool, StorageError> {
    // Those of distribution are `data` alone.
    let data = format!("{folder}/data");
    let pending = shared.objects.list_uploads(&data).await.map_err(failed("list the uploads of", &data))?;
    for upload in &pending {
        let upload = Multipart { key: &upload.key, id: &upload.id };
        shared.objects.abort(upload).await.map_err(failed("abort the upload of", upload.key))?;
    }
    let keys = look(shared, folder).await?.keys;
    remove(shared, &keys).await?;
    Ok(!keys.is_empty() || !pending.is_empty())
}

/// Removes all of a session. Returns true if there was anything.
pub(super) async fn discard(shared: &Arc<Shared>, folder: &str) -> Result<bool, StorageError> {
    let is_cleared = clear(shared, folder).await?;
    let Folder { mut keys, marks, .. } = look(shared, folder).await?;
    // The marks are the last ones: a session whose removal is interrupted does not begin again.
    keys.extend(marks);
    remove(shared, &keys).await?;
    Ok(is_cleared || !keys.is_empty())
}

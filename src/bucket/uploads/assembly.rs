//! Bytes of an upload on their way into parts: gathered in a buffer, hashed, and sent when a part is full and
//! more bytes follow. An upload that is not longer than a part therefore needs no parts.

use std::sync::{Arc, Mutex, PoisonError};

use quinistry_oci::{Algorithm, Digest, Hasher};
use quinistry_store::{RoomFuture, StorageError, content_digest};

use super::Shared;
use super::parts::{PartWriter, SendPermit};
use super::progress::Progress;
use crate::Condition;
use crate::memory::{BlockBuffer, Reservation};
use crate::storage::failed;

/// Capacity of the first buffer of an upload whose length is not known, in bytes.
const FIRST_BUFFER_BYTES: u64 = 64 * 1024;

/// Blocks beyond a part for the bytes that come with its last ones: callers append 128 KiB at once, and the next part
/// gets its memory only when this one is on its way.
const SPARE_BLOCKS: u64 = 4;

/// Number of parts in a memory of which an upload may hold a few blocks while it waits for more: then 100 uploads may.
const AMPLE_PARTS: u64 = 4;

/// Upload that gathers parts.
#[derive(Debug)]
pub(super) struct Assembly {
    shared: Arc<Shared>,
    pub(super) progress: Progress,
    pub(super) writer: PartWriter,
    /// Bytes that are in no part.
    pub(super) buffer: BlockBuffer,
    /// Number of bytes that will come in all, if that is known.
    pub(super) length: Option<u64>,
    reserved: Arc<Mutex<Reserved>>,
}

/// Memory and turn that a wait has reserved for the next bytes.
#[derive(Debug, Default)]
struct Reserved {
    memory: Option<Reservation>,
    turn: Option<SendPermit>,
}

impl Assembly {
    pub(super) fn new(shared: &Arc<Shared>, progress: Progress, writer: PartWriter) -> Self {
        Self {
            shared: shared.clone(),
            progress,
            writer,
            buffer: BlockBuffer::default(),
            length: None,
            reserved: Arc::default(),
        }
    }

    /// Returns true if a part is cut off before `bytes` more bytes are received.
    pub(super) fn will_cut(&self, bytes: usize) -> bool {
        self.progress.missing().is_some_and(|missing| bytes as u64 > missing)
    }

    /// Returns the capacity that the buffer needs for `bytes` more bytes: that of the gathering part, and of the spare
    /// blocks if more bytes may follow.
    fn wanted_capacity(&self, bytes: u64) -> u64 {
        let size = self.progress.part_size().unwrap_or(0);
        // Where memory has few parts, uploads that hold a little and wait for the rest would wait for each other: none
        // waits there but with empty hands.
        let is_ample = self.shared.memory.size() / AMPLE_PARTS >= size;
        let spare = if is_ample { SPARE_BLOCKS * self.shared.memory.block_bytes() } else { 0 };
        let with_spare = size + spare;
        let gathered = self.progress.in_no_part().saturating_add(bytes);
        // The rest of an upload that tells its length, or of one that cannot be long yet.
        let rest = self.length.map(|length| length.saturating_sub(self.progress.offset()));
        match rest.map(|rest| self.progress.in_no_part().saturating_add(rest)) {
            Some(known) => known.max(gathered).min(with_spare),
            None if is_ample
                && gathered <= FIRST_BUFFER_BYTES
                && FIRST_BUFFER_BYTES < size
                && self.progress.parts() == 0 =>
            {
                FIRST_BUFFER_BYTES
            }
            None => with_spare,
        }
    }

    /// Returns the memory that lacks for `bytes` more bytes.
    fn lacking(&self, bytes: u64) -> u64 {
        let wanted = self.wanted_capacity(bytes);
        let needed = self.progress.in_no_part().saturating_add(bytes).min(wanted);
        // A buffer whose bytes were not read back lacks memory for these, too.
        let has_room = needed <= self.buffer.capacity();
        if has_room { 0 } else { wanted.saturating_sub(self.buffer.capacity()) }
    }

    /// Returns a wait for memory, and for a turn to send a part if one will be full; `None` if there is room.
    pub(super) fn room(&mut self, bytes: usize) -> Option<RoomFuture> {
        let memory = self.shared.memory.clone();
        let lacking = self.lacking(bytes as u64);
        let mut ready = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let lacks_memory = if lacking == 0 || ready.memory.is_some() {
            false
        } else {
            ready.memory = memory.try_take(lacking);
            ready.memory.is_none()
        };
        let permits = self.writer.permits();
        let lacks_turn = if !self.will_cut(bytes) || ready.turn.is_some() {
            false
        } else {
            ready.turn = permits.clone().try_acquire_owned().ok();
            ready.turn.is_none()
        };
        drop(ready);
        if !lacks_memory && !lacks_turn {
            return None;
        }
        let reserved = self.reserved.clone();
        Some(Box::pin(async move {
            let taken = if lacks_memory { Some(memory.take(lacking).await?) } else { None };
            let turn = if lacks_turn { permits.acquire_owned().await.ok() } else { None };
            let mut ready = reserved.lock().unwrap_or_else(PoisonError::into_inner);
            ready.memory = ready.memory.take().or(taken);
            ready.turn = ready.turn.take().or(turn);
            Ok(())
        }))
    }

    /// Adds the memory that was waited for to the buffer, and returns the turn.
    pub(super) fn take_reserved(&mut self) -> Option<SendPermit> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let Reserved { memory, turn } = std::mem::take(&mut *reserved);
        if let Some(memory) = memory {
            self.buffer.grow(memory);
        }
        turn
    }

    /// Appends bytes. After an error, some of them may have been received.
    pub(super) async fn append(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        if let Some(room) = self.room(bytes.len()) {
            room.await?;
        }
        let mut turn = self.take_reserved();
        while !bytes.is_empty() {
            let missing = self.progress.missing().ok_or_else(|| self.too_many_parts())?;
            if missing == 0 {
                self.send_part(turn.take()).await?;
                continue;
            }
            if self.buffer.room() == 0 {
                let more = self.shared.memory.take(self.lacking(bytes.len() as u64)).await?;
                self.buffer.grow(more);
            }
            let length = usize::try_from(missing.min(self.buffer.room())).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(length));
            self.progress.receive(now);
            self.buffer.extend(now);
            bytes = later;
        }
        Ok(())
    }

    fn too_many_parts(&self) -> StorageError {
        StorageError::TooManyParts { max_bytes: self.progress.sizes().max_bytes() }
    }

    /// Sends the bytes that are in no part as a part.
    async fn send_part(&mut self, turn: Option<SendPermit>) -> Result<(), StorageError> {
        self.progress.part_size().ok_or_else(|| self.too_many_parts())?;
        let body = self.buffer.take();
        let number = self.progress.cut();
        self.writer.send(number, body, turn).await
    }

    /// Stores all bytes under the key of the parts.
    pub(super) async fn complete(&mut self) -> Result<(), StorageError> {
        if self.progress.in_no_part() > 0 {
            self.send_part(None).await?;
        }
        // No bytes follow that need the memory that is left.
        self.buffer = BlockBuffer::default();
        let digest =
            self.progress.hashes().digest(Algorithm::Sha256).expect("SHA-256 is always among the hashes");
        self.writer.complete(self.progress.offset(), &digest).await
    }

    /// Stores all bytes under a key by one request. Call if there are no parts.
    pub(super) async fn put_at(&mut self, key: &str) -> Result<(), StorageError> {
        debug_assert_eq!(self.progress.in_no_part(), self.progress.offset(), "no part holds bytes");
        let body = std::mem::take(&mut self.buffer).take();
        let sha256 = content_digest(key);
        let put = self.shared.objects.put_hashed(key, body, Condition::Always, sha256.as_ref()).await;
        put.map(drop).map_err(failed("write", key))
    }

    /// Returns the digest; `None` if the bytes were not hashed by the algorithm.
    pub(super) fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        if let Some(digest) = self.progress.hashes().digest(algorithm) {
            return Some(digest);
        }
        let is_in_memory = self.progress.in_no_part() == self.progress.offset()
            && self.buffer.length() == self.progress.offset();
        is_in_memory.then(|| {
            let mut hasher = Hasher::new(algorithm);
            self.buffer.pieces().for_each(|piece| hasher.update(piece));
            hasher.finish()
        })
    }
}

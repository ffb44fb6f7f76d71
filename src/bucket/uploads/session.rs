//! Session: an upload of several requests, each of which another process may receive.
//!
//! A session begins without a request to the store, as if it had no bytes, and finds out that another process
//! has continued it when it creates its next record, or before it sends a part. The last request tells the
//! digest of all bytes, so that its bytes can be appended to what other processes have received.

mod ending;
mod request;
mod upload;

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use quinistry_oci::{Algorithm, Digest, RepositoryName};
use quinistry_store::StorageError;
use uuid::Uuid;

use self::request::Request;
use super::assembly::Assembly;
use super::folder::Piece;
use super::parts::{Loss, PartWriter};
use super::progress::Progress;
use super::record::Record;
use super::{Shared, folder};
use crate::memory::IdleBuffer;
use crate::storage::failed;
use crate::{Condition, ObjectErrorKind, Part, Payload};

/// Upload of a session.
#[derive(Debug)]
pub(super) struct SessionUpload {
    shared: Arc<Shared>,
    /// Key of the session's folder.
    folder: String,
    repository: String,
    begun: SystemTime,
    announced: Option<Algorithm>,
    /// Last record; `None` if there is none, as far as this process knows.
    base: Option<Record>,
    /// The store has told that `base` is the last record, at some time within the request.
    is_confirmed: bool,
    /// Time at which the store has told so, or this process has created `base`, by the clock of the store.
    looked_up: SystemTime,
    assembly: Assembly,
    /// The buffer has all bytes that are in no part.
    is_loaded: bool,
    /// Buffer between two requests.
    parked: Option<IdleBuffer>,
    request: Request,
    stage: Stage,
    /// Key of the object in the session's folder that has, or had, all bytes.
    staged: Option<String>,
}

/// Stage of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Receiving,
    /// All bytes are an object in the session's folder.
    Staged,
    Finished,
    /// The session has ended without a blob, or in another process.
    Ended,
}

// === impl SessionUpload ===

impl SessionUpload {
    /// Makes a session that has no bytes, as far as this process knows. Sends no request.
    pub(super) fn new(
        shared: &Arc<Shared>,
        folder: String,
        repository: &RepositoryName,
        (begun, announced): (SystemTime, Option<Algorithm>),
    ) -> Self {
        let stage = if shared.ended.contains(&folder) { Stage::Ended } else { Stage::Receiving };
        Self {
            shared: shared.clone(),
            repository: repository.to_string(),
            begun,
            announced,
            base: None,
            is_confirmed: false,
            looked_up: shared.now(),
            assembly: assemble(shared, &folder, None, announced),
            is_loaded: true,
            parked: None,
            request: Request::default(),
            stage,
            staged: None,
            folder,
        }
    }

    /// Returns true if a record of the session is known.
    pub(super) fn has_record(&self) -> bool {
        self.base.is_some()
    }

    fn acknowledged(&self) -> u64 {
        self.base.as_ref().map_or(0, |base| base.offset)
    }

    fn check_usable(&self) -> Result<(), StorageError> {
        if self.stage == Stage::Receiving { Ok(()) } else { Err(StorageError::Broken) }
    }

    fn confirmed(&mut self) {
        (self.is_confirmed, self.looked_up) = (true, self.shared.now());
    }

    /// Returns true if the mark of the session's end may have been removed since the session was looked up.
    fn is_forgotten(&self) -> bool {
        self.shared.now().duration_since(self.looked_up).is_ok_and(|age| age >= folder::ENDED_AGE)
    }

    /// Returns true if no part was cut off since the last record.
    fn is_uncut(&self) -> bool {
        self.assembly.progress.parts() == self.base.as_ref().map_or(0, Record::parts)
    }

    /// Returns true if parts gather in the session's folder.
    fn is_within_folder(&self) -> bool {
        let name = self.assembly.writer.key().strip_prefix(&self.folder);
        name.and_then(|name| name.strip_prefix('/')).is_some_and(folder::is_data_name)
    }

    /// Goes back to the last record. The bytes received since are lost.
    fn reset(&mut self) {
        self.assembly = assemble(&self.shared, &self.folder, self.base.as_ref(), self.announced);
        self.is_loaded = self.assembly.progress.in_no_part() == 0;
        self.is_confirmed = false;
        self.parked = None;
        if self.stage == Stage::Staged {
            self.stage = Stage::Receiving;
        }
    }

    /// Takes back the buffer that the last request has left, if there still is one.
    fn unpark(&mut self) {
        let Some(place) = self.parked.take() else { return };
        match place.take() {
            Some(buffer) => {
                self.assembly.buffer = buffer;
                self.is_loaded = true;
            }
            // Bytes that no record has are lost.
            None if self.assembly.progress.offset() != self.acknowledged() => self.reset(),
            None => {}
        }
    }

    /// Reads the bytes that are in no part into the buffer.
    async fn load(&mut self) -> Result<(), StorageError> {
        self.unpark();
        self.assembly.take_reserved();
        let length = self.assembly.progress.in_no_part();
        let Some(base) = self.base.as_ref().filter(|_| !self.is_loaded && length > 0) else { return Ok(()) };
        if self.assembly.buffer.capacity() < length {
            let memory = self.shared.memory.take(length - self.assembly.buffer.capacity()).await?;
            self.assembly.buffer.grow(memory);
        }
        let seq = base.seq;
        let read = folder::read_pieces(&self.shared, &self.folder, base, &mut self.assembly.buffer).await;
        if let Err(error) = read {
            self.reset();
            let is_incomplete = matches!(error, StorageError::Broken);
            return Err(if is_incomplete { self.without_pieces(seq).await } else { error });
        }
        self.is_loaded = true;
        Ok(())
    }

    /// Reads the bytes of the last record into the buffer, if these are all that are in no part and there is memory.
    async fn load_piece(&mut self, piece: Piece) -> Result<(), StorageError> {
        let length = piece.length();
        let Some(memory) = self.shared.memory.try_take(length).filter(|_| !self.is_loaded) else {
            return Ok(());
        };
        self.assembly.buffer.grow(memory);
        let read = piece.read_into(&mut self.assembly.buffer, length).await;
        if read.is_err() {
            self.reset();
        }
        self.is_loaded = read.is_ok();
        read.map(drop)
    }

    /// Returns the error of a session whose bytes in no part are incomplete.
    async fn without_pieces(&mut self, seq: u64) -> StorageError {
        match self.read().await {
            Err(error) => error,
            // The process that has ended the session removes its records.
            Ok(false) => StorageError::Overtaken,
            Ok(true) => {
                if self.base.as_ref().is_some_and(|base| base.seq == seq) {
                    self.assembly.writer.lose();
                }
                StorageError::Broken
            }
        }
    }

    /// Reads the last record, and goes back to it. Returns false if the session has ended.
    async fn read(&mut self) -> Result<bool, StorageError> {
        // A record that a purge removes in between is not there any more at the second look.
        for _ in 0..3 {
            let known = self.base.as_ref().map(|base| base.seq);
            let found = folder::look_for_last(&self.shared, &self.folder, known).await?;
            if found.is_ended {
                self.stage = Stage::Ended;
                return Ok(false);
            }
            if found.last == self.base.as_ref().map(|base| base.seq) {
                if self.assembly.progress.offset() != self.acknowledged() {
                    self.reset();
                }
                self.confirmed();
                return Ok(true);
            }
            let Some(last) = found.last else {
                // The records were removed, but for the process that knows them.
                self.stage = Stage::Ended;
                return Ok(false);
            };
            if let Some((record, piece)) = folder::record(&self.shared, &self.folder, last).await? {
                let is_all = record.pieces_from == record.seq && piece.length() == record.in_no_part();
                self.base = Some(record);
                self.reset();
                if is_all {
                    self.load_piece(piece).await?;
                }
                self.confirmed();
                return Ok(true);
            }
        }
        Err(StorageError::Broken)
    }

    /// Makes sure that no other process has continued the session. If one has, the bytes of the last request
    /// are appended to what there is, and those of another request are refused.
    async fn confirm(&mut self) -> Result<(), StorageError> {
        if self.is_confirmed {
            return Ok(());
        }
        let seq = self.base.as_ref().map(|base| base.seq);
        let found = folder::look_for_last(&self.shared, &self.folder, seq).await?;
        if !found.is_ended && found.last == seq {
            self.confirmed();
            return Ok(());
        }
        let may_be_moved = self.request.may_be_moved() && self.is_uncut();
        let mut received = Payload::default();
        if may_be_moved && self.is_loaded {
            received = self.assembly.buffer.take();
            received.advance(self.base.as_ref().map_or(0, Record::in_no_part));
        }
        if !self.read().await? || !may_be_moved {
            return Err(StorageError::Overtaken);
        }
        self.load().await?;
        // Each piece gives its memory back before the next one needs some.
        while let Some(piece) = received.pop() {
            self.assembly.append(&piece).await?;
        }
        Ok(())
    }

    async fn append_now(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.load().await?;
        if self.assembly.will_cut(bytes.len()) {
            self.confirm().await?;
            self.load().await?;
        }
        self.assembly.append(bytes).await
    }

    /// Creates the record of the bytes received since the last one.
    async fn acknowledge_now(&mut self) -> Result<u64, StorageError> {
        self.unpark();
        if !self.is_within_folder() {
            // Parts under another key are no part of the session.
            self.reset();
        }
        if self.assembly.progress.offset() == self.acknowledged() {
            return Ok(self.acknowledged());
        }
        self.load().await?;
        self.assembly.writer.settle().await?;
        let Assembly { progress, writer, .. } = &self.assembly;
        let place = (&*self.repository, self.begun);
        let (record, held) =
            Record::after(self.base.as_ref(), progress, place, writer.upload(), writer.tags());
        let piece = if let Some(shared) = self.assembly.buffer.share(held.start, &self.shared.memory) {
            shared
        } else {
            // The bytes are read back if they are needed.
            let mut all = std::mem::take(&mut self.assembly.buffer).take();
            all.advance(held.start);
            self.is_loaded = false;
            all
        };
        let body = record.encode(&Uuid::new_v4().to_string(), piece);
        let key = folder::record_key(&self.folder, record.seq);
        // The record names the upload, and may be there although its answer is lost.
        let is_own = !self.assembly.writer.is_shared();
        self.assembly.writer.set_shared(true);
        let created = self.shared.objects.put(&key, body, Condition::Absent);
        let started = async {
            if record.seq > 1 {
                return;
            }
            let key = folder::started_key(&self.folder);
            let begun = Timestamp::try_from(self.begun).unwrap_or_default();
            let written =
                self.shared.objects.put(&key, format!("{begun:.0}").into(), Condition::Always).await;
            // Only the purge of distribution reads the time.
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write the begin of an upload session, leaving it out");
            }
        };
        let (created, ()) = futures_util::future::join(created, started).await;
        match created {
            Ok(_) => {}
            Err(error) if error.kind == ObjectErrorKind::Precondition => {
                return Err(self.give_way(is_own).await);
            }
            Err(error) => return Err(failed("create", &key)(error)),
        }
        self.base = Some(record);
        self.looked_up = self.shared.now();
        Ok(self.acknowledged())
    }

    /// Goes back to the record that another process has created. An upload in parts that no record names is aborted.
    async fn give_way(&mut self, is_own: bool) -> StorageError {
        let next = PartWriter::new(&self.shared, folder::new_data_key(&self.folder));
        let mut writer = std::mem::replace(&mut self.assembly.writer, next);
        if let Err(error) = self.read().await {
            return error;
        }
        let named = self.base.as_ref().and_then(|base| base.upload.as_ref());
        writer.set_shared(!is_own || named == writer.upload().as_ref());
        StorageError::Overtaken
    }

    /// Returns the digest of all bytes. If it is not the one that the last request tells, another process may
    /// have received the bytes before.
    async fn digest_now(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        let found = self.own_digest(algorithm).await?;
        let is_wanted = |found: &Digest| self.request.digest.as_ref().is_none_or(|wanted| wanted == found);
        let is_other = self.request.digest.as_ref().is_some_and(|wanted| wanted.algorithm() == algorithm);
        if self.is_confirmed || !is_other || is_wanted(&found) || self.stage != Stage::Receiving {
            return Ok(found);
        }
        self.confirm().await?;
        self.own_digest(algorithm).await
    }

    async fn own_digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        if let Some(known) = self.assembly.progress.hashes().digest(algorithm) {
            return Ok(known);
        }
        self.load().await?;
        match self.assembly.digest(algorithm) {
            Some(digest) => Ok(digest),
            None => self.read_back(algorithm).await,
        }
    }

    /// Returns an error's outcome: the session goes on from its last record, or ends if its parts are lost.
    fn recovered<T>(&mut self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        let Err(error) = result else { return result };
        if !matches!(self.stage, Stage::Receiving | Stage::Staged) {
            return Err(error);
        }
        let Some(loss) = self.assembly.writer.loss() else {
            self.reset();
            return Err(error);
        };
        tracing::warn!(%error, ?loss, folder = self.folder, "parts of upload lost, ending the session");
        self.stage = Stage::Ended;
        // The process that has overtaken this one ends the session itself.
        if loss == Loss::Gone {
            let shared = self.shared.clone();
            if let Err(error) = shared.wait(self.end()) {
                tracing::warn!(%error, "cannot remove upload session, leaving it until it expires");
            }
        }
        Err(StorageError::Overtaken)
    }
}

/// Makes the assembly of a session that goes on from a record.
fn assemble(
    shared: &Arc<Shared>,
    folder: &str,
    base: Option<&Record>,
    announced: Option<Algorithm>,
) -> Assembly {
    let new_writer = || PartWriter::new(shared, folder::new_data_key(folder));
    let Some(base) = base else {
        let progress = Progress::new(shared.sizes(None), announced);
        return Assembly::new(shared, progress, new_writer());
    };
    let progress = Progress::resumed(base.sizes, base.offset, base.parts(), base.hashes.clone());
    let writer = match &base.upload {
        None => new_writer(),
        Some(upload) => {
            let parts = base.tags.iter().zip(0..).map(|(tag, before)| Part {
                number: before + 1,
                tag: tag.clone(),
                length: base.sizes.after(before).unwrap_or(0),
            });
            let key = format!("{folder}/{}", upload.object);
            PartWriter::resumed(shared, key, &upload.id, parts.collect())
        }
    };
    Assembly::new(shared, progress, writer)
}

//! Calls of the store, which wait for the requests of the session.

use quinistry_oci::{Algorithm, Digest};
use quinistry_store::{Entry, Key, NextRequest, RoomFuture, StorageError, Upload};

use super::{SessionUpload, Stage};

impl Upload for SessionUpload {
    fn offset(&self) -> u64 {
        self.assembly.progress.offset()
    }

    fn continue_with(&mut self, next: NextRequest<'_>) -> Result<Option<u64>, StorageError> {
        let shared = self.shared.clone();
        shared.wait(self.prepare(next))
    }

    fn refresh(&mut self) -> Result<bool, StorageError> {
        if matches!(self.stage, Stage::Ended | Stage::Finished) {
            return Ok(false);
        }
        let shared = self.shared.clone();
        shared.wait(self.read())
    }

    fn room(&mut self, bytes: usize) -> Option<RoomFuture> {
        self.unpark();
        self.assembly.room(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.check_usable()?;
        let shared = self.shared.clone();
        let appended = shared.wait(self.append_now(bytes));
        self.recovered(appended)
    }

    fn acknowledge(&mut self) -> Result<u64, StorageError> {
        self.check_usable()?;
        let shared = self.shared.clone();
        let acknowledged = shared.wait(self.acknowledge_now());
        self.recovered(acknowledged)
    }

    fn is_hashing(&self) -> bool {
        true
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        let shared = self.shared.clone();
        let digest = shared.wait(self.digest_now(algorithm));
        self.recovered(digest)
    }

    fn finish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        if self.stage != Stage::Staged {
            self.check_usable()?;
        }
        let shared = self.shared.clone();
        let finished = shared.wait(self.finish_now(key.as_str(), then));
        self.recovered(finished)
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        match self.stage {
            Stage::Finished => {
                self.clear_later();
                Ok(())
            }
            Stage::Ended => Ok(()),
            Stage::Receiving | Stage::Staged => {
                self.stage = Stage::Ended;
                shared.wait(self.end())
            }
        }
    }

    fn is_spent(&self) -> bool {
        matches!(self.stage, Stage::Finished | Stage::Ended)
    }

    fn release(&mut self) {
        if self.stage == Stage::Receiving && self.is_loaded && self.parked.is_none() {
            let buffer = std::mem::take(&mut self.assembly.buffer);
            if buffer.length() > 0 {
                self.parked = Some(buffer.park(&self.shared.memory));
                self.is_loaded = false;
            }
        }
        self.is_confirmed = false;
    }
}

//! Preparation of a session for its next request.

use quinistry_oci::Digest;
use quinistry_store::{NextRequest, StorageError};

use super::{SessionUpload, Stage, assemble};
use crate::uploads::assembly::Assembly;
use crate::uploads::parts::PartWriter;
use crate::uploads::progress::Progress;

/// Knowledge of the request that is being received.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// The client has told at which offset it continues.
    tells_offset: bool,
    /// Digest of all bytes, if the request is the last one.
    pub(super) digest: Option<Digest>,
}

impl Request {
    /// Returns true if the bytes may be appended at another offset: the digest of all bytes tells in the end
    /// whether that was right.
    pub(super) fn may_be_moved(&self) -> bool {
        !self.tells_offset && self.digest.is_some()
    }
}

impl SessionUpload {
    /// Prepares for the next request. The session is looked up in the bucket where a wrong guess would cost
    /// more than that, or where the client continues at another offset than this process knows.
    pub(super) async fn prepare(&mut self, next: NextRequest<'_>) -> Result<Option<u64>, StorageError> {
        if matches!(self.stage, Stage::Ended | Stage::Finished) {
            return Ok(None);
        }
        self.request = Request { tells_offset: next.offset.is_some(), digest: next.digest.cloned() };
        let offset = self.assembly.progress.offset();
        let is_elsewhere = next.offset.is_some_and(|told| told != offset);
        let must_look = match (next.digest, &self.base) {
            // Chunks without an offset may come from a client that has sent others to another process.
            (None, base) => base.is_some() && (next.offset.is_none() || self.is_forgotten()),
            // A body that fits into a part is in memory when its digest is known to be another one.
            (Some(_), None) => !self.fits_into_part(next.length),
            // The digest tells in the end.
            (Some(_), Some(_)) => false,
        };
        if (is_elsewhere || must_look) && !self.read().await? {
            return Ok(None);
        }
        if let (Some(digest), None) = (next.digest, &self.base) {
            // A request without bytes for a session without bytes: the session has ended long ago.
            if next.length == Some(0) && !digest.matches(b"") {
                return Ok(None);
            }
            self.shared.check_length(next.length)?;
            self.prepare_whole(digest, next);
        }
        Ok(Some(self.assembly.progress.offset()))
    }

    /// Returns true if the body has bytes, and no more than a part.
    fn fits_into_part(&self, length: Option<u64>) -> bool {
        let size = self.assembly.progress.part_size().unwrap_or(0);
        length.is_some_and(|length| 0 < length && length <= size)
    }

    /// Prepares for a body that brings all bytes of the session: its parts go straight to their key.
    fn prepare_whole(&mut self, digest: &Digest, next: NextRequest<'_>) {
        if self.assembly.progress.offset() > 0 {
            return;
        }
        let algorithm = Some(digest.algorithm());
        self.assembly = match next.key.filter(|_| self.is_confirmed) {
            None => assemble(&self.shared, &self.folder, None, algorithm),
            Some(key) => {
                let progress = Progress::new(self.shared.sizes(next.length), algorithm);
                Assembly::new(&self.shared, progress, PartWriter::new(&self.shared, key.to_string()))
            }
        };
        self.assembly.length = next.length;
    }
}

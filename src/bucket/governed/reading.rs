//! Bodies that are read: a body that is cut off or too slow is continued by another request.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use quinistry_oci::WithCauses;

use super::deadline::{Deadline, MIN_BYTES_PER_SECOND};
use super::{Governed, points};
use crate::{Object, ObjectError, ObjectErrorKind};

/// Period over which the rate of a body is measured.
const PERIOD: Duration = Duration::from_secs(30);

/// Greatest number of requests that continue one body.
const MAX_CONTINUATIONS: u32 = 8;

struct Reading {
    objects: Governed,
    key: String,
    version: String,
    body: BoxStream<'static, Result<Bytes, ObjectError>>,
    /// Offset of the next byte, and the end.
    next: u64,
    end: u64,
    continuations: u32,
    /// Time that was waited for bytes in this period, and the bytes that came.
    waited: (Duration, u64),
}

/// Returns an object whose body continues after it was cut off.
pub(super) fn resumed(objects: Governed, key: String, object: Object) -> Object {
    let Object { meta, range, body } = object;
    let reading = Reading {
        objects,
        key,
        version: meta.version.clone(),
        body,
        next: range.start,
        end: range.end,
        continuations: 0,
        waited: (Duration::ZERO, 0),
    };
    let body =
        try_unfold(
            reading,
            |mut reading| async move { Ok(reading.chunk().await?.map(|chunk| (chunk, reading))) },
        );
    Object { meta, range, body: body.boxed() }
}

// === impl Reading ===

impl Reading {
    /// Returns the next bytes; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, ObjectError> {
        while self.next < self.end {
            let begun = Instant::now();
            let next = tokio::time::timeout(PERIOD, self.body.next()).await;
            self.waited.0 += begun.elapsed();
            let error = match next {
                Ok(Some(Ok(chunk))) if chunk.is_empty() => continue,
                Ok(Some(Ok(mut chunk))) => {
                    let rest = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
                    chunk.truncate(rest);
                    self.next += chunk.len() as u64;
                    self.measure(chunk.len() as u64)?;
                    return Ok(Some(chunk));
                }
                Ok(Some(Err(error))) => error,
                Ok(None) => self.error("the answer was cut off"),
                Err(_) => self.error("no bytes within 30 seconds"),
            };
            self.resume(error).await?;
        }
        Ok(None)
    }

    /// Counts bytes, and gives up a body for which the reader waited too long over a whole period.
    fn measure(&mut self, length: u64) -> Result<(), ObjectError> {
        self.waited.1 += length;
        let (waited, bytes) = self.waited;
        if waited < PERIOD {
            return Ok(());
        }
        self.waited = (Duration::ZERO, 0);
        let is_slow = bytes < MIN_BYTES_PER_SECOND * waited.as_secs();
        if is_slow { Err(self.error("fewer than 16 KiB per second over 30 seconds")) } else { Ok(()) }
    }

    /// Sends a request for the rest of the same bytes.
    async fn resume(&mut self, error: ObjectError) -> Result<(), ObjectError> {
        self.continuations += 1;
        if error.kind != ObjectErrorKind::Unknown || self.continuations > MAX_CONTINUATIONS {
            return Err(error);
        }
        tracing::debug!(error = %WithCauses(&error), offset = self.next, "continuing read of the bucket");
        let rest = self.next..self.end;
        let attempt = || self.objects.objects().get(&self.key, Some(rest.clone()), None);
        let object = self.objects.repeat(points::GET, Deadline::FIRST_BYTE, attempt).await?;
        if object.meta.version != self.version || object.range != rest {
            return Err(self.error("the object was replaced while it was read"));
        }
        self.body = object.body;
        self.waited = (Duration::ZERO, 0);
        Ok(())
    }

    fn error(&self, reason: &str) -> ObjectError {
        ObjectError::new(ObjectErrorKind::Unknown, format!("GET {}: {reason}", self.key))
    }
}

//! Deadlines of requests.

use std::time::Duration;

use super::points::Point;
use crate::{ObjectError, ObjectErrorKind, RequestFuture};

/// Least rate at which a body moves, in bytes per second.
pub(super) const MIN_BYTES_PER_SECOND: u64 = 16 * 1024;

/// Time that one attempt of a request may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    attempt: Duration,
    /// Part of the time in which the body moves. The transport gives up a body that moves too slowly before.
    transfer: Duration,
}

// === impl Deadline ===

impl Deadline {
    /// The head of an answer whose body follows.
    pub(super) const FIRST_BYTE: Self = Self::of(Duration::from_secs(10));
    /// A request and an answer of a few bytes.
    pub(super) const SMALL: Self = Self::of(Duration::from_secs(15));
    /// A removal of a thousand objects, or a list of several pages.
    pub(super) const MANY: Self = Self::of(Duration::from_secs(30));
    /// A copy of a part within the store.
    pub(super) const COPY_PART: Self = Self::of(Duration::from_mins(1));
    /// A copy of a whole object within the store, which may move gigabytes before it answers.
    pub(super) const COPY: Self = Self::of(Duration::from_mins(5));
    /// The end of an upload in parts: S3 joins them for several minutes.
    pub(super) const COMPLETE: Self = Self::of(Duration::from_mins(5));

    const fn of(attempt: Duration) -> Self {
        Self { attempt, transfer: Duration::ZERO }
    }

    /// Returns the deadline of a request with a body.
    pub(super) fn of_body(length: u64) -> Self {
        let transfer = Duration::from_secs(length / MIN_BYTES_PER_SECOND);
        Self { attempt: Self::SMALL.attempt + transfer, transfer }
    }

    /// Returns the time in which the body moves at the least rate.
    pub(super) const fn transfer(self) -> Duration {
        self.transfer
    }

    /// Waits for an answer. An attempt that is cut off may have been carried out.
    pub(super) async fn within<T>(
        self,
        point: Point,
        request: RequestFuture<'_, T>,
    ) -> Result<T, ObjectError> {
        tokio::time::timeout(self.attempt, request).await.unwrap_or_else(|_| {
            let message = format!("{}: no answer within {} seconds", point.name(), self.attempt.as_secs());
            Err(ObjectError::new(ObjectErrorKind::Unknown, message))
        })
    }
}

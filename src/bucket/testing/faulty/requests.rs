//! Requests, counted by kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Kinds of requests to a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// GET of an object.
    Get,
    /// HEAD of an object.
    Head,
    /// PUT of an object.
    Put,
    /// DELETE of an object.
    Delete,
    /// Removal of many objects.
    DeleteMany,
    /// List of keys.
    List,
    /// Begin of an upload in parts.
    CreateMultipart,
    /// PUT of a part.
    PutPart,
    /// Copy of a range into a part.
    CopyPart,
    /// Completion of an upload in parts.
    Complete,
    /// End of an upload in parts without an object.
    Abort,
    /// List of parts.
    ListParts,
    /// List of uploads in parts.
    ListUploads,
    /// Copy of an object.
    Copy,
}

/// A request that reached a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRequest {
    /// Kind.
    pub kind: RequestKind,
    /// Key, or the prefix of a list. Of a removal of many objects, the first key.
    pub key: String,
    /// True if the request is a change that depends on a condition.
    pub is_conditional: bool,
}

/// Requests in the order in which they came.
#[derive(Debug, Default)]
pub struct RequestLog(Mutex<Vec<SentRequest>>);

/// Numbers of requests by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts(BTreeMap<RequestKind, usize>);

// === impl RequestLog ===

impl RequestLog {
    /// Adds a request.
    pub fn record(&self, request: SentRequest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// Returns the requests since the last call, and forgets them.
    pub fn take(&self) -> Vec<SentRequest> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the numbers of the requests since [`RequestLog::take`].
    pub fn counts(&self) -> RequestCounts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().collect()
    }
}

// === impl RequestCounts ===

impl RequestCounts {
    /// Returns the number of requests of a kind.
    #[must_use]
    pub fn of(&self, kind: RequestKind) -> usize {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// Returns the number of all requests.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl<'a> FromIterator<&'a SentRequest> for RequestCounts {
    fn from_iter<I: IntoIterator<Item = &'a SentRequest>>(requests: I) -> Self {
        let mut counts = BTreeMap::new();
        for request in requests {
            *counts.entry(request.kind).or_default() += 1;
        }
        Self(counts)
    }
}

//! Errors of requests to a bucket.

use std::io;

/// Kinds of errors, by what a caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectErrorKind {
    /// No object has the key, no upload has the name, or the upload lacks a part.
    NotFound,
    /// The condition of a change does not hold, and nothing was changed.
    Precondition,
    /// Another request changes the object at this moment, and the outcome of this one is unknown (409).
    Conflict,
    /// The object has the version that the reader has already.
    Unchanged,
    /// The range of a read begins at the end of the object, or behind it. An empty object has no other range.
    OutOfRange,
    /// The store refuses the credentials, or their rights.
    Denied,
    /// The store says that the credentials have expired. They were replaced if they could be.
    Expired,
    /// The store asks for fewer requests (429, 503, `SlowDown`).
    Throttled,
    /// The store refuses the request for good.
    Refused,
    /// No answer, a broken one, or a fault of the store: whether the request was carried out is unknown.
    Unknown,
}

/// Error of a request to a bucket.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ObjectError {
    /// Kind.
    pub kind: ObjectErrorKind,
    /// Request, key and the answer's status and code, on one line and without credentials.
    pub message: String,
    /// Cause, if there is one.
    #[source]
    pub source: Option<io::Error>,
}

impl ObjectError {
    /// Creates an error without a cause.
    #[must_use]
    pub fn new(kind: ObjectErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }
}

/// Returns `None` where nothing was found.
pub(crate) fn present<T>(result: Result<T, ObjectError>) -> Result<Option<T>, ObjectError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ObjectErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

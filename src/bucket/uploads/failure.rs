//! Errors of requests as errors of the storage.

use std::io;

use quinistry_store::StorageError;

use crate::ObjectError;

/// Returns the error of a request to do something with a key.
pub(super) fn failed(what: &'static str, key: &str) -> impl FnOnce(ObjectError) -> StorageError {
    let key = key.to_owned();
    move |error| StorageError::Io { what, key, source: io::Error::other(error) }
}

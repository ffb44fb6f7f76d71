//! Errors of requests as errors of the storage.

use quinistry_store::StorageError;

use crate::ObjectError;
use crate::storage::io_error;

/// Returns the error of a request to do something with a key.
pub(super) fn failed(what: &'static str, key: &str) -> impl FnOnce(ObjectError) -> StorageError {
    let key = key.to_owned();
    move |error| StorageError::Io { what, key, source: io_error(error) }
}

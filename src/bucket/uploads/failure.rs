//! Errors of requests as errors of the storage.

use quinistry_store::StorageError;

use crate::storage::io_error;
use crate::{ObjectError, ObjectErrorKind};

/// Returns the error of a request to do something with a key.
pub(super) fn failed(what: &'static str, key: &str) -> impl FnOnce(ObjectError) -> StorageError {
    let key = key.to_owned();
    move |error| StorageError::Io { what, key, source: io_error(error) }
}

/// Returns the kind of the request's error; `None` for errors that no request has caused.
pub(super) fn kind(error: &StorageError) -> Option<ObjectErrorKind> {
    let StorageError::Io { source, .. } = error else { return None };
    Some(source.get_ref()?.downcast_ref::<ObjectError>()?.kind)
}

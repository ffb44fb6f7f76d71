//! References in paths of requests that ask for something, or for its deletion. Pure.
//!
//! A digest that is none is an error of form. What is well-formed and cannot be stored here, by its algorithm or as a
//! tag, does not exist, and asking for what does not exist is no error of form.

use quinistry_oci::{Digest, DigestError, Reference, ReferenceError};

use super::response::error::Error;

/// The digest; nothing if nothing can have it.
pub(crate) fn digest(text: &str) -> Result<Option<Digest>, Error> {
    match text.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(DigestError::Unsupported) => Ok(None),
        Err(error @ DigestError::Malformed) => Err(Error::Digest(error)),
    }
}

/// The tag or digest; nothing if nothing can have it.
pub(crate) fn reference(text: &str) -> Result<Option<Reference>, Error> {
    match text.parse() {
        Ok(reference) => Ok(Some(reference)),
        Err(ReferenceError::Tag(_) | ReferenceError::Digest(DigestError::Unsupported)) => Ok(None),
        Err(ReferenceError::Digest(error @ DigestError::Malformed)) => Err(Error::Digest(error)),
    }
}

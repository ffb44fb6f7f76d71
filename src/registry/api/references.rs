//! References in the paths of GET, HEAD and DELETE. Pure.
//!
//! A malformed digest is an error of form. A well-formed reference that this registry cannot store (a digest
//! of an unsupported algorithm, a string that is not a tag) does not exist, which is "not found" and not an
//! error of form.

use quinistry_oci::{Digest, DigestError, Reference, ReferenceError};

use super::response::error::Error;

/// Parses a digest; `None` if its algorithm is not supported, so that no content can have it.
pub(crate) fn digest(text: &str) -> Result<Option<Digest>, Error> {
    match text.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(DigestError::Unsupported) => Ok(None),
        Err(error @ DigestError::Malformed) => Err(Error::Digest(error)),
    }
}

/// Parses a tag or digest; `None` if no content can have this reference.
pub(crate) fn reference(text: &str) -> Result<Option<Reference>, Error> {
    match text.parse() {
        Ok(reference) => Ok(Some(reference)),
        Err(ReferenceError::Tag(_) | ReferenceError::Digest(DigestError::Unsupported)) => Ok(None),
        Err(ReferenceError::Digest(error @ DigestError::Malformed)) => Err(Error::Digest(error)),
    }
}

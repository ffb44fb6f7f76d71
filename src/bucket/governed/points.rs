//! Failpoints of the requests, one before and one after each: `bucket.put.before` dies or fails before a request,
//! `bucket.put.after` after its success, as when the answer is lost.

use quinistry_store::failpoint;

use crate::{ObjectError, ObjectErrorKind};

/// Kind of a request, with the names of its failpoints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    name: &'static str,
    before: &'static str,
    after: &'static str,
}

macro_rules! points {
    ($($constant:ident = $name:literal)*) => {
        $(pub(super) const $constant: Point = Point {
            name: $name,
            before: concat!("bucket.", $name, ".before"),
            after: concat!("bucket.", $name, ".after"),
        };)*

        /// Names of all failpoints.
        #[cfg(feature = "testing")]
        pub(crate) const FAILPOINTS: &[&str] = &[$($constant.before, $constant.after),*];
    };
}

points! {
    GET = "get"
    HEAD = "head"
    PUT = "put"
    DELETE = "delete"
    DELETE_MANY = "delete-many"
    LIST = "list"
    CREATE_UPLOAD = "create-multipart"
    PUT_PART = "put-part"
    COPY_PART = "copy-part"
    COMPLETE = "complete"
    ABORT = "abort"
    LIST_UPLOADS = "list-uploads"
    COPY = "copy"
}

// === impl Point ===

impl Point {
    pub(super) const fn name(self) -> &'static str {
        self.name
    }

    pub(super) fn before(self) -> Result<(), ObjectError> {
        Self::pass(self.before)
    }

    pub(super) fn after(self) -> Result<(), ObjectError> {
        Self::pass(self.after)
    }

    fn pass(name: &'static str) -> Result<(), ObjectError> {
        failpoint::pass(name).map_err(|source| ObjectError {
            kind: ObjectErrorKind::Unknown,
            message: format!("failpoint {name}"),
            source: Some(source),
        })
    }
}

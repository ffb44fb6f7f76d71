//! How operations tell what they are doing; the command line draws it.

use crate::oci::Descriptor;

/// Watches an operation. All methods do nothing unless implemented.
pub trait Progress: Send + Sync {
    /// The transfer of a blob begins, or begins anew.
    fn begin(&self, blob: &Descriptor) {
        let _ = blob;
    }

    /// So many more bytes of it have been transferred.
    fn advance(&self, blob: &Descriptor, bytes: u64) {
        let _ = (blob, bytes);
    }

    /// Nothing more will happen to it.
    fn end(&self, blob: &Descriptor, outcome: Outcome) {
        let _ = (blob, outcome);
    }
}

/// How a blob came to where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was transferred.
    Transferred,
    /// It was there already.
    Existing,
    /// The registry took it from another of its repositories.
    Mounted,
}

/// For nobody.
impl Progress for () {}

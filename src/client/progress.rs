//! Interface through which operations report their progress; the command line draws it.

use quinistry_oci::Descriptor;

/// Observer of an operation. All methods do nothing unless implemented.
///
/// Up to [`BLOBS_AT_ONCE`](super::BLOBS_AT_ONCE) blobs are between [`begin`](Self::begin) and
/// [`end`](Self::end) at the same time, so each needs a bar of its own, known by its digest. A blob that
/// fails is begun and never ended.
pub trait Progress: Send + Sync {
    /// Announces `blobs` different blobs of `bytes` bytes in all, before the first of them begins. Called
    /// again for further blobs, where an operation finds more images on its way.
    fn expect(&self, blobs: usize, bytes: u64) {
        let _ = (blobs, bytes);
    }

    /// Begins the transfer of a blob, or begins it again from its first byte.
    fn begin(&self, blob: &Descriptor) {
        let _ = blob;
    }

    /// Counts `bytes` more bytes of a blob as transferred.
    fn advance(&self, blob: &Descriptor, bytes: u64) {
        let _ = (blob, bytes);
    }

    /// Ends a blob: no further call names it.
    fn end(&self, blob: &Descriptor, outcome: Outcome) {
        let _ = (blob, outcome);
    }
}

/// Way in which a blob reached its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The blob was transferred.
    Transferred,
    /// The blob was there already.
    Existing,
    /// The registry took the blob from another of its repositories.
    Mounted,
}

/// Observer that does nothing.
impl Progress for () {}

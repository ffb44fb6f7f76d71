//! Bounds on what one operation takes from a registry, which may be hostile: it cannot have all of the
//! memory, the disk or the time of the client. Each bound is far beyond what real images need, and its error
//! says what to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinistry_oci::Descriptor;

use super::{ClientError, Manifest};

/// Depth of nested indexes: the specification allows any depth; depth one is in use.
const MAX_INDEX_DEPTH: usize = 4;
/// Number of manifests below one reference; the largest official images have some forty.
const MAX_MANIFESTS: usize = 1000;
/// Total length of all manifests below one reference: 16 KiB for each of the greatest number.
const MAX_TOTAL_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;
/// Total length of all manifests below a peer's reference. A generation's image has one of some kilobytes,
/// and the operator has 128 MiB of memory.
const MAX_PEER_MANIFEST_BYTES: u64 = 1024 * 1024;
/// Total length of all blobs of one operation; the largest models in registries have less than one TiB.
const MAX_TOTAL_BLOB_BYTES: u64 = 4 * 1024 * 1024 * 1024 * 1024;
/// Total length of all blobs of a peer's image: many times that of a generation's.
const MAX_PEER_BLOB_BYTES: u64 = 1024 * 1024 * 1024;
/// Number of levels of referrers: a signature of a signature of an attestation of an image is the third.
const MAX_REFERRER_LEVELS: usize = 8;
/// Number of referrers that are copied with one image.
const MAX_REFERRERS: usize = 1000;
/// Total length of all manifests of an image and its referrers.
const MAX_COPY_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;
/// Time limit for reading all manifests below one reference, before its blobs are transferred.
const DISCOVERY_TIMEOUT: Duration = Duration::from_mins(30);

/// Total length of all manifests of a bundle, which are in memory at once: 256 KiB for each of the greatest number of
/// images.
pub(super) const MAX_BUNDLE_MANIFEST_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes of manifests that the images of one bundle may still take together.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicU64>);

// === impl Allowance ===

impl Allowance {
    pub(super) fn for_bundle() -> Self {
        Self(Arc::new(AtomicU64::new(MAX_BUNDLE_MANIFEST_BYTES)))
    }

    /// Takes bytes. Returns false, and takes nothing, if fewer are left.
    fn take(&self, bytes: u64) -> bool {
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

/// Remaining allowance of one operation.
#[derive(Debug)]
pub(super) struct Budget {
    /// Completes "failed to …".
    what: String,
    manifests: usize,
    manifest_bytes: u64,
    blob_bytes: u64,
    referrers: usize,
    end: Instant,
    /// Allowance that other operations share.
    shared: Option<Allowance>,
}

// === impl Budget ===

impl Budget {
    /// Creates the budget of one image.
    pub(super) fn for_image(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            manifests: MAX_MANIFESTS,
            manifest_bytes: MAX_TOTAL_MANIFEST_BYTES,
            blob_bytes: MAX_TOTAL_BLOB_BYTES,
            referrers: 0,
            end: Instant::now() + DISCOVERY_TIMEOUT,
            shared: None,
        }
    }

    /// Creates the budget of an image of a peer, whose content is not trusted.
    pub(super) fn for_peer(what: impl Into<String>) -> Self {
        let (manifest_bytes, blob_bytes) = (MAX_PEER_MANIFEST_BYTES, MAX_PEER_BLOB_BYTES);
        Self { manifest_bytes, blob_bytes, ..Self::for_image(what) }
    }

    /// Creates the budget of an image with everything that refers to it.
    pub(super) fn for_image_with_referrers(what: impl Into<String>) -> Self {
        Self {
            manifests: MAX_MANIFESTS + 2 * MAX_REFERRERS,
            manifest_bytes: MAX_COPY_MANIFEST_BYTES,
            referrers: MAX_REFERRERS,
            ..Self::for_image(what)
        }
    }

    /// Makes the manifests count against an allowance, too.
    pub(super) fn within(self, allowance: Allowance) -> Self {
        Self { shared: Some(allowance), ..self }
    }

    /// Accounts for a manifest that was read `depth` levels below the root.
    pub(super) fn take_manifest(&mut self, manifest: &Manifest, depth: usize) -> Result<(), ClientError> {
        if depth > MAX_INDEX_DEPTH {
            return Err(self.exceeded(format!("indexes are nested more than {MAX_INDEX_DEPTH} deep")));
        }
        self.manifests = self.manifests.checked_sub(1).ok_or_else(|| self.too_many())?;
        let left = self.manifest_bytes.checked_sub(manifest.descriptor.size);
        self.manifest_bytes = left.ok_or_else(|| {
            self.exceeded("its manifests are longer than any image's in all; name one platform or one digest")
        })?;
        if self.shared.as_ref().is_some_and(|shared| !shared.take(manifest.descriptor.size)) {
            let mebibytes = MAX_BUNDLE_MANIFEST_BYTES >> 20;
            return Err(self.exceeded(format!(
                "the manifests of all images are longer than {mebibytes} MiB; write several bundles"
            )));
        }
        self.take_time()
    }

    /// Fails if an index has more children than may be read, before any of them is.
    pub(super) fn expect_manifests(&self, children: usize) -> Result<(), ClientError> {
        if children > self.manifests { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&self) -> ClientError {
        self.exceeded("there are more manifests than any image has; name one platform or one digest")
    }

    /// Accounts for a blob that is going to be transferred.
    pub(super) fn take_blob(&mut self, blob: &Descriptor) -> Result<(), ClientError> {
        self.blob_bytes = self.blob_bytes.checked_sub(blob.size).ok_or_else(|| {
            self.exceeded("its blobs are longer than any image's in all; name one platform")
        })?;
        Ok(())
    }

    /// Accounts for a manifest that refers to another one, `level` steps away from the image.
    pub(super) fn take_referrer(&mut self, level: usize) -> Result<(), ClientError> {
        if level > MAX_REFERRER_LEVELS {
            return Err(self.exceeded(format!(
                "its referrers have referrers, and so on for more than {MAX_REFERRER_LEVELS} levels; \
                 copy without --all, and the referrers by their digests"
            )));
        }
        self.referrers = self.referrers.checked_sub(1).ok_or_else(|| {
            self.exceeded(format!(
                "more than {MAX_REFERRERS} manifests refer to it; copy without --all, and the referrers by their digests"
            ))
        })?;
        self.take_time()
    }

    /// Fails once the time is up.
    pub(super) fn take_time(&self) -> Result<(), ClientError> {
        if Instant::now() > self.end {
            let minutes = DISCOVERY_TIMEOUT.as_secs() / 60;
            return Err(
                self.exceeded(format!("the registry took longer than {minutes} minutes to describe it"))
            );
        }
        Ok(())
    }

    fn exceeded(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Bound { what: self.what.clone(), reason: reason.into() }
    }
}

/// Throughput of a body. Counts the time spent waiting for bytes, and not the time that the caller spends on
/// them.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    waiting_time: Duration,
    received: u64,
}

/// Period over which the throughput is measured.
const THROUGHPUT_WINDOW: Duration = Duration::from_mins(1);
/// Least number of bytes in one period: about one KiB in a second, the rate of a modem.
const MIN_WINDOW_BYTES: u64 = 64 * 1024;

// === impl Throughput ===

impl Throughput {
    /// Notes that `bytes` came after a wait; returns whether the body is fast enough to ever end.
    pub(super) fn note(&mut self, waiting_time: Duration, bytes: usize) -> bool {
        self.waiting_time += waiting_time;
        self.received += bytes as u64;
        if self.waiting_time < THROUGHPUT_WINDOW {
            return true;
        }
        let fast = self.received >= MIN_WINDOW_BYTES;
        *self = Self::default();
        fast
    }

    /// Creates the error of a body that is too slow.
    pub(super) fn error(what: &str) -> ClientError {
        let reason = format!(
            "less than {} KiB received in {} seconds",
            MIN_WINDOW_BYTES / 1024,
            THROUGHPUT_WINDOW.as_secs()
        );
        ClientError::Bound { what: what.into(), reason }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use quinistry_oci::Digest;

    fn manifest(size: usize) -> Manifest {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[],"x":"{}"}}"#, "y".repeat(size));
        Manifest::new(Digest::sha256(text.as_bytes()), "", Bytes::from(text)).unwrap()
    }

    fn reason(error: &ClientError) -> &str {
        match error {
            ClientError::Bound { reason, .. } => reason,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn depth_number_and_length_of_manifests_are_bounded() {
        let mut budget = Budget::for_image("x");
        budget.take_manifest(&manifest(0), MAX_INDEX_DEPTH).unwrap();
        assert!(
            reason(&budget.take_manifest(&manifest(0), MAX_INDEX_DEPTH + 1).unwrap_err()).contains("nested")
        );
        let error = (0..=MAX_MANIFESTS).find_map(|_| budget.take_manifest(&manifest(0), 0).err());
        assert!(reason(&error.unwrap()).contains("more manifests"));
        let large = manifest(3 * 1024 * 1024);
        let mut budget = Budget::for_image("x");
        let taken = (0..100).take_while(|_| budget.take_manifest(&large, 0).is_ok()).count();
        assert_eq!(taken, 5);
        assert!(Budget::for_peer("x").take_manifest(&large, 0).is_err());
    }

    #[test]
    fn images_of_a_bundle_share_an_allowance() {
        let allowance = Allowance::for_bundle();
        let large = manifest(4 * 1024 * 1024);
        let take = |_: &usize| {
            Budget::for_image("x").within(allowance.clone()).take_manifest(&large, 0).map_err(|error| {
                assert!(reason(&error).contains("256 MiB"), "{error}");
            })
        };
        assert_eq!((0..1000).take_while(|number| take(number).is_ok()).count(), 63);
    }

    #[test]
    fn sizes_that_no_disk_has_are_refused_before_anything_travels() {
        let blob = |size| Descriptor { size, ..Descriptor::of("x", b"") };
        let mut budget = Budget::for_image("x");
        budget.take_blob(&blob(MAX_TOTAL_BLOB_BYTES)).unwrap();
        assert!(reason(&budget.take_blob(&blob(1)).unwrap_err()).contains("blobs"));
        assert!(Budget::for_peer("x").take_blob(&blob(MAX_PEER_BLOB_BYTES + 1)).is_err());
        assert!(Budget::for_image("x").take_blob(&blob(u64::MAX)).is_err());
    }

    #[test]
    fn referrers_are_bounded_in_number_and_levels() {
        let mut budget = Budget::for_image_with_referrers("x");
        assert!(reason(&budget.take_referrer(MAX_REFERRER_LEVELS + 1).unwrap_err()).contains("levels"));
        let taken = (0..10_000).take_while(|_| budget.take_referrer(1).is_ok()).count();
        assert_eq!(taken, MAX_REFERRERS);
    }

    #[test]
    fn a_body_that_trickles_is_told_from_one_that_nobody_reads() {
        let second = Duration::from_secs(1);
        let mut pace = Throughput::default();
        assert_eq!((0..100).take_while(|_| pace.note(second, 1000)).count(), 59);
        let mut pace = Throughput::default();
        assert!((0..1000).all(|_| pace.note(second, 2000)), "slow, and fast enough");
        assert!((0..1_000_000).all(|_| pace.note(Duration::ZERO, 1)), "the time of others is not counted");
    }
}

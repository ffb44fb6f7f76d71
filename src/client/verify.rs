//! Verify: fetch and hash every byte of an image, as it travels and as it unpacks.

use std::collections::BTreeSet;
use std::io;

use quinistry_oci::{Algorithm, ConfigSummary, Descriptor, Digest, ImageReference, media_type};
use tokio::sync::mpsc;

use super::tree::blobs_of;
use super::unpack::{ChannelReader, DecompressionBomb, unpack};
use super::{Client, ClientError, Document, MAX_MANIFEST_BYTES, Outcome, Progress, Selection};

/// Number of pieces that wait to be unpacked.
const UNPACK_QUEUE_PIECES: usize = 16;

/// Result of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Manifest or index that the reference resolved to.
    pub resolved: Descriptor,
    /// Selected image, or the index with all images.
    pub root: Descriptor,
    /// Digests of the images' manifests.
    pub images: Vec<Digest>,
    /// Number of different blobs, without manifests.
    pub blobs: usize,
    /// Length of all blobs together.
    pub bytes: u64,
}

impl Client {
    /// Fetches manifests, configurations and layers, and checks every digest: those of the descriptors, and
    /// the diff IDs of the unpacked layers.
    pub async fn verify(
        &self,
        image: &ImageReference,
        selection: &Selection,
        progress: &dyn Progress,
    ) -> Result<VerifyReport, ClientError> {
        let selected = self.select(image, selection).await?;
        progress.expect(selected.blobs.len(), selected.blobs.iter().map(|blob| blob.size).sum());
        let mut report = VerifyReport {
            resolved: selected.resolved,
            root: selected.root,
            images: Vec::new(),
            blobs: selected.blobs.len(),
            bytes: selected.blobs.iter().map(|blob| blob.size).sum(),
        };
        let mut done: BTreeSet<(Digest, Option<Digest>)> = BTreeSet::new();
        for manifest in &selected.manifests {
            let Document::Image(document) = manifest.document()? else { continue };
            report.images.push(manifest.descriptor.digest.clone());
            let diff_ids = self.diff_ids(image, &document.config, document.layers.len(), progress).await?;
            done.insert((document.config.digest.clone(), None));
            // If layers were left out as not distributable, the places of those that remain are not known,
            // and they have no diff ID.
            let complete = blobs_of(&document).count() == document.layers.len() + 1;
            for (number, layer) in blobs_of(&document).skip(1).enumerate() {
                let diff_id = diff_ids.get(number).filter(|_| complete).cloned();
                if done.insert((layer.digest.clone(), diff_id.clone())) {
                    self.verify_blob(image, layer, diff_id, progress).await?;
                }
            }
        }
        // Caches of builders list blobs in an index.
        let hashed: BTreeSet<Digest> = done.into_iter().map(|(digest, _)| digest).collect();
        for blob in selected.blobs.iter().filter(|blob| !hashed.contains(&blob.digest)) {
            self.verify_blob(image, blob, None, progress).await?;
        }
        Ok(report)
    }

    /// Returns the diff IDs of an image; none for an artifact.
    async fn diff_ids(
        &self,
        image: &ImageReference,
        config: &Descriptor,
        layers: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Digest>, ClientError> {
        if config.size > MAX_MANIFEST_BYTES && !media_type::is_image_config(&config.media_type) {
            // The configuration of an artifact may be of any kind and length.
            self.verify_blob(image, config, None, progress).await?;
            return Ok(Vec::new());
        }
        let bytes = self.small_blob(image, config).await?;
        let protocol = |reason: String| {
            let what = format!("verify configuration {}", config.digest);
            ClientError::Protocol { what, reason }
        };
        let rootfs = match serde_json::from_slice(&bytes) {
            Ok(ConfigSummary { rootfs: Some(rootfs), .. }) => rootfs,
            // Artifacts may have any configuration; an image without diff IDs cannot be verified.
            _ if !media_type::is_image_config(&config.media_type) || layers == 0 => return Ok(Vec::new()),
            Ok(_) => return Err(protocol("it has no diff IDs".into())),
            Err(error) => return Err(protocol(error.to_string())),
        };
        if rootfs.diff_ids.len() != layers {
            return Err(protocol(format!("{} diff IDs for {layers} layers", rootfs.diff_ids.len())));
        }
        Ok(rootfs.diff_ids)
    }

    async fn verify_blob(
        &self,
        image: &ImageReference,
        blob: &Descriptor,
        diff_id: Option<Digest>,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        progress.begin(blob);
        let mut stream = self.blob(image, blob).await?;
        let (sender, receiver) = mpsc::channel(UNPACK_QUEUE_PIECES);
        let algorithm = diff_id.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        // Unpacking blocks, so it has a thread, which ends when the sender is dropped.
        let mut unpacking =
            Some(tokio::task::spawn_blocking(move || unpack(ChannelReader::new(receiver), algorithm)));
        let mut unpacked = None;
        while let Some(piece) = stream.next().await? {
            progress.advance(blob, piece.len() as u64);
            if diff_id.is_some()
                && sender.send(piece).await.is_err()
                && let Some(task) = unpacking.take()
            {
                // An error of the blob's own digest takes precedence, unless reading to the end could take
                // for ever.
                let result = task.await.expect("unpacking does not panic");
                if DecompressionBomb::is_in(&result) {
                    return unpacked_to(blob, diff_id, result);
                }
                unpacked = Some(result);
            }
        }
        drop(sender);
        progress.end(blob, Outcome::Transferred);
        let result = match (unpacked, unpacking) {
            (Some(result), _) => result,
            (None, Some(task)) => task.await.expect("unpacking does not panic"),
            (None, None) => unreachable!("a task is taken for its result"),
        };
        unpacked_to(blob, diff_id, result)
    }
}

/// Compares the digest of an unpacked layer with its diff ID, if it has one.
fn unpacked_to(
    blob: &Descriptor,
    diff_id: Option<Digest>,
    result: io::Result<Digest>,
) -> Result<(), ClientError> {
    let Some(expected) = diff_id else { return Ok(()) };
    let layer = blob.digest.clone();
    match result {
        Ok(actual) if actual == expected => Ok(()),
        Ok(actual) => Err(ClientError::DiffId { layer, expected, actual }),
        Err(source) => Err(ClientError::Unpack { layer, source }),
    }
}

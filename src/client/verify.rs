//! Verify: fetch and hash every byte of an image, as it travels and as it unpacks.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;
use tokio::sync::mpsc;

use crate::oci::{Algorithm, ConfigSummary, Descriptor, Digest, Hasher, ImageReference, media_type};

use super::pull::Blobs as _;
use super::{Client, ClientError, Outcome, Progress, Selection};

/// How many pieces wait to be unpacked.
const QUEUE: usize = 16;

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// What the reference resolved to.
    pub resolved: Descriptor,
    /// What was verified: the selected image, or the index with all of them.
    pub root: Descriptor,
    /// The manifests of the images.
    pub images: Vec<Digest>,
    /// How many different blobs, without manifests.
    pub blobs: usize,
    /// Their length in all.
    pub bytes: u64,
}

impl Client {
    /// Fetches manifests, configurations and layers, and compares every digest: those of the descriptors, and
    /// the diff IDs of what the layers unpack to.
    pub async fn verify(
        &self,
        image: &ImageReference,
        selection: &Selection,
        progress: &dyn Progress,
    ) -> Result<VerifyReport, ClientError> {
        let selected = self.select(image, selection).await?;
        let mut done: BTreeSet<(Digest, Option<Digest>)> = BTreeSet::new();
        let mut counted = BTreeSet::new();
        let mut report = VerifyReport {
            resolved: selected.resolved,
            root: selected.root.descriptor,
            images: selected.images.iter().map(|(manifest, _)| manifest.descriptor.digest.clone()).collect(),
            blobs: 0,
            bytes: 0,
        };
        for (_, document) in &selected.images {
            let diff_ids = self.diff_ids(image, &document.config, document.layers.len()).await?;
            for (number, blob) in document.blobs().enumerate() {
                // The configuration comes first, and was hashed when it was fetched; if layers were left out
                // as not distributable, their places are not known, and those that remain have no diff ID.
                let complete = document.blobs().count() == document.layers.len() + 1;
                let diff_id =
                    number.checked_sub(1).filter(|_| complete).and_then(|layer| diff_ids.get(layer)).cloned();
                if number > 0 && done.insert((blob.digest.clone(), diff_id.clone())) {
                    progress.begin(blob);
                    self.verify_blob(image, blob, diff_id, progress).await?;
                    progress.end(blob, Outcome::Transferred);
                }
                if counted.insert(blob.digest.clone()) {
                    report.blobs += 1;
                    report.bytes += blob.size;
                }
            }
        }
        Ok(report)
    }

    /// The diff IDs; none for what is no image.
    async fn diff_ids(
        &self,
        image: &ImageReference,
        config: &Descriptor,
        layers: usize,
    ) -> Result<Vec<Digest>, ClientError> {
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
        let mut stream = self.blob(image, blob).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let algorithm = diff_id.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        // Unpacking blocks, so it has a thread. It ends when the sender is dropped, whatever happens here.
        let unpacking =
            tokio::task::spawn_blocking(move || unpack(Pieces { receiver, piece: Bytes::new() }, algorithm));
        while let Some(piece) = stream.next().await? {
            progress.advance(blob, piece.len() as u64);
            if diff_id.is_some() {
                // Refused only if unpacking failed, which is told below; the hash of the whole comes first.
                let _ = sender.send(piece).await;
            }
        }
        drop(sender);
        let unpacked = unpacking.await.expect("unpacking does not panic");
        let Some(expected) = diff_id else { return Ok(()) };
        let layer = blob.digest.clone();
        match unpacked {
            Ok(actual) if actual == expected => Ok(()),
            Ok(actual) => Err(ClientError::DiffId { layer, expected, actual }),
            Err(source) => Err(ClientError::Unpack { layer, source }),
        }
    }
}

/// Hashes what a layer unpacks to; the compression is that of its first bytes.
fn unpack(pieces: impl Read, algorithm: Algorithm) -> io::Result<Digest> {
    let mut reader = BufReader::with_capacity(64 * 1024, pieces);
    let mut hasher = Hasher::new(algorithm);
    let start = reader.fill_buf()?;
    if start.starts_with(b"\x1f\x8b") {
        drain(MultiGzDecoder::new(reader), &mut hasher)?;
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") || is_skippable(start) {
        loop {
            let start = reader.fill_buf()?;
            if start.is_empty() {
                break;
            }
            if is_skippable(start) {
                skip_frame(&mut reader)?;
                continue;
            }
            let frame = StreamingDecoder::new_with_decoder(&mut reader, FrameDecoder::new());
            drain(frame.map_err(io::Error::other)?, &mut hasher)?;
        }
    } else {
        drain(reader, &mut hasher)?;
    }
    Ok(hasher.finish())
}

fn drain(mut reader: impl Read, hasher: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            got => hasher.update(&buffer[..got]),
        }
    }
}

/// `0x184D2A50` to `0x184D2A5F`, little-endian: what zstd:chunked keeps its table of contents in. RFC 8878, 3.1.2.
fn is_skippable(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn skip_frame(reader: &mut impl Read) -> io::Result<()> {
    let mut header = [0; 8];
    reader.read_exact(&mut header)?;
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let skipped = io::copy(&mut reader.take(length.into()), &mut io::sink())?;
    if skipped == u64::from(length) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The other end of a channel, as a reader.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn unpacked(bytes: &[u8]) -> io::Result<Digest> {
        unpack(bytes, Algorithm::Sha256)
    }

    #[test]
    fn every_compression_gives_the_same_digest() {
        let content = b"content".repeat(10_000);
        let digest = Digest::sha256(&content);
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = compress_to_vec(content.as_slice(), CompressionLevel::Fastest);
        assert_eq!(unpacked(&content).unwrap(), digest);
        assert_eq!(unpacked(&gzip).unwrap(), digest);
        assert_eq!(unpacked(&zstd).unwrap(), digest);
        let chunked = [zstd.as_slice(), b"\x50\x2a\x4d\x18\x03\0\0\0abc"].concat();
        assert_eq!(unpacked(&chunked).unwrap(), digest);
        assert!(unpacked(&gzip[..gzip.len() - 9]).is_err());
        assert!(unpacked(&zstd[..zstd.len() - 9]).is_err());
        assert_eq!(unpacked(&[gzip.as_slice(), &gzip].concat()).unwrap(), Digest::sha256(&content.repeat(2)));
    }
}

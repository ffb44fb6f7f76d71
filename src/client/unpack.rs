//! Unpacking of layers within a bound: a few kilobytes of zstd can unpack to more than any disk holds.

use std::cell::Cell;
use std::io::{self, BufRead as _, BufReader, Read};
use std::rc::Rc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use quinistry_oci::{Algorithm, Digest, Hasher};
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;
use tokio::sync::mpsc;

/// Number of bytes that any layer may unpack to.
const ALWAYS_ALLOWED_BYTES: u64 = 1024 * 1024 * 1024;
/// Number of bytes that each compressed byte of a larger layer may unpack to: programs compress to a third,
/// logs to a thirtieth.
const MAX_RATIO: u64 = 100;

/// Error of a layer that unpacks to more than the bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "it unpacks to more than 1 GiB and more than {MAX_RATIO} times its own length: if that is meant, pull the image \
     and unpack it yourself"
)]
pub(super) struct DecompressionBomb;

impl DecompressionBomb {
    /// Returns true if unpacking failed with this error.
    pub(super) fn is_in(result: &io::Result<Digest>) -> bool {
        let inner = result.as_ref().err().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.downcast_ref::<Self>().is_some())
    }
}

/// Hashes the unpacked content of a layer, whose first bytes tell the compression.
pub(super) fn unpack(pieces: impl Read, algorithm: Algorithm) -> io::Result<Digest> {
    unpack_within(pieces, algorithm, ALWAYS_ALLOWED_BYTES)
}

/// Unpacks like [`unpack`], but lets a layer of any length unpack to `always_allowed` bytes.
fn unpack_within(pieces: impl Read, algorithm: Algorithm, always_allowed: u64) -> io::Result<Digest> {
    let compressed = Rc::new(Cell::new(0));
    let pieces = CountingReader { inner: pieces, compressed: compressed.clone() };
    let mut reader = BufReader::with_capacity(64 * 1024, pieces);
    let mut hasher =
        BoundedHasher { hasher: Hasher::new(algorithm), unpacked: 0, compressed, always_allowed };
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
    Ok(hasher.hasher.finish())
}

/// Reader that counts the bytes read.
struct CountingReader<R> {
    inner: R,
    compressed: Rc<Cell<u64>>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.compressed.set(self.compressed.get() + got as u64);
        Ok(got)
    }
}

/// Hasher that fails beyond the bound.
struct BoundedHasher {
    hasher: Hasher,
    unpacked: u64,
    compressed: Rc<Cell<u64>>,
    always_allowed: u64,
}

impl BoundedHasher {
    fn update(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unpacked += bytes.len() as u64;
        if self.unpacked > self.compressed.get().saturating_mul(MAX_RATIO).max(self.always_allowed) {
            return Err(io::Error::other(DecompressionBomb));
        }
        self.hasher.update(bytes);
        Ok(())
    }
}

fn drain(mut reader: impl Read, hasher: &mut BoundedHasher) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            got => hasher.update(&buffer[..got])?,
        }
    }
}

/// Recognizes the magic numbers `0x184D2A50` to `0x184D2A5F`, little-endian, of skippable frames, in which
/// zstd:chunked keeps its table of contents. RFC 8878, 3.1.2.
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

/// Reader of the pieces that come through a channel.
pub(super) struct ChannelReader {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl ChannelReader {
    pub(super) const fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, piece: Bytes::new() }
    }
}

impl Read for ChannelReader {
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

    fn unpack_all(bytes: &[u8]) -> io::Result<Digest> {
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
        assert_eq!(unpack_all(&content).unwrap(), digest);
        assert_eq!(unpack_all(&gzip).unwrap(), digest);
        assert_eq!(unpack_all(&zstd).unwrap(), digest);
        let chunked = [zstd.as_slice(), b"\x50\x2a\x4d\x18\x03\0\0\0abc"].concat();
        assert_eq!(unpack_all(&chunked).unwrap(), digest);
        assert!(unpack_all(&gzip[..gzip.len() - 9]).is_err());
        assert!(unpack_all(&zstd[..zstd.len() - 9]).is_err());
        assert_eq!(
            unpack_all(&[gzip.as_slice(), &gzip].concat()).unwrap(),
            Digest::sha256(&content.repeat(2))
        );
    }

    #[test]
    fn what_unpacks_without_end_ends() {
        // A frame of zstd, and without end blocks of 128 KiB of the same byte that are four bytes long.
        let frame = b"\x28\xb5\x2f\xfd\x00\x58".as_slice();
        let bomb = frame.chain(Repeated { block: [0x02, 0x00, 0x10, 0x00], at: 0 });
        assert!(DecompressionBomb::is_in(&unpack_within(bomb, Algorithm::Sha256, 1 << 20)));
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![0; 4 << 20]).unwrap();
        let gzip = gzip.finish().unwrap();
        assert!(DecompressionBomb::is_in(&unpack_within(gzip.as_slice(), Algorithm::Sha256, 1 << 20)));
        unpack_within(gzip.as_slice(), Algorithm::Sha256, 4 << 20).unwrap();
    }

    #[test]
    fn what_does_not_compress_may_be_of_any_length() {
        let content = vec![7; 3 << 20];
        assert_eq!(
            unpack_within(content.as_slice(), Algorithm::Sha256, 1).unwrap(),
            Digest::sha256(&content)
        );
    }

    /// Reader that repeats one block without end.
    struct Repeated {
        block: [u8; 4],
        at: usize,
    }

    impl Read for Repeated {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in &mut *buffer {
                *byte = self.block[self.at % 4];
                self.at += 1;
            }
            Ok(buffer.len())
        }
    }
}

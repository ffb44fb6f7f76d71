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

/// Bytes that any layer may unpack to.
const MAX_FROM_LITTLE: u64 = 1024 * 1024 * 1024;
/// Bytes that each compressed byte of a larger layer may unpack to: programs compress to a third, logs to a
/// thirtieth.
const MAX_RATIO: u64 = 100;

/// A layer unpacks to more than a layer may.
#[derive(Debug, thiserror::Error)]
#[error(
    "it unpacks to more than 1 GiB and more than {MAX_RATIO} times its own length: if that is meant, pull the image \
     and unpack it yourself"
)]
pub(super) struct Bomb;

impl Bomb {
    /// Returns whether unpacking failed because of this.
    pub(super) fn is_in(result: &io::Result<Digest>) -> bool {
        let inner = result.as_ref().err().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.downcast_ref::<Self>().is_some())
    }
}

/// Hashes what a layer unpacks to; the compression is that of its first bytes.
pub(super) fn unpack(pieces: impl Read, algorithm: Algorithm) -> io::Result<Digest> {
    unpack_within(pieces, algorithm, MAX_FROM_LITTLE)
}

/// Unpacks like [`unpack`], but lets a layer of any length unpack to `from_little` bytes.
fn unpack_within(pieces: impl Read, algorithm: Algorithm, from_little: u64) -> io::Result<Digest> {
    let taken = Rc::new(Cell::new(0));
    let pieces = Counted { inner: pieces, taken: taken.clone() };
    let mut reader = BufReader::with_capacity(64 * 1024, pieces);
    let mut hasher = Bounded { hasher: Hasher::new(algorithm), given: 0, taken, from_little };
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

/// Counts what has been read.
struct Counted<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.taken.set(self.taken.get() + got as u64);
        Ok(got)
    }
}

/// Hashes no more than what was read may unpack to.
struct Bounded {
    hasher: Hasher,
    given: u64,
    taken: Rc<Cell<u64>>,
    from_little: u64,
}

impl Bounded {
    fn update(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.given += bytes.len() as u64;
        if self.given > self.taken.get().saturating_mul(MAX_RATIO).max(self.from_little) {
            return Err(io::Error::other(Bomb));
        }
        self.hasher.update(bytes);
        Ok(())
    }
}

fn drain(mut reader: impl Read, hasher: &mut Bounded) -> io::Result<()> {
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

/// The other end of a channel, as a reader.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Pieces {
    pub(super) const fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, piece: Bytes::new() }
    }
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

    #[test]
    fn what_unpacks_without_end_ends() {
        // A frame of zstd, and without end blocks of 128 KiB of the same byte that are four bytes long.
        let frame = b"\x28\xb5\x2f\xfd\x00\x58".as_slice();
        let bomb = frame.chain(Repeated { block: [0x02, 0x00, 0x10, 0x00], at: 0 });
        assert!(Bomb::is_in(&unpack_within(bomb, Algorithm::Sha256, 1 << 20)));
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![0; 4 << 20]).unwrap();
        let gzip = gzip.finish().unwrap();
        assert!(Bomb::is_in(&unpack_within(gzip.as_slice(), Algorithm::Sha256, 1 << 20)));
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

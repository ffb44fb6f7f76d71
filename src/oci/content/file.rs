//! Content in a file of this machine.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Stat, fstat};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::ReadAt;

/// First `length` bytes of a file.
#[derive(Debug)]
pub(super) struct FileSource {
    file: File,
    length: u64,
    /// Version that the file must still have after each read, if it is guarded.
    version: Option<FileVersion>,
}

/// Length, and time of the last write in seconds and nanoseconds. The time of the last change of attributes is no part
/// of it: that time changes when the file loses its name, though readers may go on.
type FileVersion = (i64, i64, i64);

fn version(stat: &Stat) -> FileVersion {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(i64::MAX);
    (stat.st_size, stat.st_mtime, nanoseconds)
}

impl FileSource {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { file, length, version: None }
    }

    /// Makes reads fail after the file was written to.
    pub(super) fn guarded(file: File, length: u64) -> io::Result<Self> {
        let version = Some(version(&fstat(&file)?));
        Ok(Self { file, length, version })
    }
}

impl ReadAt for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    /// Reads into memory that was not filled with zeros first.
    fn read_at(&self, range: Range<u64>) -> io::Result<Bytes> {
        let length = length_of(&range);
        let mut chunk = Vec::with_capacity(length);
        while chunk.len() < length {
            let at = range.start + chunk.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut chunk), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocation may be larger than the range, and the file longer.
        chunk.truncate(length);
        self.check_unchanged()?;
        Ok(chunk.into())
    }

    /// Reads as much as the kernel has in memory; `None` if it has nothing, or cannot tell, or the file has
    /// ended.
    fn try_read_at(&self, range: Range<u64>) -> Option<Bytes> {
        let mut chunk = vec![0; length_of(&range)];
        let into = &mut [IoSliceMut::new(&mut chunk)];
        let read = preadv2(&self.file, into, range.start, ReadWriteFlags::NOWAIT).ok()?;
        chunk.truncate(read);
        // The error is that of the read that may block.
        (read > 0 && self.check_unchanged().is_ok()).then(|| chunk.into())
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }

    /// Returns an error if a guarded file was written to.
    fn check_unchanged(&self) -> io::Result<()> {
        if self.version.is_none() || self.version == Some(version(&fstat(&self.file)?)) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the file was written to while it was read"))
    }
}

fn length_of(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).expect("a chunk has an address")
}

//! Reading of a storage that may be damaged: what cannot be read is a finding, and not the end.

use std::io;

use bytes::Bytes;
use quinistry_oci::{Digest, WithCauses};

use super::{Finding, FindingKind, Fsck};
use crate::layout::Key;
use crate::storage::StorageError;
use crate::verified::is_damage;
use crate::{MAX_LINK_BYTES, StoreError};

/// Number of characters of a foreign text that a finding quotes.
const MAX_QUOTED: usize = 80;

/// Outcome of reading bytes as a whole.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Found(Bytes),
    Absent,
    /// More bytes than any valid file there has.
    TooLong(u64),
    /// Reported already.
    Unreadable,
}

impl Read {
    pub(super) fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Found(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Returns the error of a file that cannot be read though the storage works.
pub(super) fn of_one_file(error: &StorageError) -> Option<&io::Error> {
    match error {
        StorageError::Io { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied || is_damage(source) =>
        {
            Some(source)
        }
        _ => None,
    }
}

/// Returns the digest that a link holds, or the reason why it holds none.
pub(super) fn digest_in(read: &Read) -> Result<Digest, String> {
    match read {
        Read::Found(bytes) if bytes.is_empty() => Err("is empty".into()),
        Read::Found(bytes) => {
            let text = std::str::from_utf8(bytes).map(str::trim);
            text.ok().and_then(|text| text.parse().ok()).ok_or_else(|| format!("holds {}", quoted(bytes)))
        }
        Read::TooLong(length) => Err(format!("is {length} bytes long")),
        Read::Absent | Read::Unreadable => Err(String::new()),
    }
}

/// Returns the begin of a foreign text, for display.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MAX_QUOTED)]);
    let short: String = text.chars().take(MAX_QUOTED).collect();
    if short.len() < text.len() || text.len() < bytes.len() {
        format!("{short:?}…")
    } else {
        format!("{short:?}")
    }
}

// === impl Fsck ===

impl Fsck<'_> {
    /// Reads bytes as a whole, and reports a file that cannot be read.
    pub(super) fn read(&mut self, key: &Key, max_bytes: u64) -> Result<Read, StoreError> {
        match self.storage.read(key, max_bytes) {
            Ok(Some(bytes)) => Ok(Read::Found(bytes)),
            Ok(None) => Ok(Read::Absent),
            Err(StorageError::TooLong { length, .. }) => Ok(Read::TooLong(length)),
            Err(error) => {
                let Some(cause) = of_one_file(&error) else { return Err(error.into()) };
                self.report_unreadable(key.as_str(), &cause.to_string());
                Ok(Read::Unreadable)
            }
        }
    }

    /// Reads short files at once; `None` stands for a key that need not be read.
    pub(super) fn read_short(&mut self, keys: &[Option<(Key, u64)>]) -> Result<Vec<Read>, StoreError> {
        let short: Vec<Key> = keys
            .iter()
            .flatten()
            .filter(|(_, length)| *length <= MAX_LINK_BYTES)
            .map(|(key, _)| key.clone())
            .collect();
        let mut read = match self.storage.read_all(&short, MAX_LINK_BYTES) {
            Ok(read) => read.into_iter().map(|bytes| bytes.map_or(Read::Absent, Read::Found)).collect(),
            Err(error) if of_one_file(&error).is_some() => {
                let read = short.iter().map(|key| self.read(key, MAX_LINK_BYTES));
                read.collect::<Result<Vec<_>, _>>()?
            }
            Err(error) => return Err(error.into()),
        }
        .into_iter();
        let of = |key: &Option<(Key, u64)>| match key {
            None => Read::Absent,
            Some((_, length)) if *length > MAX_LINK_BYTES => Read::TooLong(*length),
            Some(_) => read.next().unwrap_or(Read::Absent),
        };
        Ok(keys.iter().map(of).collect())
    }

    /// Makes a change that repairs damage. Returns false if the change fails at this place, and the storage
    /// works.
    pub(super) fn try_repair(
        key: &Key,
        change: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<bool, StoreError> {
        match change() {
            Ok(()) => Ok(true),
            Err(error @ StorageError::Io { .. }) if !error.is_temporary() => {
                tracing::warn!(%key, error = %WithCauses(&error), "cannot repair");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes bytes that repair damage. Returns false if that fails at this place, and the storage works.
    pub(super) fn put(&self, key: &Key, bytes: &[u8]) -> Result<bool, StoreError> {
        Self::try_repair(key, || self.storage.write(&[&[(key.clone(), bytes)]]))
    }

    /// Reports a path that cannot be read, once.
    pub(super) fn report_unreadable(&mut self, path: &str, cause: &str) {
        if self.unreadable.insert(path.to_owned()) {
            self.report_of_bytes(&Finding::at(FindingKind::Unreadable, path).detail(cause));
        }
    }

    /// Returns true if a key has bytes at this moment: a registry may have written them since the scan.
    pub(super) fn is_there(&self, key: &Key) -> Result<bool, StoreError> {
        match self.storage.head(key) {
            Err(error) if of_one_file(&error).is_some() => Ok(true),
            found => Ok(found?.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_holds_a_digest_or_a_reason() {
        let digest = Digest::sha256(b"x");
        let of = |bytes: &[u8]| digest_in(&Read::Found(Bytes::copy_from_slice(bytes)));
        assert_eq!(of(digest.as_str().as_bytes()), Ok(digest.clone()));
        assert_eq!(of(format!("{digest}\n").as_bytes()), Ok(digest.clone()));
        assert_eq!(of(b""), Err("is empty".into()));
        assert_eq!(
            of(&digest.as_str().as_bytes()[..70]).unwrap_err(),
            format!("holds {:?}", &digest.as_str()[..70])
        );
        assert_eq!(of(b"a\x1bb\xff").unwrap_err(), "holds \"a\\u{1b}b\u{fffd}\"");
        assert_eq!(of("ü".repeat(100).as_bytes()).unwrap_err(), format!("holds {:?}…", "ü".repeat(80)));
        assert_eq!(digest_in(&Read::TooLong(9)), Err("is 9 bytes long".into()));
    }
}

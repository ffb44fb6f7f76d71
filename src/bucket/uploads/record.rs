//! Record of an acknowledged request: a line of JSON, and the bytes of the request that are in no part yet.
//!
//! The records of a session have consecutive numbers, and each is only ever created: of several processes
//! that continue a session at the same offset, one creates the next record.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quinistry_oci::Hasher;
use serde::{Deserialize, Serialize};

use super::folder;
use super::progress::{Hashes, Progress};
use super::sizes::{MAX_PARTS, PartSizes};
use crate::Payload;

/// Version of the form of records.
const VERSION: u32 = 1;

/// Longest line of a record, in bytes: 10,000 parts with tags of 300 bytes.
pub(super) const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// State of a session after an acknowledged request.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Number of the record, from 1.
    pub(super) seq: u64,
    /// Name of the repository, for those who look at the bucket.
    pub(super) repository: String,
    /// Time of the session's begin.
    pub(super) begun: SystemTime,
    pub(super) sizes: PartSizes,
    /// Upload in parts, once there is one.
    pub(super) upload: Option<StoredUpload>,
    /// Tags of the parts, in order.
    pub(super) tags: Vec<String>,
    /// Number of acknowledged bytes.
    pub(super) offset: u64,
    pub(super) hashes: Hashes,
    /// Number of the first record with bytes that are in no part.
    pub(super) pieces_from: u64,
}

/// Upload in parts, as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredUpload {
    /// Name that the store gave the upload.
    pub(super) id: String,
    /// Name of the object in the session's folder.
    pub(super) object: String,
}

/// Error of an object that is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the record of an upload session that this version of the program understands")]
pub(super) struct InvalidRecord;

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    version: u32,
    repository: String,
    /// Seconds since 1970.
    begun: u64,
    part_bytes: u64,
    greatest_part_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload: Option<StoredUpload>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    parts: Vec<String>,
    offset: u64,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha512: Option<String>,
    pieces_from: u64,
    /// Number that no other record has, by which a process recognises its own after a lost answer.
    nonce: String,
}

// === impl Record ===

impl Record {
    /// Makes the record of the bytes received since `before`, the last record of the session. Also returns
    /// the range of `progress`' bytes in no part that the record holds.
    pub(super) fn after(
        before: Option<&Self>,
        progress: &Progress,
        (repository, begun): (&str, SystemTime),
        upload: Option<StoredUpload>,
        tags: Vec<String>,
    ) -> (Self, Range<u64>) {
        let seq = before.map_or(0, |before| before.seq) + 1;
        let in_no_part = progress.in_no_part();
        let earlier = before
            .filter(|before| before.tags.len() == progress.parts() as usize)
            .map_or(0, Self::in_no_part);
        // Earlier records hold the bytes before these, unless a part does.
        let pieces_from = before.filter(|_| earlier > 0).map_or(seq, |before| before.pieces_from);
        let record = Self {
            seq,
            repository: repository.to_owned(),
            begun,
            sizes: progress.sizes(),
            upload,
            tags,
            offset: progress.offset(),
            hashes: progress.hashes().clone(),
            pieces_from,
        };
        (record, earlier..in_no_part)
    }

    /// Returns the number of bytes that no part holds.
    pub(super) fn in_no_part(&self) -> u64 {
        self.offset - self.sizes.total(self.parts())
    }

    pub(super) fn parts(&self) -> u32 {
        u32::try_from(self.tags.len()).expect("a record has at most 10,000 parts")
    }

    /// Writes the record, with the bytes that it holds.
    pub(super) fn encode(&self, nonce: &str, piece: Payload) -> Payload {
        let begun = self.begun.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = Line {
            version: VERSION,
            repository: self.repository.clone(),
            begun,
            part_bytes: self.sizes.first,
            greatest_part_bytes: self.sizes.greatest,
            upload: self.upload.clone(),
            parts: self.tags.clone(),
            offset: self.offset,
            sha256: STANDARD.encode(self.hashes.sha256.state()),
            sha512: self.hashes.sha512.as_ref().map(|hasher| STANDARD.encode(hasher.state())),
            pieces_from: self.pieces_from,
            nonce: nonce.to_owned(),
        };
        let mut bytes = serde_json::to_vec(&line).expect("a line has no map with other keys than text");
        bytes.push(b'\n');
        Payload::from(bytes).followed_by(piece)
    }

    /// Reads the line of a record of this number.
    pub(super) fn decode(seq: u64, line: &[u8]) -> Result<Self, InvalidRecord> {
        let line: Line = serde_json::from_slice(line).map_err(|_| InvalidRecord)?;
        let hasher = |text: &str| {
            let state = STANDARD.decode(text).map_err(|_| InvalidRecord)?;
            Hasher::from_state(&state).map_err(|_| InvalidRecord)
        };
        let sizes = PartSizes { first: line.part_bytes, greatest: line.greatest_part_bytes };
        let sha512 = line.sha512.as_deref().map(hasher).transpose()?;
        let record = Self {
            seq,
            repository: line.repository,
            begun: UNIX_EPOCH.checked_add(Duration::from_secs(line.begun)).ok_or(InvalidRecord)?,
            sizes,
            upload: line.upload,
            tags: line.parts,
            offset: line.offset,
            hashes: Hashes { sha256: hasher(&line.sha256)?, sha512 },
            pieces_from: line.pieces_from,
        };
        let is_valid = line.version == VERSION
            && sizes.first > 0
            && record.tags.len() <= MAX_PARTS as usize
            && (1..=seq).contains(&record.pieces_from)
            && record.upload.is_some() != record.tags.is_empty()
            && record.upload.as_ref().is_none_or(|upload| folder::is_data_name(&upload.object))
            && record.offset >= sizes.total(record.parts())
            && sizes.after(record.parts()).is_none_or(|size| record.in_no_part() <= size);
        if is_valid { Ok(record) } else { Err(InvalidRecord) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: SystemTime = UNIX_EPOCH;

    fn progress() -> Progress {
        Progress::new(PartSizes { first: 10, greatest: 10 }, None)
    }

    fn tags(progress: &Progress) -> Vec<String> {
        (0..progress.parts()).map(|part| format!("tag-{part}")).collect()
    }

    fn upload(progress: &Progress) -> Option<StoredUpload> {
        (progress.parts() > 0).then(|| StoredUpload { id: "upload".into(), object: "data.1".into() })
    }

    #[test]
    fn pieces_gather_until_a_part_holds_them() {
        let mut progress = progress();
        let mut before: Option<Record> = None;
        let mut pieces = Vec::new();
        // Lengths of requests, and then the first record whose bytes are in no part.
        for (i, (length, from)) in
            [(4, 1), (4, 1), (1, 1), (3, 4), (30, 5), (0, 5), (2, 5)].into_iter().enumerate()
        {
            for _ in 0..length {
                if progress.missing() == Some(0) {
                    progress.cut();
                    pieces.clear();
                }
                progress.receive(b"x");
            }
            let record =
                Record::after(before.as_ref(), &progress, ("a/b", BEGUN), upload(&progress), tags(&progress));
            let (record, piece) = record;
            pieces.push((record.seq, piece.end - piece.start));
            assert_eq!((record.seq, record.pieces_from), (i as u64 + 1, from), "{i}");
            let held: u64 =
                pieces.iter().filter(|(seq, _)| *seq >= record.pieces_from).map(|(_, len)| len).sum();
            assert_eq!(held, record.in_no_part(), "{i}");
            let encoded = record.encode("1", "bytes\nmore".into()).to_vec();
            let (line, rest) = encoded.split_at(encoded.iter().position(|byte| *byte == b'\n').unwrap());
            assert_eq!(rest, b"\nbytes\nmore");
            let read = Record::decode(record.seq, line).unwrap();
            assert_eq!(
                (read.offset, read.tags, read.upload, read.pieces_from, read.sizes),
                (record.offset, record.tags.clone(), record.upload.clone(), from, record.sizes)
            );
            assert_eq!(read.hashes.sha256.state(), record.hashes.sha256.state());
            before = Some(record);
        }
    }

    #[test]
    fn other_objects_are_no_records() {
        let mut progress = progress();
        progress.receive(b"abc");
        let (record, _) = Record::after(None, &progress, ("a", BEGUN), None, Vec::new());
        let good = String::from_utf8(record.encode("1", Payload::default()).to_vec()).unwrap();
        assert!(Record::decode(1, good.as_bytes()).is_ok());
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"offset\":3", "\"offset\":11"),
            ("\"offset\":3", "\"offset\":-3"),
            ("\"pieces_from\":1", "\"pieces_from\":0"),
            ("\"pieces_from\":1", "\"pieces_from\":2"),
            ("\"part_bytes\":10", "\"part_bytes\":0"),
            ("\"offset\":3", "\"offset\":3,\"parts\":[\"tag\"]"),
            ("\"sha256\":\"", "\"sha256\":\"AA"),
            ("{", ""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(Record::decode(1, bad.as_bytes()).is_err(), "{from} as {to}");
        }
    }
}

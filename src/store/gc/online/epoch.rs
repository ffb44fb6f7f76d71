//! Epochs and their registers in the storage.
//!
//! A register is a key that is only ever created, so that the first writer decides. Numbers of epochs only
//! grow: an owner lists the epochs after it has created its own, because a deleted register forgets that
//! there was one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::SystemTime;

use bytes::Bytes;
use quinistry_oci::to_json;
use serde::{Deserialize, Serialize};

use super::subject::{Shard, SubjectHash, SubjectKind};
use crate::failpoint::pass;
use crate::layout::Key;
use crate::layout::collection::{EpochKeys, behind_epoch, collection, epoch_number};
use crate::storage::{Created, SCAN_PAGE_SIZE, StorageError};
use crate::{Store, StoreError};

/// Longest register that is read, in bytes: a shard's doomed subjects.
const MAX_REGISTER_BYTES: u64 = 1024 * 1024;

/// Content of the register of an epoch's owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) replica: String,
    pub(super) term: Option<u64>,
    pub(super) nonce: String,
}

/// Content of the register that closes an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seal {
    /// Name of the lists; of an abandoned epoch, of nothing.
    pub(super) nonce: String,
    /// True if the epoch condemns nothing, because its owner lost the lead.
    #[serde(default)]
    pub(super) abandoned: bool,
    /// Number of condemned manifests, links and bytes.
    #[serde(default)]
    pub(super) subjects: [u64; 3],
    /// Length of the condemned bytes.
    #[serde(default)]
    pub(super) bytes: u64,
    /// Repository with which the next mark begins to condemn, if there was no place for all.
    #[serde(default)]
    pub(super) resume: Option<String>,
}

/// Epoch that condemned subjects.
#[derive(Clone, Debug)]
pub(super) struct SealedEpoch {
    pub(super) number: u64,
    pub(super) seal: Seal,
    /// Time of the storage at which the epoch was sealed.
    pub(super) sealed: SystemTime,
}

/// All epochs at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Epochs {
    /// Numbers in order.
    pub(super) numbers: Vec<u64>,
    /// Highest epoch that condemned something.
    pub(super) last: Option<SealedEpoch>,
    /// Epochs above, in order, that have no seal.
    pub(super) open: Vec<u64>,
}

/// Decisions on an epoch's subjects so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Decisions {
    pub(super) alive: BTreeMap<Shard, HashSet<SubjectHash>>,
    /// Shards on which a decision has begun.
    pub(super) begun: BTreeSet<Shard>,
    pub(super) doomed: BTreeMap<Shard, HashSet<SubjectHash>>,
    pub(super) done: BTreeSet<Shard>,
}

// === impl Seal ===

impl Seal {
    /// Returns the shards of a kind.
    pub(super) fn shards(&self, kind: SubjectKind) -> impl Iterator<Item = Shard> + use<> {
        let count = usize::try_from(self.subjects[kind as usize]).unwrap_or(usize::MAX);
        (0..count.div_ceil(Shard::LENGTH)).map(move |number| Shard { kind, number })
    }
}

// === impl Decisions ===

impl Decisions {
    /// Returns the shards on which a decision has begun and whose removals have not ended, in the order of a sweep.
    pub(super) fn cut_off(&self) -> impl Iterator<Item = Shard> {
        self.begun.difference(&self.done).copied()
    }
}

// === impl Epochs ===

impl Epochs {
    pub(super) fn highest(&self) -> u64 {
        self.numbers.last().copied().unwrap_or_default()
    }
}

impl Store {
    /// Creates a register. Returns true if its bytes are those of this call: also if an earlier attempt of
    /// the same call was answered late, for the bytes have a nonce.
    pub(super) fn create_register(&self, key: &Key, bytes: &[u8]) -> Result<bool, StoreError> {
        Ok(match self.storage().create(key, bytes)? {
            Created::New => true,
            Created::Exists(found) => found == bytes,
        })
    }

    /// Reads a register.
    pub(super) fn register(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.storage().read(key, MAX_REGISTER_BYTES)?)
    }

    /// Reads the seal of an epoch.
    pub(super) fn seal(&self, number: u64) -> Result<Option<Seal>, StoreError> {
        let key = EpochKeys(number).sealed();
        let Some(bytes) = self.register(&key)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|_| StoreError::CollectionUnknown(key))
    }

    /// Returns the numbers of all epochs in order.
    pub(super) fn epoch_numbers(&self) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        let mut after = None;
        loop {
            // A folder has pages without entries; they end where the next one begins.
            let page = self.storage().scan(&collection(), after.as_ref(), 1)?;
            after = match page.entries.first().map(|(key, _)| epoch_number(key)) {
                Some(Some(number)) => {
                    numbers.push(number);
                    Some(behind_epoch(number))
                }
                // The edges stand behind all epochs.
                Some(None) => return Ok(numbers),
                None => match page.next {
                    Some(next) => Some(next),
                    None => return Ok(numbers),
                },
            };
        }
    }

    /// Reads all epochs.
    pub(super) fn epochs(&self) -> Result<Epochs, StoreError> {
        let numbers = self.epoch_numbers()?;
        let mut open = Vec::new();
        let mut last = None;
        for number in numbers.iter().rev() {
            match self.seal(*number)? {
                None => open.insert(0, *number),
                Some(seal) if seal.abandoned => {}
                Some(seal) => {
                    // Cleared in between only if a later one was sealed, which the caller's own list then
                    // finds.
                    let meta = self.storage().head(&EpochKeys(*number).sealed())?;
                    last = meta.map(|meta| SealedEpoch { number: *number, seal, sealed: meta.modified });
                    break;
                }
            }
        }
        Ok(Epochs { numbers, last, open })
    }

    /// Closes an epoch that condemns nothing, unless its owner has sealed it.
    pub(super) fn abandon(&self, number: u64, nonce: &str) -> Result<(), StoreError> {
        let seal = Seal { nonce: nonce.into(), abandoned: true, subjects: [0; 3], bytes: 0, resume: None };
        self.create_register(&EpochKeys(number).sealed(), &to_json(&seal))?;
        Ok(())
    }

    /// Reads the decisions on an epoch's subjects so far.
    pub(super) fn decisions(&self, number: u64) -> Result<Decisions, StoreError> {
        let keys = EpochKeys(number);
        let mut found = Decisions::default();
        let mut doomed = Vec::new();
        let mut again: BTreeMap<Shard, String> = BTreeMap::new();
        let mut ended: BTreeSet<(Shard, String)> = BTreeSet::new();
        self.scan(&keys.folder(), |key, _| {
            let Some((kind, rest)) = key.beneath(&keys.folder()) else { return Ok(()) };
            let (shard, rest) = rest.split_once('/').unwrap_or((rest, ""));
            match (kind, Shard::parse(shard), SubjectHash::of_hex(rest)) {
                ("alive", Some(shard), Some(hash)) => {
                    found.alive.entry(shard).or_default().insert(hash);
                }
                ("doom", Some(shard), _) => drop(found.begun.insert(shard)),
                ("doomed", Some(shard), _) => doomed.push(shard),
                ("done", Some(shard), _) => drop(found.done.insert(shard)),
                // In the order of keys, so that the highest term comes last.
                ("again", Some(shard), _) => drop(again.insert(shard, rest.to_owned())),
                ("ended", Some(shard), _) => drop(ended.insert((shard, rest.to_owned()))),
                _ => {}
            }
            Ok(())
        })?;
        for last in again {
            if !ended.contains(&last) {
                found.done.remove(&last.0);
            }
        }
        for shard in doomed {
            if let Some(bytes) = self.register(&keys.doomed(shard))? {
                found.doomed.insert(shard, parse_hashes(&bytes));
            }
        }
        Ok(found)
    }

    /// Returns true if no leader removes subjects of a shard any more, but for the one of the term `own`, if
    /// there is one.
    ///
    /// A leader that was stopped right before it creates `done` creates it while its successor repeats the
    /// removals. So the successor announces itself before it looks for `done`, and who waits for the end
    /// looks for `done` before it looks for announcements: of two that write first and then read, one sees
    /// the other.
    pub(super) fn is_shard_over(
        &self,
        number: u64,
        shard: Shard,
        own: Option<&str>,
    ) -> Result<bool, StoreError> {
        let keys = EpochKeys(number);
        if self.register(&keys.done(shard))?.is_none() {
            return Ok(false);
        }
        let folder = keys.again(shard);
        let mut last: Option<String> = None;
        self.scan(&folder, |key, _| {
            let term = key.beneath(&folder).map(|(term, _)| term);
            last = term.filter(|term| Some(*term) != own).map(str::to_owned).or_else(|| last.take());
            Ok(())
        })?;
        match last {
            None => Ok(true),
            Some(term) => Ok(self.register(&keys.ended(shard, &term))?.is_some()),
        }
    }

    /// Returns the subjects of a shard that were revived.
    pub(super) fn revived(&self, number: u64, shard: Shard) -> Result<HashSet<SubjectHash>, StoreError> {
        let folder = EpochKeys(number).alive(shard);
        let mut revived = HashSet::new();
        self.scan(&folder, |key, _| {
            revived.extend(key.beneath(&folder).and_then(|(hash, _)| SubjectHash::of_hex(hash)));
            Ok(())
        })?;
        Ok(revived)
    }

    /// Removes all epochs below a number. Their numbers are not used again.
    pub(super) fn clear_epochs_before(&self, number: u64, numbers: &[u64]) -> Result<(), StoreError> {
        for old in numbers.iter().filter(|old| **old < number) {
            self.storage().clear(&EpochKeys(*old).folder())?;
        }
        Ok(())
    }
}

/// Passes a failpoint of collection.
pub(super) fn failpoint(name: &'static str) -> Result<(), StoreError> {
    pass(name).map_err(|source| StorageError::Io { what: "pass", key: name.to_owned(), source }.into())
}

/// Returns the text of a set of hashes, one in each line.
pub(super) fn write_hashes<'a>(hashes: impl Iterator<Item = &'a SubjectHash>) -> Vec<u8> {
    let mut lines: Vec<String> = hashes.map(|hash| hash.hex()).collect();
    lines.sort_unstable();
    lines.join("\n").into_bytes()
}

/// Reads the text of a set of hashes.
pub(super) fn parse_hashes(text: &[u8]) -> HashSet<SubjectHash> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.lines().filter_map(SubjectHash::of_hex).collect()
}

/// Number of keys that are listed or removed by one request.
pub(super) const PAGE: usize = SCAN_PAGE_SIZE;

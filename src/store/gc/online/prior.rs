//! Subjects that the last sealed epoch has condemned, and what the mark knows of each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use quinistry_oci::RepositoryName;

use super::epoch::{Decisions, SealedEpoch};
use super::subject::{ContentId, Shard, Subject, SubjectHash, SubjectKind};
use crate::layout::Key;
use crate::layout::collection::EpochKeys;
use crate::{Store, StoreError};

/// Longest list of a shard, in bytes: 1,000 lines, each with a name of a repository.
const MAX_LIST_BYTES: u64 = 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Condemned {
    pub(super) hash: SubjectHash,
    /// Repository; `None` for bytes.
    pub(super) repository: Option<Arc<RepositoryName>>,
    pub(super) content: ContentId,
    /// Length of bytes; 0 for links.
    pub(super) length: u64,
}

/// Knowledge of the mark about a condemned subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// The mark did not find it.
    Absent,
    /// Something live needs it, or it was written since it was condemned.
    Live,
    /// Nothing that stays needs it.
    Removable,
    /// Something that is not live, and stays all the same, needs it.
    Needed,
}

/// Condemned subjects of an epoch, each kind in the order of hashes.
#[derive(Debug)]
pub(super) struct Prior {
    pub(super) epoch: SealedEpoch,
    pub(super) decisions: Decisions,
    kinds: [Vec<Condemned>; 3],
    states: [Vec<AtomicU8>; 3],
    /// Bytes that a link or manifest has which is not removed in this cycle.
    held_bytes: Vec<AtomicBool>,
    /// Keys beside that of a subject that go with it.
    extras: Mutex<HashMap<SubjectHash, Vec<Key>>>,
}

// === impl Condemned ===

impl Condemned {
    pub(super) fn subject_key(&self, kind: SubjectKind) -> Key {
        let digest = self.content.digest();
        Subject { kind, repository: self.repository.as_deref(), canonical: &digest }.key()
    }

    /// Returns the line of a list.
    pub(super) fn line(&self) -> String {
        let repository = self.repository.as_ref().map_or("-", |name| name.as_str());
        format!("{} {} {} {repository} .\n", self.hash.hex(), self.content.hex(), self.length)
    }

    fn parse(line: &str, names: &mut HashMap<String, Arc<RepositoryName>>) -> Option<Self> {
        let mut fields = line.split(' ');
        let hash = SubjectHash::of_hex(fields.next()?)?;
        let content = ContentId::of_hex(fields.next()?)?;
        let length = fields.next()?.parse().ok()?;
        let repository = match fields.next()? {
            "-" => None,
            name => {
                if !names.contains_key(name) {
                    names.insert(name.to_owned(), Arc::new(name.parse().ok()?));
                }
                names.get(name).cloned()
            }
        };
        // The last field shows that the line is whole.
        let is_whole = fields.next() == Some(".") && fields.next().is_none();
        is_whole.then_some(Self { hash, repository, content, length })
    }
}

// === impl Prior ===

impl Prior {
    /// Returns the position of a subject among those of its kind; `None` if it was not condemned.
    pub(super) fn position(&self, kind: SubjectKind, hash: SubjectHash) -> Option<usize> {
        self.kinds[kind as usize].binary_search_by_key(&hash, |entry| entry.hash).ok()
    }

    pub(super) fn len(&self, kind: SubjectKind) -> usize {
        self.kinds[kind as usize].len()
    }

    /// Returns the subjects of a shard with their positions.
    pub(super) fn of_shard(&self, shard: Shard) -> impl Iterator<Item = (usize, &Condemned)> {
        let first = shard.number * Shard::LENGTH;
        self.kinds[shard.kind as usize].iter().enumerate().skip(first).take(Shard::LENGTH)
    }

    pub(super) fn state(&self, kind: SubjectKind, at: usize) -> State {
        match self.states[kind as usize][at].load(Ordering::Relaxed) {
            1 => State::Live,
            2 => State::Removable,
            3 => State::Needed,
            _ => State::Absent,
        }
    }

    pub(super) fn set(&self, kind: SubjectKind, at: usize, state: State) {
        self.states[kind as usize][at].store(state as u8, Ordering::Relaxed);
    }

    /// Returns true if a subject was revived so far, or if its shard is decided and does not doom it: it
    /// stays in this cycle, so that what it needs must stay as well.
    pub(super) fn is_settled(&self, kind: SubjectKind, at: usize) -> bool {
        let shard = Shard { kind, number: at / Shard::LENGTH };
        let hash = &self.kinds[kind as usize][at].hash;
        match self.decisions.doomed.get(&shard) {
            Some(doomed) => !doomed.contains(hash),
            None => self.decisions.alive.get(&shard).is_some_and(|alive| alive.contains(hash)),
        }
    }

    /// Returns true if it was decided before that a subject is removed.
    pub(super) fn is_doomed(&self, kind: SubjectKind, at: usize) -> bool {
        let shard = Shard { kind, number: at / Shard::LENGTH };
        let hash = &self.kinds[kind as usize][at].hash;
        self.decisions.doomed.get(&shard).is_some_and(|doomed| doomed.contains(hash))
    }

    /// Notes that bytes stay in this cycle.
    pub(super) fn hold_bytes(&self, content: ContentId) {
        if self.held_bytes.is_empty() {
            return;
        }
        let hash = Subject::bytes(&content.digest()).hash();
        if let Some(at) = self.position(SubjectKind::Bytes, hash) {
            self.held_bytes[at].store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn holds_bytes(&self, at: usize) -> bool {
        self.held_bytes[at].load(Ordering::Relaxed)
    }

    /// Returns true if a time is not before that of the seal.
    pub(super) fn is_written_since(&self, modified: SystemTime) -> bool {
        modified >= self.epoch.sealed
    }

    pub(super) fn add_extras(&self, hash: SubjectHash, keys: impl IntoIterator<Item = Key>) {
        self.extras.lock().unwrap_or_else(PoisonError::into_inner).entry(hash).or_default().extend(keys);
    }

    pub(super) fn count_extras(&self, hash: SubjectHash) -> usize {
        self.extras.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).map_or(0, Vec::len)
    }

    pub(super) fn take_extras(&self, hash: SubjectHash) -> Vec<Key> {
        self.extras.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash).unwrap_or_default()
    }
}

impl Store {
    /// Reads the condemned subjects of an epoch on which these decisions were made.
    pub(super) fn prior(
        &self,
        epoch: SealedEpoch,
        decisions: Decisions,
        take: &dyn Fn(usize),
    ) -> Result<Prior, StoreError> {
        let keys = EpochKeys(epoch.number);
        let mut names = HashMap::new();
        let mut kinds = <[Vec<Condemned>; 3]>::default();
        for kind in SubjectKind::ALL {
            for shard in epoch.seal.shards(kind) {
                take(1);
                let key = keys.list(&epoch.seal.nonce, shard);
                let unknown = || StoreError::CollectionUnknown(key.clone());
                let bytes = self.storage().read(&key, MAX_LIST_BYTES)?.ok_or_else(unknown)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| unknown())?;
                for line in text.lines() {
                    kinds[kind as usize].push(Condemned::parse(line, &mut names).ok_or_else(unknown)?);
                }
            }
            let of_kind = &kinds[kind as usize];
            let is_sorted = of_kind.is_sorted_by(|one, other| one.hash < other.hash);
            if !is_sorted || of_kind.len() as u64 != epoch.seal.subjects[kind as usize] {
                return Err(StoreError::CollectionUnknown(keys.sealed()));
            }
        }
        let states = [0, 1, 2].map(|kind: usize| kinds[kind].iter().map(|_| AtomicU8::new(0)).collect());
        let held_bytes = kinds[2].iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Prior { epoch, decisions, kinds, states, held_bytes, extras: Mutex::default() })
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Digest;

    use super::*;

    #[test]
    fn a_line_of_a_list_is_read_as_it_was_written_and_a_torn_one_is_not() {
        let content = ContentId::of(&Digest::sha256(b"x")).unwrap();
        for repository in [None, Some("a/b")] {
            let repository = repository.map(|name| Arc::new(name.parse().unwrap()));
            let entry = Condemned { hash: SubjectHash([7; 32]), repository, content, length: 12 };
            let line = entry.line();
            let read = Condemned::parse(line.trim_end(), &mut HashMap::new()).unwrap();
            assert_eq!((read.hash, read.content, read.length), (entry.hash, content, 12));
            assert_eq!(read.repository, entry.repository);
            for length in 0..line.len() - 1 {
                assert!(Condemned::parse(&line[..length], &mut HashMap::new()).is_none(), "{length}");
            }
        }
    }
}

//! Hashing of stored bytes by several threads: a bucket has more throughput than one of its requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use quinistry_oci::{Algorithm, Digest, Hasher};

use super::reading::of_one_file;
use super::{Finding, FindingKind, Fsck};
use crate::layout::{Key, blob};
use crate::storage::StorageError;
use crate::verified::is_damage;
use crate::{Storage, StoreError};

/// Number of threads that hash.
const THREADS: usize = 4;

/// Outcome of hashing bytes.
enum Hashed {
    /// Digest of the bytes.
    Digest(Digest),
    /// A registry has removed the bytes since the scan.
    Gone,
    /// The bytes are lost, for this reason.
    Lost(String),
    /// The file cannot be read, for this reason.
    Unreadable(String),
}

enum Message {
    Progress(u64),
    Done(usize, Result<Hashed, StorageError>),
}

fn hash(
    storage: &dyn Storage,
    key: &Key,
    algorithm: Algorithm,
    mut progress: impl FnMut(u64),
) -> Result<Hashed, StorageError> {
    let opened = match storage.open(key) {
        Err(error) => {
            let Some(cause) = of_one_file(&error) else { return Err(error) };
            return Ok(Hashed::Unreadable(cause.to_string()));
        }
        Ok(opened) => opened,
    };
    let Some((content, _)) = opened else { return Ok(Hashed::Gone) };
    let mut hasher = Hasher::new(algorithm);
    for chunk in content.chunks() {
        match chunk {
            Ok(chunk) => {
                hasher.update(&chunk);
                progress(chunk.len() as u64);
            }
            Err(error) if is_damage(&error) => return Ok(Hashed::Lost(error.to_string())),
            Err(source) => return Err(StorageError::Io { what: "read", key: key.to_string(), source }),
        }
    }
    Ok(Hashed::Digest(hasher.finish()))
}

impl Fsck<'_> {
    /// Hashes bytes that are stored under their SHA-256, if that is wanted. Marks and reports those that do
    /// not have it, in their order.
    pub(super) fn hash_contents(&mut self, digests: &[Digest]) -> Result<(), StoreError> {
        if digests.is_empty() || !self.options.hash {
            return Ok(());
        }
        let storage = self.storage;
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        let work = |sender: mpsc::Sender<Message>| {
            while let Some((at, digest)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, digests.get(at)?)))
            {
                let progress = |bytes| drop(sender.send(Message::Progress(bytes)));
                let hashed = hash(storage, &blob(digest), Algorithm::Sha256, progress);
                if sender.send(Message::Done(at, hashed)).is_err() {
                    return;
                }
            }
        };
        let mut outcomes: Vec<Option<Hashed>> = digests.iter().map(|_| None).collect();
        let mut failed = None;
        thread::scope(|scope| {
            for _ in 0..THREADS.min(digests.len()) {
                let sender = sender.clone();
                scope.spawn(|| work(sender));
            }
            drop(sender);
            for message in receiver {
                match message {
                    Message::Progress(bytes) => {
                        self.progress.hashed_bytes += bytes;
                        self.observer.progressed(&self.progress);
                    }
                    Message::Done(at, Ok(hashed)) => outcomes[at] = Some(hashed),
                    Message::Done(_, Err(error)) => {
                        next.store(digests.len(), Ordering::Relaxed);
                        failed = Some(error);
                    }
                }
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        for (digest, hashed) in digests.iter().zip(outcomes) {
            self.judge(digest, hashed.expect("each thread reports what it has taken"));
        }
        Ok(())
    }

    fn judge(&mut self, digest: &Digest, hashed: Hashed) {
        let detail = match hashed {
            Hashed::Gone => return,
            Hashed::Digest(found) if found == *digest => return,
            Hashed::Digest(found) => format!("has {found}"),
            Hashed::Lost(cause) => format!("cannot be read: {cause}"),
            Hashed::Unreadable(cause) => return self.report_unreadable(blob(digest).as_str(), &cause),
        };
        self.report_damaged(digest, &detail);
    }

    pub(super) fn report_damaged(&mut self, digest: &Digest, detail: &str) {
        self.contents.mark_damaged(digest);
        let finding = Finding::at(FindingKind::ContentDamaged, blob(digest)).digest(digest).detail(detail);
        self.report_of_bytes(&finding);
    }

    /// Returns true if the bytes under a SHA-256 have another digest, too. Bytes that cannot be read count as
    /// such: they are reported elsewhere.
    pub(super) fn has_digest(&mut self, canonical: &Digest, digest: &Digest) -> Result<bool, StoreError> {
        let progress = &mut self.progress;
        let count = |bytes| progress.hashed_bytes += bytes;
        let hashed = hash(self.storage, &blob(canonical), digest.algorithm(), count)?;
        Ok(!matches!(hashed, Hashed::Digest(found) if found != *digest))
    }
}

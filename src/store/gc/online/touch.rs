//! Touches: acts of clients that keep condemned subjects from being removed.
//!
//! A subject that is not in the view costs nothing: no request, and with an empty view no hash. A condemned
//! one is revived: the toucher creates `alive`, and then looks whether the collector has begun to decide on
//! the shard. The collector begins by `doom`, and then lists `alive`. Of two that write first and then read,
//! one sees the other.

mod needed;
mod nested;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, RepositoryName, WithCauses, to_json};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::epoch::parse_hashes;
use super::safeguard::Safeguard;
use super::subject::{Shard, Subject, SubjectHash, SubjectKind};
use super::view::View;
use crate::layout::collection::EpochKeys;
use crate::storage::StorageError;
use crate::{Store, StoreError};

pub(crate) use self::needed::Needed;

/// Time between two looks at a shard on which the collector decides, or whose subjects it removes.
const WAIT_STEP: Duration = Duration::from_millis(250);

/// Greatest number of looks for the decision on a shard: 2 s.
const MAX_DECISION_LOOKS: usize = 8;

/// Greatest number of looks for the end of a removal.
const MAX_REMOVAL_LOOKS: usize = 80;

/// Greatest time for which a push waits for the end of a removal. Looks at a slow store take longer than the steps
/// between them, and the client has its own patience.
const MAX_REMOVAL_WAIT: Duration = Duration::from_secs(20);

/// Attempts to touch subjects while the view grows old.
const MAX_TOUCHES: usize = 3;

/// Cause of a touch, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cause {
    Head,
    Get,
    Mount,
    Blob,
    Manifest,
    Tag,
}

/// Content of a revival's register.
#[derive(Serialize)]
struct Revival<'a> {
    replica: &'a str,
    cause: Cause,
    nonce: String,
}

/// Outcome of the touch of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// No collector removes the subject before the grace has passed since the view. It may be absent.
    Held,
    /// The subject was removed, and its removal is over. Only the storage tells whether it was written again.
    Removed,
    /// A collector removes the subject at this moment.
    Gone,
}

/// Proof that subjects were touched, for as long as the view counts.
#[derive(Debug)]
struct Hold {
    view: Option<Arc<View>>,
    at: Duration,
}

// === impl Cause ===

impl Cause {
    /// Returns the name in reports.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Get => "get",
            Self::Mount => "mount",
            Self::Blob => "blob",
            Self::Manifest => "manifest",
            Self::Tag => "tag",
        }
    }
}

impl Store {
    /// Runs a change that links content: all subjects are held before it, and still so when it returns.
    ///
    /// Fails with [`StoreError::Missing`] if parts are being removed, and with [`StoreError::Unvouched`] if
    /// they may have been removed during the change, or if their removal takes too long: the client then
    /// repeats the request.
    pub(crate) fn touching<T>(
        &self,
        needed: &Needed<'_>,
        cause: Cause,
        change: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let hold = self.hold_all(needed, cause)?;
        let changed = change()?;
        if self.still_holds(&hold) {
            return Ok(changed);
        }
        // A collector may have begun and ended in the meantime: only a look at the storage tells.
        self.forget_recent_links();
        let hold = match self.hold_all(needed, cause) {
            Err(StoreError::Missing(_)) => return Err(StoreError::Unvouched),
            hold => hold?,
        };
        if self.has(Safeguard::Recheck) && !self.are_there(needed)? {
            return Err(StoreError::Unvouched);
        }
        if self.still_holds(&hold) { Ok(changed) } else { Err(StoreError::Unvouched) }
    }

    /// Returns the result of a look at the storage, which holds what it found: content of this answer is not
    /// removed for almost the grace of collection.
    fn holding<T>(
        &self,
        subjects: &[Subject<'_>],
        unknown: impl Fn() -> StoreError,
        look_up: impl Fn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if !self.has(Safeguard::TouchOnHead) {
            return look_up();
        }
        for _ in 0..MAX_TOUCHES {
            let (hold, gone) = self.touch_all(subjects, Cause::Head)?;
            if !gone.is_empty() {
                return Err(unknown());
            }
            let found = look_up()?;
            if self.still_holds(&hold) {
                return Ok(found);
            }
        }
        Err(StoreError::Unvouched)
    }

    /// Answers HEAD of a blob by `look_up`: bytes that are found stay for almost the grace of collection.
    pub fn holding_blob<T>(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        look_up: impl Fn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let canonical = match digest.algorithm() {
            Algorithm::Sha256 => digest.clone(),
            Algorithm::Sha512 => self.linked(name, digest)?.ok_or(StoreError::BlobUnknown)?,
        };
        let subjects = [Subject::link(name, &canonical), Subject::bytes(&canonical)];
        self.holding(&subjects, || StoreError::BlobUnknown, look_up)
    }

    /// Answers HEAD of a manifest by digest by `look_up`: a manifest that is found stays, with all that it
    /// refers to, for almost the grace of collection.
    pub fn holding_manifest<T>(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        look_up: impl Fn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let canonical = match digest.algorithm() {
            Algorithm::Sha256 => digest.clone(),
            Algorithm::Sha512 => self.revision(name, digest)?.ok_or(StoreError::ManifestUnknown)?,
        };
        self.holding(&[Subject::revision(name, &canonical)], || StoreError::ManifestUnknown, look_up)
    }

    /// Holds what a client pulls, as far as that takes no more than a few requests: a pull does not fail
    /// because of collection.
    pub(crate) fn touch_for_pull(&self, subjects: &[Subject<'_>]) {
        let view = self.0.collector.view();
        let is_condemned = |subject: &Subject<'_>| {
            let hash = subject.hash();
            view.shard(subject.kind, hash).is_some() && !view.is_known_alive(hash)
        };
        let counts = self.is_fresh(&view, self.0.collector.clock.now());
        if view.is_empty()
            || !counts
            || !self.has(Safeguard::TouchOnHead)
            || !subjects.iter().any(is_condemned)
        {
            return;
        }
        if let Err(error) = self.touch_all(subjects, Cause::Get) {
            tracing::debug!(error = %WithCauses(&error), "cannot revive pulled content");
        }
    }

    /// Returns true if a cache may answer for a subject: it is not condemned, or known to stay. Never waits.
    pub(crate) fn may_answer_from_cache(
        &self,
        kind: SubjectKind,
        name: &RepositoryName,
        digest: &Digest,
    ) -> bool {
        let view = self.0.collector.view();
        if !self.is_fresh(&view, self.0.collector.clock.now()) {
            return false;
        }
        if view.is_empty() {
            return true;
        }
        if digest.algorithm() != Algorithm::Sha256 {
            return false;
        }
        let subject =
            Subject { kind, repository: (kind != SubjectKind::Bytes).then_some(name), canonical: digest };
        let hash = subject.hash();
        view.shard(kind, hash).is_none() || view.is_known_alive(hash)
    }

    /// Holds the subjects of a change. Waits until those that it writes itself are removed.
    fn hold_all(&self, needed: &Needed<'_>, cause: Cause) -> Result<Hold, StoreError> {
        let is_safe = match cause {
            Cause::Mount => self.has(Safeguard::TouchOnMount),
            Cause::Tag => self.has(Safeguard::TagTouch),
            _ => self.has(Safeguard::TouchOnCommit),
        };
        if !is_safe {
            return Ok(Hold { view: None, at: self.0.collector.clock.now() });
        }
        let (mut looks, begun) = (0, self.0.collector.clock.now());
        loop {
            let parts: Vec<Subject<'_>> = needed.parts.iter().map(|(part, _)| *part).collect();
            let (_, gone) = self.touch_all(&parts, cause)?;
            if !gone.is_empty() {
                let mut missing: Vec<Digest> = Vec::new();
                for at in gone {
                    let digest = needed.parts[at].1;
                    if !missing.contains(digest) {
                        missing.push(digest.clone());
                    }
                }
                return Err(StoreError::Missing(missing));
            }
            self.touch_all(&needed.others, cause)?;
            let (hold, gone) = self.touch_shallow(&needed.own, cause)?;
            if gone.is_empty() || !self.has(Safeguard::DoneWait) {
                // The parts were touched a moment before, in this view or an earlier one.
                let (parts, gone) = self.touch_all(&parts, cause)?;
                if gone.is_empty() {
                    return Ok(Hold { at: hold.at.min(parts.at), ..hold });
                }
            }
            looks += 1;
            let waited = self.0.collector.clock.now().saturating_sub(begun);
            if looks > MAX_REMOVAL_LOOKS || waited >= MAX_REMOVAL_WAIT {
                return Err(StoreError::Unvouched);
            }
            self.0.collector.pause(WAIT_STEP);
        }
    }

    /// Returns true if touched subjects are still held.
    fn still_holds(&self, hold: &Hold) -> bool {
        let Some(view) = &hold.view else { return true };
        let since = if self.is_shared() { view.asked() } else { hold.at };
        let passed = self.0.collector.clock.now().saturating_sub(since);
        !self.has(Safeguard::FreshnessCheck) || passed <= self.0.collector.view_lifetime
    }

    /// Touches subjects, and of a manifest all manifests that it refers to first. Returns the positions of
    /// those that are being removed.
    fn touch_all(&self, subjects: &[Subject<'_>], cause: Cause) -> Result<(Hold, Vec<usize>), StoreError> {
        self.touch_by(subjects, |view, subject| match subject.repository {
            Some(name) if subject.kind == SubjectKind::Revision && self.has(Safeguard::DeepTouch) => {
                self.touch_nested(view, name, subject.canonical, cause)
            }
            _ => self.touch(view, subject, cause),
        })
    }

    /// Touches subjects alone.
    fn touch_shallow(
        &self,
        subjects: &[Subject<'_>],
        cause: Cause,
    ) -> Result<(Hold, Vec<usize>), StoreError> {
        self.touch_by(subjects, |view, subject| self.touch(view, subject, cause))
    }

    fn touch_by(
        &self,
        subjects: &[Subject<'_>],
        touch: impl Fn(&View, &Subject<'_>) -> Result<Touched, StoreError>,
    ) -> Result<(Hold, Vec<usize>), StoreError> {
        for _ in 0..MAX_TOUCHES {
            let at = self.0.collector.clock.now();
            let Some(view) = self.fresh_view()? else { return Ok((Hold { view: None, at }, Vec::new())) };
            let mut gone = Vec::new();
            if !view.is_empty() {
                for (at, subject) in subjects.iter().enumerate() {
                    if touch(&view, subject)? == Touched::Gone {
                        gone.push(at);
                    }
                }
            }
            let hold = Hold { view: Some(view), at };
            if self.still_holds(&hold) {
                return Ok((hold, gone));
            }
        }
        Err(StoreError::Unvouched)
    }

    /// Touches one subject (C.2 of the storage's specification).
    pub(super) fn touch(
        &self,
        view: &View,
        subject: &Subject<'_>,
        cause: Cause,
    ) -> Result<Touched, StoreError> {
        let hash = subject.hash();
        let Some(shard) = view.shard(subject.kind, hash) else { return Ok(Touched::Held) };
        if view.is_known_alive(hash) {
            return Ok(Touched::Held);
        }
        let touched = match self.revive(view.epoch, shard, hash, cause) {
            // This process cannot push, so that no content depends on what it reads.
            Err(StoreError::Storage(StorageError::ReadOnly)) => return Ok(Touched::Held),
            touched => touched?,
        };
        if touched == Touched::Held {
            view.note_alive(hash);
        }
        Ok(touched)
    }

    fn revive(
        &self,
        epoch: u64,
        shard: Shard,
        hash: SubjectHash,
        cause: Cause,
    ) -> Result<Touched, StoreError> {
        let keys = EpochKeys(epoch);
        let replica = self.0.shared.as_ref().map_or("", |shared| shared.replica().id());
        let revival = to_json(&Revival { replica, cause, nonce: Uuid::new_v4().to_string() });
        self.create_register(&keys.alive(shard).child(&hash.hex()), &revival)?;
        if self.register(&keys.doom(shard))?.is_none() {
            return Ok(Touched::Held);
        }
        let looks = match cause {
            Cause::Get => 0,
            _ => MAX_DECISION_LOOKS,
        };
        let Some(doomed) = self.await_decision(keys, shard, looks)? else {
            return match cause {
                // The collector may leave what a push has brought or a client asks for: to say that it is absent would
                // be wrong of content that is needed, and the client repeats the request.
                Cause::Blob | Cause::Manifest | Cause::Head => Err(StoreError::Unvouched),
                _ => Ok(Touched::Gone),
            };
        };
        if !parse_hashes(&doomed).contains(&hash) {
            return Ok(Touched::Held);
        }
        // After the removal, the storage tells whether the subject is there.
        let is_over = if self.has(Safeguard::RepeatNotice) {
            self.is_shard_over(keys.0, shard, None)?
        } else {
            self.register(&keys.done(shard))?.is_some()
        };
        Ok(if is_over { Touched::Removed } else { Touched::Gone })
    }

    /// Returns the doomed subjects of a shard on which the collector decides at this moment; `None` if they are not
    /// decided after a number of further looks.
    fn await_decision(
        &self,
        keys: EpochKeys,
        shard: Shard,
        looks: usize,
    ) -> Result<Option<Bytes>, StoreError> {
        for look in 0..=looks {
            if let Some(doomed) = self.register(&keys.doomed(shard))? {
                return Ok(Some(doomed));
            }
            if look < looks {
                self.0.collector.pause(WAIT_STEP);
            }
        }
        Ok(None)
    }
}

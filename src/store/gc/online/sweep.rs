//! Sweep: removes the condemned subjects of an epoch that the mark found to be removable and no client has
//! revived.
//!
//! Manifests go first, then links, then bytes, so that what a crash leaves is whole. A shard is decided by
//! registers: `doom`, then a list of the revivals, then `doomed` with the subjects that are removed, and
//! `done` behind the last removal. Any leader goes on where another one stopped.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_oci::{RepositoryName, to_json};
use serde_json::json;

use super::epoch::{PAGE, failpoint, parse_hashes, write_hashes};
use super::mark::{Context, Mark};
use super::prior::{Condemned, Prior, State};
use super::report::CycleReport;
use super::safeguard::Safeguard;
use super::subject::{ContentId, Shard, SubjectHash, SubjectKind};
use crate::layout::collection::EpochKeys;
use crate::storage::{Created, FENCE_LIFETIME};
use crate::{DeletedSubject, Deletion, DeletionActor, Key, Store, StoreError};

/// Greatest error of times of a storage, which are whole seconds.
const TIME_ERROR: Duration = Duration::from_secs(2);

/// Time since the begin of a cycle from which on no removal of an earlier one can come: 35 s after the last
/// renewal of a former leader, whose term must be 30 s old before another one begins, and 10 s after an
/// earlier attempt of this process.
const FORMER_REMOVALS: Duration = Duration::from_secs(15);

/// Attempts to remove keys by new fences.
const MAX_REMOVALS: usize = 10;

/// Time between two attempts to remove keys.
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);

/// Requests that decide a shard: its registers, and a list of the revivals.
const SHARD_REQUESTS: usize = 5;

/// Requests that copy bytes to the trash of a shared storage: one to look them up, and one to copy them.
const COPY_REQUESTS: usize = 2;

/// State of a sweep.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Subjects that are gone.
    pub(super) doomed: HashSet<SubjectHash>,
    /// Subjects that are not condemned next, because a client has revived them or what needs them, or because another
    /// leader has left them out.
    pub(super) kept: HashSet<SubjectHash>,
    /// Time of the storage until which a removal of unknown outcome may still come.
    unsettled: Option<SystemTime>,
}

/// Decision on a shard.
pub(super) struct Decision {
    doomed: HashSet<SubjectHash>,
    /// Subjects that were revived, also those that were revived too late.
    alive: HashSet<SubjectHash>,
}

/// Progress of a step that needs the lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Complete,
    LostLead,
}

impl Store {
    /// Sweeps the subjects of one kind.
    pub(super) fn sweep_kind(
        &self,
        context: &Context<'_>,
        (prior, mark): (&Prior, &mut Mark),
        kind: SubjectKind,
        (sweep, report): (&mut Sweep, &mut CycleReport),
    ) -> Result<Progress, StoreError> {
        let mut revived: Vec<(Arc<RepositoryName>, ContentId)> = Vec::new();
        for shard in prior.epoch.seal.shards(kind) {
            let Some(Decision { doomed, alive }) = self.sweep_shard(context, prior, shard, sweep)? else {
                return Ok(Progress::LostLead);
            };
            for (at, subject) in prior.of_shard(shard) {
                let is_doomed = doomed.contains(&subject.hash);
                let is_alive = alive.contains(&subject.hash) && !is_doomed;
                // Another leader's decision, by an earlier mark, leaves out what this mark has not kept: it stays as well.
                let is_left_out = prior.state(kind, at) == State::Removable && !is_doomed;
                if is_alive || is_left_out {
                    sweep.kept.insert(subject.hash);
                    let repository = subject.repository.iter().cloned();
                    revived.extend(repository.map(|name| (name, subject.content)));
                }
                report.count_swept(kind, subject, is_doomed, is_alive, prior.state(kind, at));
            }
            sweep.doomed.extend(doomed);
        }
        if kind != SubjectKind::Bytes {
            self.keep_revived(context, prior, mark, (kind, &revived), &mut sweep.kept)?;
        }
        Ok(Progress::Complete)
    }

    /// Decides a shard, unless that was done before, and removes its doomed subjects. Returns these, and
    /// those that were revived; `None` if the lead was lost.
    pub(super) fn sweep_shard(
        &self,
        context: &Context<'_>,
        prior: &Prior,
        shard: Shard,
        sweep: &mut Sweep,
    ) -> Result<Option<Decision>, StoreError> {
        let epoch = prior.epoch.number;
        let keys = EpochKeys(epoch);
        if !context.lead.still() {
            return Ok(None);
        }
        if prior.decisions.done.contains(&shard) {
            let doomed = prior.decisions.doomed.get(&shard).cloned().unwrap_or_default();
            context.take(1);
            return Ok(Some(Decision { doomed, alive: self.revived(epoch, shard)? }));
        }
        if self.take_shard(context, prior, shard) == Progress::LostLead {
            return Ok(None);
        }
        let of_term = to_json(&json!({"term": context.lead.term()}));
        let doom = || {
            self.create_register(&keys.doom(shard), &of_term)?;
            failpoint("gc.doom")
        };
        if self.has(Safeguard::DoomBeforeList) {
            doom()?;
        }
        let alive = self.revived(epoch, shard)?;
        if !self.has(Safeguard::DoomBeforeList) {
            doom()?;
        }
        let is_doomed = |(at, subject): &(usize, &Condemned)| {
            prior.state(shard.kind, *at) == State::Removable && !alive.contains(&subject.hash)
        };
        let doomed: Vec<_> =
            prior.of_shard(shard).filter(is_doomed).map(|(_, subject)| &subject.hash).collect();
        let text = write_hashes(doomed.into_iter());
        // The content of the first decision counts, also against this mark.
        let doomed = match self.storage().create(&keys.doomed(shard), &text)? {
            Created::New => text.into(),
            Created::Exists(found) => found,
        };
        failpoint("gc.doomed")?;
        let doomed = parse_hashes(&doomed);
        let subjects: Vec<&Condemned> = prior
            .of_shard(shard)
            .filter(|(_, subject)| doomed.contains(&subject.hash))
            .map(|(_, subject)| subject)
            .collect();
        let is_repeated = prior.decisions.begun.contains(&shard) && !subjects.is_empty() && self.is_shared();
        let term = is_repeated.then(|| format!("{:020}", context.lead.term().unwrap_or_default()));
        if let Some(term) = &term {
            context.take(3);
            self.create_register(&keys.again(shard).child(term), b"{}")?;
            if self.has(Safeguard::RepeatNotice) && self.is_shard_over(epoch, shard, Some(term))? {
                self.create_register(&keys.ended(shard, term), b"{}")?;
                return Ok(Some(Decision { doomed, alive }));
            }
            // Another leader, or an attempt that failed, may have sent removals.
            let until = context.begun + FORMER_REMOVALS;
            sweep.unsettled = sweep.unsettled.max(Some(until));
        }
        let removed = self.remove_subjects(context, prior, shard.kind, &subjects, sweep)?;
        let Some(removed) = removed.filter(|_| self.settle(context, sweep) == Progress::Complete) else {
            return Ok(None);
        };
        for subject in removed {
            self.record_removal(shard.kind, subject, prior.epoch.number);
        }
        self.create_register(&keys.done(shard), b"{}")?;
        if let Some(term) = &term {
            self.create_register(&keys.ended(shard, term), b"{}")?;
        }
        failpoint("gc.done")?;
        Ok(Some(Decision { doomed, alive }))
    }

    /// Takes the requests that decide a shard, before that begins: from then on pushes of its subjects wait for the end.
    /// Those that remove the subjects of a shared storage are taken as well: removals must reach the store within
    /// their fence.
    fn take_shard(&self, context: &Context<'_>, prior: &Prior, shard: Shard) -> Progress {
        let mut requests = SHARD_REQUESTS;
        if self.is_shared() {
            let is_trashed = shard.kind == SubjectKind::Bytes && context.options.trash_lifetime().is_some();
            let looked_up = usize::from(!context.is_alone()) + if is_trashed { COPY_REQUESTS } else { 0 };
            let removal = self.storage().removal_requests();
            let removable =
                prior.of_shard(shard).filter(|(at, _)| prior.state(shard.kind, *at) == State::Removable);
            let cost = |subject: &Condemned| looked_up + removal * (1 + prior.count_extras(subject.hash));
            requests += removable.map(|(_, subject)| cost(subject)).sum::<usize>();
        }
        context.take_while_leading(requests)
    }

    /// Removes keys of a shared storage. A removal that comes late, after another leader has ended the shard,
    /// does not harm what is pushed again: the fence is read before the lead is checked.
    pub(super) fn remove_keys(
        &self,
        context: &Context<'_>,
        keys: &[Key],
        sweep: &mut Sweep,
    ) -> Result<Progress, StoreError> {
        for page in keys.chunks(PAGE) {
            let mut left = page.to_vec();
            for attempt in 1.. {
                let fence = self.storage().fence().ok_or(StoreError::Unfenced)?;
                if self.has(Safeguard::LeadCheck) && !context.lead.still() {
                    return Ok(Progress::LostLead);
                }
                failpoint("gc.deletes")?;
                left = if self.has(Safeguard::Fence) {
                    self.storage().remove_fenced(&left, fence)?
                } else {
                    left.iter().try_for_each(|key| self.storage().remove(key).map(drop))?;
                    Vec::new()
                };
                if left.is_empty() {
                    break;
                }
                // Their requests may still be on their way.
                sweep.unsettled = sweep.unsettled.max(Some(fence.0 + FENCE_LIFETIME + TIME_ERROR));
                if attempt >= MAX_REMOVALS {
                    tracing::error!(keys = left.len(), first = %left[0], "cannot remove collected content");
                    let source = std::io::ErrorKind::TimedOut.into();
                    let key = left[0].to_string();
                    return Err(crate::StorageError::Io { what: "remove", key, source }.into());
                }
                self.0.collector.pause(REMOVAL_PAUSE);
            }
        }
        Ok(Progress::Complete)
    }

    /// Waits until no removal of unknown outcome can come any more.
    fn settle(&self, context: &Context<'_>, sweep: &mut Sweep) -> Progress {
        while let Some(until) = sweep.unsettled.filter(|_| self.has(Safeguard::Fence)) {
            if !context.lead.still() {
                return Progress::LostLead;
            }
            match until.duration_since(self.storage().now()) {
                Ok(left) if !left.is_zero() => self.0.collector.pause(left.min(REMOVAL_PAUSE)),
                _ => sweep.unsettled = None,
            }
        }
        if context.lead.still() { Progress::Complete } else { Progress::LostLead }
    }

    /// Creates the register that says that the epoch is swept.
    pub(super) fn end_sweep(&self, context: &Context<'_>, prior: &Prior) -> Result<(), StoreError> {
        context.take(1);
        self.create_register(&EpochKeys(prior.epoch.number).swept(), b"{}")?;
        failpoint("gc.swept")
    }

    /// Records that a subject was removed. A leader that goes on where another one stopped may record it
    /// again.
    fn record_removal(&self, kind: SubjectKind, subject: &Condemned, epoch: u64) {
        let digest = subject.content.digest();
        let repository = subject.repository.as_deref().cloned();
        let subject = match (kind, repository) {
            (SubjectKind::Revision, Some(repository)) => DeletedSubject::Manifest { repository, digest },
            (SubjectKind::Link, Some(repository)) => DeletedSubject::Blob { repository, digest },
            _ => DeletedSubject::Bytes { digest, length: subject.length },
        };
        let reason = format!("not needed since it was condemned in epoch {epoch}");
        self.record_deletion(Deletion { actor: DeletionActor::Collection, subject, policy: None, reason });
    }
}

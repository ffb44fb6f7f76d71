//! Condemnation: writes the lists of an epoch, and seals it.

use std::sync::Arc;
use std::time::SystemTime;

use quinistry_oci::to_json;

use super::epoch::{Seal, failpoint};
use super::mark::{Candidate, Context};
use super::prior::Condemned;
use super::report::CycleReport;
use super::subject::{Shard, SubjectHash, SubjectKind};
use super::sweep::{Progress, Sweep};
use super::view::write_view;
use crate::layout::collection::EpochKeys;
use crate::{Store, StoreError};

/// Candidates of the next epoch.
#[derive(Debug, Default)]
pub(super) struct Selection {
    kinds: [Vec<Condemned>; 3],
    bytes: u64,
}

impl Selection {
    /// Chooses the candidates that are neither gone nor revived, and counts them.
    pub(super) fn new(
        context: &Context<'_>,
        candidates: impl Iterator<Item = Candidate>,
        sweep: &Sweep,
        report: &mut CycleReport,
    ) -> Self {
        let mut selection = Self::default();
        for candidate in candidates {
            let hash = candidate.hash();
            if sweep.doomed.contains(&hash) || sweep.kept.contains(&hash) {
                continue;
            }
            let Candidate { kind, repository, content, length, modified } = candidate;
            report.count_condemned(kind, repository.as_ref().map(Arc::as_ref), length, context.age(modified));
            selection.bytes += length;
            selection.kinds[kind as usize].push(Condemned { hash, repository, content, length });
        }
        for kind in &mut selection.kinds {
            kind.sort_unstable_by_key(|condemned| condemned.hash);
            kind.dedup_by_key(|condemned| condemned.hash);
        }
        selection
    }
}

impl Store {
    /// Writes the lists of an epoch and its report, and seals it. Returns `LostLead` if another leader has
    /// closed it.
    pub(super) fn condemn(
        &self,
        context: &Context<'_>,
        (number, nonce): (u64, &str),
        selection: &Selection,
        resume: Option<String>,
        report: &CycleReport,
    ) -> Result<Progress, StoreError> {
        let keys = EpochKeys(number);
        for kind in SubjectKind::ALL {
            for (shard, subjects) in selection.kinds[kind as usize].chunks(Shard::LENGTH).enumerate() {
                if !context.lead.still() {
                    return Ok(Progress::LostLead);
                }
                context.take(1);
                let text: String = subjects.iter().map(Condemned::line).collect();
                let key = keys.list(nonce, Shard { kind, number: shard });
                self.storage().write(&[&[(key, text.as_bytes())]])?;
                failpoint("gc.list")?;
            }
        }
        let hashes: [Vec<SubjectHash>; 3] =
            [0, 1, 2].map(|kind: usize| selection.kinds[kind].iter().map(|one| one.hash).collect());
        let hashes = write_view(&hashes);
        context.take(3);
        self.storage().write(&[&[(keys.hashes(nonce), &hashes), (keys.report(), &to_json(report))]])?;
        if !context.lead.still() {
            return Ok(Progress::LostLead);
        }
        let subjects = [0, 1, 2].map(|kind: usize| selection.kinds[kind].len() as u64);
        let seal =
            Seal { nonce: nonce.to_owned(), abandoned: false, subjects, bytes: selection.bytes, resume };
        // Of a process that has the storage to itself, the view counts from the moment of the seal on: a
        // touch in between looks at the former view, and is safe by the time that the next mark waits.
        if !self.create_register(&keys.sealed(), &to_json(&seal))? {
            return Ok(Progress::LostLead);
        }
        if self.is_shared() {
            self.refresh_gc_view()?;
        } else {
            self.set_own_view(number, &hashes)?;
        }
        failpoint("gc.sealed")?;
        Ok(Progress::Complete)
    }
}

/// Returns the seconds since 1970.
pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

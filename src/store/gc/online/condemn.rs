//! Condemnation: writes the lists of an epoch, and seals it.

use std::sync::Arc;
use std::time::SystemTime;

use quinistry_oci::to_json;

use super::epoch::{Seal, failpoint};
use super::mark::{Candidate, Context, Found};
use super::prior::Condemned;
use super::report::{CycleReport, MAX_REPORTED, RepositoryReport};
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

// === impl CycleReport ===

impl CycleReport {
    fn of_kind(&mut self, kind: SubjectKind) -> &mut super::report::KindReport {
        match kind {
            SubjectKind::Revision => &mut self.revisions,
            SubjectKind::Link => &mut self.links,
            SubjectKind::Bytes => &mut self.blobs,
        }
    }

    /// Returns the numbers of a repository; `None` if the report names enough of them.
    fn of_repository(&mut self, name: &quinistry_oci::RepositoryName) -> Option<&mut RepositoryReport> {
        if self.by_repository.len() >= MAX_REPORTED && !self.by_repository.contains_key(name.as_str()) {
            return None;
        }
        Some(self.by_repository.entry(name.to_string()).or_default())
    }

    pub(super) fn count_found(&mut self, found: &Found) {
        self.repositories = found.repositories;
        for kind in [SubjectKind::Revision, SubjectKind::Link] {
            self.of_kind(kind).found = found.subjects[kind as usize];
        }
    }

    pub(super) fn count_found_bytes(&mut self, found: &Found) {
        self.blobs.found = found.subjects[SubjectKind::Bytes as usize];
    }

    fn count_condemned(
        &mut self,
        kind: SubjectKind,
        repository: Option<&quinistry_oci::RepositoryName>,
        length: u64,
        age: std::time::Duration,
    ) {
        let of_kind = self.of_kind(kind);
        of_kind.condemned += 1;
        of_kind.condemned_bytes += length;
        of_kind.oldest_seconds = of_kind.oldest_seconds.max(Some(age.as_secs()));
        if let Some(repository) = repository {
            match (self.of_repository(repository), kind) {
                (None, _) => {}
                (Some(of_repository), SubjectKind::Revision) => of_repository.condemned_revisions += 1,
                (Some(of_repository), _) => of_repository.condemned_links += 1,
            }
        }
    }

    pub(super) fn count_swept(
        &mut self,
        kind: SubjectKind,
        subject: &Condemned,
        is_doomed: bool,
        is_alive: bool,
        state: super::prior::State,
    ) {
        use super::prior::State;
        let of_kind = self.of_kind(kind);
        let cause = match state {
            _ if is_doomed => None,
            _ if is_alive => Some("touched"),
            State::Absent => Some("absent"),
            State::Live => Some("live"),
            State::Needed | State::Removable => Some("needed"),
        };
        if is_doomed {
            of_kind.doomed += 1;
            of_kind.doomed_bytes += subject.length;
            if state != State::Absent {
                of_kind.found = of_kind.found.saturating_sub(1);
            }
        }
        if let Some(cause) = cause {
            *of_kind.revived.entry(cause.to_owned()).or_default() += 1;
        }
        if let Some(of_repository) =
            subject.repository.as_ref().and_then(|repository| self.of_repository(repository))
        {
            match (is_doomed, kind) {
                (true, SubjectKind::Revision) => of_repository.doomed_revisions += 1,
                (true, _) => of_repository.doomed_links += 1,
                (false, _) => of_repository.revived += u64::from(state != State::Absent),
            }
        }
    }
}

/// Returns the seconds since 1970.
pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gc::online::MAX_REPORT_BYTES;

    #[test]
    fn a_report_on_any_number_of_repositories_is_short_enough_to_be_read() {
        let mut report = CycleReport::default();
        for number in 0..250_000 {
            let name = format!("{number:a>240}").parse().unwrap();
            report.count_condemned(SubjectKind::Link, Some(&name), 0, Duration::ZERO);
        }
        assert_eq!(report.links.condemned, 250_000);
        assert!(to_json(&report).len() as u64 <= MAX_REPORT_BYTES);
    }
}

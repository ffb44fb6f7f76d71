//! Numbers of a cycle's report.

use std::collections::BTreeMap;
use std::time::Duration;

use quinistry_oci::{RepositoryName, WithCauses};
use serde::Deserialize;

use super::mark::{Context, Found};
use super::prior::{Condemned, State};
use super::report::{CycleReport, KindReport, MAX_REPORTED, SubjectReport};
use super::subject::{Shard, SubjectKind};
use super::sweep::Sweep;
use super::touch::Cause;
use crate::layout::collection::EpochKeys;
use crate::{Key, Store, StoreError};

/// Cause of a subject that a client has revived, as long as the act is not known.
const TOUCHED: &str = "touched";

/// Most revivals whose acts a cycle reads, one request for each.
const MAX_ACTS: usize = 1_000;

/// Number of revivals that are read at once.
const ACTS_AT_ONCE: usize = 32;

/// Act of a client in the register of a revival.
#[derive(Deserialize)]
struct RevivalAct {
    cause: Cause,
}

impl Store {
    /// Tells in the report by which acts clients have revived subjects before the cycle, of the first thousand of them.
    pub(super) fn name_acts(&self, context: &Context<'_>, sweep: &Sweep, report: &mut CycleReport) {
        if let Err(error) = self.read_acts(context, sweep, report) {
            // Nothing but the report needs them.
            tracing::warn!(error = %WithCauses(&error), "cannot read by which acts condemned content stays");
        }
    }

    fn read_acts(
        &self,
        context: &Context<'_>,
        sweep: &Sweep,
        report: &mut CycleReport,
    ) -> Result<(), StoreError> {
        let Some(prior) = &context.prior else { return Ok(()) };
        let keys = EpochKeys(prior.epoch.number);
        let revived = |shard: &Shard| {
            let alive = prior.decisions.alive.get(shard).cloned().unwrap_or_default();
            let stays = move |subject: &&Condemned| {
                alive.contains(&subject.hash) && !sweep.doomed.contains(&subject.hash)
            };
            prior.of_shard(*shard).map(|(_, subject)| subject).filter(stays)
        };
        let shards = prior.decisions.alive.keys();
        let all = shards.flat_map(|shard| revived(shard).map(move |subject| (*shard, subject)));
        let all: Vec<(Shard, &Condemned)> = all.take(MAX_ACTS).collect();
        for batch in all.chunks(ACTS_AT_ONCE) {
            if !context.lead.still() {
                return Ok(());
            }
            context.take(batch.len());
            let of = |(shard, subject): &(Shard, &Condemned)| keys.alive(*shard).child(&subject.hash.hex());
            let registers: Vec<Key> = batch.iter().map(of).collect();
            let read = self.storage().read_all(&registers, crate::MAX_LINK_BYTES)?;
            for ((shard, subject), bytes) in batch.iter().zip(read) {
                let act = bytes.and_then(|bytes| serde_json::from_slice::<RevivalAct>(&bytes).ok());
                if let Some(RevivalAct { cause }) = act {
                    report.name_act(shard.kind, subject, cause.as_str());
                }
            }
        }
        Ok(())
    }
}

/// Counts one of the subjects that a client has revived under its act.
fn rename(revived: &mut BTreeMap<String, u64>, act: &str) {
    let Some(touched) = revived.get_mut(TOUCHED).filter(|touched| **touched > 0) else { return };
    *touched -= 1;
    if *touched == 0 {
        revived.remove(TOUCHED);
    }
    *revived.entry(act.to_owned()).or_default() += 1;
}

// === impl CycleReport ===

impl CycleReport {
    fn of_kind(&mut self, kind: SubjectKind) -> &mut KindReport {
        match kind {
            SubjectKind::Revision => &mut self.revisions,
            SubjectKind::Link => &mut self.links,
            SubjectKind::Bytes => &mut self.blobs,
        }
    }

    /// Returns the numbers of a repository's subjects; `None` if the report names enough repositories.
    fn of_repository(&mut self, name: &RepositoryName, kind: SubjectKind) -> Option<&mut SubjectReport> {
        if self.by_repository.len() >= MAX_REPORTED && !self.by_repository.contains_key(name.as_str()) {
            return None;
        }
        let report = self.by_repository.entry(name.to_string()).or_default();
        Some(match kind {
            SubjectKind::Revision => &mut report.revisions,
            _ => &mut report.links,
        })
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

    pub(super) fn count_condemned(
        &mut self,
        kind: SubjectKind,
        repository: Option<&RepositoryName>,
        length: u64,
        age: Duration,
    ) {
        let of_kind = self.of_kind(kind);
        of_kind.condemned += 1;
        of_kind.condemned_bytes += length;
        of_kind.oldest_seconds = of_kind.oldest_seconds.max(Some(age.as_secs()));
        if let Some(numbers) = repository.and_then(|repository| self.of_repository(repository, kind)) {
            numbers.condemned += 1;
            numbers.oldest_seconds = numbers.oldest_seconds.max(Some(age.as_secs()));
        }
    }

    pub(super) fn count_swept(
        &mut self,
        kind: SubjectKind,
        subject: &Condemned,
        is_doomed: bool,
        is_alive: bool,
        state: State,
    ) {
        let of_kind = self.of_kind(kind);
        let cause = match state {
            _ if is_doomed => None,
            _ if is_alive => Some(TOUCHED),
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
        let repository = subject.repository.as_ref();
        if let Some(numbers) = repository.and_then(|repository| self.of_repository(repository, kind)) {
            numbers.doomed += u64::from(is_doomed);
            // What another act has removed does not stay.
            if let Some(cause) = cause.filter(|_| state != State::Absent) {
                *numbers.revived.entry(cause.to_owned()).or_default() += 1;
            }
        }
    }

    /// Counts a subject under the act of the client that has revived it, and no longer under [`TOUCHED`].
    fn name_act(&mut self, kind: SubjectKind, subject: &Condemned, act: &str) {
        rename(&mut self.of_kind(kind).revived, act);
        let repository = subject.repository.as_ref();
        if let Some(numbers) = repository.and_then(|repository| self.of_repository(repository, kind)) {
            rename(&mut numbers.revived, act);
        }
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::to_json;

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

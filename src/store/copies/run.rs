//! Eviction: removal of the copies that go, each only if no client has used it since it was judged.

use std::fmt;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::facts::{FactsQuery, RecordedCopy};
use super::plan::{CopyFacts, CopyLimits, Demand, Departure, EvictionReason, Lengths, plan};
use crate::layout::copy_record;
use crate::{DeletedSubject, Deletion, DeletionActor, Lead, Store, StoreError};

/// Age from which the record of a manifest that is not there is removed. The manifest follows its record in a moment.
const STALE_RECORD_AGE: Duration = Duration::from_hours(24);

/// Facts and rules of an eviction.
#[derive(Clone, Copy)]
pub struct EvictionInputs<'a> {
    /// Limits of each upstream.
    pub limits: &'a [CopyLimits],
    /// Returns the index of the upstream that a repository belongs to; `None` for a repository that stays as it is.
    pub upstream_of: &'a (dyn Fn(&RepositoryName) -> Option<usize> + Sync),
    /// Returns true for the tags whose manifests stay, with all that these lead to.
    pub is_protected: &'a (dyn Fn(&RepositoryName, &Tag) -> bool + Sync),
    /// Returns true if this process has noted a use that its record does not show yet.
    pub is_in_use: &'a (dyn Fn(&RepositoryName, &Digest) -> bool + Sync),
    /// Bytes that former evictions have made free, and that no collection has removed yet; `None` if copies make no room
    /// for other content.
    pub coming_bytes: Option<u64>,
    /// Time since the last use before which a copy counts as being read.
    pub min_idle: Duration,
    /// Time of the storage from which ages are counted.
    pub now: SystemTime,
    /// Right to act, which may end during the run; `None` for a run that needs none.
    pub lead: Option<&'a Lead>,
}

/// Result of an eviction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvictionReport {
    /// Results for each upstream, in the order of the limits.
    pub upstreams: Vec<UpstreamCopies>,
    /// Bytes that other content needs, if the storage has too little room.
    pub wanted_room: u64,
    /// Bytes that the next collections can remove, since no copy needs them any more.
    pub freed_bytes: u64,
    /// True if the right to act ended before the last copy.
    pub lost_lead: bool,
}

/// Copies of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamCopies {
    /// Number of copies before the eviction.
    pub found: usize,
    /// Number of copies that were evicted.
    pub evicted: usize,
}

/// Copies that were read, in one order.
#[derive(Default)]
struct ReadCopies<'a> {
    places: Vec<(&'a RepositoryName, &'a RecordedCopy)>,
    facts: Vec<CopyFacts>,
    /// Lengths of what the copies need, as far as a limit depends on them.
    lengths: Lengths,
    /// Records whose manifests are not there.
    stale: Vec<(&'a RepositoryName, &'a RecordedCopy)>,
}

impl Store {
    /// Removes the copies that have expired, and the least recently used ones of upstreams that are too large. If the
    /// storage has too little room, copies make some. Blocks.
    ///
    /// Only the manifests go, with their tags. Their blobs, and the bytes, go with the next collections.
    pub fn evict_copies(&self, inputs: EvictionInputs<'_>) -> Result<EvictionReport, StoreError> {
        let is_wanted = |name: &RepositoryName| (inputs.upstream_of)(name).is_some();
        let recorded = self.recorded_copies(&is_wanted)?;
        let mut report = EvictionReport {
            upstreams: vec![UpstreamCopies::default(); inputs.limits.len()],
            ..EvictionReport::default()
        };
        if let Some(coming) = inputs.coming_bytes {
            report.wanted_room = self.wanted_room(coming)?;
        }
        // Only a storage with bounds ever has too little room.
        let may_lack_room = inputs.coming_bytes.is_some() && self.storage().space()?.free_bytes.is_some();
        let mut read = ReadCopies::default();
        for (name, copies) in &recorded {
            let Some(upstream) = (inputs.upstream_of)(name) else { continue };
            report.upstreams[upstream].found += copies.len();
            if inputs.has_lost_lead() {
                report.lost_lead = true;
                return Ok(report);
            }
            if report.wanted_room > 0 || inputs.may_evict(upstream, copies) {
                let begin = read.facts.len();
                self.read_copies(inputs, (name, upstream), copies, &mut read)?;
                if may_lack_room || inputs.limits[upstream].max_bytes.is_some() {
                    self.read_lengths(&read.facts[begin..], &mut read.lengths)?;
                }
            }
        }
        let demand = Demand { now: inputs.now, min_idle: inputs.min_idle, room: report.wanted_room };
        for Departure { at, reason, freed_bytes } in plan(inputs.limits, (&read.facts, &read.lengths), demand)
        {
            if inputs.has_lost_lead() {
                report.lost_lead = true;
                return Ok(report);
            }
            let ((name, copy), upstream) = (read.places[at], read.facts[at].upstream);
            if self.evict_copy(inputs, name, copy, (&inputs.limits[upstream], reason))? {
                report.upstreams[upstream].evicted += 1;
                report.freed_bytes = report.freed_bytes.saturating_add(freed_bytes);
            }
        }
        for (name, RecordedCopy { digest, record }) in read.stale {
            if is_older(inputs.now, record.modified, STALE_RECORD_AGE) {
                self.storage().remove_if(&copy_record(name, digest), &record.tag)?;
            }
        }
        Ok(report)
    }

    fn read_copies<'a>(
        &self,
        inputs: EvictionInputs<'_>,
        (name, upstream): (&'a RepositoryName, usize),
        recorded: &'a [RecordedCopy],
        read: &mut ReadCopies<'a>,
    ) -> Result<(), StoreError> {
        let is_protected = |tag: &Tag| (inputs.is_protected)(name, tag);
        let query = FactsQuery { name, upstream, is_protected: &is_protected };
        let found = self.copy_facts(&query, recorded)?;
        for (copy, facts) in recorded.iter().zip(found) {
            match facts {
                Some(facts) => {
                    read.places.push((name, copy));
                    read.facts.push(facts);
                }
                None => read.stale.push((name, copy)),
            }
        }
        Ok(())
    }

    /// Removes a copy with its tags, unless it was used since it was judged, or rules about tags forbid it. Returns true
    /// if it was removed.
    fn evict_copy(
        &self,
        inputs: EvictionInputs<'_>,
        name: &RepositoryName,
        RecordedCopy { digest, record }: &RecordedCopy,
        (limits, reason): (&CopyLimits, EvictionReason),
    ) -> Result<bool, StoreError> {
        let key = copy_record(name, digest);
        let is_unchanged = || {
            let is_same = self.storage().head(&key)?.is_some_and(|now| now == *record);
            Ok(is_same && !(inputs.is_in_use)(name, digest))
        };
        let tags = match self.delete_manifest_if(name, digest, &is_unchanged) {
            Ok(Some(tags)) => tags,
            // Used, or deleted by a client, since it was judged; or kept by rules about tags.
            Ok(None)
            | Err(
                StoreError::ManifestUnknown | StoreError::TagProtected(_) | StoreError::TagImmutable { .. },
            ) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.storage().remove_if(&key, &record.tag)?;
        let reason = format!("eviction of copies of upstream {}: {reason}", limits.upstream);
        let (repository, digest) = (name.clone(), digest.clone());
        let tags = tags.into_iter().map(|tag| DeletedSubject::Tag {
            repository: repository.clone(),
            tag,
            digest: digest.clone(),
        });
        let manifest = DeletedSubject::Manifest { repository: repository.clone(), digest: digest.clone() };
        for subject in tags.chain([manifest]) {
            let actor = DeletionActor::Upstream;
            self.record_deletion(Deletion { actor, subject, policy: None, reason: reason.clone() });
        }
        Ok(true)
    }
}

impl EvictionInputs<'_> {
    fn has_lost_lead(&self) -> bool {
        self.lead.is_some_and(|lead| !lead.still())
    }

    /// Returns true if a copy of a repository may have to go, so that what the copies refer to must be read.
    fn may_evict(&self, upstream: usize, copies: &[RecordedCopy]) -> bool {
        let CopyLimits { keep, max_bytes, .. } = &self.limits[upstream];
        let has_expired = |keep: Duration| {
            copies.iter().any(|copy| is_older(self.now, copy.record.modified, keep.max(self.min_idle)))
        };
        max_bytes.is_some() || keep.is_some_and(has_expired)
    }
}

impl fmt::Debug for EvictionInputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictionInputs").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Returns true if a time is that long ago.
fn is_older(now: SystemTime, time: SystemTime, age: Duration) -> bool {
    now.duration_since(time).is_ok_and(|passed| passed >= age)
}

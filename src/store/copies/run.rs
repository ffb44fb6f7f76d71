//! Eviction: removal of the copies that go, each only if no client has used it since it was judged.

use std::collections::HashSet;
use std::fmt;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName, Tag, WithCauses};

use super::facts::{FactsQuery, RecordedCopies, RecordedCopy};
use super::plan::{CopyFacts, CopyLimits, Demand, Departure, EvictionReason, Lengths, plan};
use super::references::CopyMemory;
use crate::gc::online::subject::ContentId;
use crate::layout::{RepositoryKeys, copy_record};
use crate::{DeletedSubject, Deletion, DeletionActor, Lead, Store, StoreError};

/// Age from which the record of a manifest that is not there is removed. The manifest follows its record in a moment.
const STALE_RECORD_AGE: Duration = Duration::from_hours(24);

/// Failures after which an eviction ends: the storage fails as a whole, and each further one may take as long as a timeout.
const MAX_FAILURES: usize = 8;

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
    /// Returns false if the upstream of a copy that would go does not answer, so that all of its copies stay.
    pub is_fetchable: &'a (dyn Fn(&RepositoryName, &Digest) -> bool + Sync),
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
    /// Number of repositories and copies that failed, as the log tells.
    pub failures: usize,
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

/// End of the removal of one copy.
enum Outcome {
    Evicted,
    /// A client has deleted it.
    Absent,
    /// A client has used it since it was judged, another writer has put it back, or rules about tags keep it.
    Stays,
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
    /// Only the manifests go, with their tags. Their blobs, and the bytes, go with the next collections. A failure of one
    /// copy is logged, and the others go.
    pub fn evict_copies(&self, inputs: EvictionInputs<'_>) -> Result<EvictionReport, StoreError> {
        let is_wanted = |name: &RepositoryName| (inputs.upstream_of)(name).is_some();
        let recorded = self.recorded_copies(&is_wanted)?;
        let mut report = EvictionReport {
            upstreams: vec![UpstreamCopies::default(); inputs.limits.len()],
            ..EvictionReport::default()
        };
        if let Some(coming) = inputs.coming_bytes {
            report.wanted_room = self.wanted_room(coming);
        }
        let mut memory = std::mem::take(&mut *self.copy_memory());
        memory.begin();
        let mut read = self.read_all_copies(inputs, &recorded, &mut memory, &mut report);
        if !report.has_ended() {
            let departures = choose(inputs, &mut read, report.wanted_room);
            self.evict_all(inputs, &read, &departures, &mut report);
        }
        if !report.has_ended() {
            self.remove_stale_records(inputs, &read, &mut report);
        }
        memory.end(read.lengths);
        *self.copy_memory() = memory;
        Ok(report)
    }

    fn copy_memory(&self) -> MutexGuard<'_, CopyMemory> {
        self.0.copy_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the copies of all repositories from which some may have to go.
    fn read_all_copies<'a>(
        &self,
        inputs: EvictionInputs<'_>,
        recorded: &'a RecordedCopies,
        memory: &mut CopyMemory,
        report: &mut EvictionReport,
    ) -> ReadCopies<'a> {
        // Only a storage with bounds ever has too little room.
        let may_lack_room = inputs.coming_bytes.is_some() && self.known_space().free_bytes.is_some();
        let mut read = ReadCopies::default();
        for (name, copies) in recorded {
            let Some(upstream) = (inputs.upstream_of)(name) else { continue };
            report.upstreams[upstream].found += copies.len();
            report.lost_lead = inputs.has_lost_lead();
            if report.has_ended() {
                break;
            }
            if report.wanted_room == 0 && !inputs.may_evict(upstream, copies) {
                continue;
            }
            let is_limited = may_lack_room || inputs.limits[upstream].max_bytes.is_some();
            let lengths = is_limited.then_some(&mut read.lengths);
            match self.read_copies(inputs, (name, upstream), copies, lengths, memory) {
                Ok(found) => read.add(name, copies, found),
                Err(error) => {
                    report.failures += 1;
                    let error = WithCauses(&error);
                    tracing::warn!(repository = %name, %error, "cannot read copies of upstream, trying again");
                }
            }
        }
        read
    }

    /// Reads what the copies of a repository refer to, and the lengths of that.
    fn read_copies(
        &self,
        inputs: EvictionInputs<'_>,
        (name, upstream): (&RepositoryName, usize),
        recorded: &[RecordedCopy],
        lengths: Option<&mut Lengths>,
        memory: &mut CopyMemory,
    ) -> Result<Vec<Option<CopyFacts>>, StoreError> {
        // What rules about tags keep stays as a whole: an index without its images is of no use.
        let is_protected = |tag: &Tag| {
            (inputs.is_protected)(name, tag)
                || self.is_immutable_tag(name, tag)
                || self.is_protected_tag(name, tag)
        };
        let query = FactsQuery { name, upstream, is_protected: &is_protected };
        let found = self.copy_facts(&query, recorded, memory)?;
        if let Some(lengths) = lengths {
            self.read_lengths(found.iter().flatten(), lengths, memory)?;
        }
        Ok(found)
    }

    /// Removes copies in this order. What an index or a subject leads to goes only after it: a client may use these until
    /// they go.
    fn evict_all(
        &self,
        inputs: EvictionInputs<'_>,
        read: &ReadCopies<'_>,
        departures: &[Departure],
        report: &mut EvictionReport,
    ) {
        let mut gone: HashSet<(&RepositoryName, ContentId)> = HashSet::new();
        for Departure { at, reason, freed_bytes } in departures {
            report.lost_lead = inputs.has_lost_lead();
            if report.has_ended() {
                return;
            }
            let ((name, copy), facts) = (read.places[*at], &read.facts[*at]);
            if facts.keepers.iter().any(|keeper| !gone.contains(&(name, *keeper))) {
                continue;
            }
            match self.evict_copy(inputs, name, copy, (&inputs.limits[facts.upstream], *reason)) {
                Ok(Outcome::Stays) => {}
                Ok(Outcome::Absent) => drop(gone.insert((name, facts.own))),
                Ok(Outcome::Evicted) => {
                    gone.insert((name, facts.own));
                    report.upstreams[facts.upstream].evicted += 1;
                    report.freed_bytes = report.freed_bytes.saturating_add(*freed_bytes);
                }
                Err(error) => report.note_failure(name, &copy.digest, &error),
            }
        }
    }

    fn remove_stale_records(
        &self,
        inputs: EvictionInputs<'_>,
        read: &ReadCopies<'_>,
        report: &mut EvictionReport,
    ) {
        for (name, RecordedCopy { digest, record }) in &read.stale {
            if is_older(inputs.now, record.modified, STALE_RECORD_AGE)
                && let Err(error) = self.storage().remove_if(&copy_record(name, digest), &record.tag)
            {
                report.note_failure(name, digest, &error.into());
                if report.has_ended() {
                    return;
                }
            }
        }
    }

    /// Removes a copy with its tags, unless it was used since it was judged, or rules about tags forbid it.
    fn evict_copy(
        &self,
        inputs: EvictionInputs<'_>,
        name: &RepositoryName,
        RecordedCopy { digest, record }: &RecordedCopy,
        (limits, reason): (&CopyLimits, EvictionReason),
    ) -> Result<Outcome, StoreError> {
        let key = copy_record(name, digest);
        let is_unchanged = || {
            let is_same = self.storage().head(&key)?.is_some_and(|now| now == *record);
            Ok(is_same && !(inputs.is_in_use)(name, digest))
        };
        let tags = match self.delete_manifest_if(name, digest, &is_unchanged) {
            Ok(Some(tags)) => tags,
            // Used since it was judged, or kept by rules about tags.
            Ok(None) | Err(StoreError::TagProtected(_) | StoreError::TagImmutable { .. }) => {
                return Ok(Outcome::Stays);
            }
            // Deleted by a client since it was judged.
            Err(StoreError::ManifestUnknown) => return Ok(Outcome::Absent),
            Err(error) => return Err(error),
        };
        // The record before the look at the manifest: a replica that fetches the copy again writes the record first.
        if let Err(error) = self.storage().remove_if(&key, &record.tag) {
            // A record without a manifest goes later.
            let error = WithCauses(&error);
            tracing::warn!(repository = %name, %digest, %error, "cannot remove record of evicted copy");
        }
        // Another writer may have put the manifest back. A failure of the look does not undo the removal.
        let is_back = matches!(self.revision(name, digest), Ok(Some(_)));
        let is_gone =
            |tag: &Tag| !is_back || matches!(self.link(&RepositoryKeys(name).tag_link(tag)), Ok(None));
        let reason = format!("eviction of copies of upstream {}: {reason}", limits.upstream);
        let tags = tags.into_iter().filter(is_gone).map(|tag| DeletedSubject::Tag {
            repository: name.clone(),
            tag,
            digest: digest.clone(),
        });
        let manifest = DeletedSubject::Manifest { repository: name.clone(), digest: digest.clone() };
        for subject in tags.chain((!is_back).then_some(manifest)) {
            let actor = DeletionActor::Upstream;
            self.record_deletion(Deletion { actor, subject, policy: None, reason: reason.clone() });
        }
        Ok(if is_back { Outcome::Stays } else { Outcome::Evicted })
    }
}

/// Returns the copies that go. Copies of an upstream that cannot send them again stay.
fn choose(inputs: EvictionInputs<'_>, read: &mut ReadCopies<'_>, room: u64) -> Vec<Departure> {
    let demand = Demand { now: inputs.now, min_idle: inputs.min_idle, room };
    loop {
        let departures = plan(inputs.limits, (&read.facts, &read.lengths), demand);
        let is_lost = |departure: &&Departure| {
            let (name, copy) = read.places[departure.at];
            !(inputs.is_fetchable)(name, &copy.digest)
        };
        let Some(lost) = departures.iter().find(is_lost) else { return departures };
        let upstream = read.facts[lost.at].upstream;
        let of_upstream = read.facts.iter_mut().filter(|facts| facts.upstream == upstream);
        of_upstream.for_each(|facts| facts.is_protected = true);
    }
}

impl EvictionReport {
    /// Returns the number of copies that were evicted.
    #[must_use]
    pub fn evicted(&self) -> usize {
        self.upstreams.iter().map(|copies| copies.evicted).sum()
    }

    fn note_failure(&mut self, name: &RepositoryName, digest: &Digest, error: &StoreError) {
        self.failures += 1;
        let error = WithCauses(error);
        tracing::warn!(repository = %name, %digest, %error, "cannot evict copy of upstream, trying again");
    }

    /// Returns true if the eviction ends before its last copy.
    fn has_ended(&self) -> bool {
        self.lost_lead || self.failures >= MAX_FAILURES
    }
}

impl<'a> ReadCopies<'a> {
    fn add(&mut self, name: &'a RepositoryName, recorded: &'a [RecordedCopy], found: Vec<Option<CopyFacts>>) {
        for (copy, facts) in recorded.iter().zip(found) {
            match facts {
                Some(facts) => {
                    self.places.push((name, copy));
                    self.facts.push(facts);
                }
                None => self.stale.push((name, copy)),
            }
        }
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

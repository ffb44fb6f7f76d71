//! Mark: finds what is live, by flat scans of the repositories, then of the bytes.
//!
//! A manifest that stays in this cycle keeps all that it refers to, whether it is live or not: what the mark
//! finds live stays, and so do a manifest that is not live and was not condemned, and one that was revived.
//! Candidates for the next epoch are chosen in an order in which no manifest is condemned before all that
//! refer to it.

use std::collections::{BinaryHeap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName};

use super::filter::LiveFilter;
use super::pace::Pace;
use super::prior::{Prior, State};
use super::report::{MAX_REPORTED, UnknownNeeds};
use super::subject::{ContentId, Subject, SubjectHash, SubjectKind};
use super::sweep::Progress;
use super::{DamagedManifests, GcOptions, Writers};
use crate::gc::rules::RevisionRules;
use crate::{Lead, Store, StoreError, content_digest};

/// Number of repositories of a shared storage that are marked at once.
const REPOSITORIES_AT_ONCE: usize = 8;

/// Surroundings of a cycle.
pub(super) struct Context<'a> {
    pub(super) options: &'a GcOptions,
    pub(super) rules: &'a dyn RevisionRules,
    pub(super) lead: &'a Lead,
    pub(super) pace: Pace,
    /// Time of the storage at which the cycle began.
    pub(super) begun: SystemTime,
    pub(super) prior: Option<Prior>,
}

/// Subject that is not live.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) kind: SubjectKind,
    pub(super) repository: Option<Arc<RepositoryName>>,
    pub(super) content: ContentId,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
}

/// Numbers of subjects that a mark found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) repositories: u64,
    pub(super) subjects: [u64; 3],
}

/// Outcome of a mark.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) filter: LiveFilter,
    /// Manifests and links that are condemned next.
    pub(super) candidates: Vec<Candidate>,
    /// Repository from which on there was no place for candidates.
    pub(super) resume: Option<String>,
    pub(super) found: Found,
    pub(super) unknown: Vec<UnknownNeeds>,
    /// Bytes are left alone, because the needs of some repository are unknown.
    pub(super) keeps_all_bytes: bool,
}

// === impl Context ===

impl Context<'_> {
    /// Takes the requests of the next calls.
    pub(super) fn take(&self, requests: usize) {
        self.pace.take(requests);
    }

    /// Takes the requests of the next calls, a second's worth at a time, as long as this process leads.
    pub(super) fn take_while_leading(&self, requests: usize) -> Progress {
        let rate = usize::try_from(self.options.rate.get()).unwrap_or(usize::MAX);
        let mut left = requests;
        while left > 0 && self.lead.still() {
            let now = left.min(rate);
            self.take(now);
            left -= now;
        }
        if self.lead.still() { Progress::Complete } else { Progress::LostLead }
    }

    /// Returns true if a time is not as long ago as the least age.
    pub(super) fn is_young(&self, modified: SystemTime) -> bool {
        // A time in the future counts as young, too.
        self.begun.duration_since(modified).unwrap_or_default() < self.options.min_age
    }

    pub(super) fn age(&self, modified: SystemTime) -> Duration {
        self.begun.duration_since(modified).unwrap_or_default()
    }

    /// Returns an error that stops the cycle, or nothing if damage keeps a repository as it is.
    pub(super) fn damaged(&self, error: StoreError) -> Result<(), StoreError> {
        match self.options.damaged {
            DamagedManifests::Stop => Err(error),
            DamagedManifests::KeepRepository => {
                tracing::error!(%error, "keeping a repository as it is, and all bytes");
                Ok(())
            }
        }
    }

    pub(super) const fn is_alone(&self) -> bool {
        matches!(self.options.writers, Writers::Ours)
    }
}

// === impl Candidate ===

impl Candidate {
    pub(super) fn hash(&self) -> SubjectHash {
        let digest = self.content.digest();
        Subject { kind: self.kind, repository: self.repository.as_deref(), canonical: &digest }.hash()
    }
}

// === impl Mark ===

impl Mark {
    pub(super) fn new(expected_blobs: u64, memory: u64) -> Self {
        Self {
            filter: LiveFilter::new(expected_blobs, memory),
            candidates: Vec::new(),
            resume: None,
            found: Found::default(),
            unknown: Vec::new(),
            keeps_all_bytes: false,
        }
    }

    /// Notes manifests whose needs are unknown, for the report.
    pub(super) fn note_unknown(&mut self, unknown: Vec<UnknownNeeds>) {
        self.unknown.extend(unknown);
        self.unknown.sort_by_key(|manifest| !manifest.is_damaged);
        self.unknown.truncate(MAX_REPORTED);
    }

    /// Returns the number of manifests and links for which there is still place. A third is kept for bytes,
    /// which would otherwise never have their turn while more links than an epoch takes become garbage.
    pub(super) fn places(&self, options: &GcOptions) -> usize {
        let places = options.max_condemned - options.max_condemned / 3;
        places.saturating_sub(self.candidates.len())
    }
}

impl Store {
    /// Marks all repositories. Returns `None` if the lead was lost.
    pub(super) fn mark(
        &self,
        context: &Context<'_>,
        expected_blobs: u64,
    ) -> Result<Option<Mark>, StoreError> {
        let mark = Mutex::new(Mark::new(expected_blobs, context.options.memory));
        let mut names = Vec::new();
        for name in self.folders_with(&["_manifests", "_layers"])? {
            if let Ok(name) = name.parse::<RepositoryName>() {
                names.push(name);
            } else {
                context.damaged(StoreError::Foreign(name))?;
                lock(&mark).keeps_all_bytes = true;
            }
        }
        if !context.options.dry_run {
            self.remove_edges_except(context, &names)?;
        }
        // Each mark begins where there was no place left in the last one.
        let resume = context.prior.as_ref().and_then(|prior| prior.epoch.seal.resume.clone());
        let first = resume.map_or(0, |resume| names.partition_point(|name| name.as_str() < resume.as_str()));
        if first < names.len() {
            names.rotate_left(first);
        }
        lock(&mark).found.repositories = names.len() as u64;

        let next = AtomicUsize::new(0);
        let work = || -> Result<bool, StoreError> {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !context.lead.still() {
                    return Ok(false);
                }
                if let Err(error) = self.mark_repository(context, name, &mark) {
                    // The others need not go on.
                    next.store(names.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(true)
        };
        let workers = if self.is_shared() && !crate::waiting::is_scheduled() {
            REPOSITORIES_AT_ONCE.min(names.len())
        } else {
            1
        };
        let is_complete = if workers < 2 {
            work()?
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
                let results = workers.into_iter().map(|worker| worker.join().expect("a mark does not panic"));
                results.collect::<Result<Vec<_>, _>>().map(|results| results.into_iter().all(|done| done))
            })?
        };
        Ok(is_complete.then(|| mark.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Marks the bytes, after all links and manifests that are removed in this cycle are known. Returns the
    /// oldest of those that nothing needs, at most as many as there is place for.
    pub(super) fn mark_bytes(
        &self,
        context: &Context<'_>,
        mark: &mut Mark,
        places: usize,
    ) -> Result<Option<(Vec<Candidate>, bool)>, StoreError> {
        let mut oldest: BinaryHeap<(SystemTime, ContentId, u64)> = BinaryHeap::new();
        let mut has_more = false;
        let mut has_lead = true;
        self.scan_content_slowly(context, |key, meta| {
            has_lead &= context.lead.still();
            let Some(id) = content_digest(key.as_str()).as_ref().and_then(ContentId::of) else {
                return Ok(());
            };
            mark.found.subjects[SubjectKind::Bytes as usize] += 1;
            let is_needed = mark.keeps_all_bytes || mark.filter.contains(id);
            if let Some(prior) = context.prior.as_ref().filter(|prior| prior.len(SubjectKind::Bytes) > 0) {
                let hash = Subject::bytes(&id.digest()).hash();
                if let Some(at) = prior.position(SubjectKind::Bytes, hash) {
                    let is_written = prior.is_written_since(meta.modified);
                    let state = if is_needed || is_written || prior.is_settled(SubjectKind::Bytes, at) {
                        State::Live
                    } else if prior.holds_bytes(at) {
                        State::Needed
                    } else {
                        State::Removable
                    };
                    prior.set(SubjectKind::Bytes, at, state);
                    if state == State::Live {
                        return Ok(());
                    }
                }
            }
            if is_needed || context.is_young(meta.modified) {
                return Ok(());
            }
            oldest.push((meta.modified, id, meta.length));
            if oldest.len() > places {
                oldest.pop();
                has_more = true;
            }
            Ok(())
        })?;
        if !has_lead && !context.lead.still() {
            return Ok(None);
        }
        let candidates = oldest.into_iter().map(|(modified, id, length)| Candidate {
            kind: SubjectKind::Bytes,
            repository: None,
            content: id,
            length,
            modified,
        });
        Ok(Some((candidates.collect(), has_more)))
    }

    /// Makes late revivals count: a manifest that was revived keeps all that it refers to, at any depth, and
    /// a link its bytes. Returns the hashes of what is not condemned next because of them.
    pub(super) fn keep_revived(
        &self,
        context: &Context<'_>,
        prior: &Prior,
        mark: &mut Mark,
        (kind, revived): (SubjectKind, &[(Arc<RepositoryName>, ContentId)]),
        kept: &mut HashSet<SubjectHash>,
    ) -> Result<(), StoreError> {
        let mut visited = HashSet::new();
        for (name, id) in revived {
            let mut open = vec![id.digest()];
            while let Some(digest) = open.pop() {
                let Some(id) = ContentId::of(&digest) else { continue };
                mark.filter.insert(id);
                if kind == SubjectKind::Link {
                    kept.insert(Subject::link(name, &digest).hash());
                    continue;
                }
                let hash = Subject::revision(name, &digest).hash();
                kept.insert(hash);
                if !visited.insert(hash) {
                    continue;
                }
                for part in self.parts_of(context, name, &digest)? {
                    let Some(id) = ContentId::of(&part) else { continue };
                    mark.filter.insert(id);
                    let link = Subject::link(name, &part).hash();
                    kept.insert(link);
                    if let Some(at) = prior.position(SubjectKind::Link, link) {
                        prior.set(SubjectKind::Link, at, State::Live);
                    }
                    if self.revision(name, &part)?.is_some() {
                        open.push(part);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the SHA-256 of each part of a manifest. An error if the manifest cannot be read: what it needs
    /// would be removed.
    fn parts_of(
        &self,
        context: &Context<'_>,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Digest>, StoreError> {
        context.take(2);
        let known = match self.content(digest) {
            Err(StoreError::ManifestUnknown) => return Ok(Vec::new()),
            known => known?,
        };
        let pushed = if known.declares_type { None } else { self.pushed_as(name, digest)? };
        let needs = crate::gc::needs::needs_of(&known.bytes, pushed);
        let mut parts = Vec::new();
        for part in needs.parts() {
            if ContentId::of(part).is_some() {
                parts.push(part.clone());
            } else {
                parts.extend(self.part(name, part)?);
            }
        }
        Ok(parts)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

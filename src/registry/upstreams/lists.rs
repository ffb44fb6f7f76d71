//! Lists of tags and of referrers: the upstream's, remembered for a while, and beside them what the store has.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinistry_oci::{Descriptor, Digest, RepositoryName, Tag, to_json};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::bounded_map::BoundedMap;
use super::question::{Failure, STALE_PAUSE};
use super::{CachedUpstream, LocatedRepository};
use crate::LimitedStore;

/// Greatest number of tags of an upstream's repository that are listed.
const MAX_TAGS: usize = 10_000;

/// Greatest number of referrers of an upstream's manifest that are listed.
const MAX_REFERRERS: usize = 10_000;

/// Time for which an upstream's list of referrers is believed.
const REFERRERS_TTL: Duration = Duration::from_mins(1);

/// Capacity of remembered lists of each kind for one upstream, in bytes of their entries.
const CAPACITY_BYTES: usize = 4 * 1024 * 1024;

/// Approximate weight of an entry beside its text, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// Answer of an upstream that requests share.
pub(super) type ListAnswer<T> = Result<Arc<[T]>, Failure>;

/// List of an upstream.
#[derive(Debug)]
pub(crate) struct UpstreamList<T> {
    /// Entries, sorted. Without an answer those of the last one, if it is remembered.
    pub(crate) entries: Arc<[T]>,
    /// Reason for which the upstream has not confirmed the entries.
    pub(crate) failure: Option<Failure>,
}

#[derive(Debug)]
pub(super) struct CachedLists<K, T>(BoundedMap<K, CachedList<T>>);

#[derive(Debug)]
struct CachedList<T> {
    entries: Arc<[T]>,
    /// Reason for which the upstream has not confirmed the entries when it was asked last.
    failure: Option<Failure>,
    due: Instant,
}

impl<K: Clone + Eq + Hash, T> Default for CachedLists<K, T> {
    fn default() -> Self {
        Self(BoundedMap::new(CAPACITY_BYTES))
    }
}

impl<K: Clone + Eq + Hash, T> CachedLists<K, T> {
    /// Returns a list that is believed still.
    fn fresh(&self, key: &K, now: Instant) -> Option<UpstreamList<T>> {
        let list = self.0.get(key).filter(|list| now < list.due)?;
        Some(UpstreamList { entries: list.entries.clone(), failure: list.failure })
    }

    /// Returns the last list of the upstream, which was not asked again.
    fn unconfirmed(&self, key: &K, failure: Failure) -> UpstreamList<T> {
        let former = self.0.get(key);
        let entries = former.map(|list| list.entries.clone()).unwrap_or_default();
        UpstreamList { entries, failure: Some(failure) }
    }

    /// Notes an answer, and returns the list that follows.
    fn note(
        &mut self,
        key: K,
        answer: ListAnswer<T>,
        weight: impl Fn(&T) -> usize,
        (now, ttl): (Instant, Duration),
    ) -> UpstreamList<T> {
        let (entries, failure) = match answer {
            Ok(entries) => (entries, None),
            Err(failure) => {
                let former = self.0.get(&key).filter(|_| !failure.is_absence());
                (former.map(|list| list.entries.clone()).unwrap_or_default(), Some(failure))
            }
        };
        let lifetime = if failure.is_some_and(|failure| !failure.is_absence()) { STALE_PAUSE } else { ttl };
        let bytes = ENTRY_OVERHEAD_BYTES + entries.iter().map(weight).sum::<usize>();
        self.0.insert(key, CachedList { entries: entries.clone(), failure, due: now + lifetime }, bytes);
        UpstreamList { entries, failure }
    }
}

impl CachedUpstream {
    /// Returns the tags of a repository.
    pub(crate) async fn tags(
        self: &Arc<Self>,
        stored: &LimitedStore,
        repository: &LocatedRepository,
    ) -> UpstreamList<Tag> {
        let LocatedRepository { name, remote, .. } = repository;
        if let Some(list) = self.known().tag_lists.fresh(name, self.clock.now()) {
            return list;
        }
        let ask = |share| {
            let (upstream, stored, remote) = (self.clone(), stored.clone(), remote.clone());
            async move {
                let _share = share;
                let _permit = upstream.list_permit().await?;
                let question = upstream.upstream.tags(&remote, MAX_TAGS);
                let mut tags = upstream.ask(&stored, upstream.cold_patience, question).await?;
                tags.truncate(MAX_TAGS);
                tags.sort_unstable();
                tags.dedup();
                Ok(tags.into())
            }
        };
        let share = self.client_shares.take(self.cold_patience);
        let (answer, is_joined) = match self.tag_flights.join_admitted(name.clone(), share, ask).await {
            Ok(joined) => joined,
            Err(failure) => return self.known().tag_lists.unconfirmed(name, failure),
        };
        self.count_joined(stored, is_joined);
        let answer = answer.unwrap_or(Err(Failure::Interrupted));
        let weight = |tag: &Tag| ENTRY_OVERHEAD_BYTES + tag.as_str().len();
        let ttl = if answer.is_ok() { self.settings.ttl } else { self.settings.negative_ttl };
        let lifetime = (self.clock.now(), ttl);
        self.known().tag_lists.note(name.clone(), answer, weight, lifetime)
    }

    /// Returns the referrers of a manifest, sorted by their digests.
    pub(crate) async fn referrers(
        self: &Arc<Self>,
        stored: &LimitedStore,
        repository: &LocatedRepository,
        subject: &Digest,
    ) -> UpstreamList<Descriptor> {
        let key = (repository.name.clone(), subject.clone());
        if let Some(list) = self.known().referrers.fresh(&key, self.clock.now()) {
            return list;
        }
        let ask = |share| {
            let (upstream, stored) = (self.clone(), stored.clone());
            let (remote, subject): (RepositoryName, Digest) = (repository.remote.clone(), subject.clone());
            async move {
                let _share = share;
                let _permit = upstream.list_permit().await?;
                let question = upstream.upstream.referrers(&remote, &subject);
                let mut found = upstream.ask(&stored, upstream.cold_patience, question).await?;
                found.truncate(MAX_REFERRERS);
                found.sort_by(|one, other| one.digest.cmp(&other.digest));
                found.dedup_by(|one, other| one.digest == other.digest);
                Ok(found.into())
            }
        };
        let share = self.client_shares.take(self.cold_patience);
        let (answer, is_joined) = match self.referrer_flights.join_admitted(key.clone(), share, ask).await {
            Ok(joined) => joined,
            Err(failure) => return self.known().referrers.unconfirmed(&key, failure),
        };
        self.count_joined(stored, is_joined);
        let answer = match answer.unwrap_or(Err(Failure::Interrupted)) {
            // A manifest without referrers has an empty list.
            Err(failure) if failure.is_absence() => Ok(Arc::default()),
            answer => answer,
        };
        let weight = |descriptor: &Descriptor| ENTRY_OVERHEAD_BYTES + to_json(descriptor).len();
        let lifetime = (self.clock.now(), REFERRERS_TTL);
        self.known().referrers.note(key, answer, weight, lifetime)
    }

    /// Waits until one more list may be in memory.
    async fn list_permit(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let permit = timeout(self.cold_patience, self.list_permits.acquire()).await;
        Ok(permit.map_err(|_| Failure::Away)?.expect("the semaphore is never closed"))
    }

    fn count_joined(&self, stored: &LimitedStore, is_joined: bool) {
        if is_joined {
            self.counts(stored).coalesced.increment();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_answer_the_last_list_stays_and_the_upstream_is_left_alone_for_a_while() {
        let mut lists: CachedLists<&str, u32> = CachedLists::default();
        let (now, ttl) = (Instant::now(), Duration::from_mins(15));
        let note = |lists: &mut CachedLists<_, _>, answer, now| {
            let list = lists.note("a", answer, |_| 1, (now, ttl));
            (list.entries.to_vec(), list.failure)
        };
        assert_eq!(note(&mut lists, Ok([1, 2].into()), now), (vec![1, 2], None));
        assert!(lists.fresh(&"a", now + ttl / 2).is_some() && lists.fresh(&"a", now + ttl).is_none());
        let away = Some(Failure::Away);
        assert_eq!(note(&mut lists, Err(Failure::Away), now + ttl), (vec![1, 2], away));
        assert_eq!(lists.fresh(&"a", now + ttl).unwrap().failure, away);
        assert!(lists.fresh(&"a", now + ttl + STALE_PAUSE).is_none());
        assert_eq!(note(&mut lists, Err(Failure::NotFound), now), (vec![], Some(Failure::NotFound)));
    }
}

//! Prefetch: tags of upstreams, with the images of some platforms, that are stored before a client asks for them.
//!
//! Tags of a rule are asked for by the requests of a client, so that fresh tags cost nothing, and a tag that has not moved
//! costs one `HEAD`. None of these requests counts as a pull or as a use.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use quinistry_oci::{Descriptor, Digest, Manifest, Reference, RepositoryName, Tag, WithCauses};
use quinistry_store::{Lead, Store};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::blobs::BlobAnswer;
use super::manifests::ManifestAnswer;
use super::prefetch_rules::{ExcludedRepository, ExclusionReason, ScheduledRule, wanted_entries};
use super::table::UpstreamTable;
use super::{CachedUpstream, LocatedRepository, UpstreamSettings, Upstreams};
use crate::api::response::error::Error;
use crate::{LimitedStore, Settings};

/// Time between two looks at which rules are due, and at the end of pauses.
const TICK: Duration = Duration::from_mins(1);

/// Greatest number of manifests of one tag that are fetched: as many as the client reads below one reference. The registry
/// stores what an upstream sends, and an index may name 100,000.
const MAX_MANIFESTS: usize = 1000;

/// Reason for which a round ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupted {
    /// The upstream limits requests or is away, or this replica does not lead any more. The round goes on later.
    Paused,
    /// The storage has too little room. The next round tries again.
    Full,
    /// The upstream has sent no list of tags. The round goes on soon.
    Unlisted,
}

/// Result of the rounds of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefetchedUpstream {
    /// Name of the upstream.
    pub upstream: String,
    /// Number of tags that are stored with all that they lead to.
    pub tags: usize,
    /// Number of tags of which something is missing, and of lists of tags that the upstream has not sent. The log says
    /// why.
    pub failed: usize,
    /// Repositories of rules of which nothing is fetched.
    pub excluded: Vec<ExcludedRepository>,
    /// The upstream limits requests or is away, or the storage has too little room.
    pub is_interrupted: bool,
}

/// Fetches what rules name at intervals, for as long as the registry runs.
pub(crate) async fn run(stored: LimitedStore, settings: watch::Receiver<Arc<Settings>>) {
    run_every(TICK, &stored, settings).await;
}

/// Fetches what rules name, with a look at the times of the rules once in `tick`. Other upstreams hold at once: the rounds
/// of the former ones end, and those whose settings are the same go on.
pub(super) async fn run_every(
    tick: Duration,
    stored: &LimitedStore,
    mut settings: watch::Receiver<Arc<Settings>>,
) {
    loop {
        let upstreams = fetched_upstreams(&settings.borrow());
        let is_replaced = |settings: &Arc<Settings>| {
            fetched_upstreams(settings).as_ref().map(Arc::as_ptr) != upstreams.as_ref().map(Arc::as_ptr)
        };
        let rounds = async {
            match &upstreams {
                Some(upstreams) => upstreams.prefetch_every(tick, stored).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = rounds => {}
            replaced = settings.wait_for(is_replaced) => if replaced.is_err() { return },
        }
    }
}

/// Returns the upstreams that something is fetched of; `None` for a registry that is read-only.
fn fetched_upstreams(settings: &Settings) -> Option<Arc<Upstreams>> {
    settings.upstreams.clone().filter(|_| !settings.read_only)
}

impl Upstreams {
    /// Makes the rounds of each upstream at times of its own, so that a slow one delays no other. Never ends.
    async fn prefetch_every(&self, tick: Duration, stored: &LimitedStore) {
        let upstreams = (0..self.cached.len()).map(|index| async move {
            loop {
                sleep(tick).await;
                // Of several replicas one is enough.
                if let Some(lead) = stored.store.lead() {
                    self.due_rounds(index, stored, Some(&lead)).await;
                }
            }
        });
        join_all(upstreams).await;
        pending::<()>().await;
    }

    /// Makes a round of each rule that is due. Returns the results of all upstreams.
    pub(crate) async fn prefetch(&self, stored: &LimitedStore) -> Vec<PrefetchedUpstream> {
        join_all((0..self.cached.len()).map(|index| self.due_rounds(index, stored, None))).await
    }

    /// Makes a round of each rule of an upstream that is due, while the lead lasts.
    pub(super) async fn due_rounds(
        &self,
        index: usize,
        stored: &LimitedStore,
        lead: Option<&Lead>,
    ) -> PrefetchedUpstream {
        let upstream = &self.cached[index];
        let mut result =
            PrefetchedUpstream { upstream: upstream.name.to_string(), ..PrefetchedUpstream::default() };
        // A rule whose round was interrupted is due for longest, so that no other one takes its turn.
        let due: Vec<_> = upstream.prefetch_rules().iter().map(ScheduledRule::due).collect();
        let mut order: Vec<usize> = (0..due.len()).collect();
        order.sort_by_key(|at| due[*at]);
        for at in order {
            let (tags, repository) = match self.due_rule(index, at) {
                None => continue,
                Some(Ok(due)) => due,
                Some(Err(excluded)) => {
                    upstream.prefetch_rules()[at].note_round(upstream.clock.now());
                    let (upstream, repository) = (&upstream.name, &excluded.repository);
                    tracing::warn!(%upstream, %repository, reason = %excluded.reason, "cannot prefetch repository");
                    result.excluded.push(excluded);
                    continue;
                }
            };
            let round =
                Round { upstream, stored, repository: &repository, permits: &self.prefetch_permits, lead };
            let ended = round.run(tags, &mut result).await;
            let now = upstream.clock.now();
            match ended {
                Ok(()) => upstream.prefetch_rules()[at].note_round(now),
                Err(Interrupted::Full) => {
                    tracing::warn!(upstream = %upstream.name, "storage has too little room, prefetch ended");
                    upstream.prefetch_rules()[at].note_full(now);
                }
                Err(Interrupted::Unlisted) => upstream.prefetch_rules()[at].note_unlisted(now),
                Err(Interrupted::Paused) => {}
            }
            result.is_interrupted |= ended.is_err();
            if ended == Err(Interrupted::Paused) {
                break;
            }
        }
        result
    }

    /// Returns the tags and the repository of a rule, or the reason for which nothing of it is fetched; `None` for a rule
    /// that is not due.
    fn due_rule(
        &self,
        index: usize,
        at: usize,
    ) -> Option<Result<(TagChoice, LocatedRepository), ExcludedRepository>> {
        let upstream = &self.cached[index];
        let rules = upstream.prefetch_rules();
        let rule = rules.get(at).filter(|rule| rule.is_due(upstream.clock.now()))?;
        let repository = repository_of(&self.table, (index, &upstream.settings), rule);
        Some(match repository {
            Ok(repository) => Ok((TagChoice { plain: rule.plain_tags(), at }, repository)),
            Err(reason) => Err(ExcludedRepository { repository: rule.rule.repository.clone(), reason }),
        })
    }

    /// Returns true if a rule fetches a tag in advance, so that its copy stays.
    pub(super) fn prefetches(&self, name: &RepositoryName, tag: &Tag) -> bool {
        let Ok(Some(located)) = self.table.locate(name) else { return false };
        let upstream = &self.cached[located.upstream];
        let rules = upstream.prefetch_rules();
        is_prefetched(&self.table, (located.upstream, &upstream.settings), &rules, (name, tag))
    }
}

/// Returns true if one of the rules of an upstream names a tag.
pub(super) fn is_prefetched(
    table: &UpstreamTable,
    upstream: (usize, &UpstreamSettings),
    rules: &[ScheduledRule],
    (name, tag): (&RepositoryName, &Tag),
) -> bool {
    let is_of = |rule: &ScheduledRule| {
        repository_of(table, upstream, rule).is_ok_and(|repository| repository.name == *name)
    };
    rules.iter().any(|rule| rule.matches(tag) && is_of(rule))
}

/// Returns the repository of a rule.
fn repository_of(
    table: &UpstreamTable,
    (index, settings): (usize, &UpstreamSettings),
    rule: &ScheduledRule,
) -> Result<LocatedRepository, ExclusionReason> {
    let name = settings.local_name(&rule.rule.repository).ok_or(ExclusionReason::InvalidName)?;
    match table.locate(&name) {
        Err(_) => Err(ExclusionReason::InvalidName),
        Ok(Some(repository)) if repository.upstream != index => Err(ExclusionReason::OfOtherUpstream),
        Ok(Some(repository)) if repository.is_allowed => Ok(repository),
        Ok(_) => Err(ExclusionReason::Denied),
    }
}

/// Tags of a rule.
struct TagChoice {
    /// Tags by their names, if no pattern stands for others.
    plain: Option<Vec<Tag>>,
    /// Index of the rule.
    at: usize,
}

/// Round of one rule.
struct Round<'a> {
    upstream: &'a Arc<CachedUpstream>,
    stored: &'a LimitedStore,
    repository: &'a LocatedRepository,
    /// Permits to fetch a blob.
    permits: &'a Semaphore,
    /// Right to do the work of one replica; `None` for a command, which needs none.
    lead: Option<&'a Lead>,
}

impl Round<'_> {
    /// Fetches what is missing of the tags of a rule: those that are left, if a round was interrupted.
    async fn run(
        &self,
        TagChoice { plain, at }: TagChoice,
        result: &mut PrefetchedUpstream,
    ) -> Result<(), Interrupted> {
        self.check_may_go_on().await?;
        let tags = if let Some(tags) = plain {
            tags
        } else {
            let list = self.upstream.tags(self.stored, self.repository).await;
            self.check_may_go_on().await?;
            if let Some(failure) = list.failure {
                let (upstream, repository) = (&self.upstream.name, &self.repository.name);
                tracing::warn!(%upstream, %repository, ?failure, "cannot prefetch tags, upstream sent no list of them");
                result.failed += 1;
                // Tags that were listed before are fetched still.
                if !failure.is_absence() && list.entries.is_empty() {
                    return Err(Interrupted::Unlisted);
                }
            }
            let rules = self.upstream.prefetch_rules();
            list.entries.iter().filter(|tag| rules[at].matches(tag)).cloned().collect()
        };
        let tags = self.upstream.prefetch_rules()[at].left_of_round(tags);
        for tag in tags {
            self.upstream.prefetch_rules()[at].note_tag(&tag);
            let is_whole = self.fetch_whole(tag).await?;
            *(if is_whole { &mut result.tags } else { &mut result.failed }) += 1;
        }
        Ok(())
    }

    /// Fetches a tag, the images of the wanted platforms that it leads to, and their blobs. Returns false if something of
    /// them is missing.
    async fn fetch_whole(&self, tag: Tag) -> Result<bool, Interrupted> {
        let settings = &self.upstream.settings;
        let (mut is_whole, mut is_cut) = (true, false);
        // Manifests that were fetched, or will be.
        let mut seen = HashSet::new();
        let mut open = vec![Reference::Tag(tag.clone())];
        while let Some(reference) = open.pop() {
            let Some((digest, manifest)) = self.fetch_manifest(reference).await? else {
                is_whole = false;
                continue;
            };
            seen.insert(digest);
            let wanted: Vec<&Descriptor> = wanted_entries(&manifest.manifests, &settings.platforms).collect();
            if wanted.is_empty() && !manifest.manifests.is_empty() {
                let (upstream, repository) = (&self.upstream.name, &self.repository.name);
                tracing::warn!(%upstream, %repository, %tag, "index has no image of the platforms, cannot prefetch tag");
                is_whole = false;
            }
            for entry in wanted {
                if seen.contains(&entry.digest) {
                    continue;
                }
                if seen.len() == MAX_MANIFESTS {
                    is_cut = true;
                    break;
                }
                seen.insert(entry.digest.clone());
                open.push(Reference::Digest(entry.digest.clone()));
            }
            is_whole &= self.fetch_blobs(manifest.blobs).await?;
        }
        if is_cut {
            let (upstream, repository) = (&self.upstream.name, &self.repository.name);
            tracing::warn!(
                %upstream,
                %repository,
                %tag,
                max_manifests = MAX_MANIFESTS,
                "tag names too many manifests, prefetched without those behind the limit"
            );
        }
        Ok(is_whole && !is_cut)
    }

    /// Fetches blobs. Returns false if one of them is missing.
    async fn fetch_blobs(&self, blobs: Vec<Descriptor>) -> Result<bool, Interrupted> {
        // Behind a pause the upstream answers one question before others are asked.
        let is_up = self.upstream.counts(self.stored).circuit().is_up();
        let at_once = if is_up { (self.upstream.settings.max_connections / 2).max(1) } else { 1 };
        let running = stream::iter(blobs).map(|blob| self.fetch_blob(blob)).buffer_unordered(at_once);
        // A fetch that has begun is not dropped because another one was interrupted.
        let fetched: Vec<Result<bool, Interrupted>> = running.collect().await;
        fetched.into_iter().try_fold(true, |are_whole, is_whole| Ok(is_whole? && are_whole))
    }

    /// Fetches a manifest unless it is stored, and returns its digest and content. Returns `None` if the upstream has not
    /// sent it.
    async fn fetch_manifest(&self, reference: Reference) -> Result<Option<(Digest, Manifest)>, Interrupted> {
        let Self { upstream, stored, repository, .. } = self;
        let answer = upstream.manifest(stored, repository, &reference, (false, true)).await;
        self.check_may_go_on().await?;
        match answer {
            // What is stored may be complete, and what is missing cannot be fetched now.
            Ok(ManifestAnswer::Stored { is_stale: true, .. }) => return Ok(None),
            Ok(_) => {}
            Err(error) => {
                self.log_failure(&reference, &error);
                return Ok(None);
            }
        }
        let name = repository.name.clone();
        let read = move |store: &Store| {
            let stored = store.manifest(&name, &reference)?;
            let bytes = stored.content.to_bytes().ok();
            let manifest = bytes.and_then(|bytes| Manifest::parse(&bytes, Some(stored.media_type)).ok());
            Ok(manifest.map(|manifest| (stored.digest, manifest)))
        };
        Ok(stored.run(read).await.ok().flatten())
    }

    /// Fetches a blob unless the repository has it, and waits until it is stored. Returns false if the upstream has not
    /// sent it, or the storage has not taken it.
    async fn fetch_blob(&self, Descriptor { digest, size, .. }: Descriptor) -> Result<bool, Interrupted> {
        let Self { upstream, stored, repository, .. } = self;
        let (name, wanted): (_, Digest) = (repository.name.clone(), digest.clone());
        let is_stored = stored.run(move |store| store.has_blob(&name, &wanted)).await;
        if is_stored.unwrap_or(false) || upstream.settings.max_blob_bytes.is_some_and(|max| size > max) {
            return Ok(true);
        }
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        self.check_may_go_on().await?;
        upstream.known().proven_blobs.note(&repository.name, &digest, Some(size));
        let fetched = match upstream.open_blob(stored, repository, &digest, true).await {
            Ok(BlobAnswer::Fetched(fetched)) => {
                fetched.stored().await.map_err(|error| WithCauses(&error).to_string())
            }
            Ok(BlobAnswer::Stored) => Ok(()),
            Err(error) => Err(WithCauses(&error).to_string()),
        };
        if let Err(error) = &fetched {
            let (upstream, repository) = (&upstream.name, &repository.name);
            tracing::warn!(%upstream, %repository, %digest, error, "cannot prefetch blob");
        }
        self.check_may_go_on().await?;
        Ok(fetched.is_ok())
    }

    /// Fails if another replica may lead, if the upstream must not be asked now, or if the storage takes no more.
    async fn check_may_go_on(&self) -> Result<(), Interrupted> {
        let Self { upstream, stored, lead, .. } = self;
        if !lead.is_none_or(Lead::still) || upstream.counts(stored).circuit().is_paused(upstream.clock.now())
        {
            return Err(Interrupted::Paused);
        }
        // The answer of a disk may block.
        stored.run(|store| Ok(store.check_room()?)).await.map_err(|_| Interrupted::Full)
    }

    fn log_failure(&self, reference: &Reference, error: &Error) {
        let (upstream, repository) = (&self.upstream.name, &self.repository.name);
        tracing::warn!(%upstream, %repository, ?reference, error = %WithCauses(error), "cannot prefetch manifest");
    }
}

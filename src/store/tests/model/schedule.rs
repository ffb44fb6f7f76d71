//! One schedule: the replicas with their clients, timers and collectors, over one bucket.

use std::cell::Cell;
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinistry_oci::{Digest, RepositoryName};

use super::bucket::{Bucket, Object, Objects, StoreManner, schedule_time};
use super::client::{Client, is_refused_for_now};
use super::oracle::{Oracle, target_of};
use super::plan::{GRACE, HOLD, MIN_AGE, Plan, REPLICAS, START, Stored, VIEW_LIFETIME};
use super::pool::Pool;
use super::scheduler::{Actor, Outcome, Scheduler, current};
use super::universe::{IMAGES, REPOSITORIES, TAGS, universe};
use crate::waiting;
use crate::{
    Cycle, GcOptions, KeepAll, LocalClock, LooseRevision, RevisionRules, Safeguard, Store, StoreOptions,
};

/// Number of threads that a schedule needs at most.
pub(super) const MAX_ACTORS: usize = 8;

/// Time between two renewals of a replica's lead.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Number of renewals for each maintenance, which finishes the changes of replicas that stopped.
const TICKS_OF_MAINTENANCE: usize = 3;

/// Time before the next act of another actor at which the timers of an idle replica wake up.
const LEAD_IN: Duration = Duration::from_secs(5);

/// Group of the clients, which are never frozen.
pub(super) const CLIENTS: usize = REPLICAS;

/// Number of cycles after which the collectors of a schedule stop.
const CYCLES: usize = 3;

/// Time after which the collectors of a schedule stop.
const COLLECTION_TIME: Duration = Duration::from_secs(GRACE.as_secs() * 8);

/// Number of cycles without changes after which no garbage is left: those that are cut off, one that
/// condemns, one that removes, and one more for what was young or revived.
const QUIET_CYCLES: usize = 6;

/// Time after which a replica that does not lead looks again.
const LEAD_DELAY: Duration = Duration::from_secs(5);

/// Runs the schedule of a seed, by stores without a safeguard if one is named.
///
/// Returns the description of its steps too, if `is_traced`.
pub(super) fn run(
    pool: &Pool,
    seed: u64,
    without: Option<Safeguard>,
    is_traced: bool,
) -> (Outcome, Vec<String>) {
    // This thread is the only one while no actor runs.
    waiting::set_yielding(Some(Box::new(|| ())));
    let plan = Plan::new(seed);
    let oracle = Arc::new(Oracle::new(plan.keeps_untagged, HOLD, plan.manner.stops_several()));
    let mut bucket = None;
    let mut outcome = Scheduler::run(pool, (plan.manner.clone(), seed ^ 0x5ced), is_traced, |scheduler| {
        scheduler.note(|| format!("plan: {plan:#?}"));
        let storage =
            Bucket::new(objects_before(&plan, &oracle), scheduler.clone(), oracle.clone(), plan.store_manner);
        bucket = Some((scheduler.clone(), storage.clone()));
        let replicas = Replicas { plan: &plan, scheduler, oracle: &oracle, bucket: &storage, without };
        replicas.actors()
    });
    let (scheduler, bucket) = bucket.expect("the schedule has a bucket");
    if outcome.failure.is_none() {
        outcome.failure = oracle.missing_at_rest(&bucket.objects());
    }
    if outcome.failure.is_none() {
        let replicas =
            Replicas { plan: &plan, scheduler: &scheduler, oracle: &oracle, bucket: &bucket, without: None };
        outcome.failure = replicas.end_in_quiet();
    }
    (outcome, scheduler.take_trace())
}

/// Returns the objects of a bucket that a replica has opened once, with the content of the plan.
fn objects_before(plan: &Plan, oracle: &Oracle) -> Objects {
    let mut objects = empty().clone();
    for (stored, age) in &plan.stored {
        let entries = match *stored {
            Stored::Image { repository, image, tag } => {
                // Its children were pushed before it.
                for pushed in universe().images[image].children.iter().chain([&image]) {
                    oracle.pushed_before(repository, *pushed, tag.filter(|_| *pushed == image));
                }
                universe().entries(repository, image, tag)
            }
            Stored::Blob { repository, blob } => universe().blob_entries(repository, blob),
            Stored::Bytes { blob } => universe().blob_entries(0, blob).into_iter().take(2).collect(),
        };
        let objects_of =
            entries.into_iter().map(|(key, bytes)| (key, Object::new(bytes, START.saturating_sub(*age))));
        objects.extend(objects_of);
    }
    objects
}

/// Returns the objects of an empty bucket that a replica has opened.
fn empty() -> &'static Objects {
    static EMPTY: OnceLock<Objects> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let pool = Pool::new(1);
        let mut objects = Objects::new();
        let manner = super::scheduler::Manner {
            policy: super::scheduler::Policy::Uniform,
            freezes: Vec::new(),
            latency: Duration::ZERO,
            late_answers: 0,
            start: Duration::from_hours(1),
        };
        Scheduler::run(&pool, (manner, 0), false, |scheduler| {
            let oracle = Arc::new(Oracle::new(true, Duration::ZERO, false));
            let manner = StoreManner { has_whole_seconds: true, fences_by_version: false };
            let bucket = Bucket::new(Objects::new(), scheduler.clone(), oracle, manner);
            Store::open_replica(bucket.clone(), LocalClock::boot()).expect("the bucket is empty");
            objects = bucket.objects().clone();
            objects.retain(|key, _| !key.contains("/replicas/"));
            Vec::new()
        });
        objects
    })
}

/// Replicas of a schedule, with what they share.
struct Replicas<'a> {
    plan: &'a Plan,
    scheduler: &'a Arc<Scheduler>,
    oracle: &'a Arc<Oracle>,
    bucket: &'a Bucket,
    without: Option<Safeguard>,
}

/// Rules by which no manifest stays without a tag, a parent or a subject.
struct KeepNone;

impl RevisionRules for KeepNone {
    fn kept(&self, _: &RepositoryName, _: &[LooseRevision]) -> HashSet<Digest> {
        HashSet::new()
    }

    fn keeps_referrers(&self, _: &RepositoryName) -> bool {
        false
    }
}

impl Replicas<'_> {
    fn open(&self, replica: usize) -> Store {
        let (shown, offset) = (self.scheduler.clone(), self.plan.clocks[replica]);
        let waiting = self.scheduler.clone();
        let wait = move |time| match current() {
            Some((scheduler, actor)) => scheduler.sleep(actor, time),
            None => waiting.advance(time),
        };
        let clock = LocalClock::of(move || shown.now().saturating_sub(START) + offset);
        let store =
            Store::open_collected(self.bucket.clone(), StoreOptions::default(), clock, VIEW_LIFETIME, wait)
                .expect("the bucket is whole");
        match self.without {
            Some(safeguard) => store.without_safeguard(safeguard),
            None => store,
        }
    }

    fn actors(&self) -> Vec<Actor> {
        let stores: Vec<Store> = (0..REPLICAS).map(|replica| self.open(replica)).collect();
        let cycles = Arc::new(AtomicUsize::new(0));
        let mut actors = Vec::new();
        for (replica, store) in stores.iter().enumerate() {
            let (scheduler, timed, actor) = (self.scheduler.clone(), store.clone(), actors.len());
            actors.push(Actor {
                name: format!("timer {replica}"),
                group: replica,
                is_background: true,
                work: Box::new(move || keep_time(&scheduler, (actor, replica), &timed)),
            });
            let (scheduler, store, actor) = (self.scheduler.clone(), store.clone(), actors.len());
            let (cycles, rules) = (cycles.clone(), rules(self.plan.keeps_untagged));
            actors.push(Actor {
                name: format!("collector {replica}"),
                group: replica,
                is_background: false,
                work: Box::new(move || collect(&scheduler, (actor, replica), &store, rules, &cycles)),
            });
        }
        for (number, planned) in self.plan.clients.iter().cloned().enumerate() {
            let client = Client {
                name: format!("client {number}"),
                actor: actors.len(),
                scheduler: self.scheduler.clone(),
                oracle: self.oracle.clone(),
                bucket: self.bucket.clone(),
                stores: stores.clone(),
                replica: Cell::new(0),
                has_stops: !self.plan.manner.freezes.is_empty(),
            };
            actors.push(Actor {
                name: client.name.clone(),
                group: CLIENTS,
                is_background: false,
                work: Box::new(move || client.run(&planned)),
            });
        }
        actors
    }

    /// Collects while nothing else happens, and returns a description of what is missing or left over.
    fn end_in_quiet(&self) -> Option<String> {
        let store = self.open(0);
        for _ in 0..QUIET_CYCLES {
            self.scheduler.advance(GRACE + MIN_AGE);
            for _ in 0..2 {
                if let Err(error) = store.renew_lead() {
                    return Some(format!("renewal of the lead at rest: {error}"));
                }
                if store.lead().is_none() {
                    self.scheduler.advance(GRACE);
                }
            }
            let Some(lead) = store.lead() else { return Some("no replica leads at rest".into()) };
            match store.collect_online(&options(), rules(self.plan.keeps_untagged), &lead) {
                Ok(Cycle::Done(_)) => {}
                other => return Some(format!("collection at rest: {other:?}")),
            }
        }
        let objects = self.bucket.objects();
        self.oracle.missing_at_rest(&objects).or_else(|| garbage(&objects, self.plan.keeps_untagged))
    }
}

fn rules(keeps_untagged: bool) -> &'static dyn RevisionRules {
    if keeps_untagged { &KeepAll } else { &KeepNone }
}

fn options() -> GcOptions {
    GcOptions {
        interval: GRACE,
        grace: GRACE,
        min_age: MIN_AGE,
        rate: NonZeroU32::MAX,
        memory: 1 << 16,
        max_condemned: 1000,
        ..GcOptions::default()
    }
}

/// Runs cycles while the replica leads, until there were enough of them.
fn collect(
    scheduler: &Scheduler,
    (actor, group): (usize, usize),
    store: &Store,
    rules: &dyn RevisionRules,
    cycles: &AtomicUsize,
) {
    // True once the removals that others have begun are ended, until the lead is lost or a cycle fails.
    let mut has_ended_others = false;
    while cycles.load(Ordering::Relaxed) < CYCLES && scheduler.now() < START + COLLECTION_TIME {
        let Some(lead) = store.lead() else {
            has_ended_others = false;
            // The timer of the replica wakes it.
            scheduler.await_write(actor, lead_of(group), START + COLLECTION_TIME);
            continue;
        };
        if !has_ended_others {
            match store.end_cut_off_removals(&options(), &lead) {
                Ok(ended) => has_ended_others = ended.is_some(),
                Err(error) if is_refused_for_now(&error) => {}
                Err(error) => scheduler.fail(format!("end of removals that were cut off: {error}")),
            }
            if !has_ended_others {
                scheduler.sleep(actor, LEAD_DELAY);
                continue;
            }
        }
        match store.collect_online(&options(), rules, &lead) {
            Ok(Cycle::Waits { until }) => {
                scheduler.sleep_until(actor, schedule_time(until).max(scheduler.now() + LEAD_DELAY));
            }
            Ok(Cycle::LostLead) => {
                has_ended_others = false;
                scheduler.sleep(actor, LEAD_DELAY);
            }
            Ok(Cycle::Done(report)) => {
                scheduler.note(|| format!("cycle of epoch {} is complete", report.epoch));
                cycles.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if is_refused_for_now(&error) => {
                has_ended_others = false;
                scheduler.sleep(actor, LEAD_DELAY);
            }
            Err(error) => scheduler.fail(format!("collection: {error}")),
        }
    }
}

/// Returns a description of content at rest that nothing needs.
fn garbage(objects: &Objects, keeps_untagged: bool) -> Option<String> {
    let mut needed: HashSet<&str> = HashSet::new();
    for repository in 0..REPOSITORIES {
        let is_there = |image: usize| objects.contains_key(&universe().revision(repository, image));
        let mut live: Vec<usize> = if keeps_untagged {
            (0..IMAGES).collect()
        } else {
            (0..TAGS).filter_map(|tag| target_of(objects, repository, tag)).collect()
        };
        for at in 0.. {
            let Some(image) = live.get(at).copied() else { break };
            let referrers = (0..IMAGES).filter(|of| universe().images[*of].subject == Some(image));
            let found: Vec<usize> =
                universe().images[image].children.iter().copied().chain(referrers).collect();
            for image in found {
                if !live.contains(&image) {
                    live.push(image);
                }
            }
        }
        for image in live.into_iter().filter(|image| is_there(*image)) {
            needed.extend(universe().own_keys(repository, image).iter().map(|key| &**key));
            // The bytes of a child stay also if a client has removed the child from the repository.
            let children = universe().images[image].children.iter();
            needed.extend(children.map(|child| &*universe().own_keys(repository, *child)[1]));
        }
    }
    let is_content =
        |key: &&Arc<str>| ["/blobs/", "/_layers/", "/revisions/"].iter().any(|part| key.contains(part));
    let left = objects.keys().filter(is_content).find(|key| !needed.contains(&***key));
    left.map(|key| format!("{} is left over at rest", universe().readable(key)))
}

/// Renews a replica's lead and view until the schedule is over.
fn keep_time(scheduler: &Scheduler, (actor, group): (usize, usize), store: &Store) {
    for tick in 1.. {
        if scheduler.is_over() {
            return;
        }
        if let Err(error) = store.renew_lead() {
            scheduler.fail(format!("renewal of the lead: {error}"));
        }
        if tick % TICKS_OF_MAINTENANCE == 0
            && let Err(error) = store.maintain()
            && !is_refused_for_now(&error)
        {
            scheduler.fail(format!("maintenance: {error}"));
        }
        if store.lead().is_some() {
            scheduler.wake_for(lead_of(group));
        }
        match store.refresh_gc_view() {
            Ok(()) => {}
            // The epochs changed while they were listed. Requests read the view themselves.
            Err(error) if is_refused_for_now(&error) => {}
            Err(error) => scheduler.fail(format!("refresh of the view: {error}")),
        }
        let regular = scheduler.now() + RENEWAL_INTERVAL;
        scheduler.sleep_until(actor, regular.max(scheduler.quiet_until().saturating_sub(LEAD_IN)));
    }
}

/// Returns the text by which the timer of a replica wakes its collector.
fn lead_of(replica: usize) -> &'static str {
    ["lead of replica 0", "lead of replica 1"][replica]
}

//! Named images: what the file of names names, copied into the storage from stores of the same cluster.
//!
//! A store has all that the file names, whatever was loaded into it: it asks the others, by digest, for what it lacks, and
//! keeps it. The copies are content as if it had been pushed: nothing marks them, no tag is written for them, and they
//! are served by their digests beneath the repositories of their names.
//!
//! | step | file |
//! |---|---|
//! | states of images, times of questions, readiness (pure) | `ledger.rs`, `shared_ledger.rs` |
//! | what is told to the operator and to metrics (pure) | `report.rs` |
//! | questions to stores behind one address | `sources.rs` |
//! | what an image needs, and its copy | `walk.rs` |
//! | what was named lately (pure), and the times that count | `history.rs`, `times.rs` |
//! | what stays in a collection (pure), and the removal of the rest | `roots.rs`, `pruning.rs` |
//!
//! Blobs are fetched by [`Fetches`] with the storage, which hashes, resumes and stores them; so this module only decides
//! what to fetch, and when. The endpoint `/readyz` is in `src/registry/api/handlers/readyz.rs`.

mod history;
mod ledger;
mod pruning;
mod report;
mod roots;
mod shared_ledger;
mod sources;
#[cfg(test)]
mod tests;
mod times;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quinistry_fetch::{FetchOptions, Fetches, Peer};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use self::ledger::{Held, Ledger};
use self::pruning::Pruning;
use self::shared_ledger::SharedLedger;
use self::sources::{ANSWER_TIMEOUT, SourceMember, Sources};
use self::walk::{BLOBS_AT_ONCE, Copying, Fault, Part, Walk, part_limit};
use crate::LimitedStore;
use crate::peers::{ContentKey, Peers};
use crate::upstreams::clock::Clock;

pub(crate) use self::report::Report;

/// Time between two looks at the file of names and at what is due.
const TICK: Duration = Duration::from_secs(1);

/// Pause after a question that no peer has answered.
const UNANSWERED_PAUSE: Duration = Duration::from_secs(2);

/// Time for which a copy of a blob waits for the rest of it: a store that restarts is back within it, and the
/// bytes that came are not sent again. While a copy waits, other images wait with it.
const AWAY_PATIENCE: Duration = Duration::from_mins(2);

/// Images that the file of names names, and how far the storage has them.
#[derive(Debug)]
pub struct NamedImages {
    peers: Arc<Peers>,
    sources: Arc<Sources>,
    ledger: SharedLedger,
    pruning: Pruning,
    /// Wakes the copies when something is due.
    wake: Notify,
    /// True while no peer answers, which is logged once.
    is_unanswered: AtomicBool,
}

/// Returns the limits of copies.
fn fetch_options() -> FetchOptions {
    FetchOptions {
        answer_timeout: ANSWER_TIMEOUT,
        away_patience: AWAY_PATIENCE,
        max_fetches: BLOBS_AT_ONCE,
        max_pass_through: BLOBS_AT_ONCE,
        ..FetchOptions::default()
    }
}

impl NamedImages {
    /// Creates the images that the file of names of `peers` names. They are copied from `stores`, which should make a
    /// connection for each request, since a new one may reach another store.
    #[must_use]
    pub fn new(peers: Arc<Peers>, stores: Vec<Arc<dyn Peer>>) -> Self {
        Self::with_clock(peers, stores, Clock::default())
    }

    fn with_clock(peers: Arc<Peers>, stores: Vec<Arc<dyn Peer>>, clock: Clock) -> Self {
        let (metrics, ledger) = (peers.metrics(), SharedLedger::new(clock));
        let member = |peer: Arc<dyn Peer>| SourceMember { counts: metrics.of(peer.name()), peer };
        let members = stores.into_iter().map(member).collect();
        Self {
            peers,
            sources: Arc::new(Sources { members, ledger: ledger.clone() }),
            ledger,
            pruning: Pruning::default(),
            wake: Notify::new(),
            is_unanswered: AtomicBool::new(false),
        }
    }

    /// Returns what is known of the images.
    pub(crate) fn report(&self) -> Report {
        self.ledger.with(Ledger::report)
    }

    /// Copies what the storage lacks, for as long as the registry runs.
    pub(crate) async fn run(&self, stored: LimitedStore) {
        let fetches = Fetches::new(Some(stored.store.clone()), fetch_options());
        let fetches = fetches.with_observer(self.peers.metrics());
        tokio::join!(self.watch(&stored), self.copy(&stored, &fetches));
    }

    /// Follows the file of names, and looks for its images in the storage.
    async fn watch(&self, stored: &LimitedStore) {
        loop {
            self.look(stored).await;
            if let Some((repository, digest)) = self.ledger.with(|ledger, now| ledger.probe(now)) {
                self.sources.probe(&repository, &digest).await;
            }
            sleep(TICK).await;
        }
    }

    /// Reads the file of names if it has changed, and looks for images in the storage.
    async fn look(&self, stored: &LimitedStore) {
        let read = self.peers.read_names_again().await;
        self.pruning.update(stored, &read).await;
        self.ledger.with(|ledger, now| ledger.follow(read.digest, || read.names.images(), now));
        for image in self.ledger.with(Ledger::due_looks) {
            let parts_left = part_limit();
            let walk = Walk { own: stored, repository: &image.0, copy: None, parts_left: &parts_left };
            let held = match walk.manifest(image.1.clone(), 0).await {
                Ok(Part::Whole) => Held::Whole,
                Ok(Part::Sparse) => Held::Sparse,
                Ok(Part::Absent | Part::Incomplete(_)) | Err(_) => Held::Lacking,
            };
            self.ledger.with(|ledger, now| ledger.note_look(&image, held, now));
        }
        self.wake.notify_one();
    }

    /// Copies images that are due, one after another.
    async fn copy(&self, stored: &LimitedStore, fetches: &Fetches) {
        loop {
            match self.ledger.with(|ledger, now| ledger.next_copy(now)) {
                Some(image) => {
                    if !self.copy_image(stored, fetches, &image).await {
                        sleep(UNANSWERED_PAUSE).await;
                    }
                }
                None => drop(timeout(TICK, self.wake.notified()).await),
            }
        }
    }

    /// Copies what the storage lacks of an image. Returns false if no peer answers.
    async fn copy_image(&self, stored: &LimitedStore, fetches: &Fetches, image: &ContentKey) -> bool {
        let ((repository, digest), begun) = (image, Instant::now());
        let (parts_left, bytes) = (part_limit(), AtomicU64::new(0));
        let on_found = || {
            if self.ledger.with(|ledger, _| ledger.note_found(image)) {
                tracing::info!(%repository, %digest, "copying image");
            }
        };
        let copy = Copying { sources: &self.sources, fetches, on_found: &on_found, bytes: &bytes };
        let walk = Walk { own: stored, repository, copy: Some(copy), parts_left: &parts_left };
        let walked = match stored.run(|store| Ok(store.check_room()?)).await {
            Ok(()) => walk.manifest(digest.clone(), 0).await,
            Err(error) => Err(Fault::from(error)),
        };
        let reason = match walked {
            Ok(part @ (Part::Whole | Part::Sparse)) => {
                let is_sparse = part == Part::Sparse;
                let is_new = self.ledger.with(|ledger, now| ledger.note_complete(image, is_sparse, now));
                if is_new {
                    let (bytes, seconds) = (bytes.into_inner(), begun.elapsed().as_secs_f32());
                    let seconds = format_args!("{seconds:.1}");
                    tracing::info!(%repository, %digest, bytes, %seconds, "image copied");
                }
                self.is_unanswered.store(false, Ordering::Relaxed);
                return true;
            }
            Ok(Part::Absent) => {
                "no peer has its manifest; load its bundle again, or correct the names".to_owned()
            }
            Ok(Part::Incomplete(missing)) => {
                format!("no peer has {missing}, which it needs; load its bundle again")
            }
            Err(Fault::Unanswered(error)) => {
                self.ledger.with(|ledger, now| ledger.note_unanswered(image, now));
                if !self.is_unanswered.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%repository, %digest, error, "cannot copy image, no peer answers; trying again");
                }
                return false;
            }
            Err(fault) => fault.to_string(),
        };
        self.is_unanswered.store(false, Ordering::Relaxed);
        if self.ledger.with(|ledger, now| ledger.note_absent(image, &reason, now)) {
            tracing::warn!(%repository, %digest, error = reason, "cannot copy image; trying again");
        }
        true
    }
}

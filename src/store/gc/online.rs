//! Collection while registries serve the storage and take pushes.
//!
//! A cycle condemns what nothing live needs, and removes what the cycle before has condemned, the grace *G*
//! later, if nothing needs it by then and no client has touched it. There is no lock between a push and a
//! collector. Everything is decided by registers in the storage itself ([`epoch`]), so that any process can
//! go on where another one stopped. Subjects are manifests of a repository, links of a repository to blobs,
//! and bytes ([`subject`]).
//!
//! # Why nothing in use is removed
//!
//! Given are keys and lists that show each change at once, and registers, which the first writer decides. A
//! process touches the parts of a manifest by a [`view`] that it asked for at *d*, and commits at *c*;
//! [`Store::touching`] sees to it that *c − d* is less than the lifetime of a view, which is less than half
//! of *G* ([`Store::collect_online`] refuses a shorter one).
//!
//! 1. *A part is not in the view.* Any epoch that condemns the part is sealed after *d*. The mark by which it
//!    is swept begins *G* after the seal or later ([`Store::collect_online`] waits), and so after *c*: the
//!    mark finds the manifest, and the part is live ([`repository`]).
//! 2. *A part is in the view.* The toucher creates `alive`, then looks for `doom` ([`touch`]). The sweep
//!    creates `doom`, then lists `alive` ([`sweep`]). One sees the other: the part is revived, or it is gone
//!    and the client is told so. `doomed` is a register: no second sweep adds to it, and removals follow it
//!    alone. Earlier epochs were swept whole before this one was sealed ([`Store::collect_online`] condemns
//!    last). Later ones fall under 1.
//! 3. *HEAD was answered, and no manifest has come yet.* By 1 and 2 nothing is removed until *G* less the
//!    lifetime of a view has passed since the answer ([`Store::holding_blob`]).
//! 4. *Bytes without a link* are young, or were touched by the commit that will link them
//!    ([`Store::commit`]).
//! 5. *Content is pushed again after it was doomed.* The push waits for `done` ([`Store::touching`]). A
//!    removal that was held up does not harm it: `remove_keys` reads the fence, then checks the lead, then
//!    removes, and `done` waits for removals of unknown outcome ([`sweep`]). The storage refuses the removal
//!    after the time of the fence, before which no other leader creates `done`; or the removal is one of a
//!    version that was looked up before that time, and each write makes another version
//!    ([`Storage::remove_fenced`](crate::Storage::remove_fenced)).
//! 6. *A manifest stays, and what it refers to must stay.* A manifest is touched after the condemned
//!    manifests that it refers to, and is not held if one of them was removed ([`touch`]). What stays in a
//!    cycle for any reason keeps its parts ([`repository`], `keep_revived`), also if it was left out by the
//!    decision of a leader that was stopped and is not the one that marked, and no manifest is condemned
//!    before all that refer to it: otherwise a new index could name one that is not condemned, and has lost
//!    its layers.
//!
//! A change that was held up for longer than the lifetime of a view looks at the storage again before it is
//! acknowledged, because a sweep may have begun and ended in between.
//!
//! A crash leaves:
//!
//! | cut off after | left | then |
//! |---|---|---|
//! | `owner` | nothing | the next leader abandons the epoch |
//! | a list | lists under a nonce that nothing names | they are cleared with the epoch |
//! | `sealed` | condemned subjects | any leader sweeps them |
//! | `doom` | touches of the shard wait, then find their subject gone, and pushes fail | a leader decides at once |
//! | `doomed`, some removals | removable subjects, whose pushes fail | a leader removes the rest at once |
//! | `done`, `swept` | | the next cycle goes on |
//!
//! At once means before the next cycle, whose mark may be far away ([`Store::end_cut_off_removals`]), and ends with
//! `done`. Where `doomed` is there, that needs no mark: 1 to 6 hold for the decision of the mark before, whenever its
//! removals happen. A decision that is made then dooms none but manifests that refer to a doomed one. These were not live
//! for the mark before, nor have they been revived since: else 1 to 3 would hold for the one that they refer to. All
//! others are what a decision leaves out, and are whole (6). Of two leaders, one decides, and removals are announced and
//! waited for as in a cycle (5). What is left is that of a crash right after `done`.

mod condemn;
mod count;
mod cut_off;
mod edges;
pub(crate) mod epoch;
mod filter;
mod mark;
mod pace;
pub(super) mod phase;
mod prior;
mod remove;
pub(super) mod report;
mod repository;
pub(crate) mod safeguard;
mod scans;
mod state;
pub(crate) mod subject;
mod sweep;
pub(crate) mod touch;
mod trash;
mod view;

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use quinistry_oci::{WithCauses, to_json};
use uuid::Uuid;

use self::condemn::{Selection, unix_seconds};
use self::epoch::{Epochs, Owner, failpoint};
use self::mark::{Context, Mark};
use self::phase::GcPhase;
use self::prior::State;
use self::report::CycleReport;
use self::safeguard::Safeguard;
use self::subject::SubjectKind;
use self::sweep::{Progress, Sweep};
use super::rules::RevisionRules;
use crate::layout::collection::EpochKeys;
use crate::{Lead, Store, StoreError};

pub(crate) use self::state::Collector;

/// Longest report that is read, in bytes.
const MAX_REPORT_BYTES: u64 = 64 * 1024 * 1024;

/// Least grace where other programs write, which hold nothing.
const FOREIGN_GRACE: Duration = Duration::from_hours(24);

/// Options of a cycle.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Time between two cycles. The caller keeps it; a cycle itself waits for the grace alone.
    pub interval: Duration,
    /// Least time between the condemnation of a subject and its removal.
    pub grace: Duration,
    /// Age below which subjects are live.
    pub min_age: Duration,
    /// Greatest number of requests to the storage per second.
    pub rate: NonZeroU32,
    /// Greatest length of the filter of live bytes.
    pub memory: u64,
    /// Programs that write to the storage.
    pub writers: Writers,
    /// Time for which removed bytes stay in the trash; `None` to remove them at once. Where other programs
    /// write, 48 hours at least.
    pub trash: Option<Duration>,
    /// Treatment of damaged manifests.
    pub damaged: DamagedManifests,
    /// Greatest number of subjects that a cycle condemns.
    pub max_condemned: usize,
    /// Mark and report only.
    pub dry_run: bool,
}

/// Programs that write to a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Processes of this program alone.
    Ours,
    /// Other programs as well, such as distribution.
    Foreign,
}

/// Treatment of damaged manifests, whose needs are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagedManifests {
    /// The cycle ends with an error.
    Stop,
    /// The repository and all bytes stay as they are in this cycle.
    KeepRepository,
}

/// Outcome of a call for a cycle.
#[expect(clippy::large_enum_variant, reason = "there is one in hours")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// The grace of the last epoch has not passed.
    Waits {
        /// Time of the storage from which a cycle may begin.
        until: SystemTime,
    },
    /// The process has lost the lead. Another one goes on.
    LostLead,
    /// The cycle is complete.
    Done(CycleReport),
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_hours(12),
            grace: Duration::from_hours(12),
            min_age: Duration::from_hours(1),
            rate: NonZeroU32::new(100).expect("100 is not 0"),
            memory: 128 * 1024 * 1024,
            writers: Writers::Ours,
            trash: None,
            damaged: DamagedManifests::Stop,
            max_condemned: 250_000,
            dry_run: false,
        }
    }
}

// === impl GcOptions ===

impl GcOptions {
    fn least_grace(&self) -> Duration {
        match self.writers {
            Writers::Ours => self.grace,
            Writers::Foreign => self.grace.max(FOREIGN_GRACE),
        }
    }
}

impl Store {
    /// Runs one cycle of collection, if the grace of the last epoch has passed: marks, sweeps what was
    /// condemned, and condemns. Call as the leader; a process that has lost the lead stops, and another one
    /// goes on.
    pub fn collect_online(
        &self,
        options: &GcOptions,
        rules: &dyn RevisionRules,
        lead: &Lead,
    ) -> Result<Cycle, StoreError> {
        let _turn = crate::waiting::lock(&self.0.collector.running);
        if !lead.still() {
            return Ok(Cycle::LostLead);
        }
        let grace = options.least_grace();
        if self.is_shared() {
            self.storage().fence().ok_or(StoreError::Unfenced)?;
            let least = 2 * self.0.collector.view_lifetime();
            if grace <= least {
                return Err(StoreError::GraceTooShort { grace, least });
            }
        }
        let nonce = Uuid::new_v4().to_string();
        let mut epochs = self.epochs()?;
        if !epochs.open.is_empty() && !options.dry_run {
            // Their owners have stopped, or seal nothing from now on.
            epochs.open.iter().try_for_each(|number| self.abandon(*number, &nonce))?;
            epochs = self.epochs()?;
        }
        if let Some(until) = self.wait_until(&epochs, grace, options)? {
            return Ok(Cycle::Waits { until });
        }
        let number = epochs.highest() + 1;
        if !options.dry_run && !self.own_epoch(number, &nonce, lead)? {
            return Ok(Cycle::LostLead);
        }
        let pace = self.pace(options.rate);
        let begun = self.storage().now();
        let prior = epochs.last.clone().map(|last| {
            pace.take(1);
            let decisions = self.decisions(last.number)?;
            self.prior(last, decisions, &|requests| pace.take(requests))
        });
        let prior = match prior.transpose() {
            // A later leader has swept the epoch and cleared its lists, while this process was stopped.
            Err(StoreError::CollectionUnknown(_)) if !lead.still() => return Ok(Cycle::LostLead),
            prior => prior?,
        };
        let context = Context { options, rules, lead, pace, begun, prior };
        let ended = self.run(&context, number, &nonce)?;
        let Some(report) = ended else { return Ok(Cycle::LostLead) };
        if let (Some(last), false) = (&epochs.last, options.dry_run)
            && let Err(error) = self.clear_epochs_before(last.number, &epochs.numbers)
        {
            tracing::warn!(error = %WithCauses(&error), "cannot clear former epochs, trying again after the next");
        }
        tracing::info!(
            epoch = report.epoch,
            condemned = report.revisions.condemned + report.links.condemned + report.blobs.condemned,
            removed = report.revisions.doomed + report.links.doomed + report.blobs.doomed,
            removed_bytes = report.blobs.doomed_bytes,
            dry_run = report.is_dry_run,
            "collection cycle complete"
        );
        Ok(Cycle::Done(report))
    }

    /// Returns the time until which the cycle must wait, if any.
    fn wait_until(
        &self,
        epochs: &Epochs,
        grace: Duration,
        options: &GcOptions,
    ) -> Result<Option<SystemTime>, StoreError> {
        let Some(last) = epochs.last.as_ref().filter(|_| !options.dry_run) else { return Ok(None) };
        let now = self.storage().now();
        let view = self.0.collector.view();
        if !self.is_shared() && view.epoch != last.number {
            // The seal succeeded and its answer was lost, so that touches have looked at the former view.
            self.load_view(self.0.collector.clock.now())?;
            return Ok(Some(now + grace));
        }
        // The time of a folder is that of this machine, whose clock may have been set since the seal. How long ago this
        // process has sealed the epoch, it knows by itself.
        let left = view.sealed.filter(|_| !self.is_shared());
        let left = left.map(|sealed| (sealed + grace).saturating_sub(self.0.collector.clock.now()));
        let until = (last.sealed + grace).max(now + left.unwrap_or_default());
        Ok((self.has(Safeguard::MarkAfterGrace) && now < until).then_some(until))
    }

    /// Creates the register of an epoch's owner. Returns false if the number was given before.
    fn own_epoch(&self, number: u64, nonce: &str, lead: &Lead) -> Result<bool, StoreError> {
        let replica = self.0.shared.as_ref().map_or("", |shared| shared.replica().id()).to_owned();
        let owner = Owner { replica, term: lead.term(), nonce: nonce.to_owned() };
        let is_own = self.create_register(&EpochKeys(number).owner(), &to_json(&owner))?;
        failpoint("gc.owner")?;
        // A number that was given and cleared looks free.
        Ok(is_own && self.epoch_numbers()?.last() == Some(&number))
    }

    /// Runs the steps of a cycle. Returns `None` if the lead was lost.
    fn run(
        &self,
        context: &Context<'_>,
        number: u64,
        nonce: &str,
    ) -> Result<Option<CycleReport>, StoreError> {
        let mut report = CycleReport {
            epoch: number,
            swept_epoch: context.prior.as_ref().map(|prior| prior.epoch.number),
            begun: unix_seconds(context.begun),
            is_dry_run: context.options.dry_run,
            ..CycleReport::default()
        };
        let phases = self.phases();
        phases.enter(GcPhase::Mark);
        let expected = self.last_collection()?.map_or(0, |last| last.blobs.found + last.blobs.found / 4);
        let Some(mut mark) = self.mark(context, expected)? else { return Ok(None) };
        report.count_found(&mark.found);
        report.unknown = std::mem::take(&mut mark.unknown);
        phases.enter(GcPhase::Sweep);
        let mut sweep = Sweep::default();
        let in_order = self.has(Safeguard::SealAfterSwept);
        if in_order && self.sweep_links(context, &mut mark, &mut sweep, &mut report)? == Progress::LostLead {
            return Ok(None);
        }
        let places = context.options.max_condemned.saturating_sub(mark.candidates.len());
        phases.enter(GcPhase::Mark);
        if let Some(prior) = &context.prior {
            self.note_aliases(context, prior)?;
        }
        let Some((bytes, has_more)) = self.mark_bytes(context, &mut mark, places)? else { return Ok(None) };
        report.count_found_bytes(&mark.found);
        report.has_more = has_more || mark.resume.is_some();
        phases.enter(GcPhase::Sweep);
        if in_order && self.sweep_bytes(context, &mut mark, &mut sweep, &mut report)? == Progress::LostLead {
            return Ok(None);
        }
        phases.enter(GcPhase::Condemn);
        self.name_acts(context, &sweep, &mut report);
        let candidates = std::mem::take(&mut mark.candidates).into_iter().chain(bytes);
        let selection = Selection::new(context, candidates, &sweep, &mut report);
        if !context.options.dry_run {
            report.restored = self.tidy_trash(context, &mark)?;
        }
        report.ended = unix_seconds(self.storage().now());
        let resume = mark.resume.take();
        if !context.options.dry_run
            && self.condemn(context, (number, nonce), &selection, resume, &report)? == Progress::LostLead
        {
            return Ok(None);
        }
        if !in_order {
            // What a test must find: the epoch was sealed before the former one is swept.
            self.sweep_links(context, &mut mark, &mut sweep, &mut report)?;
            self.sweep_bytes(context, &mut mark, &mut sweep, &mut report)?;
        }
        Ok(Some(report))
    }

    /// Sweeps manifests, then links.
    fn sweep_links(
        &self,
        context: &Context<'_>,
        mark: &mut Mark,
        sweep: &mut Sweep,
        report: &mut CycleReport,
    ) -> Result<Progress, StoreError> {
        for kind in [SubjectKind::Revision, SubjectKind::Link] {
            if self.sweep_or_preview(context, mark, kind, (sweep, report))? == Progress::LostLead {
                return Ok(Progress::LostLead);
            }
        }
        Ok(Progress::Complete)
    }

    /// Sweeps bytes, and ends the sweep.
    fn sweep_bytes(
        &self,
        context: &Context<'_>,
        mark: &mut Mark,
        sweep: &mut Sweep,
        report: &mut CycleReport,
    ) -> Result<Progress, StoreError> {
        let swept = self.sweep_or_preview(context, mark, SubjectKind::Bytes, (sweep, report))?;
        if let Some(prior) = &context.prior
            && swept == Progress::Complete
            && !context.options.dry_run
        {
            self.end_sweep(context, prior)?;
        }
        Ok(swept)
    }

    fn sweep_or_preview(
        &self,
        context: &Context<'_>,
        mark: &mut Mark,
        kind: SubjectKind,
        (sweep, report): (&mut Sweep, &mut CycleReport),
    ) -> Result<Progress, StoreError> {
        let Some(prior) = &context.prior else { return Ok(Progress::Complete) };
        if !context.options.dry_run {
            return self.sweep_kind(context, (prior, mark), kind, (sweep, report));
        }
        // The next cycle decides in the same way, unless clients use more until then.
        for shard in prior.epoch.seal.shards(kind) {
            for (at, subject) in prior.of_shard(shard) {
                let state = prior.state(kind, at);
                let is_alive = prior.is_settled(kind, at);
                let is_doomed = state == State::Removable && !is_alive;
                report.count_swept(kind, subject, is_doomed, is_alive, state);
                if is_doomed {
                    sweep.doomed.insert(subject.hash);
                }
            }
        }
        Ok(Progress::Complete)
    }

    /// Returns the report of the last complete cycle.
    pub fn last_collection(&self) -> Result<Option<CycleReport>, StoreError> {
        let Some(last) = self.epochs()?.last else { return Ok(None) };
        let key = EpochKeys(last.number).report();
        let bytes = self.storage().read(&key, MAX_REPORT_BYTES)?;
        let report = bytes.map(|bytes| serde_json::from_slice(&bytes));
        report.transpose().map_err(|_| StoreError::CollectionUnknown(key))
    }
}

//! Endpoint that runs: its queue, and the task that sends the events of the queue one after the other.

mod log;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::escape::Escaped;
use quinistry_store::RepositoryMatcher as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::counts::EndpointCounts;
use super::delivery::{Delivery, DropReason, Outcome, RetryPolicy, Verdict};
use super::envelope::{EventSource, envelope};
use super::event::Event;
use super::loop_watch::LoopWatch;
use super::queue::EventQueue;
use super::sender::{EventRequest, Sender};
use super::settings::EndpointSettings;
use crate::auth::rules::PatternError;
use crate::{ClientTls, RepositorySet};

/// Settings of an endpoint, ready to be used.
#[derive(Debug)]
pub struct PreparedEndpoint {
    pub(super) settings: EndpointSettings,
    /// Repositories whose events are sent; `None` for all.
    repositories: Option<RepositorySet>,
    pub(super) sender: Sender,
}

/// Endpoint that runs. A reload replaces its settings, and its events stay.
#[derive(Debug)]
pub(super) struct Endpoint {
    name: String,
    source: Arc<EventSource>,
    state: Mutex<EndpointState>,
    /// Signalled when the queue is no longer empty.
    filled: Notify,
    /// Signalled when a pause must end: there are other settings, or the endpoint ends.
    interrupted: Notify,
    pub(super) counts: Arc<EndpointCounts>,
}

#[derive(Debug)]
struct EndpointState {
    prepared: Arc<PreparedEndpoint>,
    queue: EventQueue,
    delivery: Delivery,
    ending: Ending,
    /// Share of this endpoint in the gauge of events that wait. An endpoint of the same name that was removed
    /// before may still end.
    pending: u64,
    /// The queue has dropped events, and has not been empty since.
    is_overflowing: bool,
}

/// End of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The endpoint goes on.
    None,
    /// The registry stops: what waits is sent until this time.
    Draining(Instant),
    /// The endpoint is no longer configured.
    Removed,
}

/// Next step of the task.
enum Step {
    Send(Arc<Event>, Arc<PreparedEndpoint>),
    Wait,
    End,
}

// === impl PreparedEndpoint ===

impl PreparedEndpoint {
    /// Compiles the patterns of repositories, and makes the client. Fails if a pattern is not valid.
    pub fn new(settings: EndpointSettings, tls: &ClientTls) -> Result<Self, PatternError> {
        let patterns = &settings.repositories;
        let repositories = if patterns.is_empty() { None } else { Some(RepositorySet::new(patterns)?) };
        Ok(Self { repositories, sender: Sender::new(tls), settings })
    }

    fn accepts(&self, event: &Event) -> bool {
        let repositories = self.repositories.as_ref();
        self.settings.accepts(event)
            && repositories.is_none_or(|repositories| repositories.matches(&event.target.repository))
    }

    fn policy(&self) -> RetryPolicy {
        let EndpointSettings { threshold, backoff, .. } = self.settings;
        RetryPolicy { threshold, backoff }
    }
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(
        prepared: Arc<PreparedEndpoint>,
        source: Arc<EventSource>,
        counts: Arc<EndpointCounts>,
    ) -> Self {
        let state = EndpointState {
            queue: EventQueue::new(prepared.settings.queue),
            prepared,
            delivery: Delivery::default(),
            ending: Ending::None,
            pending: 0,
            is_overflowing: false,
        };
        Self {
            name: state.prepared.settings.name.clone(),
            source,
            state: Mutex::new(state),
            filled: Notify::new(),
            interrupted: Notify::new(),
            counts,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the URL without anything that may be a secret.
    pub(super) fn url(&self) -> String {
        self.state().prepared.settings.url.to_string()
    }

    /// Queues those of the events that the settings accept. Never waits for the receiver.
    pub(super) fn push(&self, events: &[Arc<Event>]) {
        let mut state = self.state();
        let prepared = state.prepared.clone();
        if state.ending == Ending::Removed {
            // Requests that began before a reload end with the endpoints that they began with.
            drop(state);
            let count = events.iter().filter(|event| prepared.accepts(event)).count();
            self.counts.events.add(count as u64);
            return self.counts.dropped(DropReason::Stopped, count);
        }
        let (mut added, mut dropped) = (0, 0);
        for event in events.iter().filter(|event| prepared.accepts(event)) {
            added += 1;
            dropped += state.queue.push(event.clone());
        }
        self.count_pending(&mut state);
        let begins_to_overflow = dropped > 0 && !std::mem::replace(&mut state.is_overflowing, true);
        drop(state);
        if added == 0 {
            return;
        }
        self.counts.events.add(added);
        self.counts.dropped(DropReason::QueueFull, dropped);
        if begins_to_overflow {
            tracing::warn!(endpoint = %Escaped(&self.name), "event queue full, dropping its oldest events");
        }
        self.filled.notify_one();
    }

    /// Replaces the settings. An attempt that runs ends with the former ones; events that the new ones exclude
    /// leave.
    pub(super) fn replace(&self, prepared: &Arc<PreparedEndpoint>) {
        let mut state = self.state();
        let is_same = state.prepared.settings == prepared.settings;
        let dropped = state.queue.resize(prepared.settings.queue);
        state.prepared = prepared.clone();
        let ignored = if is_same { 0 } else { state.queue.retain(|event| prepared.accepts(event)) };
        self.count_pending(&mut state);
        drop(state);
        self.counts.dropped(DropReason::QueueFull, dropped);
        self.drop_ignored(ignored);
        if !is_same {
            self.log_place();
            // The receiver may be another one, which need not wait for the pause.
            self.interrupted.notify_one();
        }
    }

    /// Ends the endpoint, which is no longer configured.
    pub(super) fn remove(&self) {
        self.end(Ending::Removed);
    }

    /// Ends the endpoint once its events are sent, or if no further attempt fits into the time before the
    /// deadline. Begins with an attempt at once.
    pub(super) fn drain(&self, deadline: Instant) {
        self.end(Ending::Draining(deadline));
    }

    fn end(&self, ending: Ending) {
        let mut state = self.state();
        state.ending = ending;
        let policy = state.prepared.policy();
        state.delivery.restart_pauses(policy);
        drop(state);
        self.filled.notify_one();
        self.interrupted.notify_one();
    }

    /// Drops the events that still wait, and returns their number.
    pub(super) fn drop_rest(&self) -> usize {
        let mut state = self.state();
        let rest = state.queue.clear();
        self.count_pending(&mut state);
        drop(state);
        self.counts.dropped(DropReason::Stopped, rest);
        rest
    }

    /// Sends events until the endpoint ends.
    pub(super) async fn run(self: Arc<Self>) {
        let mut loops = LoopWatch::default();
        loop {
            let (event, prepared) = match self.next() {
                Step::End => break,
                Step::Wait => {
                    self.filled.notified().await;
                    continue;
                }
                Step::Send(event, prepared) => (event, prepared),
            };
            let outcome = self.attempt(&event, &prepared).await;
            self.count(&outcome);
            let (failures, verdict) = {
                let mut state = self.state();
                let failures = state.delivery.failures();
                (failures, state.delivery.conclude(prepared.policy(), &outcome, rand_u32()))
            };
            match verdict {
                Verdict::Delivered => {
                    self.counts.successes.increment();
                    self.remove_first();
                    self.log_recovery(failures, &prepared);
                    if let Some(actor) = loops.count(&event, Instant::now().into_std()) {
                        self.warn_of_loop(&actor);
                    }
                }
                Verdict::Refused => {
                    self.remove_first();
                    self.counts.dropped(DropReason::Refused, 1);
                    self.log_refusal(&event, &outcome);
                }
                Verdict::Retry { pause } => {
                    self.log_failure(&prepared, &outcome);
                    self.take_back(&event);
                    if self.ends_within(pause) {
                        break;
                    }
                    self.pause(pause).await;
                }
            }
        }
        // Those of an endpoint that is no longer configured; a registry that stops counts them by itself.
        if self.state().ending == Ending::Removed {
            let dropped = self.drop_rest();
            if dropped > 0 {
                tracing::warn!(endpoint = %Escaped(&self.name), events = dropped, "endpoint removed, its events dropped");
            }
        }
    }

    fn next(&self) -> Step {
        let mut state = self.state();
        match (state.ending, state.queue.is_empty()) {
            (Ending::Removed, _) | (Ending::Draining(_), true) => Step::End,
            (Ending::None, true) => Step::Wait,
            (Ending::None | Ending::Draining(_), false) => {
                let event = state.queue.send_first().expect("the queue is not empty");
                state.delivery.begin(event.id);
                Step::Send(event, state.prepared.clone())
            }
        }
    }

    async fn attempt(&self, event: &Event, prepared: &PreparedEndpoint) -> Outcome {
        let body = Bytes::from(envelope(event, &self.source, prepared.settings.version));
        let request = EventRequest { id: &event.id.to_string(), body, now: SystemTime::now() };
        prepared.sender.send(&prepared.settings, &request).await
    }

    /// Returns true if the registry stops before a pause is over.
    fn ends_within(&self, pause: Duration) -> bool {
        match self.state().ending {
            Ending::Draining(deadline) => deadline.saturating_duration_since(Instant::now()) <= pause,
            Ending::None | Ending::Removed => false,
        }
    }

    /// Waits before the next attempt, unless the settings change or the endpoint ends. Events that grow too old
    /// during the pause leave, and it goes on: the receiver takes none.
    async fn pause(&self, pause: Duration) {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let until_expiry = self.drop_expired();
            tokio::select! {
                () = tokio::time::sleep(until_expiry.map_or(left, |until| until.min(left))) => {}
                // An event that comes now is the next one to grow too old.
                () = self.filled.notified(), if until_expiry.is_none() => {}
                () = self.interrupted.notified() => return,
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Drops the events that are older than the settings permit. Returns the time until the next one is;
    /// `None` if no event waits, or any may be of any age.
    fn drop_expired(&self) -> Option<Duration> {
        let mut state = self.state();
        let give_up = state.prepared.settings.give_up?;
        let now = SystemTime::now();
        let dropped = now.checked_sub(give_up).map_or(0, |oldest| state.queue.remove_before(oldest));
        let first = state.queue.first_time();
        self.count_pending(&mut state);
        drop(state);
        if dropped > 0 {
            self.counts.dropped(DropReason::Expired, dropped);
            self.log_expiry(dropped);
        }
        let expiry = first?.checked_add(give_up)?;
        Some(expiry.duration_since(now).unwrap_or_default())
    }

    /// Lets an event whose attempt has failed wait again, unless a reload during the attempt has excluded it.
    fn take_back(&self, event: &Event) {
        let mut state = self.state();
        state.queue.stop_sending();
        if state.prepared.accepts(event) {
            return;
        }
        state.queue.remove_first();
        self.count_pending(&mut state);
        drop(state);
        self.drop_ignored(1);
    }

    /// Counts events that a reload has excluded.
    fn drop_ignored(&self, ignored: usize) {
        if ignored > 0 {
            self.counts.dropped(DropReason::Ignored, ignored);
            self.log_ignored(ignored);
        }
    }

    fn remove_first(&self) {
        let mut state = self.state();
        state.queue.remove_first();
        if state.queue.is_empty() {
            state.is_overflowing = false;
        }
        self.count_pending(&mut state);
    }

    fn count(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted(status) => self.counts.answered(*status),
            Outcome::Unavailable { status, .. } | Outcome::Refused { status, .. } => {
                self.counts.failures.increment();
                self.counts.answered(*status);
            }
            Outcome::Failed(_) => self.counts.errors.increment(),
        }
    }

    fn count_pending(&self, state: &mut EndpointState) {
        let pending = state.queue.len() as u64;
        self.counts.pending.move_share(state.pending, pending);
        state.pending = pending;
    }

    fn state(&self) -> MutexGuard<'_, EndpointState> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a random number, and 0 where the machine has none: it only spreads attempts.
fn rand_u32() -> u32 {
    u32::from_be_bytes(super::random().unwrap_or_default())
}

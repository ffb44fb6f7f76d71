//! Destination of the connections of a tunnel: a pod, until it fails and another one takes its place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::failure::{DialError, Refusal, pause_after};
use super::tunnel::TunnelEvent;
use super::{Store, StorePod, needing};
use crate::api::locks::lock;
use crate::api::names::STORE_PUSH_PORT;
use crate::install::port_forward::{ForwardError, PortForward};

/// Time without an answer after which a pod that fails is left for another one. A container that restarts is back by then,
/// and the other pod lacks what this one has got. Time and not a number of attempts: one that a vanished node does not
/// answer takes longer than one that is refused.
const MAX_POD_OUTAGE: Duration = Duration::from_secs(8);

/// Time without an answer after which a pod is left, or the load ends, if no store has answered yet.
const MAX_FIRST_OUTAGE: Duration = Duration::from_secs(2);

/// Time limit for the search of another pod.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Request to which every registry answers.
const PROBE: &[u8] = b"GET /v2/ HTTP/1.1\r\nHost: store\r\n\r\n";

/// Time limit for the answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of times that a load leaves a pod: then the pods fail in turn.
const MAX_MOVES: usize = 8;

/// Time for which a connection of the client waits for a port-forward. Shorter than the client waits for an answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Destination of connections, shared by all of them.
#[derive(Debug)]
pub(super) struct Route {
    store: Store,
    target: Mutex<Arc<Target>>,
    /// Has the names of the pods that were left, the last one last.
    left: tokio::sync::Mutex<Vec<String>>,
    /// True if connections never lead to another pod.
    is_fixed: bool,
    /// True once a store has answered.
    has_answered: AtomicBool,
    last_failure: Mutex<Option<String>>,
    events: mpsc::UnboundedSender<TunnelEvent>,
}

/// Pod that connections lead to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) pod: StorePod,
    failures: Mutex<Failures>,
}

/// Failures of a pod since it answered.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    /// Time at which the first failed attempt began.
    since: Option<Instant>,
    /// Time of the last failure that was counted.
    last: Option<Instant>,
}

// === impl Route ===

impl Route {
    pub(super) fn new(store: Store, pod: StorePod, events: mpsc::UnboundedSender<TunnelEvent>) -> Self {
        Self {
            store,
            target: Mutex::new(Target::new(pod)),
            left: tokio::sync::Mutex::default(),
            is_fixed: false,
            has_answered: AtomicBool::default(),
            last_failure: Mutex::default(),
            events,
        }
    }

    /// Makes all connections lead to this pod.
    pub(super) fn fixed(self) -> Self {
        Self { is_fixed: true, ..self }
    }

    pub(super) fn last_failure(&self) -> Option<String> {
        lock(&self.last_failure).clone()
    }

    pub(super) fn target(&self) -> Arc<Target> {
        lock(&self.target).clone()
    }

    /// Forwards a connection until either side ends it, or no port-forward can be opened in time.
    pub(super) async fn forward(self: Arc<Self>, local: UnixStream) {
        let (began, mut attempts) = (Instant::now(), 0);
        loop {
            let target = self.target();
            let pause = pause_after(target.failures().max(attempts));
            if began.elapsed() + pause > DIAL_TIMEOUT {
                return;
            }
            sleep(pause).await;
            attempts += 1;
            let attempt_began = Instant::now();
            let failure = match self.dial(&target).await {
                Ok(forward) => {
                    let has_answered = AtomicBool::default();
                    let on_data = || {
                        has_answered.store(true, Ordering::Relaxed);
                        self.answered(&target);
                    };
                    if let Some(failure) = forward.copy(local, on_data).await {
                        self.note(&failure.to_string());
                        if !has_answered.into_inner() {
                            self.failed(&target, attempt_began, DialError::Ended(failure)).await;
                        }
                    }
                    return;
                }
                Err(failure) => failure,
            };
            self.note(&failure.to_string());
            match failure {
                DialError::Open(error) if Refusal::of(&error) == Refusal::Final => {
                    let error = needing("get and create pods/portforward", &self.store.namespace, error);
                    return self.emit(TunnelEvent::Failed(error));
                }
                DialError::Open(error) if Refusal::of(&error) == Refusal::Passing => {}
                failure => self.failed(&target, attempt_began, failure).await,
            }
        }
    }

    /// Opens a port-forward to a pod. If the pod has failed since it answered last, it must answer before the client's
    /// requests go there: each request that breaks costs one of the client's attempts.
    async fn dial(&self, target: &Target) -> Result<PortForward, DialError> {
        let Store { cluster, namespace, .. } = &self.store;
        let open = || PortForward::open(cluster, namespace, &target.pod.name, STORE_PUSH_PORT);
        if target.failures() > 0 {
            let (mut near, far) =
                UnixStream::pair().map_err(|error| DialError::Ended(ForwardError::Broken(error)))?;
            let forward = open().await.map_err(DialError::Open)?;
            let asking = async {
                near.write_all(PROBE).await?;
                near.read_u8().await
            };
            let has_answered = AtomicBool::default();
            let on_data = || has_answered.store(true, Ordering::Relaxed);
            let failure = tokio::select! {
                failure = forward.copy(far, on_data) => failure.unwrap_or(ForwardError::Closed),
                // An error of this side means that the copy ends.
                _ = asking => ForwardError::Closed,
                () = sleep(PROBE_TIMEOUT) => ForwardError::Silent,
            };
            // A registry may close the connection right after its answer.
            if !has_answered.into_inner() {
                return Err(DialError::Ended(failure));
            }
            self.answered(target);
        }
        open().await.map_err(DialError::Open)
    }

    /// Notes that a pod answers.
    fn answered(&self, target: &Target) {
        self.has_answered.store(true, Ordering::Relaxed);
        *lock(&target.failures) = Failures::default();
    }

    /// Keeps a failure for the error of the load.
    fn note(&self, why: &str) {
        *lock(&self.last_failure) = Some(why.to_owned());
    }

    fn emit(&self, event: TunnelEvent) {
        // Without a receiver the load has ended.
        let _ = self.events.send(event);
    }

    /// Counts a failure of a pod, and moves to another one when it has failed for long enough. Gives up if there is none
    /// and no store has answered yet.
    async fn failed(&self, target: &Arc<Target>, began: Instant, failure: DialError) {
        let outage = target.count_failure(began);
        let is_gone = matches!(&failure, DialError::Open(error) if Refusal::of(error) == Refusal::Gone);
        let has_answered = self.has_answered.load(Ordering::Relaxed);
        let limit = if has_answered { MAX_POD_OUTAGE } else { MAX_FIRST_OUTAGE };
        if outage < limit && !is_gone {
            return;
        }
        let mut left = self.left.lock().await;
        if !Arc::ptr_eq(target, &self.target()) {
            return;
        }
        left.push(target.pod.name.clone());
        // A list that fails says nothing of other pods; the next failure asks for it again.
        let found = if self.is_fixed {
            None
        } else {
            timeout(SEARCH_TIMEOUT, self.store.pod(&left)).await.ok().and_then(Result::ok).flatten()
        };
        let Some(to) = found else {
            left.pop();
            if outage >= limit && !has_answered {
                self.emit(TunnelEvent::Failed(failure.into()));
            }
            return;
        };
        if left.len() > MAX_MOVES {
            return self.emit(TunnelEvent::Failed(failure.into()));
        }
        *lock(&self.target) = Target::new(to.clone());
        self.emit(TunnelEvent::Moved { from: target.pod.clone(), to, why: failure.to_string() });
    }
}

// === impl Target ===

impl Target {
    fn new(pod: StorePod) -> Arc<Self> {
        Arc::new(Self { pod, failures: Mutex::default() })
    }

    /// Returns the number of failures since the pod answered.
    fn failures(&self) -> u32 {
        lock(&self.failures).count
    }

    /// Counts the failure of an attempt that began at some time, and returns the time since the first failed attempt began.
    /// Attempts that were made at the same time count once.
    fn count_failure(&self, began: Instant) -> Duration {
        let mut failures = lock(&self.failures);
        if failures.last.is_none_or(|last| began >= last) {
            failures.count += 1;
            failures.last = Some(Instant::now());
        }
        let since = failures.since.map_or(began, |since| since.min(began));
        failures.since = Some(since);
        since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_at_the_same_time_fail_once() {
        let target = Target::new(StorePod { name: "a".into(), node: "n".into() });
        let began = Instant::now();
        assert_eq!([began; 3].map(|began| (target.count_failure(began), target.failures()).1), [1, 1, 1]);
        target.count_failure(Instant::now());
        assert_eq!(target.failures(), 2);
    }

    #[test]
    fn an_outage_lasts_from_the_beginning_of_the_first_failed_attempt() {
        let target = Target::new(StorePod { name: "a".into(), node: "n".into() });
        let now = Instant::now();
        let Some(long_ago) = now.checked_sub(MAX_POD_OUTAGE) else { return };
        // One attempt that was not answered counts as much as many that were refused.
        assert!(target.count_failure(long_ago) >= MAX_POD_OUTAGE);
        assert!(target.count_failure(now) >= MAX_POD_OUTAGE);
    }
}

//! Health checks: whether the registry is fit to serve.
//!
//! The checks run in the background and never within a request. While one fails, every request on the public
//! port is answered with 503, so that a load balancer takes the node out; which check it is shows the debug
//! listener alone.

mod probe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::probe::RunningProbe;

pub use self::probe::{HttpProbe, InvalidUri, Probe};

/// Interval of a check for which none is given.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// Check, and the rule by which its failures count.
#[derive(Clone, Debug)]
pub struct Check {
    /// Name by which the debug listener shows the check.
    pub name: String,
    /// Way to check.
    pub probe: Probe,
    /// Time between two probes; zero means [`DEFAULT_INTERVAL`].
    pub interval: Duration,
    /// Number of failures in a row from which the check fails; 0 means 1.
    pub threshold: u32,
}

/// State of all checks. Clones share it; the checks end with the last of them.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<SharedStates>,
    /// Tasks that run the checks, aborted when this is dropped.
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug)]
struct SharedStates {
    states: Mutex<Vec<CheckState>>,
    /// Number of checks that fail.
    failing: AtomicUsize,
}

#[derive(Debug)]
struct CheckState {
    name: String,
    threshold: u32,
    /// Failures in a row.
    failures: u32,
    /// Message of the last failure, once the check fails.
    message: Option<String>,
}

// === impl Health ===

impl Health {
    /// Starts the checks. Those of files have their first result at once, all others soon. Needs a running
    /// tokio runtime.
    #[must_use]
    pub fn start(checks: impl IntoIterator<Item = Check>) -> Self {
        Self::start_after(None, checks)
    }

    /// Starts the checks in place of `former` ones. A check begins with what the former check of its name knows,
    /// so that a node that is out of its balancer does not return for a moment.
    #[must_use]
    pub fn start_after(former: Option<&Self>, checks: impl IntoIterator<Item = Check>) -> Self {
        let checks: Vec<Check> = checks.into_iter().collect();
        let former = former.map(|former| former.shared.states());
        let states: Vec<CheckState> = checks
            .iter()
            .map(|check| CheckState::new(check, former.as_ref().map_or(&[][..], |states| states.as_slice())))
            .collect();
        drop(former);
        let failing = states.iter().filter(|state| state.message.is_some()).count();
        let shared =
            Arc::new(SharedStates { states: Mutex::new(states), failing: AtomicUsize::new(failing) });
        let mut tasks = JoinSet::new();
        for (index, check) in checks.into_iter().enumerate() {
            if let Probe::File(path) = &check.probe {
                shared.report(index, probe::check_absent(path));
            }
            tasks.spawn(run(check, index, shared.clone()));
        }
        Self { shared, _tasks: Arc::new(tasks) }
    }

    /// Returns true if a check fails.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed) > 0
    }

    /// Returns the names of the checks that fail, each with its message.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, String> {
        let states = self.shared.states();
        states.iter().filter_map(|state| Some((state.name.clone(), state.message.clone()?))).collect()
    }
}

/// Runs a check for ever.
async fn run(check: Check, index: usize, shared: Arc<SharedStates>) {
    let interval = if check.interval.is_zero() { DEFAULT_INTERVAL } else { check.interval };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Probe::File(_) = check.probe {
        // The result of the start holds until the first interval has passed.
        ticks.reset();
    }
    let mut running = RunningProbe::new(check.probe, interval);
    loop {
        ticks.tick().await;
        shared.report(index, running.probe().await);
    }
}

// === impl Shared ===

impl SharedStates {
    fn states(&self) -> MutexGuard<'_, Vec<CheckState>> {
        // Nothing panics between two changes that belong together.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of a probe.
    fn report(&self, index: usize, result: Result<(), String>) {
        let mut states = self.states();
        let state = &mut states[index];
        let did_fail = state.message.is_some();
        state.report(result);
        match (did_fail, &state.message) {
            (false, Some(message)) => {
                tracing::warn!(check = %state.name, %message, "health check failed, answering 503");
                self.failing.fetch_add(1, Ordering::Relaxed);
            }
            (true, None) => {
                tracing::info!(check = %state.name, "health check succeeded again");
                self.failing.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

// === impl State ===

impl CheckState {
    fn new(check: &Check, former: &[Self]) -> Self {
        let former = former.iter().find(|former| former.name == check.name);
        Self {
            name: check.name.clone(),
            threshold: check.threshold.max(1),
            failures: former.map_or(0, |former| former.failures),
            message: former.and_then(|former| former.message.clone()),
        }
    }

    fn report(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.failures = 0;
                self.message = None;
            }
            Err(message) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.threshold {
                    self.message = Some(message);
                }
            }
        }
    }
}

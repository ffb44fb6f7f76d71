//! Scrub of the stored content: a task that makes the rounds of the store, by the current settings.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinistry_oci::WithCauses;
use quinistry_store::{HealSource, ScrubClock, ScrubOptions, ScrubStep, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::low_priority::at_low_priority;
use crate::settings::Settings;

/// Pause after a failure, or a loss of the lead.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// Settings for the scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// Time in which all content is read once; zero if only content is checked that a client's read found
    /// damaged.
    pub interval: Duration,
    /// Greatest number of bytes that are read per second.
    pub rate: NonZeroU64,
}

impl Scrub {
    /// Time in which all content is read once by default.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_hours(30 * 24);

    /// Greatest number of bytes per second by default.
    pub const DEFAULT_RATE: NonZeroU64 = NonZeroU64::new(32 * 1024 * 1024).expect("32 MiB is not 0");
}

impl Default for Scrub {
    fn default() -> Self {
        Self { interval: Self::DEFAULT_INTERVAL, rate: Self::DEFAULT_RATE }
    }
}

/// Clock of this machine, whose pauses end early when the scrub shall stop.
#[derive(Debug)]
struct StopClock {
    begun: Instant,
    is_stopping: Mutex<bool>,
    stopped: Condvar,
}

impl StopClock {
    fn new() -> Self {
        Self { begun: Instant::now(), is_stopping: Mutex::new(false), stopped: Condvar::new() }
    }

    fn stop(&self) {
        *self.is_stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
    }
}

impl ScrubClock for StopClock {
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn pause(&self, duration: Duration) -> ControlFlow<()> {
        let is_stopping = self.is_stopping.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stopped.wait_timeout_while(is_stopping, duration, |is_stopping| !*is_stopping);
        let (is_stopping, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *is_stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Stops the scrub when dropped: the task may be aborted while a thread reads.
struct StopOnDrop(Arc<StopClock>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Returns the scrub that holds by `settings`: none for a registry that is read-only.
fn in_force(settings: &Settings) -> Option<Scrub> {
    Some(settings.scrub).filter(|_| !settings.read_only)
}

/// Scrubs the store for as long as the registry runs, and continues at once after settings that concern it
/// were replaced, this replica has become the one that leads, or a read found damage.
pub(crate) async fn run(
    store: Store,
    sources: Vec<Arc<dyn HealSource>>,
    mut settings: watch::Receiver<Arc<Settings>>,
) {
    let mut gains = store.lead_gains();
    loop {
        let scrub = in_force(&settings.borrow_and_update());
        let mut wait = None;
        if let Some(scrub) = scrub {
            let clock = Arc::new(StopClock::new());
            let _stop = StopOnDrop(clock.clone());
            let options =
                ScrubOptions { interval: scrub.interval, rate: scrub.rate, sources: sources.clone() };
            let (store, step_clock) = (store.clone(), clock.clone());
            let mut working =
                tokio::task::spawn_blocking(move || at_low_priority(|| step(&store, &options, &step_clock)));
            let worked = tokio::select! {
                worked = &mut working => Some(worked),
                changed = settings.wait_for(|settings| in_force(settings) != Some(scrub)) => {
                    if changed.is_err() {
                        return;
                    }
                    None
                }
            };
            let worked = if let Some(worked) = worked {
                worked
            } else {
                clock.stop();
                working.await
            };
            // Only a panic, which is logged, or the end of the runtime ends the scrub.
            let Ok(worked) = worked else { return };
            wait = Some(worked.unwrap_or_else(|error| {
                tracing::warn!(error = %WithCauses(&error), "cannot check stored content, trying again");
                RETRY_INTERVAL
            }));
        }
        let next = async {
            match wait {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => {}
            () = gains.next() => {}
            () = store.suspected(), if scrub.is_some() => {}
            changed = settings.wait_for(|settings| in_force(settings) != scrub) => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Checks suspects, and the next shard if this replica leads. Returns the time until the next step.
fn step(store: &Store, options: &ScrubOptions, clock: &StopClock) -> Result<Duration, StoreError> {
    let lead = store.lead().filter(|_| !options.interval.is_zero());
    let step = match &lead {
        Some(lead) => store.scrub_step(options, clock, lead)?,
        None => store.scrub_suspects(options, clock)?,
    };
    Ok(match step {
        ScrubStep::Waits(wait) => wait,
        ScrubStep::Stopped => RETRY_INTERVAL,
    })
}

#[cfg(test)]
mod tests;

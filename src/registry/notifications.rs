//! Notifications: events about pushes, pulls, mounts and deletions, sent to endpoints over HTTP, as
//! distribution sends them.
//!
//! A request announces what it has done (`Announcer`), which puts events into a bounded queue of each
//! endpoint (`queue`) and never waits. A task of each endpoint (`endpoint`) sends them in order, one
//! after the other; what follows from an answer is decided without a clock or a network (`delivery`).
//! Events are in memory alone: those that wait when the process dies are lost.

mod announcer;
mod counts;
mod delivery;
mod endpoint;
mod envelope;
mod event;
mod loop_watch;
mod queue;
mod references;
mod sender;
mod settings;
mod signature;
#[cfg(test)]
mod tests;
mod weight;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::Uri;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::counts::EndpointCounts;
use self::endpoint::Endpoint;
use self::event::{Event, RequestRecord, Target, event_id};

pub(crate) use self::announcer::{AnnouncedManifest, Announcer, References};
pub use self::counts::EndpointStatistics;
pub use self::delivery::DropReason;
pub use self::endpoint::PreparedEndpoint;
pub use self::envelope::{EnvelopeVersion, EventSource};
pub use self::event::Action;
pub use self::settings::{EndpointSettings, EndpointUrl};
pub use self::signature::{InvalidSecret, SigningSecret};

/// Endpoints that run, and their numbers. They outlive the settings, so that no event is lost at a reload.
#[derive(Debug, Default)]
pub struct Notifications {
    source: Arc<EventSource>,
    running: Mutex<Vec<RunningEndpoint>>,
    /// Numbers by the names of endpoints, also of those that were removed.
    counts: Mutex<BTreeMap<String, Arc<EndpointCounts>>>,
}

#[derive(Debug)]
struct RunningEndpoint {
    endpoint: Arc<Endpoint>,
    task: JoinHandle<()>,
}

/// Settings of events, beside those of the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSettings {
    /// True if events of manifests name their parts.
    pub includes_references: bool,
    /// URL whose scheme and authority the URLs in events have; `None` for those of the request.
    pub public_url: Option<Uri>,
}

/// Endpoints of the settings in use, to which events are given.
#[derive(Debug)]
pub struct Notifier {
    endpoints: Vec<Arc<Endpoint>>,
    settings: EventSettings,
    /// Actions that at least one endpoint gets.
    wanted: Vec<Action>,
}

// === impl Notifications ===

impl Notifications {
    /// Makes the place of the endpoints of a registry, which has none yet. `address` is the registry's host
    /// name and port, by which receivers tell registries apart.
    #[must_use]
    pub fn new(address: String) -> Self {
        let instance_id = new_id(SystemTime::now(), 0).to_string();
        Self { source: Arc::new(EventSource { address, instance_id }), ..Self::default() }
    }

    /// Starts, changes and ends endpoints so that they are those of a configuration; one is the same if its
    /// name is. Returns where events are given to them; `None` if there is no endpoint. Must be called within
    /// a runtime.
    pub fn apply(
        &self,
        wanted: Vec<Arc<PreparedEndpoint>>,
        settings: EventSettings,
    ) -> Option<Arc<Notifier>> {
        let mut running = self.running();
        let mut former = std::mem::take(&mut *running);
        let actions = |action: &Action| wanted.iter().any(|prepared| prepared.settings.wants(*action));
        let actions: Vec<Action> = Action::ALL.into_iter().filter(actions).collect();
        for prepared in wanted {
            let name = prepared.settings.name.clone();
            if let Some(index) = former.iter().position(|running| running.endpoint.name() == name) {
                let same = former.swap_remove(index);
                same.endpoint.replace(&prepared);
                running.push(same);
            } else {
                let counts = self.counts_of(&name);
                let endpoint = Arc::new(Endpoint::new(prepared, self.source.clone(), counts));
                endpoint.log_place();
                let task = tokio::spawn(endpoint.clone().run());
                running.push(RunningEndpoint { endpoint, task });
            }
        }
        // The tasks end by themselves.
        for removed in &former {
            removed.endpoint.remove();
        }
        let endpoints: Vec<_> = running.iter().map(|running| running.endpoint.clone()).collect();
        drop(running);
        if endpoints.is_empty() {
            return None;
        }
        Some(Arc::new(Notifier { endpoints, settings, wanted: actions }))
    }

    /// Sends the events that wait, for at most `timeout`, and ends all endpoints. An endpoint whose receiver
    /// takes no events goes on trying, and ends early if its next attempt would come too late. Logs how many
    /// events are left. Call when no request runs any more.
    pub async fn drain(&self, timeout: Duration) {
        let running = std::mem::take(&mut *self.running());
        let deadline = tokio::time::Instant::now() + timeout;
        for running in &running {
            running.endpoint.drain(deadline);
        }
        let mut left = 0;
        for RunningEndpoint { endpoint, mut task } in running {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
            left += endpoint.drop_rest();
        }
        if left > 0 {
            tracing::warn!(events = left, "registry stops, events not sent");
        }
    }

    /// Returns the numbers of all endpoints that there were, sorted by name.
    #[must_use]
    pub fn statistics(&self) -> Vec<EndpointStatistics> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(name, counts)| counts.read(name)).collect()
    }

    /// Returns names and URLs of the endpoints, without anything that may be a secret, and their numbers.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(String, EndpointStatistics)> {
        let running = self.running();
        let endpoints = running.iter().map(|running| &running.endpoint);
        endpoints.map(|endpoint| (endpoint.url(), endpoint.counts.read(endpoint.name()))).collect()
    }

    fn counts_of(&self, name: &str) -> Arc<EndpointCounts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(name.to_owned()).or_default().clone()
    }

    fn running(&self) -> MutexGuard<'_, Vec<RunningEndpoint>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Notifier ===

impl Notifier {
    /// Returns true if an endpoint gets events of an action.
    pub(crate) fn wants(&self, action: Action) -> bool {
        self.wanted.contains(&action)
    }

    /// Queues events that happened now, in this order.
    fn notify(
        &self,
        (action, targets): (Action, Vec<Target>),
        request: Option<&Arc<RequestRecord>>,
        actor: Option<&Arc<str>>,
    ) {
        self.notify_at(SystemTime::now(), (action, targets), request, actor);
    }

    fn notify_at(
        &self,
        time: SystemTime,
        (action, targets): (Action, Vec<Target>),
        request: Option<&Arc<RequestRecord>>,
        actor: Option<&Arc<str>>,
    ) {
        let event = |(place, target)| {
            let (request, actor) = (request.cloned(), actor.cloned());
            Arc::new(Event { id: new_id(time, place), time, action, target, request, actor })
        };
        let events: Vec<Arc<Event>> = targets.into_iter().enumerate().map(event).collect();
        for endpoint in &self.endpoints {
            endpoint.push(&events);
        }
    }
}

/// Returns a new identifier.
fn new_id(time: SystemTime, place: usize) -> Uuid {
    // Without random numbers, identifiers differ by time and place alone.
    event_id(time, place, random().unwrap_or_default())
}

/// Returns random bytes; `None` if the machine has none.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

//! States of the connections to upstreams, recorded in the storage, where a command reads them.
//!
//! Each process knows its own connections. Of several replicas, the one that leads records what it knows.

use std::time::{Instant, SystemTime};

use quinistry_oci::{WithCauses, to_json};
use quinistry_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use super::Upstreams;
use super::circuit::CircuitState;
use crate::{LimitedStore, Settings, rfc3339};

/// States of all upstreams, as the process that leads has recorded them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStates {
    /// Time at which one of the states changed last, by RFC 3339.
    pub recorded_at: String,
    /// State of each upstream.
    pub upstreams: Vec<UpstreamState>,
}

/// State of the connection to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamState {
    /// Prefix of the upstream, or its host without a prefix.
    pub name: String,
    /// Kind of the state.
    pub state: ConnectionState,
    /// Time of the first failure in a row of an upstream that fails, by RFC 3339.
    pub failing_since: Option<String>,
    /// Last failure of an upstream that fails.
    pub last_error: Option<String>,
    /// Time until which an upstream that limits requests is not asked, by RFC 3339.
    pub paused_until: Option<String>,
}

/// Kind of the state of a connection to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConnectionState {
    /// The upstream was not asked since the start of the registry.
    NotAsked,
    /// The upstream answers.
    Up,
    /// The upstream has failed several times in a row, and is asked one question from time to time.
    Failing,
    /// The upstream limits requests, and is not asked.
    Paused,
}

/// States that were recorded last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordedStates {
    /// Term of the lead of this process. Between two terms, another process may have recorded its own states.
    term: Option<u64>,
    /// Name and state of each upstream.
    states: Vec<(String, CircuitState)>,
}

/// Records the states if one has changed since the last record, and this process leads.
pub(super) async fn record(
    stored: &LimitedStore,
    settings: &Settings,
    recorded: &mut Option<RecordedStates>,
) {
    let Some((upstreams, lead)) = settings.upstreams.as_ref().zip(stored.store.lead()) else { return };
    let states = RecordedStates { term: lead.term(), states: upstreams.states(stored) };
    if recorded.as_ref() == Some(&states) {
        return;
    }
    let record = to_json(&UpstreamStates::new(&states.states, (Instant::now(), SystemTime::now())));
    match stored.run(move |store| store.record_upstream_states(&record)).await {
        Ok(()) => *recorded = Some(states),
        Err(error) => {
            tracing::warn!(error = %WithCauses(&error), "cannot record states of upstreams, trying again");
        }
    }
}

/// Reads the record of a storage; `None` without one. Blocks.
pub fn recorded_states(store: &Store) -> Result<Option<UpstreamStates>, StoreError> {
    // A record of another version of this program is as good as none.
    Ok(store.upstream_states()?.and_then(|record| serde_json::from_slice(&record).ok()))
}

impl Upstreams {
    fn states(&self, stored: &LimitedStore) -> Vec<(String, CircuitState)> {
        let state = |upstream: &std::sync::Arc<super::CachedUpstream>| {
            let state = upstream.counts(stored).circuit().state(upstream.clock.now());
            (upstream.name.to_string(), state)
        };
        self.cached.iter().map(state).collect()
    }
}

impl UpstreamStates {
    fn new(states: &[(String, CircuitState)], (now, time): (Instant, SystemTime)) -> Self {
        let before = |at: Instant| rfc3339(time - now.saturating_duration_since(at));
        let after = |at: Instant| rfc3339(time + at.saturating_duration_since(now));
        let state = |(name, state): &(String, CircuitState)| {
            let plain = |state| UpstreamState {
                name: name.clone(),
                state,
                failing_since: None,
                last_error: None,
                paused_until: None,
            };
            match state {
                CircuitState::NotAsked => plain(ConnectionState::NotAsked),
                CircuitState::Up => plain(ConnectionState::Up),
                CircuitState::Failing { since, error } => UpstreamState {
                    failing_since: Some(before(*since)),
                    last_error: Some(error.clone()),
                    ..plain(ConnectionState::Failing)
                },
                CircuitState::Paused { until } => {
                    UpstreamState { paused_until: Some(after(*until)), ..plain(ConnectionState::Paused) }
                }
            }
        };
        Self { recorded_at: rfc3339(time), upstreams: states.iter().map(state).collect() }
    }
}

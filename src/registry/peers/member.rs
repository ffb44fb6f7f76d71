//! One peer: a question to it, and the pauses in which it is left out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quinistry_fetch::{Peer, SourceError};
use quinistry_oci::WithCauses;
use tokio::time::{sleep, timeout};

use super::Peers;
use super::rounds::{Miss, SHORT_PATIENCE, Turn};
use crate::metrics::PeerCounts;
use crate::upstreams::circuit::Circuit;

/// Longest pause of a peer that does not answer. An address of a service leads to another store soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Peer with the state of the connection to it.
#[derive(Debug)]
pub(super) struct Member {
    peer: Arc<dyn Peer>,
    pub(super) counts: Arc<PeerCounts>,
    circuit: Mutex<Circuit>,
}

impl Member {
    pub(super) fn new(peer: Arc<dyn Peer>, counts: Arc<PeerCounts>) -> Self {
        Self { peer, counts, circuit: Mutex::new(Circuit::with_longest_pause(LONGEST_PAUSE)) }
    }

    pub(super) fn name(&self) -> &str {
        self.peer.name()
    }

    /// Returns the peer for a question, which needs a new connection if it is a repeat.
    pub(super) fn peer(&self, is_repeat: bool) -> &dyn Peer {
        if is_repeat { self.peer.on_new_connections() } else { &*self.peer }
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a question. A peer that is left out now is asked as the last resort alone, and has
    /// [`SourceError::Limited`] otherwise.
    pub(super) async fn ask<T>(
        &self,
        now: impl Fn() -> Instant,
        Turn { patience, is_last_resort, .. }: Turn,
        question: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        if self.circuit().admit(now()).is_err() && !is_last_resort {
            return Err(SourceError::Limited { retry_after: None });
        }
        let answer = timeout(patience, question).await.unwrap_or(Err(SourceError::Silent));
        self.counts.note(answer.as_ref().err());
        // A store that hashes a long blob is silent for a while, and not away.
        let is_busy = matches!(answer, Err(SourceError::Silent)) && patience <= SHORT_PATIENCE;
        if is_busy {
            self.circuit().give_up_probe(now());
        }
        let is_away = !is_busy && {
            let mut circuit = self.circuit();
            let is_away = circuit.note(answer.as_ref().err(), now());
            self.counts.set_up(circuit.is_up());
            is_away
        };
        let peer = self.name();
        match &answer {
            Err(error) if is_away => {
                tracing::warn!(%peer, error = %WithCauses(error), "peer away, not asked for some seconds");
            }
            Err(error @ SourceError::Invalid(_)) => {
                tracing::warn!(%peer, error = %WithCauses(error), "peer gave no valid answer");
            }
            _ => {}
        }
        answer
    }
}

impl Peers {
    /// Asks a short question of one peer.
    pub(super) async fn ask<T>(
        &self,
        turn: Turn,
        question: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, Miss> {
        turn.wait().await;
        let _permit = self.question_permits.acquire().await.expect("the semaphore is never closed");
        let answer = self.members[turn.peer].ask(|| self.clock.now(), turn, question).await;
        answer.map_err(|error| Miss::of(&error))
    }
}

impl Turn {
    /// Waits before the question, if it shall.
    pub(super) async fn wait(self) {
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
    }
}

impl Miss {
    pub(super) fn of(error: &SourceError) -> Self {
        match error {
            SourceError::Silent => Self::Unanswered,
            SourceError::Unavailable(_) => Self::Unreachable,
            SourceError::Limited { .. } => Self::LeftOut,
            SourceError::NotFound => Self::Denied,
            SourceError::Busy => Self::Busy,
            SourceError::Refused | SourceError::Invalid(_) | SourceError::Circular => Self::Absent,
        }
    }
}

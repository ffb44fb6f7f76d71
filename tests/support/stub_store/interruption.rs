//! An act of the test in the midst of a request, such as the end of the client.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use quinistry_bucket::testing::{RequestKind, SentRequest};

/// Moment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The request has come, and is not carried out.
    Before,
    /// The request is carried out, and is not answered.
    After,
}

/// An act at one request of a client; the connection then ends without an answer.
pub struct Interruption {
    /// Text that the client's `User-Agent` contains.
    pub agent: &'static str,
    /// Kind of the requests that are counted.
    pub kind: RequestKind,
    /// Returns true for those of them that are counted.
    pub counts: fn(&SentRequest) -> bool,
    /// Number of the request, from 1, among those of the client that are counted from now on.
    pub number: usize,
    pub moment: Moment,
    pub act: Box<dyn FnOnce() + Send>,
}

/// The interruption that a test has set, and whether it has happened.
#[derive(Debug, Default)]
pub(super) struct Interruptions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    set: Option<Interruption>,
    is_interrupted: bool,
}

impl fmt::Debug for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, kind, counts: _, number, moment, act: _ } = self;
        f.debug_struct("Interruption")
            .field("agent", agent)
            .field("kind", kind)
            .field("number", number)
            .field("at", moment)
            .finish()
    }
}

impl Interruptions {
    pub(super) fn set(&self, interruption: Interruption) {
        *self.lock() = State { set: Some(interruption), is_interrupted: false };
    }

    /// Returns true if a request was interrupted, and forgets an interruption that is still to come.
    pub(super) fn take(&self) -> bool {
        std::mem::take(&mut *self.lock()).is_interrupted
    }

    /// Counts a request, and returns the interruption that it is due for.
    pub(super) fn due(&self, agent: &str, request: &SentRequest) -> Option<Interruption> {
        let mut state = self.lock();
        let is_counted = |set: &Interruption| {
            agent.contains(set.agent) && request.kind == set.kind && (set.counts)(request)
        };
        let set = state.set.as_mut().filter(|set| is_counted(set))?;
        set.number -= 1;
        if set.number > 0 {
            return None;
        }
        state.is_interrupted = true;
        state.set.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

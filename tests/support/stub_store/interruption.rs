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
    /// Returns true for the requests that are counted.
    pub counts: fn(&SentRequest) -> bool,
    /// Number of the request, from 1, among those of the client that are counted from now on.
    pub number: usize,
    pub moment: Moment,
    pub act: Box<dyn FnOnce() + Send>,
}

/// The interruption that a test has set, and the kind of the request at which it happened.
#[derive(Debug, Default)]
pub(super) struct Interruptions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    set: Option<Interruption>,
    interrupted: Option<RequestKind>,
}

impl fmt::Debug for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, counts: _, number, moment, act: _ } = self;
        f.debug_struct("Interruption")
            .field("agent", agent)
            .field("number", number)
            .field("at", moment)
            .finish()
    }
}

impl Interruptions {
    pub(super) fn set(&self, interruption: Interruption) {
        *self.lock() = State { set: Some(interruption), interrupted: None };
    }

    /// Returns the kind of the request that was interrupted, if one was, and forgets an interruption that is still
    /// to come.
    pub(super) fn take(&self) -> Option<RequestKind> {
        std::mem::take(&mut *self.lock()).interrupted
    }

    /// Counts a request, and returns the interruption that it is due for.
    pub(super) fn due(&self, agent: &str, request: &SentRequest) -> Option<Interruption> {
        let mut state = self.lock();
        let set = state.set.as_mut().filter(|set| agent.contains(set.agent) && (set.counts)(request))?;
        set.number -= 1;
        if set.number > 0 {
            return None;
        }
        state.interrupted = Some(request.kind);
        state.set.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

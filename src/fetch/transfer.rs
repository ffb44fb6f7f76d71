//! One transfer as a state machine: answers, bytes and breaks in; requests, hashing and verdicts out. Pure.
//!
//! Bytes that were received stay: a transfer that breaks is continued behind them, by `Range` if the source can tell
//! that the content is the same (`If-Range`), else by a whole answer whose beginning is skipped. The hash runs over the
//! bytes that were received, so that a mixture of two contents cannot pass.
//!
//! A long transfer may break any number of times, as long as enough new bytes come between two breaks.

#[cfg(test)]
mod tests;

use quinistry_oci::Digest;

use crate::error::Lie;
use crate::policy;
use crate::source::{Answer, Validator};

/// Most continuations of a transfer that breaks without progress.
const MAX_RESUMES: u8 = 3;

/// New bytes that count as progress. A source that gives fewer for each request would be asked millions of
/// times.
const PROGRESS_BYTES: u64 = 64 * 1024;

/// Most whole answers after the first: each costs the source all bytes again.
const MAX_RESTARTS: u8 = 1;

/// State of a transfer.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    digest: Digest,
    /// Length of the content, once it is known.
    length: Option<u64>,
    /// Number of received bytes, without a gap from the first.
    received: u64,
    /// State of the content at the source, by its last answer.
    validator: Option<Validator>,
    was_answered: bool,
    /// True if the current answer begins with the first byte, which an earlier answer has brought.
    is_repeated: bool,
    /// Number of received bytes at the last progress.
    progressed_to: u64,
    resumes_left: u8,
    restarts_left: u8,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The source was asked for the bytes from an offset.
    Asking {
        from: u64,
    },
    /// An answer is read; its next byte is at this offset.
    Reading {
        at: u64,
    },
    /// All bytes were received, and are compared with the digest.
    Hashing,
    Over,
}

/// Event of a transfer, beside received bytes.
#[derive(Clone, Debug)]
pub(crate) enum Event<'a> {
    /// The source has answered.
    Answered(&'a Answer),
    /// The answer has ended.
    Ended,
    /// There was no answer, or it was cut off, or no byte came for too long.
    Broken,
    /// The source was asked in vain for as long as is useful.
    GivenUp,
    /// The received bytes have the digest, or not.
    Hashed(bool),
}

/// Next step of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the source for the bytes from an offset, as long as its content is in the state of the validator.
    Ask { from: u64, validator: Option<Validator>, is_first: bool },
    /// Read the answer.
    Read,
    /// Compare the received bytes with the digest.
    Hash,
    /// Send the withheld bytes to the clients, and store the blob.
    Release,
    /// Cut off all clients, and store nothing.
    Fail(Fault),
}

/// Reasons why a transfer fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The source has never answered.
    Unanswered,
    LengthUnknown,
    /// The transfer broke too often, or the source stayed away.
    Broken,
    Lie(Lie),
}

impl Transfer {
    /// Begins a transfer of content, whose length may be known. The first step is [`Action::Ask`] from 0.
    pub(crate) fn new(digest: Digest, length: Option<u64>) -> Self {
        Self {
            digest,
            length,
            received: 0,
            validator: None,
            was_answered: false,
            is_repeated: false,
            progressed_to: 0,
            resumes_left: MAX_RESUMES,
            restarts_left: MAX_RESTARTS,
            phase: Phase::Asking { from: 0 },
        }
    }

    /// Returns the transfer of another receiver, who has the first `received` bytes of this one, and its first step.
    pub(crate) fn continued_from(&self, received: u64) -> (Self, Action) {
        let mut other = Self { received, progressed_to: received, ..self.clone() };
        (other.resumes_left, other.restarts_left) = (MAX_RESUMES, MAX_RESTARTS);
        let first = other.next_request();
        other.enter(&first);
        (other, first)
    }

    /// Returns the first step.
    pub(crate) fn first_step() -> Action {
        Action::Ask { from: 0, validator: None, is_first: true }
    }

    /// Returns the length in bytes, once it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns the number of received bytes, without a gap from the first.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns the number of bytes that clients may have before the hash holds.
    pub(crate) fn unverified(&self) -> u64 {
        self.length.map_or(0, |length| self.received.min(policy::unverified_limit(length)))
    }

    /// Returns true if the transfer goes on although no client waits.
    pub(crate) fn goes_on_alone(&self) -> bool {
        matches!(self.phase, Phase::Hashing | Phase::Over)
            || self.length.is_some_and(|length| policy::goes_on_alone(self.received, length))
    }

    /// Takes note of the next `bytes` bytes of the answer. Returns the number of those at its beginning that are
    /// there already.
    pub(crate) fn receive(&mut self, bytes: u64) -> Result<u64, Fault> {
        let (Phase::Reading { at }, Some(length)) = (self.phase, self.length) else { return Ok(bytes) };
        let end = at.saturating_add(bytes);
        if end > length {
            self.phase = Phase::Over;
            return Err(Fault::Lie(Lie::Long));
        }
        let known = bytes.min(self.received - at);
        self.received = self.received.max(end);
        // Answers that begin with the first byte again count, whatever they bring: a source that ignores ranges could
        // else send everything again for each piece of progress.
        if !self.is_repeated && self.received - self.progressed_to >= PROGRESS_BYTES {
            (self.progressed_to, self.resumes_left) = (self.received, MAX_RESUMES);
        }
        self.phase = Phase::Reading { at: end };
        Ok(known)
    }

    /// Takes note of an event, and returns the next step.
    pub(crate) fn on(&mut self, event: &Event<'_>) -> Action {
        let action = match (self.phase, event) {
            (Phase::Asking { from }, Event::Answered(answer)) => self.answered(from, answer),
            (Phase::Asking { .. }, Event::Broken | Event::GivenUp) if !self.was_answered => {
                Action::Fail(Fault::Unanswered)
            }
            // All bytes are there: an end that does not come tells nothing.
            (Phase::Reading { .. }, Event::Broken) if self.is_complete() => Action::Hash,
            (Phase::Asking { .. } | Phase::Reading { .. }, Event::Broken) => self.next_request(),
            (Phase::Reading { at }, Event::Ended) if self.length == Some(at) => Action::Hash,
            (Phase::Reading { .. }, Event::Ended) => Action::Fail(Fault::Lie(Lie::Short)),
            (Phase::Hashing, Event::Hashed(true)) => Action::Release,
            (Phase::Hashing, Event::Hashed(false)) => Action::Fail(Fault::Lie(Lie::Digest)),
            // A source that was given up after it had answered once. No caller has other events.
            _ => Action::Fail(Fault::Broken),
        };
        self.enter(&action);
        action
    }

    /// Enters the phase of a step.
    fn enter(&mut self, action: &Action) {
        self.phase = match action {
            Action::Ask { from, .. } => Phase::Asking { from: *from },
            Action::Read => self.phase,
            Action::Hash => Phase::Hashing,
            Action::Release | Action::Fail(_) => Phase::Over,
        };
    }

    fn is_complete(&self) -> bool {
        self.length == Some(self.received)
    }

    fn answered(&mut self, from: u64, answer: &Answer) -> Action {
        if answer.is_encoded {
            return Action::Fail(Fault::Lie(Lie::Encoded));
        }
        // A digest of another algorithm cannot be compared.
        let is_other =
            |digest: &Digest| digest.algorithm() == self.digest.algorithm() && *digest != self.digest;
        if answer.digest.as_ref().is_some_and(is_other) {
            return Action::Fail(Fault::Lie(Lie::DigestHeader));
        }
        match (self.length, answer.length) {
            (None, None) => return Action::Fail(Fault::LengthUnknown),
            (Some(known), Some(declared)) if known != declared => {
                return Action::Fail(Fault::Lie(Lie::LengthHeader));
            }
            (known, declared) => self.length = known.or(declared),
        }
        self.was_answered = true;
        // A part may follow what is there only if both are of one content.
        let is_usable = answer.from == 0 || (answer.from == from && answer.validator == self.validator);
        if !is_usable {
            self.validator = None;
            return self.next_request();
        }
        self.is_repeated = answer.from == 0 && self.received > 0;
        self.validator.clone_from(&answer.validator);
        self.phase = Phase::Reading { at: answer.from };
        Action::Read
    }

    /// Returns the next request of a transfer that broke.
    fn next_request(&mut self) -> Action {
        let is_resumable = self.received == 0 || self.validator.is_some();
        if is_resumable && self.resumes_left > 0 {
            self.resumes_left -= 1;
            let validator = if self.received == 0 { None } else { self.validator.clone() };
            return Action::Ask { from: self.received, validator, is_first: false };
        }
        if self.restarts_left > 0 {
            self.restarts_left -= 1;
            return Action::Ask { from: 0, validator: None, is_first: false };
        }
        Action::Fail(Fault::Broken)
    }
}

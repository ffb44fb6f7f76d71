//! Delivery of events to one endpoint: what follows from the outcome of each attempt. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

use http::StatusCode;
use uuid::Uuid;

/// Longest pause between two attempts, unless a longer first pause is configured.
pub(super) const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// Longest pause that a receiver can ask for by `Retry-After`: a mistake of the receiver must not silence an
/// endpoint for days.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// Refusals after which an event is dropped, so that the next one can pass.
pub(super) const MAX_REFUSALS: u32 = 10;

/// Outcome of an attempt to send an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has accepted the event (2xx).
    Accepted(StatusCode),
    /// The receiver cannot take any event at the moment (408, 425, 429, 5xx).
    Unavailable {
        status: StatusCode,
        /// Pause that the receiver asks for.
        retry_after: Option<Duration>,
    },
    /// The receiver refuses the event: any other status.
    Refused {
        status: StatusCode,
        /// Redirect that was not followed, if the status is one.
        redirect: Option<Redirect>,
    },
    /// There is no answer.
    Failed(String),
}

/// Redirect that an attempt does not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The redirect leads to another receiver: scheme and host, without anything that may be a secret.
    Elsewhere(String),
    /// Number of redirects that the attempt has followed before, which is the most it follows.
    TooMany(usize),
}

/// Consequence of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The event has arrived.
    Delivered,
    /// The event is sent again after a pause.
    Retry { pause: Duration },
    /// The receiver refuses the event for good: it is given up.
    Refused,
}

/// Reason why an event was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// More events waited than the queue holds.
    QueueFull,
    /// The receiver has refused the event several times.
    Refused,
    /// The receiver took no events until the event was older than the configuration permits.
    Expired,
    /// A reload has excluded the event, which waited, from those of the endpoint.
    Ignored,
    /// The endpoint was removed from the configuration, or the registry has stopped.
    Stopped,
}

/// Rule for repetitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryPolicy {
    /// Failures in a row after which attempts pause.
    pub(super) threshold: NonZeroU32,
    /// Pause at the threshold, from which the pauses double.
    pub(super) backoff: Duration,
}

/// State of the delivery to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Failures since the last success, over all events.
    failures: u32,
    /// Event that was tried last, if there is one.
    event: Option<Uuid>,
    /// Refusals of this event.
    refusals: u32,
}

// === impl DropReason ===

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::QueueFull, Self::Refused, Self::Expired, Self::Ignored, Self::Stopped];

    /// Returns the name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Ignored => "ignored",
            Self::Stopped => "stopped",
        }
    }
}

// === impl Delivery ===

impl Delivery {
    /// Returns the number of failures since the last success.
    pub(super) const fn failures(self) -> u32 {
        self.failures
    }

    /// Begins an attempt to send an event. Refusals of an event that has left the queue do not count for it.
    pub(super) fn begin(&mut self, event: Uuid) {
        if self.event != Some(event) {
            self.event = Some(event);
            self.refusals = 0;
        }
    }

    /// Lets the pauses begin again with the shortest one, which follows the next failure. For a registry that
    /// stops: a receiver that was away for long may be back, and no attempt would fit into the time that is
    /// left.
    pub(super) fn restart_pauses(&mut self, policy: RetryPolicy) {
        self.failures = self.failures.min(policy.threshold.get() - 1);
    }

    /// Draws the conclusion from an attempt to send an event. `random` spreads the attempts of several
    /// registries that wait for the same receiver.
    pub(super) fn conclude(&mut self, policy: RetryPolicy, outcome: &Outcome, random: u32) -> Verdict {
        if let Outcome::Accepted(_) = outcome {
            *self = Self::default();
            return Verdict::Delivered;
        }
        self.failures = self.failures.saturating_add(1);
        if let Outcome::Refused { .. } = outcome {
            self.refusals += 1;
        }
        if self.refusals >= MAX_REFUSALS {
            self.refusals = 0;
            return Verdict::Refused;
        }
        let pause = self.pause(policy, random);
        let asked = match outcome {
            Outcome::Unavailable { retry_after, .. } => retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
            _ => Duration::ZERO,
        };
        Verdict::Retry { pause: pause.max(asked) }
    }

    /// Returns the pause after a failure: none below the threshold, as in distribution; from there on one
    /// that doubles with each failure. Between half of it and all of it is at random.
    fn pause(self, policy: RetryPolicy, random: u32) -> Duration {
        let Some(doublings) = self.failures.checked_sub(policy.threshold.get()) else {
            return Duration::ZERO;
        };
        let longest = MAX_BACKOFF.max(policy.backoff);
        let whole = 2_u32.checked_pow(doublings).and_then(|factor| policy.backoff.checked_mul(factor));
        let half = whole.unwrap_or(longest).min(longest) / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// Classifies the status of an answer. A redirect that is not followed is a refusal: Go's client turns it
/// into a GET without a body, whose success would mean that the event is lost.
pub(super) fn outcome(
    status: StatusCode,
    retry_after: Option<Duration>,
    redirect: Option<Redirect>,
) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Accepted(status),
        408 | 425 | 429 | 500..=599 => Outcome::Unavailable { status, retry_after },
        _ => Outcome::Refused { status, redirect },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy { threshold: NonZeroU32::new(3).unwrap(), backoff: Duration::from_secs(1) };

    fn failed() -> Outcome {
        Outcome::Failed("connection refused".into())
    }

    fn status(code: u16) -> Outcome {
        outcome(StatusCode::from_u16(code).unwrap(), None, None)
    }

    /// Returns the pauses after so many failures, in milliseconds.
    fn pauses(random: u32, count: usize) -> Vec<u128> {
        let mut delivery = Delivery::default();
        let mut next = || match delivery.conclude(POLICY, &failed(), random) {
            Verdict::Retry { pause } => pause.as_millis(),
            other => panic!("{other:?}"),
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn pauses_begin_at_the_threshold_and_double_to_a_minute() {
        let longest = pauses(u32::MAX, 100);
        assert_eq!(longest[..9], [0, 0, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000]);
        assert!(longest[9..].iter().all(|pause| *pause == 60_000), "{longest:?}");
        assert_eq!(pauses(0, 5), [0, 0, 500, 1000, 2000], "the jitter takes away half at most");
    }

    #[test]
    fn a_success_ends_the_pauses() {
        let mut delivery = Delivery::default();
        for _ in 0..5 {
            delivery.conclude(POLICY, &failed(), 0);
        }
        assert_eq!(delivery.conclude(POLICY, &status(204), 0), Verdict::Delivered);
        let retry = Verdict::Retry { pause: Duration::ZERO };
        assert_eq!(delivery.conclude(POLICY, &failed(), 0), retry);
    }

    #[test]
    fn pauses_begin_again_for_a_registry_that_stops() {
        let mut delivery = Delivery::default();
        let pause = |delivery: &mut Delivery| match delivery.conclude(POLICY, &failed(), 0) {
            Verdict::Retry { pause } => pause.as_millis(),
            other => panic!("{other:?}"),
        };
        for _ in 0..100 {
            pause(&mut delivery);
        }
        delivery.restart_pauses(POLICY);
        assert_eq!([(); 3].map(|()| pause(&mut delivery)), [500, 1000, 2000]);
        let mut fresh = Delivery::default();
        fresh.restart_pauses(POLICY);
        assert_eq!([(); 3].map(|()| pause(&mut fresh)), [0, 0, 500], "attempts below the threshold stay");
    }

    #[test]
    fn statuses_mean_what_a_receiver_means() {
        for code in [200, 202, 204, 299] {
            assert!(matches!(status(code), Outcome::Accepted(_)), "{code}");
        }
        for code in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(status(code), Outcome::Unavailable { .. }), "{code}");
        }
        for code in [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 410, 413, 415, 422, 600, 999] {
            assert!(matches!(status(code), Outcome::Refused { .. }), "{code}");
        }
    }

    #[test]
    fn an_event_that_is_refused_ten_times_makes_room_for_the_next() {
        let mut delivery = Delivery::default();
        let mut conclude = |outcome: &Outcome| delivery.conclude(POLICY, outcome, 0);
        for _ in 0..9 {
            assert!(matches!(conclude(&status(400)), Verdict::Retry { .. }));
            // Failures of another kind between them do not count.
            assert!(matches!(conclude(&failed()), Verdict::Retry { .. }));
        }
        assert_eq!(conclude(&status(400)), Verdict::Refused);
        // A receiver that refuses everything does not get all events in one rush.
        let Verdict::Retry { pause } = conclude(&status(400)) else { panic!("the next event is tried") };
        assert!(pause >= Duration::from_secs(30), "{pause:?}");
        for _ in 0..8 {
            assert!(matches!(conclude(&status(400)), Verdict::Retry { .. }));
        }
        assert_eq!(conclude(&status(400)), Verdict::Refused);
    }

    #[test]
    fn unavailable_receivers_lose_no_event() {
        let mut delivery = Delivery::default();
        for _ in 0..10_000 {
            for outcome in [failed(), status(503), status(429)] {
                let verdict = delivery.conclude(POLICY, &outcome, 7);
                assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
            }
        }
    }

    #[test]
    fn a_receiver_says_when_to_come_again_within_a_bound() {
        let unavailable = |seconds| {
            let asked = Some(Duration::from_secs(seconds));
            let outcome = outcome(StatusCode::TOO_MANY_REQUESTS, asked, None);
            match Delivery::default().conclude(POLICY, &outcome, 0) {
                Verdict::Retry { pause } => pause.as_secs(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((unavailable(0), unavailable(7), unavailable(1 << 40)), (0, 7, 600));
    }

    #[test]
    fn refusals_count_for_their_event_alone() {
        let mut delivery = Delivery::default();
        for event in 0..20 {
            delivery.begin(Uuid::from_u128(event));
            for _ in 0..9 {
                assert!(matches!(delivery.conclude(POLICY, &status(400), 0), Verdict::Retry { .. }));
            }
        }
        assert_eq!(delivery.conclude(POLICY, &status(400), 0), Verdict::Refused);
    }
}

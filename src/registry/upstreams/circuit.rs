//! Pauses in which an upstream is not asked: after 429 as it demands, and after failures in a row. Pure.

use std::time::{Duration, Instant};

use quinistry_fetch::SourceError;
use quinistry_oci::WithCauses;

/// Pause after 429 without `Retry-After`.
const DEFAULT_LIMIT_PAUSE: Duration = Duration::from_mins(1);

/// Longest pause after 429.
const MAX_LIMIT_PAUSE: Duration = Duration::from_hours(1);

/// Failures in a row after which an upstream counts as away. Fewer happen in every network.
const FAILURES_UNTIL_AWAY: u32 = 3;

/// First pause of an upstream that is away. Each further failure doubles the pause.
const FIRST_AWAY_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause of an upstream that is away.
const MAX_AWAY_PAUSE: Duration = Duration::from_mins(1);

/// Time in which the question that ends a pause must be answered before another one is asked.
const PROBE_LIFETIME: Duration = Duration::from_secs(10);

/// State of the connection to one upstream.
#[derive(Debug)]
pub(crate) struct Circuit {
    /// Longest pause because of failures.
    longest_pause: Duration,
    /// End of the pause that the upstream demands.
    limited_until: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    /// Time of the first of them, and the text of the last one.
    failing: Option<(Instant, String)>,
    /// The upstream has answered a question, or failed to.
    was_asked: bool,
    /// End of the pause because of failures.
    away_until: Option<Instant>,
    /// The last answer was content or said that there is none, and came after the last eviction.
    has_answered: bool,
}

/// State of a connection, as users are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CircuitState {
    /// No question was asked.
    NotAsked,
    /// The upstream answers.
    Up,
    /// The upstream has failed too often in a row.
    Failing {
        /// Time of the first failure in a row.
        since: Instant,
        /// Text of the last failure.
        error: String,
    },
    /// The upstream limits requests.
    Paused {
        /// End of the pause.
        until: Instant,
    },
}

/// Reason for which an upstream is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The upstream limits requests, for at least this time.
    Limited(Duration),
    /// The upstream has failed a moment ago.
    Away,
}

impl Default for Circuit {
    fn default() -> Self {
        Self::with_longest_pause(MAX_AWAY_PAUSE)
    }
}

impl Circuit {
    /// Creates a circuit whose pauses because of failures are no longer than this.
    pub(crate) fn with_longest_pause(longest_pause: Duration) -> Self {
        Self {
            longest_pause,
            limited_until: None,
            failures: 0,
            failing: None,
            was_asked: false,
            away_until: None,
            has_answered: false,
        }
    }

    /// Permits a question, or tells why there is none. Behind the pause of failures one question is asked first.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Pause> {
        if let Some(until) = self.limited_until {
            if now < until {
                return Err(Pause::Limited(until - now));
            }
            self.limited_until = None;
        }
        if let Some(until) = self.away_until {
            if now < until {
                return Err(Pause::Away);
            }
            self.away_until = Some(now + PROBE_LIFETIME);
        }
        Ok(())
    }

    /// Ends the wait for the answer to a first question behind a pause: the question was given up.
    pub(crate) fn give_up_probe(&mut self, now: Instant) {
        self.away_until = self.away_until.map(|until| until.min(now));
    }

    /// Notes an answer, or its absence. Returns true if the upstream counts as away from now on, and did not before.
    pub(crate) fn note(&mut self, failure: Option<&SourceError>, now: Instant) -> bool {
        // A registry whose credentials have expired sends nothing, and a captive portal no content.
        self.has_answered = matches!(failure, None | Some(SourceError::NotFound));
        self.was_asked = true;
        match failure {
            Some(SourceError::Limited { retry_after }) => {
                let pause = retry_after.unwrap_or(DEFAULT_LIMIT_PAUSE).min(MAX_LIMIT_PAUSE);
                self.limited_until = self.limited_until.max(Some(now + pause));
                self.answered();
                false
            }
            Some(error @ (SourceError::Silent | SourceError::Unavailable(_))) => {
                let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
                self.failing = Some((since, WithCauses(error).to_string()));
                self.failures = self.failures.saturating_add(1);
                let Some(doublings) = self.failures.checked_sub(FAILURES_UNTIL_AWAY) else { return false };
                let pause = FIRST_AWAY_PAUSE.saturating_mul(2_u32.saturating_pow(doublings));
                self.away_until = Some(now + pause.min(self.longest_pause));
                doublings == 0
            }
            None
            | Some(
                SourceError::NotFound
                | SourceError::Refused
                | SourceError::Busy
                | SourceError::Invalid(_)
                | SourceError::Circular,
            ) => {
                self.answered();
                false
            }
        }
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.failing = None;
        self.away_until = None;
    }

    /// Returns the state of the connection.
    pub(crate) fn state(&self, now: Instant) -> CircuitState {
        match (&self.failing, self.limited_until) {
            (_, Some(until)) if now < until => CircuitState::Paused { until },
            (Some((since, error)), _) if !self.is_up() => {
                CircuitState::Failing { since: *since, error: error.clone() }
            }
            _ if self.was_asked => CircuitState::Up,
            _ => CircuitState::NotAsked,
        }
    }

    /// Returns true if the upstream has answered when it was asked last, as far as a few failures do not count.
    pub(crate) fn is_up(&self) -> bool {
        self.failures < FAILURES_UNTIL_AWAY
    }

    /// Returns true if the upstream has shown since the last call that it sends content, and is not in a pause.
    pub(crate) fn take_answer(&mut self, now: Instant) -> bool {
        std::mem::take(&mut self.has_answered) && !self.is_paused(now)
    }

    /// Returns true if no question is asked now.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.limited_until.max(self.away_until).is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(retry_after: Option<u64>) -> SourceError {
        SourceError::Limited { retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn the_pause_of_a_limit_is_as_long_as_demanded_and_at_most_an_hour() {
        for (retry_after, pause) in [(None, 60), (Some(7), 7), (Some(1_000_000), 3600)] {
            let (mut circuit, start) = (Circuit::default(), Instant::now());
            let after = |seconds| start + Duration::from_secs(seconds);
            circuit.note(Some(&limited(retry_after)), start);
            // Another answer on its way does not end the pause, and a shorter demand does not shorten it.
            circuit.note(None, start);
            circuit.note(Some(&limited(Some(1))), start);
            let left = Duration::from_secs(1);
            assert_eq!(circuit.admit(after(pause - 1)), Err(Pause::Limited(left)), "{retry_after:?}");
            assert!(circuit.is_paused(after(pause - 1)) && circuit.is_up());
            assert_eq!(circuit.admit(after(pause)), Ok(()), "{retry_after:?}");
            assert!(!circuit.is_paused(after(pause)));
        }
    }

    #[test]
    fn an_answer_with_content_or_without_counts_once_and_a_later_failure_takes_it_back() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert!(!circuit.take_answer(now), "nothing was asked");
        for answer in [None, Some(&SourceError::NotFound)] {
            circuit.note(answer, now);
            assert!(circuit.take_answer(now) && !circuit.take_answer(now));
        }
        let invalid = SourceError::Invalid("text/html".into());
        for failure in [SourceError::Refused, SourceError::Silent, invalid] {
            circuit.note(None, now);
            circuit.note(Some(&failure), now);
            assert!(!circuit.take_answer(now), "{failure:?}");
        }
        circuit.note(Some(&limited(None)), now);
        circuit.note(None, now);
        assert!(!circuit.take_answer(now), "the upstream limits requests");
    }

    #[test]
    fn a_first_question_behind_a_pause_that_is_given_up_makes_way_for_the_next() {
        let (mut circuit, start) = (Circuit::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..3 {
            circuit.note(Some(&SourceError::Silent), start);
        }
        assert_eq!(circuit.admit(after(1)), Err(Pause::Away));
        let end = after(60);
        assert_eq!(circuit.admit(end), Ok(()));
        assert_eq!(circuit.admit(end), Err(Pause::Away));
        circuit.give_up_probe(end);
        assert_eq!(circuit.admit(end), Ok(()));
    }

    #[test]
    fn the_state_tells_since_when_an_upstream_fails_and_until_when_it_is_paused() {
        let (mut circuit, start) = (Circuit::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(circuit.state(start), CircuitState::NotAsked);
        for seconds in 1..=3 {
            circuit.note(Some(&SourceError::Silent), after(seconds));
            let is_up = seconds < 3;
            assert_eq!(circuit.state(after(seconds)) == CircuitState::Up, is_up, "{seconds}");
        }
        let refused = std::io::Error::from_raw_os_error(111);
        circuit.note(Some(&SourceError::Unavailable(refused.into())), after(9));
        let CircuitState::Failing { since, error } = circuit.state(after(9)) else { panic!("not failing") };
        assert_eq!(since, after(1));
        assert!(error.starts_with("failed to ask the source: Connection refused"), "{error}");
        circuit.note(Some(&limited(Some(7))), after(10));
        assert_eq!(circuit.state(after(16)), CircuitState::Paused { until: after(17) });
        assert_eq!(circuit.state(after(17)), CircuitState::Up);
    }

    #[test]
    fn failures_in_a_row_make_pauses_that_double_and_one_question_ends_them() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        for _ in 0..2 {
            assert!(!circuit.note(Some(&SourceError::Silent), now));
            assert_eq!(circuit.admit(now), Ok(()));
        }
        assert!(circuit.is_up());
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(circuit.note(Some(&SourceError::Silent), now), pause == 5);
            now += Duration::from_secs(pause - 1);
            assert_eq!(circuit.admit(now), Err(Pause::Away), "{pause}");
            now += Duration::from_secs(1);
            assert_eq!(circuit.admit(now), Ok(()), "{pause}");
            assert_eq!(circuit.admit(now), Err(Pause::Away), "one question is asked");
        }
        assert!(!circuit.is_up());
        // A question that is never answered does not keep the circuit open.
        now += PROBE_LIFETIME;
        assert_eq!(circuit.admit(now), Ok(()));
        circuit.note(Some(&SourceError::NotFound), now);
        assert!(circuit.is_up() && circuit.admit(now).is_ok() && !circuit.is_paused(now));
    }
}

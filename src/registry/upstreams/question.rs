//! One question to an upstream: its permission, its deadline, and what follows when there is no answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quinistry_fetch::SourceError;
use quinistry_oci::WithCauses;
use tokio::time::timeout;

use super::CachedUpstream;
use super::circuit::Pause;
use crate::LimitedStore;
use crate::api::response::error::Error;
use crate::metrics::UpstreamCounts;

/// Pause in which an upstream that gave no answer about stored content is not asked about it again.
pub(crate) const STALE_PAUSE: Duration = Duration::from_secs(10);

/// Seconds after which a client may ask again if the pause is not known better.
const DEFAULT_RETRY_SECONDS: u64 = 60;

/// Reasons for which an upstream has given no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The upstream does not have the content.
    NotFound,
    /// The upstream refuses this registry. Its clients cannot help that by credentials of their own.
    Refused,
    /// The upstream limits requests.
    Limited { retry_after_seconds: u64 },
    /// The upstream has sent what is no valid answer.
    Invalid,
    /// The request has passed too many caches. Each of them passes this on, so that none takes another one to be away.
    Circular,
    /// The upstream gives no answer.
    Away,
    /// A fault of this program, or its end, has broken the question off.
    Interrupted,
}

impl Failure {
    /// Returns the error for a client for which nothing is stored; `unknown` is that of absent content.
    pub(crate) fn into_error(self, unknown: Error) -> Error {
        match self {
            // A client must not be asked for credentials of a place that it does not know.
            Self::NotFound | Self::Refused => unknown,
            Self::Limited { retry_after_seconds } => Error::UpstreamLimited { retry_after_seconds },
            Self::Invalid | Self::Away => Error::UpstreamFailed,
            Self::Circular => Error::TooManyHops,
            Self::Interrupted => Error::Internal,
        }
    }

    /// Returns true if the upstream does not show the content to this registry.
    pub(crate) const fn is_absence(self) -> bool {
        matches!(self, Self::NotFound | Self::Refused)
    }

    pub(crate) fn of(error: &SourceError) -> Self {
        match error {
            SourceError::NotFound => Self::NotFound,
            SourceError::Refused => Self::Refused,
            SourceError::Limited { retry_after } => {
                let seconds = retry_after.map_or(DEFAULT_RETRY_SECONDS, whole_seconds);
                Self::Limited { retry_after_seconds: seconds }
            }
            SourceError::Invalid(_) => Self::Invalid,
            SourceError::Circular => Self::Circular,
            SourceError::Silent | SourceError::Busy | SourceError::Unavailable(_) => Self::Away,
        }
    }
}

impl From<Pause> for Failure {
    fn from(pause: Pause) -> Self {
        match pause {
            Pause::Limited(left) => Self::Limited { retry_after_seconds: whole_seconds(left) },
            Pause::Away => Self::Away,
        }
    }
}

/// Returns a duration in seconds, rounded up, and at least one.
fn whole_seconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    seconds.max(1)
}

/// Notes the result of a question, and logs it once for each pause.
pub(crate) fn note_result(
    counts: &UpstreamCounts,
    upstream: &Arc<str>,
    failure: Option<&SourceError>,
    now: Instant,
) {
    let mut circuit = counts.circuit();
    let was_paused = circuit.is_paused(now);
    let is_away = circuit.note(failure, now);
    drop(circuit);
    match failure {
        Some(error) if is_away => {
            let error = WithCauses(error);
            tracing::warn!(%upstream, %error, "upstream away, serving stored content without asking it");
        }
        Some(SourceError::Limited { retry_after }) if !was_paused => {
            tracing::warn!(%upstream, ?retry_after, "upstream limits requests, not asked until it permits");
        }
        Some(error @ (SourceError::Invalid(_) | SourceError::Refused | SourceError::Circular)) => {
            tracing::debug!(%upstream, error = %WithCauses(error), "upstream gave no content");
        }
        _ => {}
    }
}

impl CachedUpstream {
    /// Asks a question, and waits for its answer for at most `patience`.
    pub(super) async fn ask<T>(
        &self,
        stored: &LimitedStore,
        patience: Duration,
        question: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, Failure> {
        let counts = self.counts(stored);
        let permit = timeout(patience, self.question_permits.acquire()).await;
        // Without a permit in time, this registry is busy, and nothing is known of the upstream.
        let Ok(permit) = permit else { return Err(Failure::Away) };
        let _permit = permit.expect("the semaphore is never closed");
        counts.circuit().admit(self.clock.now())?;
        let begun = Instant::now();
        let answer = timeout(patience, question).await.unwrap_or(Err(SourceError::Silent));
        counts.seconds.observe(begun.elapsed());
        note_result(counts, &self.name, answer.as_ref().err(), self.clock.now());
        answer.map_err(|error| Failure::of(&error))
    }
}

//! Source of an upstream's blobs that counts what it sends, and is not asked in a pause.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use quinistry_fetch::{Answered, Source, SourceError, TurnWait, Wanted};
use tokio::time::timeout;

use super::circuit::Pause;
use super::clock::Clock;
use super::question::note_result;
use crate::metrics::UpstreamCounts;

/// Longest wait for an answer. Shorter than that of a fetch, which drops the question, and its failure would not count.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(9);

#[derive(Debug)]
pub(super) struct ObservedSource {
    pub(super) source: Arc<dyn Source>,
    /// Name of the upstream, which is also that of the source.
    pub(super) upstream: Arc<str>,
    pub(super) counts: Arc<UpstreamCounts>,
    pub(super) clock: Clock,
    /// Longest wait for an answer.
    pub(super) patience: Duration,
}

impl Source for ObservedSource {
    fn name(&self) -> &str {
        &self.upstream
    }

    fn turn(&self) -> TurnWait<'_> {
        self.source.turn()
    }

    fn open(&self, wanted: Wanted) -> Answered<'_> {
        Box::pin(async move {
            match self.counts.circuit().admit(self.clock.now()) {
                Ok(()) => {}
                Err(Pause::Limited(left)) => {
                    return Err(SourceError::Limited { retry_after: Some(left) });
                }
                Err(Pause::Away) => return Err(SourceError::Silent),
            }
            let answer = timeout(self.patience, self.source.open(wanted)).await;
            let answer = answer.unwrap_or(Err(SourceError::Silent));
            note_result(&self.counts, &self.upstream, answer.as_ref().err(), self.clock.now());
            let (answer, body) = answer?;
            let counts = self.counts.clone();
            let counted = body.inspect(move |piece| {
                if let Ok(piece) = piece {
                    counts.blobs.pulled_bytes.add(piece.len() as u64);
                }
            });
            Ok((answer, Box::pin(counted) as _))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use quinistry_oci::Digest;

    use super::*;

    #[derive(Debug)]
    struct SilentSource;

    impl Source for SilentSource {
        fn name(&self) -> &'static str {
            "silent"
        }

        fn open(&self, _: Wanted) -> Answered<'_> {
            Box::pin(pending())
        }
    }

    #[tokio::test]
    async fn blobs_that_are_not_answered_count_as_failures_of_the_upstream() {
        let counts = Arc::<UpstreamCounts>::default();
        let source = ObservedSource {
            source: Arc::new(SilentSource),
            upstream: "silent".into(),
            counts: counts.clone(),
            clock: Clock::default(),
            patience: Duration::from_millis(1),
        };
        let wanted = Wanted { digest: Digest::sha256(b"a"), length: None, from: 0, validator: None };
        for _ in 0..3 {
            assert!(counts.circuit().is_up());
            assert!(matches!(source.open(wanted.clone()).await, Err(SourceError::Silent)));
        }
        assert!(!counts.circuit().is_up());
    }
}

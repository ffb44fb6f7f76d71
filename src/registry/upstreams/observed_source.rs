//! Source of an upstream's blobs that counts what it sends, and is not asked in a pause.

use std::sync::Arc;

use futures_util::StreamExt as _;
use quinistry_fetch::{Answered, Source, SourceError, TurnWait, Wanted};

use super::circuit::Pause;
use super::clock::Clock;
use super::question::note_result;
use crate::metrics::UpstreamCounts;

#[derive(Debug)]
pub(super) struct ObservedSource {
    pub(super) source: Arc<dyn Source>,
    /// Name of the upstream, which is also that of the source.
    pub(super) upstream: Arc<str>,
    pub(super) counts: Arc<UpstreamCounts>,
    pub(super) clock: Clock,
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
            let answer = self.source.open(wanted).await;
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

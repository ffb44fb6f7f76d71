//! Questions to stores that may all be behind one address.
//!
//! A connection to the address of a service leads to one of its stores, which may lack what another one has, and may be
//! this very process. So each question is a connection of its own, and a denial is asked again a few times.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use quinistry_fetch::{Answered, Peer, Source, SourceError, Wanted};
use quinistry_oci::{Digest, RepositoryName};
use tokio::time::{Instant, timeout};

use super::shared_ledger::SharedLedger;
use crate::metrics::PeerCounts;
use crate::peers::verify_manifest;
use crate::upstreams::verification::VerifiedManifest;

/// Number of connections by which content is looked for at each address. Of three stores, of which one has the content,
/// all of them miss it once in 130 times; it is then found in the next round.
const MAX_ATTEMPTS: usize = 12;

/// Time for one answer: a store hashes a long blob before it first serves it after a start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time for one answer to a question that only shows whether the service has a store.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// Time after which nothing more is tried for one question.
const MAX_ASKING: Duration = Duration::from_mins(1);

/// Longest wait for the end of a question.
pub(super) const ANSWER_TIMEOUT: Duration = MAX_ASKING.saturating_add(PATIENCE).saturating_add(PATIENCE);

/// Addresses of stores.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) members: Vec<SourceMember>,
    pub(super) ledger: SharedLedger,
}

/// Address of stores, with the counts of its answers.
#[derive(Debug)]
pub(super) struct SourceMember {
    pub(super) peer: Arc<dyn Peer>,
    pub(super) counts: Arc<PeerCounts>,
}

/// Blobs of one repository.
#[derive(Debug)]
pub(super) struct BlobSource {
    pub(super) sources: Arc<Sources>,
    pub(super) repository: RepositoryName,
}

impl Sources {
    /// Asks all addresses in turn, until one has the content. Returns `None` if at least one has answered that it does
    /// not have it; fails if none has answered.
    async fn ask<'a, T, F: Future<Output = Result<T, SourceError>>>(
        &'a self,
        question: impl Fn(&'a SourceMember) -> F,
    ) -> Result<Option<T>, SourceError> {
        let begun = Instant::now();
        let mut last = Err(SourceError::Silent);
        for _ in 0..MAX_ATTEMPTS {
            for member in &self.members {
                let answer = timeout(PATIENCE, question(member)).await.unwrap_or(Err(SourceError::Silent));
                member.counts.note(answer.as_ref().err());
                let is_away = answer.as_ref().is_err_and(is_away);
                if !is_away {
                    self.ledger.note_answer();
                }
                match answer {
                    Ok(found) => return Ok(Some(found)),
                    Err(error) if is_away => {
                        if last.is_err() {
                            last = Err(error);
                        }
                    }
                    Err(_) => last = Ok(None),
                }
                if begun.elapsed() >= MAX_ASKING {
                    return last;
                }
            }
        }
        last
    }

    /// Asks whether the service has a store: any answer about a digest proves that.
    pub(super) async fn probe(&self, repository: &RepositoryName, digest: &Digest) {
        for SourceMember { peer, counts } in &self.members {
            let question = peer.head_blob(repository, digest);
            let answer = timeout(PROBE_PATIENCE, question).await.unwrap_or(Err(SourceError::Silent));
            counts.note(answer.as_ref().err());
            if !answer.is_err_and(|error| is_away(&error)) {
                self.ledger.note_answer();
                return;
            }
        }
    }

    /// Returns a manifest that has its digest.
    pub(super) async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<VerifiedManifest>, SourceError> {
        let question = |member: &SourceMember| {
            let (peer, counts) = (member.peer.clone(), member.counts.clone());
            async move {
                let sent = peer.get_manifest(repository, digest).await?;
                verify_manifest(sent, digest).await.map_err(|error| {
                    counts.note_wrong();
                    tracing::warn!(peer = peer.name(), %digest, error, "peer sent a wrong manifest");
                    SourceError::Invalid(error)
                })
            }
        };
        self.ask(question).await
    }
}

/// Returns true if a store has not answered.
const fn is_away(error: &SourceError) -> bool {
    matches!(
        error,
        SourceError::Silent | SourceError::Busy | SourceError::Unavailable(_) | SourceError::Limited { .. }
    )
}

impl Source for BlobSource {
    fn name(&self) -> &str {
        self.sources.members.first().map_or("no peer", |member| member.peer.name())
    }

    fn open(&self, wanted: Wanted) -> Answered<'_> {
        Box::pin(async move {
            let sources = &self.sources;
            let question = |member: &'_ SourceMember| {
                let (peer, counts, wanted) = (member.peer.clone(), member.counts.clone(), wanted.clone());
                async move { Ok((peer.open_blob(&self.repository, wanted).await?, counts)) }
            };
            let found = sources.ask(question).await?;
            let ((answer, body), counts) = found.ok_or(SourceError::NotFound)?;
            // Bytes prove nothing about the service: a store that is unready still sends what it has begun to send.
            let body = body.inspect(move |piece| {
                if let Ok(piece) = piece {
                    counts.note_bytes(piece.len());
                }
            });
            Ok((answer, Box::pin(body) as _))
        })
    }
}

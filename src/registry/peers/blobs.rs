//! Blobs of peers, passed through to one client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use quinistry_fetch::{Answered, FetchError, Fetched, Opened, Request, Source, SourceError, Wanted};
use quinistry_oci::{Digest, RepositoryName, WithCauses};
use tokio::time::sleep;

use super::rounds::{BUSY_PAUSE, Busy, MAX_REPEATS, Miss, Rounds, SHORT_PATIENCE, Turn};
use super::{ContentKey, Peers};
use crate::api::response::error::Error;

/// Blob that a peer sends.
#[derive(Debug)]
pub(crate) struct OpenedBlob {
    pub(crate) fetched: Fetched,
    source: Arc<PeerSource>,
    key: ContentKey,
}

/// Blobs of one repository, of one peer first. A transfer that breaks goes on at any peer: content of one digest is the
/// same everywhere, and the hash runs over all of its bytes.
#[derive(Debug)]
struct PeerSource {
    peers: Arc<Peers>,
    first: Turn,
    repository: RepositoryName,
    /// True once the first peer was asked.
    is_opened: AtomicBool,
    /// Indexes of the peers that have sent bytes.
    senders: Mutex<BTreeSet<usize>>,
}

impl Peers {
    /// Returns the length of a blob in bytes, if a peer says that it has the blob. Content of another length than the
    /// expected one is another blob.
    pub(crate) async fn blob_length(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        expected: Option<u64>,
    ) -> Result<Option<u64>, Busy> {
        let key = (repository.clone(), digest.clone());
        let mut rounds = Rounds::new(self.members.len());
        while let Some(turn) = rounds.next_turn() {
            let index = turn.peer;
            if !self.claims().believes(index, &key, self.clock.now()) {
                continue;
            }
            let question = self.members[index].peer(turn.is_repeat).head_blob(repository, digest);
            match self.ask(turn, question).await {
                Ok(Some(length)) if expected.is_none_or(|expected| expected == length) => {
                    self.claims().note(index, &key);
                    return Ok(Some(length));
                }
                // Without a length no end can be withheld, so that the blob could not be sent.
                Ok(_) => {}
                Err(miss) => rounds.note(miss),
            }
        }
        rounds.end()
    }

    /// Opens a blob at the first peer that sends its first byte; `None` if no peer does.
    pub(crate) async fn open_blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<OpenedBlob>, Error> {
        let key = (repository.clone(), digest.clone());
        let is_suspect = |peer| self.claims().is_suspect(peer, digest, self.clock.now());
        let mut rounds = Rounds::new(self.members.len()).with_last(is_suspect);
        let mut denials = BTreeMap::new();
        while let Some(mut turn) = rounds.next_turn() {
            let index = turn.peer;
            if self.claims().is_liar(index, digest, self.clock.now()) {
                continue;
            }
            turn.wait().await;
            turn.is_repeat |= is_suspect(index);
            let source = Arc::new(PeerSource {
                peers: self.clone(),
                first: turn,
                repository: repository.clone(),
                is_opened: AtomicBool::new(false),
                senders: Mutex::default(),
            });
            let request = Request {
                digest: digest.clone(),
                length: None,
                source: source.clone(),
                repository: repository.clone(),
                is_proven: true,
                max_stored_bytes: Some(0),
            };
            match self.fetches.open(request).await {
                Ok(Opened::Fetched(fetched)) => return Ok(Some(OpenedBlob { fetched, source, key })),
                // Fetches without a store never answer so.
                Ok(Opened::Stored | Opened::Unproven) => return Err(Error::Internal),
                Err(FetchError::Busy) => return Err(Error::TooManyResponses),
                Err(error) => {
                    tracing::debug!(peer = self.members[index].name(), %digest, error = %WithCauses(&error), "peer sent no blob");
                    let miss = Miss::of_fetch(&error);
                    rounds.note(miss);
                    if miss == Miss::Denied {
                        denials.insert(index, error);
                    } else {
                        self.note_failed(index, &key, &error);
                    }
                }
            }
        }
        // One store behind an address does not speak for the others.
        for (index, error) in denials {
            self.note_failed(index, &key, &error);
        }
        Ok(rounds.end()?)
    }

    /// Notes that a peer has not sent a blob to its end.
    fn note_failed(&self, index: usize, key: &ContentKey, error: &FetchError) {
        let (now, digest) = (self.clock.now(), &key.1);
        match error {
            FetchError::Lie { .. } => {
                self.claims().note_wrong(index, digest, now);
                self.members[index].counts.note_wrong();
                self.verdicts().clear();
            }
            // A peer that is away or slow has not taken back what it said.
            FetchError::Source { reason, .. } if !is_denial(reason) => {}
            FetchError::Source { .. } | FetchError::LengthUnknown { .. }
                if self.claims().note_unsent(index, key, now) =>
            {
                let peer = self.members[index].name();
                tracing::warn!(%peer, %digest, "peer says that it has a blob, and does not send it");
                // Manifests that need the blob were found complete by the word of this peer.
                self.verdicts().clear();
            }
            _ => {}
        }
    }

    /// Notes that the transfer of an opened blob has failed.
    fn note_cut(&self, source: &PeerSource, key: &ContentKey, error: &FetchError) {
        let digest = &key.1;
        if source.has_several_senders() && matches!(error, FetchError::Lie { .. }) {
            // Any of them may have sent the wrong part. The next transfer comes from one of them alone, and
            // shows it.
            self.claims().note_mixed(digest, self.clock.now());
        } else {
            self.note_failed(source.first.peer, key, error);
        }
        let peer = source.names();
        tracing::warn!(%peer, %digest, error = %WithCauses(error), "failed to pass blob on, response cut off");
    }
}

/// Returns true if a peer has answered, and sends no content.
fn is_denial(reason: &SourceError) -> bool {
    matches!(reason, SourceError::NotFound | SourceError::Invalid(_))
}

impl Miss {
    /// Returns the reason for which a peer has sent nothing of a blob.
    fn of_fetch(error: &FetchError) -> Self {
        match error {
            FetchError::Source { reason, .. } => Self::of(reason),
            _ => Self::Absent,
        }
    }
}

impl OpenedBlob {
    /// Returns the observer of errors of the transfer.
    pub(crate) fn observer(&self, peers: &Arc<Peers>) -> impl Fn(&FetchError) + use<> {
        let (peers, source, key) = (peers.clone(), self.source.clone(), self.key.clone());
        move |error| peers.note_cut(&source, &key, error)
    }
}

// === impl PeerSource ===

impl PeerSource {
    fn senders(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_several_senders(&self) -> bool {
        self.senders().len() > 1
    }

    /// Returns the names of the peers that have sent bytes, or of the first one.
    fn names(&self) -> String {
        let senders = self.senders();
        let senders =
            if senders.is_empty() { vec![self.first.peer] } else { senders.iter().copied().collect() };
        senders.into_iter().map(|peer| self.peers.members[peer].name()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the questions, in order: the first one; and for the rest of a transfer that broke there, those to the other
    /// peers before it, and then repeats for those that deny or are not reached.
    fn turns(&self, digest: &Digest) -> Vec<Turn> {
        if !self.is_opened.swap(true, Ordering::Relaxed) {
            return vec![self.first];
        }
        let (now, first) = (self.peers.clock.now(), self.first.peer);
        let claims = self.peers.claims();
        let may_mix = claims.may_mix(digest, now);
        let others = (0..self.peers.members.len()).filter(|index| may_mix && *index != first);
        let key = (self.repository.clone(), digest.clone());
        let all: Vec<_> = others.chain([first]).filter(|index| claims.believes(*index, &key, now)).collect();
        let turn = |repeat| {
            let (patience, pause) = (SHORT_PATIENCE, Duration::ZERO);
            move |peer: &usize| Turn {
                peer: *peer,
                patience,
                pause,
                is_repeat: repeat > 0,
                is_last_resort: repeat > 0,
            }
        };
        (0..=MAX_REPEATS).flat_map(|repeat| all.iter().map(turn(repeat))).collect()
    }
}

impl Source for PeerSource {
    fn name(&self) -> &str {
        self.peers.members[self.first.peer].name()
    }

    /// Returns false: [`super::claims`] remembers which peers lie.
    fn is_one_place(&self) -> bool {
        false
    }

    fn open(&self, wanted: Wanted) -> Answered<'_> {
        Box::pin(async move {
            let mut reason = SourceError::NotFound;
            let mut given_up = BTreeSet::new();
            for turn in self.turns(&wanted.digest) {
                if given_up.contains(&turn.peer) {
                    continue;
                }
                let member = &self.peers.members[turn.peer];
                let peer = member.peer(turn.is_repeat);
                let question = async {
                    let (answer, mut body) = peer.open_blob(&self.repository, wanted.clone()).await?;
                    // A peer that sends a head alone has not answered.
                    let first = match body.next().await.transpose() {
                        Ok(first) => first,
                        Err(error) => return Err(SourceError::Unavailable(Box::new(error))),
                    };
                    Ok((answer, first, body))
                };
                match member.ask(|| self.peers.clock.now(), turn, question).await {
                    Ok((answer, first, body)) => {
                        self.senders().insert(turn.peer);
                        let counts = member.counts.clone();
                        let pieces = stream::iter(first.map(Ok)).chain(body).inspect(move |piece| {
                            if let Ok(piece) = piece {
                                counts.note_bytes(piece.len());
                            }
                        });
                        return Ok((answer, Box::pin(pieces) as _));
                    }
                    Err(error) => {
                        match Miss::of(&error) {
                            Miss::Denied | Miss::Unreachable | Miss::LeftOut => {}
                            Miss::Busy => sleep(BUSY_PAUSE).await,
                            Miss::Unanswered | Miss::Absent => _ = given_up.insert(turn.peer),
                        }
                        reason = error;
                    }
                }
            }
            Err(reason)
        })
    }
}

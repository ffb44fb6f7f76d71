//! Blobs of peers, passed through to one client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt as _, stream};
use quinistry_fetch::{Answered, FetchError, Fetched, Opened, Request, Source, SourceError, Wanted};
use quinistry_oci::{Digest, RepositoryName, WithCauses};

use super::rounds::{MAX_REPEATS, Miss, Rounds, SHORT_PATIENCE, Turn};
use super::{ContentKey, Peers};
use crate::api::response::error::Error;

/// Blob that a peer sends.
#[derive(Debug)]
pub(crate) struct OpenedBlob {
    pub(crate) fetched: Fetched,
    /// Index of the peer.
    peer: usize,
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
}

impl Peers {
    /// Returns the length of a blob in bytes, if a peer says that it has the blob. Content of another length than the
    /// expected one is another blob.
    pub(crate) async fn blob_length(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        expected: Option<u64>,
    ) -> Option<u64> {
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
                    return Some(length);
                }
                // Without a length no end can be withheld, so that the blob could not be sent.
                Ok(_) => {}
                Err(miss) => rounds.note(miss),
            }
        }
        None
    }

    /// Opens a blob at the first peer that sends its first byte; `None` if no peer does.
    pub(crate) async fn open_blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<OpenedBlob>, Error> {
        let key = (repository.clone(), digest.clone());
        let mut rounds = Rounds::new(self.members.len());
        let mut denials = BTreeMap::new();
        while let Some(turn) = rounds.next_turn() {
            let index = turn.peer;
            let source = PeerSource {
                peers: self.clone(),
                first: turn,
                repository: repository.clone(),
                is_opened: AtomicBool::new(false),
            };
            let request = Request {
                digest: digest.clone(),
                length: None,
                source: Arc::new(source),
                repository: repository.clone(),
                is_proven: true,
                max_stored_bytes: Some(0),
            };
            match self.fetches.open(request).await {
                Ok(Opened::Fetched(fetched)) => return Ok(Some(OpenedBlob { fetched, peer: index, key })),
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
        Ok(None)
    }

    /// Notes that a peer has not sent a blob to its end.
    fn note_failed(&self, index: usize, key: &ContentKey, error: &FetchError) {
        let (now, digest) = (self.clock.now(), &key.1);
        match error {
            FetchError::Lie { .. } => {
                self.claims().note_wrong(index, digest, now);
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
    fn note_cut(&self, index: usize, key: &ContentKey, error: &FetchError) {
        self.note_failed(index, key, error);
        let digest = &key.1;
        let peer = self.members[index].name();
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
        let (peers, index, key) = (peers.clone(), self.peer, self.key.clone());
        move |error| peers.note_cut(index, &key, error)
    }
}

// === impl PeerSource ===

impl PeerSource {
    /// Returns the questions, in order: the first one; and for the rest of a transfer that broke there, those to the other
    /// peers before it, and then repeats for those that deny.
    fn turns(&self, digest: &Digest) -> Vec<Turn> {
        if !self.is_opened.swap(true, Ordering::Relaxed) {
            return vec![self.first];
        }
        let (now, first) = (self.peers.clock.now(), self.first.peer);
        let others = (0..self.peers.members.len()).filter(|index| *index != first);
        let claims = self.peers.claims();
        let key = (self.repository.clone(), digest.clone());
        let all: Vec<_> = others.chain([first]).filter(|index| claims.believes(*index, &key, now)).collect();
        let turn = |repeat| {
            move |peer: &usize| Turn { peer: *peer, patience: SHORT_PATIENCE, is_repeat: repeat > 0 }
        };
        (0..=MAX_REPEATS).flat_map(|repeat| all.iter().map(turn(repeat))).collect()
    }
}

impl Source for PeerSource {
    fn name(&self) -> &str {
        self.peers.members[self.first.peer].name()
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
                match member.ask(|| self.peers.clock.now(), turn.patience, question).await {
                    Ok((answer, first, body)) => {
                        let counts = member.counts.clone();
                        let pieces = stream::iter(first.map(Ok)).chain(body).inspect(move |piece| {
                            if let Ok(piece) = piece {
                                counts.note_bytes(piece.len());
                            }
                        });
                        return Ok((answer, Box::pin(pieces) as _));
                    }
                    Err(error) => {
                        if Miss::of(&error) != Miss::Denied {
                            given_up.insert(turn.peer);
                        }
                        reason = error;
                    }
                }
            }
            Err(reason)
        })
    }
}

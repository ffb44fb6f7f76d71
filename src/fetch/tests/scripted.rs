//! A source that answers as a script says, and records what it was asked for.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};
use quinistry_oci::Digest;
use tokio::sync::mpsc;

use crate::{Answer, Answered, Body, Source, SourceError, Validator, Wanted};

/// Length of the pieces in which bytes are sent.
const PIECE_BYTES: usize = 10_007;

/// Source for tests.
#[derive(Debug)]
pub(super) struct Scripted {
    name: String,
    answers: Mutex<VecDeque<Script>>,
    asked: Mutex<Vec<Wanted>>,
}

/// Scripted answer to one request.
#[derive(Debug)]
pub(super) enum Script {
    /// A head and its bytes, followed by an end.
    Sends(Answer, Bytes, Ending),
    /// A head, and what a test sends.
    Fed(Answer, mpsc::UnboundedReceiver<io::Result<Bytes>>),
    Fails(SourceError),
    /// The request is never answered.
    Silent,
}

/// End of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Complete,
    Broken,
    Silent,
}

/// Sender of an answer's bytes; the answer ends when it is dropped.
pub(super) type Feed = mpsc::UnboundedSender<io::Result<Bytes>>;

impl Scripted {
    pub(super) fn new(name: &str, answers: impl IntoIterator<Item = Script>) -> Arc<Self> {
        let answers = Mutex::new(answers.into_iter().collect());
        Arc::new(Self { name: name.into(), answers, asked: Mutex::default() })
    }

    /// Returns the offsets that were asked for, and forgets them.
    pub(super) fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut *self.asked.lock().unwrap()).into_iter().map(|wanted| wanted.from).collect()
    }

    /// Returns the last request.
    pub(super) fn last_asked(&self) -> Wanted {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    /// Adds an answer.
    pub(super) fn then(&self, script: Script) {
        self.answers.lock().unwrap().push_back(script);
    }
}

/// Returns the head of an honest answer from an offset.
pub(super) fn head(bytes: &Bytes, from: usize) -> Answer {
    Answer {
        from: from as u64,
        length: Some(bytes.len() as u64),
        digest: Some(Digest::sha256(bytes)),
        validator: Validator::new("target", "\"one\""),
        is_encoded: false,
    }
}

impl Script {
    /// An honest answer.
    pub(super) fn whole(bytes: &Bytes) -> Self {
        Self::Sends(head(bytes, 0), bytes.clone(), Ending::Complete)
    }

    /// The head of an honest answer, with bytes that a test sends.
    pub(super) fn fed(bytes: &Bytes) -> (Self, Feed) {
        let (feed, receiver) = mpsc::unbounded_channel();
        (Self::Fed(head(bytes, 0), receiver), feed)
    }
}

fn body(bytes: &Bytes, ending: Ending) -> Body {
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    let pieces: Vec<_> = starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + PIECE_BYTES)))).collect();
    let pieces = stream::iter(pieces);
    match ending {
        Ending::Complete => Box::pin(pieces),
        Ending::Broken => {
            let error = io::Error::from(io::ErrorKind::ConnectionReset);
            Box::pin(pieces.chain(stream::once(future::ready(Err(error)))))
        }
        Ending::Silent => Box::pin(pieces.chain(stream::pending())),
    }
}

impl Source for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, wanted: Wanted) -> Answered<'_> {
        self.asked.lock().unwrap().push(wanted);
        let script = self.answers.lock().unwrap().pop_front().unwrap_or(Script::Fails(SourceError::NotFound));
        match script {
            Script::Sends(answer, bytes, ending) => {
                Box::pin(future::ready(Ok((answer, body(&bytes, ending)))))
            }
            Script::Fed(answer, receiver) => {
                let next = |mut receiver: mpsc::UnboundedReceiver<_>| async {
                    receiver.recv().await.map(|piece| (piece, receiver))
                };
                let body: Body = Box::pin(stream::unfold(receiver, next));
                Box::pin(future::ready(Ok((answer, body))))
            }
            Script::Fails(error) => Box::pin(future::ready(Err(error))),
            Script::Silent => Box::pin(future::pending()),
        }
    }
}

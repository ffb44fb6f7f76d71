//! A peer that answers as a script says, and counts what it is asked for.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use quinistry_fetch::{
    Answer, Answered, Body, ManifestHeaders, Peer, SourceError, Told, UpstreamManifest, Validator, Wanted,
};
use quinistry_oci::{Digest, RepositoryName};

/// Length of the pieces in which bytes are sent.
const PIECE_BYTES: usize = 10_007;

#[derive(Debug)]
pub(super) struct ScriptedPeer {
    name: String,
    contents: Mutex<HashMap<Digest, Script>>,
    asked: AtomicUsize,
    connections: AtomicUsize,
}

/// Scripted answers to the questions about one digest.
#[derive(Clone, Debug)]
pub(super) enum Script {
    /// These bytes, whatever the digest.
    Sends(Bytes),
    /// These bytes, after one request without an answer.
    SlowOnce(Bytes, Arc<AtomicBool>),
    /// These bytes, after one refused connection.
    RefusesOnce(Bytes, Arc<AtomicBool>),
    /// These bytes, after this number of denials: other stores behind the address lack them.
    Denies(usize, Bytes, Arc<AtomicUsize>),
    /// These bytes, after this number of answers that say that the peer is busy.
    Busy(usize, Bytes, Arc<AtomicUsize>),
    /// These bytes, without their length.
    NoLength(Bytes),
    /// This length for HEAD, and nothing for GET.
    Claims(u64),
    /// The right bytes, cut off after some.
    CutAfter(usize),
    /// The right bytes, cut off after some; then this number of denials, and then all.
    CutThenDenies(usize, usize, Arc<AtomicUsize>),
    /// No answer.
    Silent,
    /// A head without bytes.
    SilentBody,
    /// No connection.
    Refuses,
}

impl ScriptedPeer {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            contents: Mutex::default(),
            asked: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        })
    }

    /// Has the peer send content.
    pub(super) fn holds(&self, content: &[u8]) {
        self.scripts(content, Script::Sends(content.to_vec().into()));
    }

    /// Has the peer answer questions about content as a script says.
    pub(super) fn scripts(&self, content: &[u8], script: Script) {
        self.contents.lock().unwrap().insert(Digest::sha256(content), script);
    }

    /// Returns the number of questions since the last call.
    pub(super) fn take_asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Returns the number of questions on new connections since the last call.
    pub(super) fn take_connections(&self) -> usize {
        self.connections.swap(0, Ordering::Relaxed)
    }

    async fn script(&self, digest: &Digest) -> Result<Script, SourceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let script = self.contents.lock().unwrap().get(digest).cloned();
        match script {
            None => Err(SourceError::NotFound),
            Some(Script::Silent) => std::future::pending().await,
            Some(Script::SlowOnce(_, was_asked)) if !was_asked.swap(true, Ordering::Relaxed) => {
                std::future::pending().await
            }
            Some(Script::RefusesOnce(_, was_asked)) if was_asked.swap(true, Ordering::Relaxed) => {
                self.contents.lock().unwrap().get(digest).cloned().ok_or(SourceError::NotFound)
            }
            Some(Script::Denies(times, bytes, denied)) => {
                if denied.fetch_add(1, Ordering::Relaxed) < times {
                    Err(SourceError::NotFound)
                } else {
                    Ok(Script::Sends(bytes))
                }
            }
            Some(Script::Busy(times, bytes, refused)) => {
                if refused.fetch_add(1, Ordering::Relaxed) < times {
                    Err(SourceError::Busy)
                } else {
                    Ok(Script::Sends(bytes))
                }
            }
            Some(Script::CutThenDenies(length, times, asked)) => {
                match asked.fetch_add(1, Ordering::Relaxed) {
                    0 => Ok(Script::CutAfter(length)),
                    number if number <= times => Err(SourceError::NotFound),
                    _ => Ok(Script::Sends(Bytes::from_static(super::LAYER))),
                }
            }
            Some(Script::Refuses | Script::RefusesOnce(..)) => {
                Err(SourceError::Unavailable(Box::new(io::Error::from(io::ErrorKind::ConnectionRefused))))
            }
            Some(script) => Ok(script),
        }
    }
}

impl Peer for ScriptedPeer {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_new_connections(&self) -> &dyn Peer {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self
    }

    fn get_manifest<'a>(&'a self, _: &'a RepositoryName, digest: &'a Digest) -> Told<'a, UpstreamManifest> {
        Box::pin(async {
            match self.script(digest).await? {
                Script::Sends(bytes) | Script::RefusesOnce(bytes, _) => {
                    Ok(UpstreamManifest { headers: ManifestHeaders::default(), bytes })
                }
                Script::SilentBody => std::future::pending().await,
                _ => Err(SourceError::NotFound),
            }
        })
    }

    fn head_blob<'a>(&'a self, _: &'a RepositoryName, digest: &'a Digest) -> Told<'a, Option<u64>> {
        Box::pin(async {
            Ok(match self.script(digest).await? {
                Script::Sends(bytes) | Script::SlowOnce(bytes, _) | Script::RefusesOnce(bytes, _) => {
                    Some(bytes.len() as u64)
                }
                Script::Claims(length) => Some(length),
                Script::CutAfter(_) | Script::SilentBody => Some(super::LAYER.len() as u64),
                Script::NoLength(_)
                | Script::Silent
                | Script::Refuses
                | Script::Busy(..)
                | Script::Denies(..)
                | Script::CutThenDenies(..) => None,
            })
        })
    }

    fn open_blob<'a>(&'a self, _: &'a RepositoryName, wanted: Wanted) -> Answered<'a> {
        Box::pin(async move {
            let script = self.script(&wanted.digest).await?;
            let head = |length: Option<usize>| Answer {
                from: 0,
                length: length.map(|length| length as u64),
                digest: Some(wanted.digest.clone()),
                validator: Validator::new("peers", "\"one\""),
                is_encoded: false,
            };
            let pieces = |bytes: &Bytes| -> Vec<io::Result<Bytes>> {
                bytes.chunks(PIECE_BYTES).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
            };
            let (answer, body): (Answer, Body) = match script {
                Script::Sends(bytes) | Script::SlowOnce(bytes, _) | Script::RefusesOnce(bytes, _) => {
                    let from = usize::try_from(wanted.from).unwrap();
                    let answer = Answer { from: wanted.from, ..head(Some(bytes.len())) };
                    (answer, Box::pin(stream::iter(pieces(&bytes.slice(from..)))))
                }
                Script::NoLength(bytes) => (head(None), Box::pin(stream::iter(pieces(&bytes)))),
                Script::CutAfter(length) => {
                    let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
                    let part = pieces(&Bytes::from_static(&super::LAYER[..length]));
                    (
                        head(Some(super::LAYER.len())),
                        Box::pin(stream::iter(part).chain(stream::iter([Err(cut)]))),
                    )
                }
                Script::SilentBody => (head(Some(super::LAYER.len())), Box::pin(stream::pending())),
                Script::Claims(_)
                | Script::Silent
                | Script::Refuses
                | Script::Busy(..)
                | Script::Denies(..)
                | Script::CutThenDenies(..) => return Err(SourceError::NotFound),
            };
            Ok((answer, body))
        })
    }
}

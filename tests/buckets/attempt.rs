//! Requests whose answers may get lost, repeated as clients repeat them.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpStream;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quinistry::oci::Digest;

use crate::client::{MANIFEST, Way, target};
use crate::support::http::{Answer, Connection, Peer, request};

/// Time in which a registry must have answered, whatever the store does: less than that for which the slowest store
/// with faults holds an answer. A registry gives up small requests after half a minute, but waits for a minute after
/// the last byte of a long body, and for longer while the store copies or joins.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);

/// Time in which a client that insists must have an answer, repetitions included.
const INSISTENCE_TIMEOUT: Duration = Duration::from_mins(6);
/// Pause before a client that insists asks again.
const INSISTENCE_PAUSE: Duration = Duration::from_millis(20);
/// Time in which a blob must be pushed, repetitions included.
const PUSH_TIMEOUT: Duration = Duration::from_mins(6);

/// Replicas that serve at the moment.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    peers: RwLock<Vec<Peer>>,
    next: AtomicUsize,
}

/// End of a client's request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer that is neither 5xx nor 429.
    Answered(Answer),
    /// No answer, or one that asks to try again, and the reason. Whether the request was carried out is unknown.
    Lost(String),
}

/// A client of all replicas that repeats nothing by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts<'a> {
    pub(crate) replicas: &'a Replicas,
    pub(crate) repository: &'a str,
}

// === impl Replicas ===

impl Replicas {
    pub(crate) fn new(peers: &[Peer]) -> Self {
        Self { peers: RwLock::new(peers.to_vec()), next: AtomicUsize::new(0) }
    }

    /// Puts another replica in the place of one.
    pub(crate) fn replace(&self, index: usize, peer: Peer) {
        self.peers.write().unwrap()[index] = peer;
    }

    fn next(&self) -> Peer {
        let peers = self.peers.read().unwrap();
        peers[self.next.fetch_add(1, Ordering::Relaxed) % peers.len()]
    }
}

// === impl Outcome ===

impl Outcome {
    /// Returns the status of an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::Lost(_) => None,
        }
    }
}

// === impl Attempts ===

impl Attempts<'_> {
    /// Sends a request to the next replica.
    pub(crate) fn send(self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Outcome {
        match try_ask(self.replicas.next(), &request(method, target, headers, body)) {
            Ok(answer) if answer.status < 500 && answer.status != 429 => Outcome::Answered(answer),
            // A registry that cannot says so by these alone.
            Ok(answer) => {
                assert!(
                    matches!(answer.status, 429 | 500 | 502 | 503 | 504),
                    "{method} {target}: {answer:?}"
                );
                Outcome::Lost(format!("{answer:?}"))
            }
            Err(error) => {
                let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                assert!(!is_late, "{method} {target}: no answer in {ANSWER_TIMEOUT:?}");
                Outcome::Lost(error.to_string())
            }
        }
    }

    pub(crate) fn path(self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }

    /// Repeats a request that changes nothing, or the same in each repetition, until an answer comes.
    pub(crate) fn insist(self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut reasons = BTreeSet::new();
        // By time, not by number: while a process starts, each attempt fails at once.
        let begun = Instant::now();
        while begun.elapsed() < INSISTENCE_TIMEOUT {
            match self.send(method, &self.path(rest), headers, body) {
                Outcome::Answered(answer) => return answer,
                Outcome::Lost(reason) => drop(reasons.insert(reason)),
            }
            std::thread::sleep(INSISTENCE_PAUSE);
        }
        panic!("{method} {rest}: no answer in {INSISTENCE_TIMEOUT:?}: {reasons:#?}");
    }

    /// Pushes a blob once, from the begin. Returns true if that was acknowledged.
    pub(crate) fn push_blob(self, way: Way, bytes: &[u8]) -> bool {
        let digest = Digest::sha256(bytes);
        let outcome = self.send("POST", &self.path("blobs/uploads/"), &[("Content-Length", "0")], b"");
        let Outcome::Answered(begun) = outcome else { return false };
        assert_eq!(begun.status, 202, "{begun:?}");
        let mut at = target(begun.header("location").unwrap());
        let mut sent = 0;
        let chunk = match way {
            Way::Put => 0,
            Way::Patch => bytes.len().max(1),
            Way::Chunks(length) => length,
        };
        while way != Way::Put && sent < bytes.len() {
            let piece = &bytes[sent..bytes.len().min(sent + chunk)];
            let range = format!("{sent}-{}", sent + piece.len() - 1);
            let Outcome::Answered(answer) = self.send("PATCH", &at, &[("Content-Range", &range)], piece)
            else {
                return false;
            };
            // The session may have been taken by an attempt whose answer was lost; then this one ends.
            if matches!(answer.status, 404 | 416) {
                return false;
            }
            assert_eq!(answer.status, 202, "{answer:?}");
            sent += piece.len();
            at = target(answer.header("location").unwrap());
        }
        let rest = &bytes[sent..];
        let joint = if at.contains('?') { '&' } else { '?' };
        let length: &[(&str, &str)] = if rest.is_empty() { &[("Content-Length", "0")] } else { &[] };
        match self.send("PUT", &format!("{at}{joint}digest={digest}"), length, rest) {
            Outcome::Lost(_) => false,
            Outcome::Answered(answer) if answer.status == 404 => false,
            Outcome::Answered(answer) => {
                assert_eq!(answer.status, 201, "{answer:?}");
                true
            }
        }
    }

    /// Pushes a blob that the registry has not, as often as is needed. Returns a time before the answer that the
    /// registry has the blob.
    pub(crate) fn ensure_blob(self, way: Way, bytes: &[u8]) -> Instant {
        let rest = format!("blobs/{}", Digest::sha256(bytes));
        // By time, not by number: while a replica starts, each attempt of many chunks fails at once.
        let begun = Instant::now();
        while begun.elapsed() < PUSH_TIMEOUT {
            if let Some(asked) = self.find_blob(&rest) {
                return asked;
            }
            let asked = Instant::now();
            if self.push_blob(way, bytes) {
                return asked;
            }
        }
        panic!("{rest}: not pushed in {PUSH_TIMEOUT:?}");
    }

    /// Returns the time before the request that found a blob; `None` if the registry has not got it.
    pub(crate) fn find_blob(self, rest: &str) -> Option<Instant> {
        let begun = Instant::now();
        while begun.elapsed() < INSISTENCE_TIMEOUT {
            let asked = Instant::now();
            if let Some(status) = self.send("HEAD", &self.path(rest), &[], b"").status() {
                return (status == 200).then_some(asked);
            }
            std::thread::sleep(INSISTENCE_PAUSE);
        }
        panic!("HEAD {rest}: no answer in {INSISTENCE_TIMEOUT:?}");
    }

    /// Sends a manifest once.
    pub(crate) fn put_manifest(self, reference: &str, bytes: &[u8]) -> Outcome {
        let target = self.path(&format!("manifests/{reference}"));
        self.send("PUT", &target, &[("Content-Type", MANIFEST)], bytes)
    }
}

/// Sends a request on a connection of its own.
fn try_ask(peer: Peer, request: &[u8]) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&peer.0, ANSWER_TIMEOUT)?;
    let mut connection = Connection::over(stream, ANSWER_TIMEOUT, 8 << 10);
    // The server may answer and close before it has all of the request.
    let _ = connection.send(request);
    connection.answer(request.starts_with(b"HEAD "))
}

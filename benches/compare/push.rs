//! Pushes as clients do them: a session per blob, one request with all of its bytes, and manifests.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinistry::oci::media_type;

use super::content::{GeneratedBlob, Pattern};
use super::support::connection::Connection;
use super::support::process::Process;

pub(crate) fn blob(connection: &mut Connection, repository: &str, blob: &GeneratedBlob, pattern: &Pattern) {
    bytes(connection, repository, &blob.digest.to_string(), &pattern.chunks(blob));
}

pub(crate) fn bytes(connection: &mut Connection, repository: &str, digest: &str, chunks: &[&[u8]]) {
    let answer = connection.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[], |_| ());
    assert_eq!(answer.status, 202, "a session: {answer:?}");
    let session = answer.location.expect("a session is somewhere");
    let and = if session.contains('?') { '&' } else { '?' };
    let fields = "content-type: application/octet-stream\r\n";
    let answer = connection.ask("PUT", &format!("{session}{and}digest={digest}"), fields, chunks, |_| ());
    assert_eq!(answer.status, 201, "a blob: {answer:?}");
}

pub(crate) fn manifest(connection: &mut Connection, target: &str, bytes: &[u8]) {
    let fields = format!("content-type: {}\r\n", media_type::OCI_MANIFEST);
    let answer = connection.ask("PUT", target, &fields, &[bytes], |_| ());
    assert_eq!(answer.status, 201, "PUT {target}: {answer:?}");
}

/// Number of pushes, and their time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PushCount {
    pub(crate) count: usize,
    pub(crate) time: Duration,
}

impl PushCount {
    pub(crate) fn rate(self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }
}

/// Runs several clients at once, each taking the next push, until none is left or the time is over. Pushes
/// begun by then are finished, and count with their time.
pub(crate) fn all(
    server: &Process,
    clients: usize,
    count: usize,
    limit: Duration,
    one: impl Fn(&mut Connection, usize) + Sync,
) -> PushCount {
    let next = AtomicUsize::new(0);
    let barrier = Barrier::new(clients + 1);
    thread::scope(|scope| {
        let client = || {
            let mut connection = server.connect();
            barrier.wait();
            let begin = Instant::now();
            let mut done = 0;
            while begin.elapsed() < limit {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                one(&mut connection, number);
                done += 1;
            }
            done
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        barrier.wait();
        let begin = Instant::now();
        let count = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        PushCount { count, time: begin.elapsed() }
    })
}

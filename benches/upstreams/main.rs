//! Pulls through an upstream: one client and fifty, of blobs that are not stored yet and of stored ones, first of a long
//! blob, and then beside distribution's proxy on the same shorter ones.
//!
//! `benches/upstreams/run` builds the release binary, installs distribution and calls the bench.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::duplicate_mod, reason = "the benches and the tests share the guard of processes")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]

mod caches;
mod line;
#[path = "../support/mod.rs"]
mod support;

use std::fmt;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use quinistry::oci::Digest;

use self::caches::{Program, start_upstream};
use self::line::Line;
use self::support::load_average;
use self::support::process::Process;
use self::support::spread::{Spread, verdict};

/// Length of the long blobs in bytes.
const LONG_BLOB: f64 = (1_u64 << 30) as f64;

/// Length of the shorter blobs in bytes. Distribution fetches one for each client that waits, which takes minutes.
const SHORT_BLOB: f64 = (100 << 20) as f64;

/// Clients that pull at once.
const CLIENTS: usize = 50;

/// Bytes per second that the upstream sends, unless the command line says otherwise: fifty times as many go to clients,
/// which a machine with two processors still carries.
const RATE: f64 = 25e6;

/// Greatest time of each of many clients, as a share of that of one client alone.
const GOAL: f64 = 1.10;

/// Greatest time until the first byte, in seconds.
const FIRST_BYTE_GOAL: f64 = 1.0;

const REPOSITORY: &str = "library/files";

/// Times of one client, in seconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    first_byte: f64,
    end: f64,
}

/// Figures of pulls at the same time.
#[derive(Debug)]
struct Pulls {
    /// Times of the clients in seconds, until the first byte and the last one.
    first_bytes: Spread,
    ends: Spread,
    /// Processor time of the cache, in seconds.
    processor: f64,
    /// Requests to the upstream, and bytes of its answers.
    requests: u64,
    bytes: u64,
}

/// Figures of one program.
#[derive(Debug)]
struct Figures {
    /// Pulls of blobs that are not stored, by one client and by many, and the same of stored ones.
    pulls: [Pulls; 4],
    /// Most memory of the cache, in megabytes.
    memory: f64,
}

/// Names of [`Figures::pulls`].
const WORK: [&str; 4] =
    ["1 client, not stored", "50 clients, not stored", "1 client, stored", "50 clients, stored"];

fn main() {
    let before = load_average();
    let mut arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut number = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.drain(place..place + 2).nth(1).unwrap().parse::<f64>().expect("a number"))
    };
    let (share, rate) = (number("--share").unwrap_or(1.0), number("--rate").map_or(RATE, |rate| rate * 1e6));
    println!("pulls through an upstream that sends {:.0} MB/s; load before {before}", rate / 1e6);
    let folder = tempfile::tempdir().unwrap();
    let upstream = start_upstream(folder.path());
    let long = [1, 2].map(|seed| push(&upstream, seed, LONG_BLOB * share));
    let short = [3, 4].map(|seed| push(&upstream, seed, SHORT_BLOB * share));

    let figures = measure(Program::Quinistry, "long", folder.path(), &upstream, rate, &long);
    let [alone, all, ..] = &figures.pulls;
    let ratio = all.ends.most() / alone.ends.most();
    println!(
        "  the last of {CLIENTS} took {ratio:.3} times as long as one alone ({}); first byte after {:.3} s at most ({})",
        verdict(ratio <= GOAL),
        all.first_bytes.most(),
        verdict(all.first_bytes.most() < FIRST_BYTE_GOAL)
    );

    let [ours, theirs] =
        Program::ALL.map(|program| measure(program, "short", folder.path(), &upstream, rate, &short));
    println!("{} as a multiple of {}:", Program::Distribution.name(), Program::Quinistry.name());
    for (work, (ours, theirs)) in WORK.iter().zip(ours.pulls.iter().zip(&theirs.pulls)) {
        println!(
            "  {work}: last client {:.2}, processor {:.2}",
            theirs.ends.most() / ours.ends.most(),
            theirs.processor / ours.processor
        );
    }
    println!("  memory {:.2}; load after {}", theirs.memory / ours.memory, load_average());
}

/// Has clients of an empty cache pull two blobs, and prints the figures.
fn measure(
    program: Program,
    name: &str,
    folder: &Path,
    upstream: &Process,
    rate: f64,
    [first, second]: &[(Digest, usize); 2],
) -> Figures {
    let line = Line::to(upstream.address(), rate);
    let cache = program.start(folder, name, line.address());
    println!("{}, blobs of {:.0} MB:", program.name(), first.1 as f64 / 1e6);
    let blobs = [(first, 1), (second, CLIENTS), (first, 1), (second, CLIENTS)];
    let mut work = WORK.iter();
    let pulls = blobs.map(|((blob, _), clients)| {
        let pulls = measure_pulls(&cache, &line, blob, clients);
        println!("  {}: {pulls}", work.next().expect("each pull has a name"));
        pulls
    });
    let memory = cache.high_water();
    println!("  {memory:.0} MB of memory at most");
    Figures { pulls, memory }
}

impl fmt::Display for Pulls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "first bytes {:.3} to {:.3} s, ends {:.2} to {:.2} s; processor {:.2} s; {} requests to the upstream, {:.0} MB \
             from it",
            self.first_bytes.least(),
            self.first_bytes.most(),
            self.ends.least(),
            self.ends.most(),
            self.processor,
            self.requests,
            self.bytes as f64 / 1e6
        )
    }
}

/// Pushes a blob of bytes that no compression shortens.
fn push(upstream: &Process, seed: u64, length: f64) -> (Digest, usize) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "lengths are positive, and fit into memory"
    )]
    let length = length as usize;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    let digest = Digest::sha256(&bytes);
    let mut connection = upstream.connect();
    let begun = connection.ask("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), "", &[], |_| ());
    let location = begun.location.expect("an upload has a place");
    let octets = "content-type: application/octet-stream\r\n";
    let answer = connection.ask("PUT", &format!("{location}&digest={digest}"), octets, &[&bytes], |_| ());
    assert_eq!(answer.status, 201, "{answer:?}");
    (digest, length)
}

/// Has clients pull a blob at once.
fn measure_pulls(cache: &Process, line: &Line, blob: &Digest, clients: usize) -> Pulls {
    line.take_counts();
    let processor = cache.processor_seconds();
    let times = pull(cache, blob, clients);
    let processor = cache.processor_seconds() - processor;
    let (requests, bytes) = line.take_counts();
    Pulls {
        first_bytes: Spread::of(times.iter().map(|times| times.first_byte).collect()),
        ends: Spread::of(times.iter().map(|times| times.end).collect()),
        processor,
        requests,
        bytes,
    }
}

fn pull(cache: &Process, blob: &Digest, clients: usize) -> Vec<Times> {
    let target = format!("/v2/{REPOSITORY}/blobs/{blob}");
    let barrier = Barrier::new(clients);
    thread::scope(|scope| {
        let client = || {
            let mut connection = cache.connect();
            barrier.wait();
            let (begun, mut first_byte) = (Instant::now(), None);
            connection.get(&target, |_| {
                first_byte.get_or_insert_with(|| begun.elapsed());
            });
            let first_byte = first_byte.expect("the blob has bytes").as_secs_f64();
            Times { first_byte, end: begun.elapsed().as_secs_f64() }
        };
        let running: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        running.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

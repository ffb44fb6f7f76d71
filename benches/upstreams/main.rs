//! Pulls through an upstream: one client and fifty, of blobs that are not stored yet and of stored ones, beside
//! distribution's proxy on the same files.
//!
//! `benches/upstreams/run` builds the release binary, installs distribution and calls the bench.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::duplicate_mod, reason = "the benches and the tests share the guard of processes")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]

mod caches;
mod line;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use quinistry::oci::Digest;

use self::caches::{Program, start_upstream};
use self::line::Line;
use self::support::load_average;
use self::support::process::Process;
use self::support::spread::{Spread, verdict};

/// Length of a blob in bytes.
const BLOB: f64 = (1_u64 << 30) as f64;

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
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shares are small and positive"
    )]
    let length = (BLOB * share) as usize;
    let blobs: Vec<Digest> = (1..=2).map(|seed| push(&upstream, seed, length)).collect();
    for program in Program::ALL {
        let line = Line::to(upstream.address(), rate);
        let cache = program.start(folder.path(), line.address());
        println!("{}:", program.name());
        let alone = measure(&cache, &line, "not stored", &blobs[0], 1);
        let all = measure(&cache, &line, "not stored", &blobs[1], CLIENTS);
        let ratio = all.0.most() / alone.0.most();
        println!(
            "  the last of {CLIENTS} took {ratio:.3} times as long as one alone ({}); first byte after {:.3} s at most ({})",
            verdict(ratio <= GOAL),
            all.1.most(),
            verdict(all.1.most() < FIRST_BYTE_GOAL)
        );
        measure(&cache, &line, "stored", &blobs[0], 1);
        measure(&cache, &line, "stored", &blobs[1], CLIENTS);
        println!("  {:.0} MB of memory at most", cache.high_water());
    }
    println!("load after {}", load_average());
}

/// Pushes a blob of bytes that no compression shortens.
fn push(upstream: &Process, seed: u64, length: usize) -> Digest {
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
    digest
}

/// Has clients pull a blob at once, prints what it took, and returns the times of ends and of first bytes.
fn measure(cache: &Process, line: &Line, state: &str, blob: &Digest, clients: usize) -> (Spread, Spread) {
    line.take_counts();
    let processor = cache.processor_seconds();
    let times = pull(cache, blob, clients);
    let processor = cache.processor_seconds() - processor;
    let (requests, bytes) = line.take_counts();
    let ends = Spread::of(times.iter().map(|times| times.end).collect());
    let first_bytes = Spread::of(times.iter().map(|times| times.first_byte).collect());
    println!(
        "  {clients:2} clients, {state}: first bytes {:.3} to {:.3} s, ends {:.2} to {:.2} s; processor {processor:.2} s; \
         {requests} requests to the upstream, {:.0} MB from it",
        first_bytes.least(),
        first_bytes.most(),
        ends.least(),
        ends.most(),
        bytes as f64 / 1e6
    );
    (ends, first_bytes)
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

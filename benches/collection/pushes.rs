//! Time of a push beside a running cycle, and without one.

use std::path::Path;
use std::time::{Duration, Instant};

use quinistry::oci::{Digest, media_type};

use crate::folder::{Images, Registry};
use crate::support::connection::Connection;
use crate::support::milliseconds;
use crate::support::spread::{Spread, verdict};

/// Rounds of each kind, in turn: the load of the machine changes.
const ROUNDS: usize = 4;

/// Pushes of a round, after the first ones.
const PUSHES: usize = 300;

/// Pushes that open files and fill caches.
const FIRST_PUSHES: usize = 20;

/// Greatest time beside a cycle, as a share of that without one.
const GOAL: f64 = 1.10;

pub(crate) fn measure(images: &Images, program: &Path) {
    let mut number = 0;
    let [mut alone, mut beside] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (figures, gc) in [(&mut alone, None), (&mut beside, Some(", grace: 10m"))] {
            let registry = Registry::start(program, images.root(), gc);
            let mut connection = registry.process.connect();
            let is_running = || gc.is_none() || registry.metric("quinistry_gc_running") == 1;
            for push in 0..FIRST_PUSHES + PUSHES {
                number += 1;
                let took = push_image(&mut connection, number);
                if push >= FIRST_PUSHES {
                    figures.push(milliseconds(took));
                }
                assert!(push != FIRST_PUSHES || is_running(), "the cycle must be running");
            }
            assert!(is_running(), "the cycle has ended too early: use a greater share");
        }
    }
    let [alone, beside] = [alone, beside].map(Spread::of);
    let ratio = beside.median() / alone.median();
    println!(
        "push of an image: median {:.2} ms without a cycle, {:.2} ms beside a running one: {ratio:.3} times ({})",
        alone.median(),
        beside.median(),
        verdict(ratio <= GOAL)
    );
}

/// Pushes a configuration and a manifest with a tag.
fn push_image(connection: &mut Connection, number: usize) -> Duration {
    let config =
        format!(r#"{{"architecture":"amd64","os":"linux","push":"{number}-{}"}}"#, std::process::id());
    let digest = Digest::sha256(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{digest}","size":{}}},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
        config.len()
    );
    let begin = Instant::now();
    let target = format!("/v2/pushed/blobs/uploads/?digest={digest}");
    let octets = "content-type: application/octet-stream\r\n";
    let answer = connection.ask("POST", &target, octets, &[config.as_bytes()], |_| ());
    assert_eq!(answer.status, 201, "{answer:?}");
    let fields = format!("content-type: {}\r\n", media_type::OCI_MANIFEST);
    let target = format!("/v2/pushed/manifests/v{}", number % 100);
    let answer = connection.ask("PUT", &target, &fields, &[manifest.as_bytes()], |_| ());
    assert_eq!(answer.status, 201, "{answer:?}");
    begin.elapsed()
}

//! Three replicas on one bucket, of which one is killed every 15 seconds, under pushes, mounts, pulls and
//! deletes: nothing that was acknowledged is lost, and each pull is whole.
//!
//! A command of its own: `cargo test --test buckets soak -- --ignored --nocapture`.
//! `QUINISTRY_SOAK_SECONDS` sets the time (default: 60).

mod ledger;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::ledger::{Ledger, State};
use self::worker::Worker;
use crate::attempt::Replicas;
use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::images::{Image, Packing};
use crate::support::stub_store::{Shape, StubStore};
use crate::support::versitygw::{Versitygw, section};

/// Number of clients that push, mount, pull and delete.
const WORKERS: usize = 8;
/// Time between two kills.
const KILL_INTERVAL: Duration = Duration::from_secs(15);
/// Repositories that the workers share.
const REPOSITORIES: [&str; 3] = ["soak/a", "soak/b", "soak/c"];

fn duration() -> Duration {
    let seconds = std::env::var("QUINISTRY_SOAK_SECONDS").ok().map(|text| text.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Kills the replicas in turn and starts others in their places until told to end. Returns the last ones, since
/// clients still finish what they have begun, and the number of kills.
fn kill_replicas(
    section: &str,
    shared: &Replicas,
    mut replicas: Vec<Replica>,
    is_over: &AtomicBool,
) -> (Vec<Replica>, usize) {
    let mut kills = 0;
    let mut last = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        if last.elapsed() < KILL_INTERVAL {
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        let index = kills % replicas.len();
        // The old replica dies while requests are on their way, and a while before another takes its place.
        drop(replicas.remove(index));
        replicas.insert(index, Replica::start(section));
        shared.replace(index, replicas[index].peer());
        (kills, last) = (kills + 1, Instant::now());
    }
    (replicas, kills)
}

#[test]
#[ignore = "a command of its own: it takes a minute at least"]
fn soak() {
    let Some(store) = Versitygw::on_disk() else { return };
    let section = section(store.address, "");
    let replicas: Vec<Replica> = (0..3).map(|_| Replica::start(&section)).collect();
    let peers: Vec<_> = replicas.iter().map(Replica::peer).collect();
    let shared = Replicas::new(&peers);
    let (ledger, is_over) = (Ledger::default(), AtomicBool::new(false));
    let kills = thread::scope(|scope| {
        let killer = scope.spawn(|| kill_replicas(&section, &shared, replicas, &is_over));
        let work = |number: usize| {
            let mut worker = Worker::new(number, &shared, &ledger);
            while !is_over.load(Ordering::Relaxed) {
                worker.step();
            }
        };
        let workers: Vec<_> = (0..WORKERS).map(|number| scope.spawn(move || work(number))).collect();
        let begin = Instant::now();
        while begin.elapsed() < duration() && workers.iter().all(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(100));
        }
        is_over.store(true, Ordering::Relaxed);
        let (_replicas, kills) = killer.join().unwrap();
        for worker in workers {
            worker.join().unwrap();
        }
        kills
    });
    let last = Replica::start(&section);
    let report = ledger.check(|repository| Client::new(&[last.peer()], repository));
    println!("{kills} kills; {report}");
    assert!(kills > 0 || duration() < KILL_INTERVAL, "no replica was killed");
}

/// A check that can find nothing would prove nothing.
#[test]
fn the_check_finds_an_acknowledged_image_that_a_store_has_lost() {
    let stub = StubStore::start(Shape::S3);
    let replica = Replica::start(&stub.section(""));
    let ledger = Ledger::default();
    let image = Image::new("amd64", &["one"], Packing::Plain);
    let client = |repository: &str| Client::new(&[replica.peer()], repository);
    for tag in ["kept", "lost"] {
        client("soak/a").push(Way::Put, tag, &image);
        ledger.note("soak/a", tag, &image, State::Pushed);
    }
    ledger.check(client);
    assert!(stub.mem().lose("docker/registry/v2/repositories/soak/a/_manifests/tags/lost/current/link"));
    let check = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ledger.check(client)));
    let message = *check.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("soak/a:lost is lost") && !message.contains("kept"), "{message}");
}

//! A hostile run of ten minutes: crowds change their attack again and again, and honest clients beside them
//! must be served.
//!
//! ```sh
//! cargo test --release --test resident -- --ignored --nocapture ten_minutes
//! ```
//!
//! `QUINISTRY_HOSTILE_SECONDS` is the duration of each of the two runs (600 without it). Where the memory
//! controller of cgroups is writable, the registry without storage runs in a group of 128 MiB, the limit of a
//! generation's pod, and the one with storage in one of 512 MiB.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinistry_oci::Digest;

use crate::crowd::Crowd;
use crate::support::http::Peer;
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::{connections, get, peak};

/// Longest time that a health check may take.
const HEALTHY: Duration = Duration::from_secs(1);

/// Number of kinds of attacks.
const ATTACKS: usize = 9;

/// Attack whose bodies go on slowly, although the server has refused them.
const REFUSED_TRICKLE: usize = 8;

/// Crowds that attack at once. Each has an equal share of the connections.
const CROWDS: usize = 4;

fn duration() -> Duration {
    let seconds = std::env::var("QUINISTRY_HOSTILE_SECONDS").ok();
    Duration::from_secs(seconds.map_or(600, |seconds| seconds.parse().expect("a number of seconds")))
}

/// A memory cgroup, removed when it is dropped.
#[derive(Debug)]
struct Group(PathBuf);

impl Group {
    /// Creates a group that holds no more than this, if cgroups can be made here.
    fn of(name: &str, limit: u64) -> Option<Self> {
        let roots = [
            (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
            (Path::new("/sys/fs/cgroup"), "memory.max"),
        ];
        roots.into_iter().find_map(|(root, file)| {
            let folder = root.join(format!("quinistry-{name}-{}", std::process::id()));
            std::fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            std::fs::write(group.0.join(file), limit.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Runs one attack, by its number, on a server with storage.
fn attack(crowd: &mut Crowd, number: usize, layer: &str) {
    let upload = b"POST /v2/evil/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    let manifest = b"PUT /v2/evil/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n";
    let refused = b"POST /v2/quinistry/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n";
    match number % ATTACKS {
        0 => {}
        1 => crowd.try_send(b"GET /v2/ HTTP/1.1\r\nHost: "),
        2 => crowd.try_send(&[&b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: "[..], &vec![b'y'; 60_000]].concat()),
        3 => crowd.try_send(&get(layer)),
        4 => crowd.try_send(&get("/v2/quinistry/manifests/latest").repeat(50)),
        5 => crowd.try_send(&[&upload[..], &vec![b'x'; 50_000]].concat()),
        6 => crowd.try_send(&[&manifest[..], &vec![b' '; 100_000]].concat()),
        7 => crowd.try_send(&get("/v2/x/referrers/sha256:0")),
        _ => crowd.try_send(refused),
    }
}

/// Requests of honest clients: those that failed end the test, the slowest health check is counted.
#[derive(Debug, Default)]
struct Honest {
    slowest_ms: AtomicU64,
    asked: AtomicU64,
}

impl Honest {
    fn health(&self, peer: Peer) {
        let begun = Instant::now();
        assert_eq!(peer.get("/v2/").status, 200);
        let took = begun.elapsed();
        self.slowest_ms.fetch_max(u64::try_from(took.as_millis()).unwrap(), Ordering::Relaxed);
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    fn pull(peer: Peer, layer: &str) {
        assert_eq!(peer.get("/v2/quinistry/manifests/latest").status, 200);
        let answer = peer.ask("GET", layer, &[("Range", "bytes=1000-3000999")], b"");
        assert_eq!((answer.status, answer.body.len()), (206, 3_000_000));
    }

    fn push(peer: Peer, number: u64) {
        let bytes = [&number.to_le_bytes()[..], &vec![b'x'; 100_000]].concat();
        let digest = Digest::sha256(&bytes);
        let path = format!("/v2/honest/blobs/uploads/?digest={digest}");
        assert_eq!(peer.ask("POST", &path, &[], &bytes).status, 201);
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[],"annotations":{{"n":"{number}"}}}}"#
        );
        let headers = [("Content-Type", media_type)];
        let answer = peer.ask("PUT", "/v2/honest/manifests/latest", &headers, index.as_bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(peer.get("/v2/honest/manifests/latest").body, index.as_bytes());
        assert_eq!(peer.get(&format!("/v2/honest/blobs/{digest}")).body, bytes);
    }
}

/// Runs `work` again and again until the end, which comes at once if it panics.
fn until(end: &AtomicBool, mut work: impl FnMut()) {
    struct AtPanic<'a>(&'a AtomicBool);
    impl Drop for AtPanic<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                self.0.store(true, Ordering::Relaxed);
            }
        }
    }
    let _at_panic = AtPanic(end);
    while !end.load(Ordering::Relaxed) {
        work();
    }
}

fn run(name: &str, flags: &[&str], limit_mib: u64) {
    let group = Group::of(name, limit_mib << 20);
    if group.is_none() {
        println!("{name}: no memory cgroup can be made here, so the peak is compared with the limit");
    }
    let enter = group
        .as_ref()
        .map_or(String::new(), |group| format!("echo $$ > {} && ", group.0.join("cgroup.procs").display()));
    let script = format!("{enter}exec \"$0\" \"$@\"");
    let server = Server::launch(command("/bin/sh").args(["-c", &script, PROGRAM]).args(SERVE).args(flags));
    let (end, honest) = (AtomicBool::new(false), Honest::default());
    let (share, peer) = (connections() / CROWDS - 20, server.peer);
    let layer = format!("/v2/quinistry/blobs/{}", server.layer);
    thread::scope(|scope| {
        for first in 0..CROWDS {
            let (end, layer) = (&end, &layer);
            let mut number = first * 2;
            scope.spawn(move || {
                until(end, || {
                    let mut crowd = Crowd::of(peer, share);
                    attack(&mut crowd, number, layer);
                    let begun = Instant::now();
                    // Each for another time, so that they do not change their attack together.
                    let hold = Duration::from_secs(8 + first as u64);
                    while begun.elapsed() < hold && !end.load(Ordering::Relaxed) {
                        crowd.read_some();
                        if number % ATTACKS == REFUSED_TRICKLE {
                            crowd.try_send(&[b'x'; 120]);
                        }
                    }
                    number += 1;
                });
            });
        }
        let mut pushed = 0;
        scope.spawn(|| {
            until(&end, || {
                honest.health(peer);
                thread::park_timeout(Duration::from_millis(100));
            });
        });
        scope.spawn(|| until(&end, || Honest::pull(peer, &layer)));
        if !flags.is_empty() {
            let end = &end;
            scope.spawn(move || {
                until(end, || {
                    pushed += 1;
                    Honest::push(peer, pushed);
                });
            });
        }
        let until = Instant::now() + duration();
        while Instant::now() < until && !end.load(Ordering::Relaxed) {
            thread::park_timeout(Duration::from_millis(100));
        }
        end.store(true, Ordering::Relaxed);
    });
    let (slowest, asked) = (honest.slowest_ms.into_inner(), honest.asked.into_inner());
    let peak = peak(&server);
    println!("{name}: {asked} health checks, the slowest after {slowest} ms; at most {peak} KiB resident");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    // In a group the kernel has ended the server if it held more; pages of its executable do not count there.
    assert!(group.is_some() || peak < limit_mib << 10, "{name}: {peak} KiB");
    assert!(Duration::from_millis(slowest) < HEALTHY, "{name}: a health check took {slowest} ms");
    drop(server);
    drop(group);
}

#[test]
#[ignore = "takes as long as it is told, ten minutes otherwise"]
fn ten_minutes() {
    run("plain", &[], 128);
    run("storage", &["--storage", "storage"], 512);
}

//! Memory of a replica under large pushes.

use std::fs;
use std::io::Write as _;

use quinistry::oci::Digest;
use quinistry_bucket::testing::MemOptions;
use sha2::{Digest as _, Sha256};

use crate::client::{Client, target};
use crate::stores::{Replica, ReplicaSettings};
use crate::support::http::Peer;
use crate::support::stub_store::{Shape, StubOptions, StubStore};

/// Most memory of a replica beside its buffers, in KiB.
const BESIDE_KIB: u64 = 60 << 10;

/// Most memory by which a replica grows beside its buffers, in KiB: batches on their way into parts, connections and
/// stacks.
const GROWTH_KIB: u64 = 40 << 10;

/// Pushes at once.
#[derive(Clone, Copy, Debug)]
struct Load {
    pushes: u8,
    /// Length of each blob in MiB.
    mib: usize,
    /// Memory for parts (`uploads.memory`), in MiB.
    memory_mib: u64,
}

/// Returns the greatest resident memory that a process has had, in KiB.
fn peak_kib(pid: rustix::process::Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Pushes a blob that is never in memory as a whole: a MiB that is repeated.
fn push(peer: Peer, number: u8, mib: usize) {
    let block: Vec<u8> =
        (0..1 << 20).map(|at: u32| at.to_le_bytes()[0] ^ at.to_le_bytes()[1] ^ number).collect();
    let mut hash = Sha256::new();
    (0..mib).for_each(|_| hash.update(&block));
    let hex: String = hash.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let digest: Digest = format!("sha256:{hex}").parse().unwrap();
    let client = Client::new(&[peer], "app");
    let at = client.begin();
    let joint = if at.contains('?') { '&' } else { '?' };
    // Half of the clients tell the digest before the body, as containerd does; the others after it.
    let end = format!("{at}{joint}digest={digest}");
    let (method, first) = if number.is_multiple_of(2) { ("PUT", &end) } else { ("PATCH", &at) };
    let mut head = Vec::new();
    write!(head, "{method} {first} HTTP/1.1\r\nHost: registry.test\r\nContent-Length: {}\r\n\r\n", mib << 20)
        .unwrap();
    let mut connection = peer.connect();
    connection.send(&head).unwrap();
    for _ in 0..mib {
        connection.send(&block).unwrap();
    }
    let answer = connection.answer(false).unwrap();
    if method == "PATCH" {
        assert_eq!(answer.status, 202, "{answer:?}");
        let at = target(answer.header("location").unwrap());
        let answer = client.finish(&at, &digest, b"");
        assert_eq!(answer.status, 201, "{answer:?}");
    } else {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let head = client.head(&format!("blobs/{digest}"));
    assert_eq!(head.header("content-length"), Some(&*(mib << 20).to_string()));
}

/// Pushes blobs at once, and returns the greatest resident memory before and after, in KiB.
fn peaks(load: Load) -> (u64, u64) {
    let mem = MemOptions { forgets_parts_from: 1 << 20, ..StubOptions::new(Shape::S3).mem };
    let stub = StubStore::with(StubOptions { mem, ..StubOptions::new(Shape::S3) });
    let sections = format!("quinistry: {{uploads: {{memory: {}}}}}\n", load.memory_mib << 20);
    let settings = ReplicaSettings { sections: &sections, ..ReplicaSettings::default() };
    let replica = Replica::with(&stub.section(""), settings);
    let before = peak_kib(replica.server.pid());
    std::thread::scope(|scope| {
        for number in 0..load.pushes {
            let peer = replica.peer();
            scope.spawn(move || push(peer, number, load.mib));
        }
    });
    let after = peak_kib(replica.server.pid());
    println!("VmHWM {before} KiB at rest, {after} KiB after {load:?}");
    assert_eq!(stub.mem().pending_uploads(), 0);
    (before, after)
}

#[test]
fn pushes_at_once_take_no_more_memory_than_the_budget() {
    let load = Load { pushes: 8, mib: 48, memory_mib: 32 };
    let (before, after) = peaks(load);
    let most = (load.memory_mib << 10) + GROWTH_KIB;
    assert!(after - before <= most, "grown by {} KiB, at most {most} KiB", after - before);
}

#[test]
#[ignore = "a command of its own: 16 GiB go through two programs"]
fn pushes_of_many_gibibytes_stay_within_the_budget() {
    let load = Load { pushes: 16, mib: 1024, memory_mib: 256 };
    let (_, after) = peaks(load);
    let most = (load.memory_mib << 10) + BESIDE_KIB;
    assert!(after <= most, "{after} KiB, at most {most} KiB");
}

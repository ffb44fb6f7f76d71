//! A leader that is stopped between its look at the lease and a removal, for longer than the lease.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use quinistry::oci::Digest;
use rustix::process::Signal;

use super::{SECTIONS, VARIABLES};
use crate::client::{Client, Way};
use crate::stores::{Replica, ReplicaSettings};
use crate::support::versitygw::{Versitygw, section};

/// Time for everything that a test waits for: two cycles, the end of a lease, and removals that are repeated.
const TIMEOUT: Duration = Duration::from_mins(6);

const CONTENT: &[u8] = b"garbage that is pushed again";

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < TIMEOUT, "waiting until {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Starts a replica; with a failpoint, the process stops itself there (SIGSTOP).
fn start(section: &str, failpoint: Option<&str>) -> Replica {
    let settings = ReplicaSettings {
        sections: SECTIONS,
        variables: &VARIABLES,
        failpoint,
        ..ReplicaSettings::default()
    };
    Replica::with(section, settings)
}

fn is_stopped(replica: &Replica) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", replica.server.pid())).unwrap();
    // The state follows the name of the program, which stands in brackets.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Returns the keys of the content: its bytes, and its link.
fn keys_of(store: &Versitygw, digest: &Digest) -> Vec<String> {
    let mut keys = store.keys("docker/registry/v2/");
    keys.retain(|key| key.contains(digest.hex()) && !key.contains("/_quinistry/"));
    keys
}

/// Returns the number of removals with a fence that the store has refused, as its log says.
fn refused_removals(store: &Versitygw) -> usize {
    let is_refused = |line: &&str| line.contains("| 403 |") && line.contains("X-Amz-Expires=10");
    store.log().lines().filter(is_refused).count()
}

/// Stops the leader at a removal, and lets it go on when another one has ended the sweep and the content is back.
fn stop_at_removal(number: u32) {
    let Some(store) = Versitygw::start() else { return };
    let section = section(store.address, "");
    let zombie = start(&section, Some(&format!("gc.deletes:{number}=stop")));
    zombie.server.log_line("this replica leads");
    let digest = Client::new(&[zombie.peer()], "app").push_blob(Way::Put, CONTENT);
    assert_eq!(keys_of(&store, &digest).len(), 2);
    until("the leader is stopped before a removal", || is_stopped(&zombie));
    assert!(!keys_of(&store, &digest).is_empty(), "removal {number} is the last one");

    let second = start(&section, None);
    second.server.log_line("this replica leads");
    until("another leader has ended the sweep", || keys_of(&store, &digest).is_empty());
    let client = Client::new(&[second.peer()], "app");
    assert_eq!(client.push_blob(Way::Put, CONTENT), digest);
    let keys = keys_of(&store, &digest);
    assert_eq!(keys.len(), 2, "{keys:?}");
    let refused = refused_removals(&store);

    zombie.server.signal(Signal::CONT);
    until("the store has refused the removal", || refused_removals(&store) > refused);
    assert_eq!(keys_of(&store, &digest), keys, "removal {number}");
    for replica in [&second, &zombie] {
        let answer = Client::new(&[replica.peer()], "app").head(&format!("blobs/{digest}"));
        assert_eq!(answer.status, 200, "removal {number}: {answer:?}");
    }
}

#[test]
#[ignore = "a command of its own: it takes minutes"]
fn a_leader_that_is_stopped_before_it_removes_a_link_removes_nothing_later() {
    stop_at_removal(1);
}

#[test]
#[ignore = "a command of its own: it takes minutes"]
fn a_leader_that_is_stopped_before_it_removes_bytes_removes_nothing_later() {
    stop_at_removal(2);
}

//! Memory of the real program while a client holds nearly all of its connections in the way that costs most:
//! resident memory is counted, printed, and must stay below the limit that the operator gives its pods.
//!
//! Registries with storage have a bound of their own. `ten_minutes` is a longer attack in a memory cgroup,
//! and runs when it is asked for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

// Only what needs nothing of the library: so it is not linked.
#[path = "../support"]
#[allow(dead_code, unreachable_pub, reason = "the same files are modules of several programs")]
mod support {
    pub mod http;
    pub mod process;
    pub mod server;
}

mod crowd;
mod storage;
mod ten_minutes;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crowd::Crowd;
use support::process::command;
use support::server::{PROGRAM, SERVE, Server};

/// Limit of a generation's pod, in KiB (`operator::build::pod`).
const POD_LIMIT: u64 = 128 * 1024;

/// Highest resident memory of a registry without storage, in KiB: an eighth of the pod's limit is left to the
/// kernel's part of each connection.
const BOUND: u64 = POD_LIMIT - POD_LIMIT / 8;

/// Highest resident memory of a registry with storage, in KiB.
const STORAGE_BOUND: u64 = 384 * 1024;

/// Resident memory of the released program at rest, in KiB. A debug program has more, which no pod has, so
/// bounds are compared with what an attack adds to this.
const AT_REST: u64 = 12 * 1024;

/// Connections of one attack: of 4,096 places a few are left to honest clients.
const CONNECTIONS: usize = 4080;

/// Returns the number of connections that there can be: each is an open file of this process too.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let files = limit.maximum.map_or(CONNECTIONS, |files| usize::try_from(files).unwrap());
    CONNECTIONS.min(files.saturating_sub(100))
}

/// Returns the highest resident memory of a process so far, in KiB.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the process has memory");
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Has a crowd do the same to a server, counts its memory, and asks it for something in between.
fn held(server: &Server, what: &str, bound: u64, attack: impl FnOnce(&mut Crowd)) {
    let before = peak(server);
    let mut crowd = Crowd::of(server.peer, connections());
    attack(&mut crowd);
    let after = crowd::when_stable(|| peak(server));
    println!("{what}: {} connections, {before} KiB before, {after} KiB with all of them", crowd.len());
    let answer = server.peer.get("/v2/");
    assert_eq!((answer.status, answer.text()), (200, "{}"), "{what}");
    let released = AT_REST + (after - before);
    assert!(
        released < bound,
        "{what}: {released} KiB would be resident in a pod, and {bound} KiB is the bound"
    );
}

fn plain(what: &str, attack: impl FnOnce(&Server, &mut Crowd)) {
    let server = Server::launch(command(PROGRAM).args(SERVE));
    held(&server, what, BOUND, |crowd| attack(&server, crowd));
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

#[test]
fn idle_connections() {
    plain("idle", |_, _| {});
    plain("idle after a request", |_, crowd| {
        crowd.send(&get("/v2/"));
        crowd.await_answers();
    });
    plain("idle after a refused upload", |_, crowd| {
        let head = b"POST /v2/x/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
        crowd.send(&[&head[..], &vec![b'x'; 100_000]].concat());
        crowd.await_answers();
    });
}

#[test]
fn half_heads() {
    for length in [100, 4000, 8000, 100_000] {
        plain(&format!("{length} bytes of a head"), |_, crowd| {
            crowd.try_send(&[&b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: "[..], &vec![b'y'; length]].concat());
        });
    }
    plain("a head of many fields", |_, crowd| {
        let field = |i| format!("X{i}: {}\r\n", "y".repeat(30));
        let fields: String = (0..95).map(field).collect();
        crowd.try_send(format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{fields}").as_bytes());
    });
}

#[test]
fn unread_answers() {
    plain("unread layer", |server, crowd| {
        crowd.send(&get(&format!("/v2/quinistry/blobs/{}", server.layer)));
        crowd.await_answers();
    });
    plain("unread layer, and half a head behind it", |server, crowd| {
        let head = get(&format!("/v2/quinistry/blobs/{}", server.layer));
        crowd.try_send(&[&head[..], b"GET /v2/ HTTP/1.1\r\nX: ", &[b'y'; 8000]].concat());
        crowd.await_answers();
    });
    plain("many unread manifests", |_, crowd| {
        crowd.try_send(&get("/v2/quinistry/manifests/latest").repeat(60));
        crowd.await_answers();
    });
}

#[test]
fn trickled_bodies() {
    plain("trickled body that is refused", |_, crowd| {
        crowd.send(b"POST /v2/x/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        for _ in 0..10 {
            crowd.try_send(&[b'x'; 120]);
        }
    });
}

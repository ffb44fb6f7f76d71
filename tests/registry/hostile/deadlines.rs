//! Rows 60–62: clients that are slow or silent, and many of them. With limits short enough to wait for.

use std::io::ErrorKind;
use std::time::Duration;

use quinistry::oci::Digest;
use quinistry::registry::{Limits, Settings, State};
use quinistry::store::{Access, Filesystem, Memory, Store};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::hostile::assert_each_survives;
use crate::support::http::{Connection, request};
use crate::support::in_process::{InProcess, QUINE};
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};

const SHORT_LIMIT: Duration = Duration::from_secs(1);

/// Sends `bytes` one by one, a little apart, until the server ends the connection.
fn drip(connection: &mut Connection, mut bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    connection.set_read_timeout(Duration::from_millis(20));
    let mut heard = Vec::new();
    loop {
        let gone = bytes.next().is_some_and(|byte| connection.send(&[byte]).is_err());
        let mut buffer = [0; 4096];
        match connection.read(&mut buffer) {
            Ok(0) => return heard,
            Ok(read) => heard.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                assert!(!gone, "the connection is neither open nor closed");
            }
            Err(_) => return heard,
        }
    }
}

/// Something to pull that is more than sockets hold.
struct Large {
    path: String,
    length: u64,
}

/// A server of the built-in image alone, and two that also have what was pushed, in memory and in a folder.
fn each(limits: Limits, test: impl Fn(&InProcess, &Large)) {
    let layer = QUINE.layer();
    let large =
        Large { path: format!("/v2/quinistry/blobs/{}", layer.digest()), length: layer.content.len() };
    test(&InProcess::start(limits), &large);
    let folder = tempfile::tempdir().unwrap();
    let on_disk = Filesystem::open(folder.path(), Access::Write).unwrap();
    for store in [Store::open(Memory::new(64 << 20), false), Store::open(on_disk, false)] {
        let store = store.unwrap();
        let bytes = vec![7; 8 << 20];
        let digest = Digest::sha256(&bytes);
        let mut receiver = store.receive(&digest, None).unwrap();
        receiver.append(&bytes).unwrap();
        store.commit(&"stored".parse().unwrap(), &mut receiver, &digest).unwrap();
        let state = State::new(&QUINE).with_store(store, Settings::default());
        let large = Large { path: format!("/v2/stored/blobs/{digest}"), length: bytes.len() as u64 };
        test(&InProcess::serving(state, limits), &large);
    }
}

/// Fails unless the server takes a new connection and answers on it.
fn answers(server: &InProcess) {
    assert_eq!(server.peer.get("/v2/").status, 200);
}

#[test]
fn row_60_a_head_that_drips_in_is_cut_off() {
    each(Limits { head: SHORT_LIMIT, ..Limits::default() }, |server, large| {
        let mut connection = server.peer.connect();
        let head = format!("GET {} HTTP/1.1\r\nX: ", large.path).into_bytes();
        assert_eq!(drip(&mut connection, head.into_iter().chain(std::iter::repeat(b'y'))), b"");
        answers(server);
    });
}

#[test]
fn row_60_a_head_that_stops_is_cut_off_on_a_used_connection_too() {
    each(Limits { head: SHORT_LIMIT, ..Limits::default() }, |server, _| {
        let mut connection = server.peer.connect();
        assert_eq!(connection.ask(&request("GET", "/v2/", &[], b"")).status, 200);
        connection.send(b"GET /v2/ HTTP/1.1\r\nHos").unwrap();
        assert_eq!(connection.rest(), b"");
        answers(server);
    });
}

#[test]
fn row_60_half_a_head_behind_a_whole_request_is_cut_off_as_an_idle_connection() {
    each(Limits { idle: SHORT_LIMIT, ..Limits::default() }, |server, _| {
        let mut connection = server.peer.connect();
        let both = [&request("GET", "/v2/", &[], b"")[..], b"GET /v2/ HTTP/1.1\r\nHos"].concat();
        assert_eq!(connection.ask(&both).status, 200);
        assert_eq!(connection.rest(), b"");
        answers(server);
    });
}

#[test]
fn row_61_a_body_that_drips_in_is_answered_and_cut_off() {
    let server = InProcess::start(Limits::default());
    let mut connection = server.peer.connect();
    let headers = [("Content-Length", "1000000")];
    connection.send(&request("PUT", "/v2/quinistry/manifests/x", &headers, b"")).unwrap();
    let heard = drip(&mut connection, std::iter::repeat(b' '));
    assert!(heard.starts_with(b"HTTP/1.1 405 "), "{}", heard.escape_ascii());
    answers(&server);
}

#[test]
fn row_62_a_client_that_does_not_read_loses_its_place() {
    let limits = Limits { connections: 1, write: SHORT_LIMIT, ..Limits::default() };
    each(limits, |server, large| {
        let mut connection = server.peer.connect();
        // Asks again and again: the sockets of both sides hold some megabytes, and more must be owed than
        // that.
        connection.send(&request("GET", &large.path, &[], b"").repeat(20)).unwrap();
        // There is one place, so this is answered only when the other client has lost it.
        answers(server);
        assert!((connection.rest().len() as u64) < 20 * large.length, "it was never cut off");
    });
}

#[test]
fn row_62_a_client_that_reads_slowly_but_fast_enough_gets_everything() {
    // A byte per second: what this client takes between its pauses is far more.
    let limits = Limits { write: SHORT_LIMIT, write_rate: 1, ..Limits::default() };
    each(limits, |server, large| {
        let mut connection = server.peer.connect();
        connection.send(&request("GET", &large.path, &[("Connection", "close")], b"")).unwrap();
        let (status, _) = connection.head().unwrap();
        assert_eq!(status, 200);
        let mut buffer = vec![0; 1 << 20];
        let mut seen = 0;
        loop {
            match connection.read(&mut buffer).unwrap() {
                0 => break,
                read => seen += read as u64,
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert_eq!(seen, large.length);
    });
}

#[test]
fn an_idle_connection_is_ended_before_and_after_a_request() {
    let server = InProcess::start(Limits { idle: SHORT_LIMIT, ..Limits::default() });
    let mut silent = server.peer.connect();
    assert_eq!(silent.rest(), b"");
    let mut used = server.peer.connect();
    assert_eq!(used.ask(&request("GET", "/v2/", &[], b"")).status, 200);
    assert_eq!(used.rest(), b"");
    answers(&server);
}

/// Waits as long as a client may be idle.
fn idle_deadline(server: &InProcess) {
    assert_eq!(server.peer.connect().rest(), b"");
}

#[test]
fn a_client_that_falls_silent_after_a_long_upload_is_ended() {
    let limits = Limits { connections: 2, idle: SHORT_LIMIT, head: SHORT_LIMIT, ..Limits::default() };
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let server = InProcess::serving(State::new(&QUINE).with_store(store, Settings::default()), limits);
    for body in ["whole", "of a session"] {
        let path = match body {
            "whole" => format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"xyz")),
            _ => server.peer.ask("POST", "/v2/a/blobs/uploads/", &[], b"").header("location").unwrap().into(),
        };
        let method = if body == "whole" { "POST" } else { "PATCH" };
        let mut connection = server.peer.connect();
        connection.send(&request(method, &path, &[("Content-Length", "3")], b"")).unwrap();
        for byte in [b"x", b"y", b"z"] {
            idle_deadline(&server);
            connection.send(byte).unwrap();
        }
        assert!(matches!(connection.answer(false).unwrap().status, 201 | 202), "{body}");
        assert_eq!(connection.rest(), b"", "{body}");
    }
    answers(&server);
}

#[test]
fn a_client_that_falls_silent_after_a_slow_answer_is_ended() {
    let server = InProcess::start(Limits { idle: SHORT_LIMIT, head: SHORT_LIMIT, ..Limits::default() });
    let layer = QUINE.layer();
    let mut connection = server.peer.connect();
    connection.send(&request("GET", &format!("/v2/quinistry/blobs/{}", layer.digest()), &[], b"")).unwrap();
    idle_deadline(&server);
    idle_deadline(&server);
    assert_eq!(connection.answer(false).unwrap().body.len() as u64, layer.content.len());
    assert_eq!(connection.rest(), b"");
}

#[test]
fn a_client_that_pauses_within_an_answer_is_not_idle() {
    let server = InProcess::start(Limits { idle: SHORT_LIMIT, head: SHORT_LIMIT, ..Limits::default() });
    let path = format!("/v2/quinistry/blobs/{}", QUINE.layer().digest());
    let mut connection = server.peer.connect();
    connection.send(&request("GET", &path, &[("Connection", "close")], b"")).unwrap();
    connection.head().unwrap();
    // Longer than a client may be idle; another one that is proves that the time has come.
    let mut idle = server.peer.connect();
    assert_eq!(idle.rest(), b"");
    let mut idle = server.peer.connect();
    assert_eq!(idle.rest(), b"");
    assert_eq!(connection.rest().len() as u64, QUINE.layer().content.len());
}

#[test]
fn silent_clients_that_hold_every_place_lose_them() {
    let server = InProcess::start(Limits { connections: 4, idle: SHORT_LIMIT, ..Limits::default() });
    let silent: Vec<Connection> = (0..12).map(|_| server.peer.connect()).collect();
    answers(&server);
    drop(silent);
}

/// Every connection is a file of ours as well, and many tests run at once.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// The program with a limit of open files, in the words of the shell's `ulimit`.
fn with_file_limit(limit: &str) -> Server {
    let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    Server::launch(command("/bin/sh").args(["-c", &script, PROGRAM]).args(SERVE))
}

#[test]
fn a_soft_limit_of_files_does_not_limit_connections() {
    allow_many_files();
    let server = with_file_limit("-S -n 64");
    let silent: Vec<Connection> = (0..120).map(|_| server.peer.connect()).collect();
    assert_eq!(server.peer.get("/v2/").status, 200);
    drop(silent);
}

#[test]
fn running_out_of_files_is_survived() {
    allow_many_files();
    let server = with_file_limit("-n 64");
    let silent: Vec<Connection> = (0..120).map(|_| server.peer.connect()).collect();
    server.log_line("cannot accept connection, retrying in 100 ms");
    drop(silent);
    assert_eq!(server.peer.get("/v2/").status, 200);
}

#[test]
fn a_thousand_silent_connections_do_not_stop_service() {
    allow_many_files();
    assert_each_survives(|peer| {
        let silent: Vec<Connection> = (0..1000).map(|_| peer.connect()).collect();
        assert_eq!(peer.get("/v2/quinistry/manifests/latest").status, 200);
        drop(silent);
    });
}

#[test]
fn a_flood_of_connections_is_served() {
    allow_many_files();
    assert_each_survives(|peer| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        assert_eq!(peer.get("/v2/quinistry/tags/list").status, 200);
                        // Asks and leaves.
                        let _ = peer
                            .connect()
                            .send(b"GET /v2/quinistry/manifests/latest HTTP/1.1\r\nHost: x\r\n\r\n");
                    }
                });
            }
        });
    });
}

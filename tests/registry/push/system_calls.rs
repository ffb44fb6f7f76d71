//! System calls of a request: what a request costs that no load of the machine changes.
//!
//! The program is traced while one client asks it a hundred times for the same, over one connection. Each kind of call
//! has a bound for a hundred requests; a call without a bound must not come more often than work in the background
//! explains.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use quinistry::oci::Digest;
use rustix::process::Signal;
use serde_json::json;

use super::registry::MANIFEST;
use crate::support::http::{Connection, Peer, request};
use crate::support::process::{Process, command};
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::support::skip::{Need, lacks};

const REQUESTS: usize = 100;

/// Calls for a hundred requests that heartbeats of the program, timers and wakeups of threads explain.
const BACKGROUND: usize = 20;

/// Calls that are no work for a request: memory that is given back and taken, and threads that wait for each other.
const OF_THREADS: [&str; 8] =
    ["futex", "madvise", "mmap", "munmap", "brk", "mprotect", "sched_yield", "restart_syscall"];

/// Work that a client asks for, and the calls that each request of it may make.
struct Work<'a> {
    name: &'a str,
    request: Vec<u8>,
    status: u16,
    most: &'a [(&'a str, usize)],
}

/// Traces a program while a client asks, and returns how often it made each system call.
fn calls(server: &Server, ask: impl FnOnce()) -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls");
    let pid = server.pid().as_raw_nonzero().to_string();
    let mut strace = command("strace");
    strace.args(["--follow-forks", "--attach", &pid, "--output"]).arg(&file);
    let mut strace = Process::start(strace.stdin(Stdio::null()).stderr(Stdio::piped())).unwrap();
    let mut said = BufReader::new(strace.child().stderr.take().unwrap());
    let mut line = String::new();
    // Said once for all threads.
    while !line.contains("attached") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "strace has ended");
    }
    ask();
    strace.signal(Signal::INT).unwrap();
    strace.wait().unwrap();
    let mut calls = BTreeMap::new();
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        // `1234 read(3, …`, or the second half of a call that another thread came between.
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().split_once('(');
        if let Some((name, _)) =
            call.filter(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        {
            *calls.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    calls
}

fn ask(connection: &mut Connection, work: &Work<'_>) {
    let answer = connection.ask(&work.request);
    assert_eq!(answer.status, work.status, "{}", work.name);
}

fn put_blob(peer: Peer, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(peer.ask("POST", &path, &[], bytes).status, 201);
    digest
}

#[test]
fn the_disk_is_written_to_while_a_long_blob_arrives() {
    if lacks(&[Need::Root, Need::Tool("strace")]) {
        return;
    }
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "storage"]));
    let bytes = vec![b'x'; 20 << 20];
    let calls = calls(&server, || drop(put_blob(server.peer, &bytes)));
    // Once for each 8 MiB.
    assert_eq!(calls.get("fadvise64"), Some(&2), "{calls:?}");
}

#[test]
fn a_request_makes_few_system_calls() {
    if lacks(&[Need::Root, Need::Tool("strace")]) {
        return;
    }
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "storage"]));
    let peer = server.peer;
    let [config, short, long] = [2, 1000, 1_000_000].map(|length| put_blob(peer, &vec![b'x'; length]));
    let part = |digest: &Digest, size| json!({"mediaType": "a/b", "digest": digest.as_str(), "size": size});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": part(&config, 2), "layers": [part(&short, 1000)],
    })
    .to_string();
    for number in 0..100 {
        let path = format!("/v2/a/manifests/t{number}");
        assert_eq!(peer.ask("PUT", &path, &[("Content-Type", MANIFEST)], manifest.as_bytes()).status, 201);
    }
    let get = |path: String, headers: &[(&str, &str)]| request("GET", &format!("/v2/a/{path}"), headers, b"");
    let etag = format!("\"{}\"", Digest::sha256(manifest.as_bytes()));
    // What nginx makes, too: the wait for a request, the request, the response.
    let turn = [("epoll_wait", 1), ("recvfrom", 1), ("writev", 1)];
    // A file that was not asked for in the last second is opened again. A client that reads slowly has it sent in more
    // parts, each of which is looked at.
    let opened = [("openat2", 1), ("fcntl", 1), ("read", 1), ("write", 1), ("close", 1)];
    let parts = |most: usize| {
        let of_parts = [("sendfile", most), ("fstat", 2 * most), ("preadv2", 6 * most), ("epoll_wait", most)];
        [&[("recvfrom", 1), ("sendmsg", 1)], &opened[..], &of_parts[..]].concat()
    };
    // Less than nginx makes, which makes nine and opens the file each time: the file is looked at before and
    // after, and its first and last byte are looked for in memory.
    let part =
        [("sendfile", 1), ("fstat", 2), ("preadv2", 2), ("epoll_wait", 1), ("recvfrom", 1), ("sendmsg", 1)];
    let range = [&part[..], &opened[..]].concat();
    // A thread that may block makes the list, and wakes the one that waits; on a busy machine this one may have gone to
    // sleep in between, and is woken once more. A list that was not asked for in the last second is compared with the
    // times of its folders.
    let list_turn = [("epoll_wait", 3), ("recvfrom", 1), ("writev", 1), ("write", 2), ("newfstatat", 5)];
    let works = [
        Work {
            name: "manifest by tag",
            request: get("manifests/t1".into(), &[("Accept", MANIFEST)]),
            status: 200,
            most: &turn,
        },
        Work {
            name: "manifest that the client has",
            request: get("manifests/t1".into(), &[("Accept", MANIFEST), ("If-None-Match", &etag)]),
            status: 304,
            most: &turn,
        },
        Work {
            name: "blob that the client has",
            request: get(format!("blobs/{long}"), &[("If-None-Match", "*")]),
            status: 304,
            most: &turn,
        },
        Work {
            name: "HEAD of a manifest",
            request: request("HEAD", "/v2/a/manifests/t1", &[("Accept", MANIFEST)], b""),
            status: 200,
            most: &turn,
        },
        Work {
            name: "HEAD of a blob",
            request: request("HEAD", &format!("/v2/a/blobs/{long}"), &[], b""),
            status: 200,
            most: &turn,
        },
        Work { name: "blob of 1 KB", request: get(format!("blobs/{short}"), &[]), status: 200, most: &turn },
        Work {
            name: "blob of 1 MB",
            request: get(format!("blobs/{long}"), &[]),
            status: 200,
            most: &parts(6),
        },
        Work {
            name: "64 KiB range",
            request: get(format!("blobs/{long}"), &[("Range", "bytes=65536-131071")]),
            status: 206,
            most: &range,
        },
        Work {
            name: "page of 100 tags",
            request: get("tags/list?n=100".into(), &[]),
            status: 200,
            most: &list_turn,
        },
    ];
    let mut table = String::new();
    let mut excess = Vec::new();
    for work in &works {
        let mut connection = peer.connect();
        for _ in 0..10 {
            ask(&mut connection, work);
        }
        let calls = calls(&server, || (0..REQUESTS).for_each(|_| ask(&mut connection, work)));
        writeln!(table, "{}: {calls:?}", work.name).unwrap();
        let sent: usize = ["writev", "sendmsg"].iter().filter_map(|name| calls.get(*name)).sum();
        assert!(sent >= REQUESTS, "{}: the trace has all responses: {calls:?}", work.name);
        for (name, count) in calls {
            let most = work.most.iter().find(|(of, _)| *of == name).map_or(0, |(_, most)| most * REQUESTS);
            if count > most + BACKGROUND && !OF_THREADS.contains(&name.as_str()) {
                excess.push(format!("{}: {count} × {name}, at most {most}", work.name));
            }
        }
    }
    println!("{table}");
    assert!(excess.is_empty(), "{}\n{table}", excess.join("\n"));
}

//! `quinistry serve` from its start to its end: addresses, expected digests, exit codes, signals.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use quinistry::registry::Limits;
use rustix::process::Signal;

use crate::support::http::{Connection, request};
use crate::support::in_process::{InProcess, QUINE};
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server, run};
use crate::support::skip::{Need, lacks};

fn serve(arguments: &[&str]) -> Command {
    let mut command = command(PROGRAM);
    command.args(SERVE).args(arguments);
    command
}

/// Bytes of a download: more than sockets hold, and few enough to come within the time that a server waits for its end.
const DOWNLOADED: &str = "bytes=0-67108863";

/// Begins to download a part of the layer: the head of the answer is read, most of its body is not.
fn begin_download(server: &Server) -> (Connection, u64) {
    let mut connection = server.peer.connect();
    let path = format!("/v2/quinistry/blobs/{}", server.layer);
    connection.send(&request("GET", &path, &[("Range", DOWNLOADED)], b"")).unwrap();
    let (status, headers) = connection.head().unwrap();
    assert_eq!(status, 206);
    let (_, length) = headers.iter().find(|(name, _)| name == "content-length").unwrap();
    (connection, length.parse().unwrap())
}

// === Starting ===

#[test]
fn the_first_lines_say_where_and_what_and_what_is_next() {
    let server = Server::start();
    assert!(server.peer.0.ip().is_loopback());
    assert_ne!(server.peer.0.port(), 0);
    let answer = server.peer.get("/v2/quinistry/manifests/latest");
    assert_eq!(answer.header("docker-content-digest"), Some(&*server.manifest));
    let next = server.log_line("next: ");
    assert!(next.ends_with(&format!("docker pull {}/quinistry", server.peer.0)), "{next}");
    assert_eq!(server.log().lines().count(), 2, "{}", server.log());
}

#[test]
fn serving_is_what_the_program_does_when_told_nothing_else() {
    let bare = Server::launch(command(PROGRAM).args(["--listen", "127.0.0.1:0"]));
    let explicit = Server::start();
    assert_eq!(bare.manifest, explicit.manifest);
    assert_eq!(bare.peer.get("/v2/").status, 200);
}

#[test]
fn it_listens_on_ipv6_too() {
    let Ok(_) = TcpListener::bind("[::1]:0") else { return println!("skipped: this machine lacks IPv6") };
    let server = Server::launch(command(PROGRAM).args(["--listen", "[::1]:0"]));
    assert!(server.peer.0.is_ipv6());
    assert_eq!(server.peer.get("/v2/").status, 200);
}

#[test]
fn a_port_in_use_is_named_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, said) = run(command(PROGRAM).args(["serve", "--listen", &address]));
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with(&format!("quinistry: failed to listen on {address} ")), "{said}");
}

#[test]
fn nonsense_is_a_usage_error() {
    for arguments in [
        &["--listen", "nowhere"][..],
        &["--layer", "zstd"],
        &["--expect-digest", "sha256:x"],
        &["--unheard-of"],
        &["unheard-of"],
    ] {
        let (status, said) = run(command(PROGRAM).args(arguments));
        assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
    }
}

#[test]
fn an_odd_log_filter_is_complained_of_and_ignored() {
    for filter in [&b""[..], b"quinistry=loud", b"\xff", b"=garbage=", b"inof"] {
        let server = Server::launch(serve(&[]).env("RUST_LOG", OsStr::from_bytes(filter)));
        assert_eq!(server.peer.get("/v2/").status, 200, "{}", filter.escape_ascii());
    }
    let server = Server::launch(serve(&[]).env("RUST_LOG", "inof"));
    assert!(
        server.log().contains("malformed log filter, using 'info'; expected a filter such as 'info'"),
        "{}",
        server.log()
    );
}

// === Expected digests ===

#[test]
fn the_expected_image_is_served() {
    let plain = Server::start();
    let server = Server::launch(&mut serve(&["--expect-digest", &plain.manifest]));
    assert_eq!(server.manifest, plain.manifest);
}

#[test]
fn the_form_of_the_layer_is_found_by_the_expected_digest() {
    let gzip = Server::launch(&mut serve(&["--layer", "gzip"]));
    let plain = Server::start();
    assert_ne!(gzip.manifest, plain.manifest);
    let server = Server::launch(&mut serve(&["--expect-digest", &gzip.manifest]));
    assert_eq!((&server.manifest, &server.layer), (&gzip.manifest, &gzip.layer));
    // An explicit form is not overruled.
    let (status, said) = run(&mut serve(&["--layer", "tar", "--expect-digest", &gzip.manifest]));
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains(&gzip.manifest) && said.contains(&plain.manifest), "{said}");
}

#[test]
fn another_image_than_the_expected_is_not_served() {
    let plain = Server::start();
    let gzip = Server::launch(&mut serve(&["--layer", "gzip"]));
    let expected = format!("sha256:{}", "0".repeat(64));
    let (status, said) = run(&mut serve(&["--expect-digest", &expected]));
    assert_eq!(status.code(), Some(3), "{said}");
    for digest in [&expected, &plain.manifest, &gzip.manifest] {
        assert!(said.contains(digest), "{digest} in {said}");
    }
    assert!(!said.contains("serving quinistry"), "{said}");
}

#[test]
fn kubernetes_is_told_in_its_termination_log_if_there_is_one() {
    if lacks(&[Need::Root, Need::Tool("unshare"), Need::Tool("mount")]) {
        return;
    }
    // A /dev of its own, with and without the file, which is then shown on standard error.
    let script = r#"
        mount -t tmpfs none /dev && eval "$1" && "$0" serve --expect-digest "$2"
        code=$?; echo ---; cat /dev/termination-log; exit $code"#;
    let expected = format!("sha256:{}", "0".repeat(64));
    let tell = |prepare: &str| {
        let mut command = command("unshare");
        command.args(["--mount", "sh", "-c", &format!("{{ {script}\n}} >&2"), PROGRAM, prepare, &expected]);
        let (status, said) = run(&mut command);
        assert_eq!(status.code(), Some(3), "{said}");
        let (said, log) = said.split_once("---\n").unwrap();
        (said.trim_end().to_owned(), log.trim_end().to_owned())
    };
    let (said, log) = tell(": > /dev/termination-log");
    assert!(said.starts_with("quinistry: this executable's image is not the expected one"), "{said}");
    assert_eq!(said, format!("quinistry: {log}"));
    let (_, log) = tell("true");
    assert!(log.contains("No such file"), "it was made: {log}");
}

// === Ending ===

#[test]
fn both_signals_end_an_idle_server_with_success() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start();
        let mut idle = server.peer.connect();
        assert_eq!(idle.ask(&request("GET", "/v2/", &[], b"")).status, 200);
        server.signal(signal);
        assert_eq!(idle.rest(), b"", "an idle connection is closed, not waited for");
        let (status, said) = server.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{said}");
    }
}

#[test]
fn a_running_download_is_finished_but_nothing_new_begun() {
    let server = Server::start();
    let (mut download, length) = begin_download(&server);
    server.signal(Signal::TERM);
    server.log_line("stopping");
    // The listener is gone soon after that line.
    let begun = Instant::now();
    while server.peer.is_listening() {
        assert!(begun.elapsed() < Duration::from_secs(5), "still accepting");
    }
    assert_eq!(download.rest().len() as u64, length);
    let (status, said) = server.wait();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn a_stuck_download_holds_the_end_up_only_so_long() {
    let mut server = InProcess::start(Limits { drain: Duration::from_millis(300), ..Limits::default() });
    let mut stuck = server.peer.connect();
    let path = format!("/v2/quinistry/blobs/{}", QUINE.layer().digest());
    stuck.send(&request("GET", &path, &[], b"").repeat(20)).unwrap();
    stuck.head().unwrap();
    let begun = Instant::now();
    server.stop();
    server.join();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!((stuck.rest().len() as u64) < 20 * QUINE.layer().content.len(), "it was not stuck");
}

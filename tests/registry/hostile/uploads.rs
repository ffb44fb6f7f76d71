//! Rows 42–59: uploads. No session can be opened, so none is known, and everything that would write is
//! refused.

use quinistry::registry::{Limits, Settings, State};
use quinistry::store::{Access, Filesystem, Store};

use crate::hostile::assert_read_only_survives;
use crate::support::http::request;
use crate::support::in_process::InProcess;
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};

const UPLOADS: &str = "/v2/quinistry/blobs/uploads/";

const SESSION: &str = "/v2/quinistry/blobs/uploads/6b3c9a93-af5d-473f-a4cf-9710022195cd";

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Whatever the session, its contents cannot be asked for, and it cannot be used.
fn is_no_session(path: &str) {
    assert_read_only_survives(|peer| {
        peer.get(path).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        assert_eq!(peer.head(path).status, 404);
        for method in ["PATCH", "PUT", "POST", "DELETE"] {
            peer.ask(method, path, &[], b"").assert_read_only();
        }
    });
}

#[test]
fn row_42_forged_sessions_are_unknown() {
    is_no_session(SESSION);
    is_no_session(&format!("{UPLOADS}x"));
    is_no_session(UPLOADS);
}

#[test]
fn row_42_what_a_session_has_is_told_without_a_body_or_a_length() {
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "memory"]));
    let answer = server.peer.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    let session = answer.header("location").unwrap();
    for answer in [server.peer.get(session), server.peer.head(session)] {
        assert_eq!((answer.status, answer.header("content-length")), (204, None), "{answer:?}");
    }
}

#[test]
fn row_42_no_session_is_known_where_none_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let location = {
        let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
        let server = InProcess::serving(State::stored(store, Settings::default()), Limits::default());
        let answer = server.peer.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
        let location = answer.header("location").unwrap().to_owned();
        assert_eq!(server.peer.ask("PATCH", &location, &[], b"x").status, 202);
        server.join();
        location
    };
    let store = Store::open(Filesystem::open(folder.path(), Access::Read).unwrap(), false).unwrap();
    let options = Settings { read_only: true, ..Settings::default() };
    let server = InProcess::serving(State::stored(store, options), Limits::default());
    server.peer.get(&location).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.peer.head(&location).status, 404);
}

#[test]
fn row_43_sessions_of_other_repositories_are_unknown() {
    is_no_session(&SESSION.replace("quinistry", "other"));
}

#[test]
fn row_44_sessions_that_are_paths_are_unknown() {
    is_no_session(&format!("{UPLOADS}..%2Fx"));
    is_no_session(&format!("{UPLOADS}%00"));
    is_no_session(&format!("{UPLOADS}%2e%2e"));
    assert_read_only_survives(|peer| peer.get(&format!("{UPLOADS}../x")).assert_refused(404, "NAME_UNKNOWN"));
}

#[test]
fn row_45_odd_chunk_ranges_change_nothing() {
    assert_read_only_survives(|peer| {
        let odd = ["0-0", "5-9", "9-5", "0-18446744073709551616", "bytes 0-1", "-", "", "0-1, 2-3"];
        for range in odd {
            peer.ask("PATCH", SESSION, &[("Content-Range", range)], b"x").assert_read_only();
            peer.get(SESSION).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        }
    });
}

#[test]
fn row_46_a_range_that_is_not_the_length_changes_nothing() {
    assert_read_only_survives(|peer| {
        peer.ask("PATCH", SESSION, &[("Content-Range", "0-9")], b"x").assert_read_only();
    });
}

#[test]
fn row_49_a_second_put_is_refused_like_the_first() {
    assert_read_only_survives(|peer| {
        for _ in 0..2 {
            peer.ask("PUT", &format!("{SESSION}?digest={EMPTY}"), &[], b"").assert_read_only();
        }
    });
}

#[test]
fn row_50_the_empty_blob_is_refused_by_every_method() {
    assert_read_only_survives(|peer| {
        for length in [&[("Content-Length", "0")][..], &[]] {
            for (method, path) in [
                ("POST", UPLOADS.to_owned()),
                ("POST", format!("{UPLOADS}?digest={EMPTY}")),
                ("POST", format!("{UPLOADS}?mount={EMPTY}")),
                ("PATCH", SESSION.to_owned()),
                ("PUT", format!("{SESSION}?digest={EMPTY}")),
            ] {
                peer.ask(method, &path, length, b"").assert_read_only();
            }
        }
    });
}

#[test]
fn row_51_a_body_that_ends_early_commits_nothing() {
    assert_read_only_survives(|peer| {
        let mut connection = peer.connect();
        let head = format!("POST {UPLOADS} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nshort");
        connection.send(head.as_bytes()).unwrap();
        connection.end_sending();
        let rest = connection.rest();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{}", rest.escape_ascii());
    });
}

#[test]
fn row_52_what_follows_a_body_is_no_part_of_it() {
    assert_read_only_survives(|peer| {
        let mut connection = peer.connect();
        let mut bytes = request("POST", UPLOADS, &[], b"body");
        bytes.extend_from_slice(b"surplus\r\n\r\n");
        connection.ask(&bytes).assert_read_only();
        assert_eq!(connection.answer(false).unwrap().status, 400);
        assert_eq!(connection.rest(), b"");
    });
}

#[test]
fn row_53_a_client_that_leaves_within_a_chunk_is_forgotten() {
    assert_read_only_survives(|peer| {
        let head = format!("PATCH {SESSION} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        for _ in 0..20 {
            let mut connection = peer.connect();
            connection.send(head.as_bytes()).unwrap();
            connection.send(&[0; 5000]).unwrap();
        }
    });
}

#[test]
fn row_58_mounts_tell_nothing_about_other_repositories() {
    assert_read_only_survives(|peer| {
        let answers = ["quinistry", "secret", "..%2F..", "%00"].map(|from| {
            let answer = peer.ask("POST", &format!("{UPLOADS}?mount={EMPTY}&from={from}"), &[], b"");
            answer.assert_read_only();
            (answer.status, answer.body)
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    });
}

#[test]
fn row_59_a_mount_from_itself_is_refused() {
    assert_read_only_survives(|peer| {
        peer.ask("POST", &format!("{UPLOADS}?mount={EMPTY}&from=quinistry"), &[], b"").assert_read_only();
    });
}

//! Rows 65–70, 72 and 73: well-formed requests that mean harm.

use crate::hostile::{Target, assert_each_survives, assert_survives, on_each};
use crate::support::http::{Answer, request};
use crate::support::process::command;
use crate::support::server::{PROGRAM, Server};

#[test]
fn row_65_a_thousand_ranges_get_the_whole_once() {
    on_each(|target| {
        for ranges in [["0-0"; 1000].join(","), ["0-"; 1000].join(","), ["-1"; 17].join(",")] {
            let range = format!("bytes={ranges}");
            let answer = target.server.peer.ask("GET", &target.blob, &[("Range", &range)], b"");
            assert_eq!((answer.status, &answer.body), (200, &target.content));
        }
    });
}

#[test]
fn row_66_empty_ranges_are_refused_and_junk_is_ignored() {
    on_each(|target| {
        let ask = |range| target.server.peer.ask("GET", &target.blob, &[("Range", range)], b"");
        for empty in ["bytes=-0", "bytes=500-0", "bytes=99999999-", "bytes=18446744073709551616-"] {
            let answer = ask(empty);
            answer.assert_refused(416, "BLOB_UPLOAD_INVALID");
            let total = format!("bytes */{}", target.content.len());
            assert_eq!(answer.header("content-range"), Some(&*total));
        }
        for junk in ["lines=0-1", "bytes", "bytes=", "bytes=a-b", "bytes=--1", "=0-1", "\u{e9}"] {
            let answer = ask(junk);
            assert_eq!((answer.status, &answer.body), (200, &target.content), "{junk}");
        }
    });
}

#[test]
fn row_67_page_sizes_are_clamped_or_refused() {
    assert_each_survives(|peer| {
        for list in ["/v2/quinistry/tags/list", "/v2/_catalog"] {
            for n in ["1000000000000000000", "99999999999999999999999999", "0"] {
                assert_eq!(peer.get(&format!("{list}?n={n}")).status, 200, "{n}");
            }
            for n in ["-1", "abc", "", "1e3", "%00", "%2B1", "1%20"] {
                peer.get(&format!("{list}?n={n}")).assert_refused(400, "UNSUPPORTED");
            }
        }
    });
}

#[test]
fn row_68_forwarded_hosts_are_not_reflected() {
    on_each(|target| {
        let (peer, name) = (target.server.peer, target.name);
        let headers = [
            ("X-Forwarded-Host", "evil.test"),
            ("X-Forwarded-Proto", "evil"),
            ("Forwarded", "host=evil.test"),
            ("X-Original-URL", "/evil"),
        ];
        let is_kind = |answer: &Answer| {
            assert!(!format!("{:?}{}", answer.headers, answer.text()).contains("evil"), "{answer:?}");
        };
        let tags = format!("/v2/{name}/tags/list?n=1");
        for path in ["/v2/", &tags, "/v2/x/manifests/latest", "/evil"] {
            is_kind(&peer.ask("GET", path, &headers, b""));
        }
        let length = [("Content-Length", "0")];
        let begun =
            peer.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[&headers[..], &length].concat(), b"");
        is_kind(&begun);
        if let Some(at) = begun.header("location") {
            is_kind(&peer.ask("DELETE", at, &headers, b""));
        }
        let mut connection = peer.connect();
        let bytes = format!("GET http://evil.test{} HTTP/1.1\r\nHost: evil.test\r\n\r\n", target.blob);
        let answer = connection.ask(bytes.as_bytes());
        assert_eq!(answer.status, 200);
        is_kind(&answer);
    });
}

#[test]
fn row_69_hostile_queries_are_not_reflected() {
    assert_each_survives(|peer| {
        let evil = "evil%0d%0aEvil:%20evil%22%3E%3Cevil%00%ff";
        let zeros = format!("sha256:{}", "0".repeat(64));
        for path in [
            format!("/v2/quinistry/tags/list?n=1&last={evil}"),
            format!("/v2/quinistry/tags/list?{evil}={evil}&last="),
            format!("/v2/_catalog?last={evil}"),
            format!("/v2/quinistry/referrers/{zeros}?artifactType={evil}"),
            format!("/v2/quinistry/manifests/latest?ns={evil}"),
        ] {
            let answer = peer.get(&path);
            assert_eq!(answer.status, 200, "{path}");
            assert!(!format!("{:?}{}", answer.headers, answer.text()).contains("evil"), "{answer:?}");
        }
        let from = format!("/v2/quinistry/blobs/uploads/?mount={zeros}&from={evil}");
        let answer = peer.ask("POST", &from, &[], b"");
        answer.assert_read_only();
        assert!(!answer.text().contains("evil"));
    });
}

#[test]
fn row_70_methods_that_nobody_needs_are_refused() {
    assert_each_survives(|peer| {
        let longest = "X".repeat(100);
        for method in [
            "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "GETT", "HEADER",
            &longest,
        ] {
            let answer = peer.ask(method, "/v2/", &[("Cookie", "secret")], b"");
            answer.assert_read_only();
            assert!(!answer.text().contains("secret"), "echoed: {answer:?}");
        }
        peer.ask("OPTIONS", "*", &[], b"").assert_refused(404, "NAME_UNKNOWN");
        peer.ask("CONNECT", "quinistry:80", &[], b"").assert_refused(404, "NAME_UNKNOWN");
    });
}

#[test]
fn row_72_nothing_hostile_reaches_the_log() {
    let program = || {
        let mut program = command(PROGRAM);
        program.env("RUST_LOG", "trace");
        program
    };
    for target in [Target::read_only(&mut program()), Target::with_storage(&mut program(), &[])] {
        let (server, name) = (&target.server, target.name);
        let headers = [
            ("Authorization", "Basic c2VjcmV0"),
            ("User-Agent", "\u{1b}[31mred"),
            ("X-Forwarded-For", "192.0.2.66"),
            ("Content-Type", "INFO forged"),
        ];
        for (method, path) in [
            ("GET", "/v2/%0aINFO%20forged%1b%5b31m/manifests/x".into()),
            ("GET", "/v2/\u{202e}forged/manifests/x".into()),
            ("GET", "/v2/a%1b[2Jforged".into()),
            ("PUT", format!("/v2/{name}/manifests/x%0aINFO%20forged%1b")),
            ("PUT", format!("/v2/{name}/manifests/x")),
            ("POST", format!("/v2/{name}/blobs/uploads/?digest=%0aINFO%20forged%1b")),
            ("PATCH", format!("/v2/{name}/blobs/uploads/%0aINFO%20forged%1b")),
        ] {
            let answer = server.peer.ask(method, &path, &headers, b"{\"\\u001b\":\"INFO forged\"}");
            assert!(matches!(answer.status, 400 | 404 | 405), "{answer:?}");
        }
        // Seen in the log: the answer to this one, so those before it as well.
        server.peer.get("/v2/marker/manifests/x");
        server.log_line("marker");
        let log = server.log();
        for hostile in ["\u{1b}", "\u{202e}", "c2VjcmV0", "INFO forged"] {
            assert!(!log.contains(hostile), "{hostile:?} in {log}");
        }
        assert!(log.lines().all(|line| line.starts_with("20")), "a line that is not ours: {log}");
    }
}

/// The word on the command line, beside which `push` looks closer.
#[test]
fn row_73_where_deletes_are_switched_off_they_are_for_tags_too() {
    let target = Target::with_storage(&mut command(PROGRAM), &["--no-delete"]);
    assert_survives(&target, |target| {
        for path in ["/v2/stored/manifests/v1", &target.blob] {
            target.server.peer.ask("DELETE", path, &[], b"").assert_refused(405, "UNSUPPORTED");
        }
    });
}

#[test]
fn row_73_nothing_is_deleted_by_whatever_path() {
    let server = Server::start();
    let mut connection = server.peer.connect();
    for path in [
        "/v2/quinistry/manifests/latest".to_owned(),
        format!("/v2/quinistry/manifests/{}", server.manifest),
        format!("/v2/quinistry/blobs/{}", server.layer),
        "/v2/quinistry/tags/latest".to_owned(),
    ] {
        let answer = connection.ask(&request("DELETE", &path, &[], b""));
        if path.contains("/tags/") {
            answer.assert_refused(404, "NAME_UNKNOWN");
        } else {
            answer.assert_read_only();
            assert_eq!(connection.ask(&request("HEAD", &path, &[], b"")).status, 200, "{path}");
        }
    }
}

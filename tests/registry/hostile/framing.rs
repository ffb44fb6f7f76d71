//! Rows 63, 64 and 71: bytes that are no request, or two at once, or none of HTTP/1.1's.

use crate::hostile::{assert_each_survives, on_each};
use crate::support::http::{Peer, request};
use crate::support::server::Server;

/// Sends `bytes`, and returns all that the server sends until it ends the connection.
fn last_words(peer: Peer, bytes: &[u8]) -> Vec<u8> {
    let mut connection = peer.connect();
    let _ = connection.send(bytes);
    connection.rest()
}

#[test]
fn row_63_length_and_chunks_at_once_end_the_connection() {
    on_each(|target| {
        let (peer, name) = (target.server.peer, target.name);
        // By the length the second request is the body's; by the chunks it is a request. A proxy before us
        // may have read it the other way, so it must not be answered.
        for order in [
            "Content-Length: 43\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 43",
        ] {
            let smuggled = "GET /v2/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
            let head = format!("PUT /v2/{name}/manifests/x HTTP/1.1\r\nHost: x\r\n{order}\r\n\r\n");
            let words = last_words(peer, format!("{head}0\r\n\r\n{smuggled}").as_bytes());
            let answers = words.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
            assert_eq!(answers, 1, "{}", words.escape_ascii());
            assert!(words.starts_with(b"HTTP/1.1 4"), "{}", words.escape_ascii());
        }
    });
}

#[test]
fn row_63_contradicting_or_senseless_lengths_are_refused() {
    on_each(|target| {
        let (peer, name) = (target.server.peer, target.name);
        for lengths in [
            "Content-Length: 4\r\nContent-Length: 5",
            "Content-Length: 4, 5",
            "Content-Length: +4",
            "Content-Length: -1",
            "Content-Length: 0x4",
            "Content-Length: 18446744073709551616",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: identity, chunked",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
        ] {
            let head = format!("PUT /v2/{name}/manifests/x HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\nbody");
            let words = last_words(peer, head.as_bytes());
            assert!(words.starts_with(b"HTTP/1.1 400 "), "{lengths}: {}", words.escape_ascii());
        }
    });
}

#[test]
fn row_63_broken_chunks_end_the_connection() {
    on_each(|target| {
        let (peer, name) = (target.server.peer, target.name);
        for chunks in ["g\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "1\r\nab\r\n", "\r\n\r\n"] {
            let head = format!(
                "PUT /v2/{name}/manifests/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            let words = last_words(peer, format!("{head}{chunks}").as_bytes());
            assert!(
                words.is_empty() || words.starts_with(b"HTTP/1.1 4"),
                "{chunks:?}: {}",
                words.escape_ascii()
            );
        }
    });
}

#[test]
fn row_64_http_2_is_not_spoken() {
    assert_each_survives(|peer| {
        let words = last_words(peer, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        assert!(words.is_empty() || words.starts_with(b"HTTP/1.1 4"), "{}", words.escape_ascii());
        // Asking for the upgrade is no error, but nothing comes of it.
        let upgrade = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "")];
        assert_eq!(peer.ask("GET", "/v2/", &upgrade, b"").status, 200);
    });
}

#[test]
fn row_64_a_head_has_so_many_headers_and_no_more() {
    assert_each_survives(|peer| {
        // Beside the host.
        for (count, status) in [(99, 200), (100, 431), (5000, 431)] {
            assert_eq!(peer.ask("GET", "/v2/", &vec![("X", "y"); count], b"").status, status, "{count}");
        }
        let long = "y".repeat(1 << 20);
        assert_eq!(peer.ask("GET", "/v2/", &[("X", &long)], b"").status, 431);
    });
}

#[test]
fn row_64_a_head_is_so_long_and_no_longer() {
    assert_each_survives(|peer| {
        for (length, status) in [(100_000, 200), (131_500, 431), (160_000, 431)] {
            let field = "y".repeat(length);
            assert_eq!(peer.ask("GET", "/v2/", &[("X", &field)], b"").status, status, "{length}");
        }
    });
}

#[test]
fn row_71_a_client_that_waits_for_permission_to_push_is_told_no_at_once() {
    assert_each_survives(|peer| {
        let mut connection = peer.connect();
        let headers = [("Content-Length", "1000000"), ("Expect", "100-continue")];
        // No byte of the body is sent: it is the answer that is waited for, and it must not be "100
        // Continue".
        let answer = connection.ask(&request("PUT", "/v2/quinistry/manifests/x", &headers, b""));
        answer.assert_read_only();
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(connection.rest(), b"");
    });
}

#[test]
fn tls_is_answered_in_the_clear() {
    assert_each_survives(|peer| {
        let hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\x8f\x8b\x5c\x22\x16\x03\x01\x00\x02";
        let words = last_words(peer, hello);
        assert!(words.starts_with(b"HTTP/1.1 400 "), "{}", words.escape_ascii());
    });
}

#[test]
fn noise_is_no_request() {
    assert_each_survives(|peer| {
        for noise in [
            &b"\0\0\0\0\0\0\0\0\r\n\r\n"[..],
            b"GET\r\n\r\n",
            b"GET /v2/\r\n\r\n",
            b"GET /v2/ HTTP/9.9\r\n\r\n",
            b"GET  /v2/  HTTP/1.1\r\n\r\n",
            b"GET /v2/ HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
            b"GET /v2/ HTTP/1.1\r\nNo colon\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            let mut connection = peer.connect();
            connection.send(noise).unwrap();
            connection.end_sending();
            let words = connection.rest();
            assert!(words.is_empty() || words.starts_with(b"HTTP/1.1 400 "), "{}", words.escape_ascii());
        }
    });
}

#[test]
fn http_1_0_is_answered_and_the_connection_ended() {
    assert_each_survives(|peer| {
        let words = last_words(peer, b"GET /v2/ HTTP/1.0\r\n\r\n");
        assert!(words.starts_with(b"HTTP/1.0 200 OK\r\n"), "{}", words.escape_ascii());
        assert!(words.ends_with(b"\r\n\r\n{}"), "{}", words.escape_ascii());
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::start();
    let mut connection = server.peer.connect();
    let paths = ["/v2/", "/v2/quinistry/manifests/latest", "/v2/nothing/manifests/latest", "/v2/_catalog"];
    let requests = paths.map(|path| request("GET", path, &[], b"")).concat();
    connection.send(&requests.repeat(25)).unwrap();
    for _ in 0..25 {
        let statuses = paths.map(|_| connection.answer(false).unwrap().status);
        assert_eq!(statuses, [200, 200, 404, 200]);
    }
}

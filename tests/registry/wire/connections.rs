//! Many requests on one connection.

use crate::support::http::request;
use crate::support::in_process::QUINE;
use crate::wire::{blob, layer_digest, manifest, registry};

#[test]
fn a_connection_outlives_every_kind_of_answer() {
    let mut connection = registry().connect();
    let get = |path: &str, headers: &[(&str, &str)]| request("GET", path, headers, b"");
    let etag = format!("\"{}\"", QUINE.digest());
    let layer = blob(&layer_digest());
    for _ in 0..3 {
        for (request, status) in [
            (get("/v2/", &[]), 200),
            (request("HEAD", &layer, &[], b""), 200),
            (get("/nothing", &[]), 404),
            (request("HEAD", "/nothing", &[], b""), 404),
            (get("/v2/A/manifests/x", &[]), 400),
            (request("PUT", &manifest("x"), &[], b"a body that nobody wants"), 405),
            (request("GET", "/v2/", &[], b"a body that nobody expects"), 200),
            (get(&manifest("latest"), &[("If-None-Match", &etag)]), 304),
            (get(&layer, &[("Range", "bytes=0-99")]), 206),
            (get(&layer, &[("Range", "bytes=0-1,5-6")]), 206),
            (get(&layer, &[("Range", "bytes=-0")]), 416),
            (get(&layer, &[]), 200),
        ] {
            let answer = connection.ask(&request);
            assert_eq!(answer.status, status, "{}", request.escape_ascii());
            assert_eq!(answer.header("connection"), None, "{}", request.escape_ascii());
        }
    }
}

#[test]
fn a_client_may_ask_for_the_end_of_the_connection() {
    let mut connection = registry().connect();
    let answer = connection.ask(&request("GET", "/v2/", &[("Connection", "close")], b""));
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(connection.rest(), b"");
}

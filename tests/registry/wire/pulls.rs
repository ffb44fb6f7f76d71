//! Requests of a pull: the base, manifests and blobs.

use quinistry::quine::VERSION;

use crate::support::http::Answer;
use crate::wire::{assert_shows, blob, config_digest, layer_digest, manifest, manifest_digest, registry};

const MANIFEST: &str = "
    200
    content-length: MANIFEST LENGTH
    content-type: application/vnd.oci.image.manifest.v1+json
    docker-content-digest: MANIFEST
    etag: \"MANIFEST\"

    MANIFEST BYTES";

const NOT_MODIFIED: &str = "
    304
    docker-content-digest: MANIFEST
    etag: \"MANIFEST\"";

/// An expected answer, without its body.
fn head_of(expected: &str) -> &str {
    expected.rsplit_once("\n\n").unwrap().0
}

/// Whatever the digest's algorithm and letters, in a path that `%` may be part of.
fn percent_encoded(digest: &str) -> String {
    digest.replace(':', "%3A")
}

fn ask(method: &str, path: &str, header: &str, value: &str) -> Answer {
    registry().ask(method, path, &[(header, value)], b"")
}

#[test]
fn the_base_says_that_this_is_a_registry() {
    let expected = "
        200
        content-length: 2
        content-type: application/json

        {}";
    assert_shows(&registry().get("/v2/"), expected);
    assert_shows(&registry().get("/v2"), expected);
    assert_shows(&registry().head("/v2/"), head_of(expected));
}

#[test]
fn a_manifest_is_known_by_two_tags_and_its_digest() {
    let digest = manifest_digest();
    for reference in ["latest", VERSION, &digest, &percent_encoded(&digest), "%6Catest"] {
        assert_shows(&registry().get(&manifest(reference)), MANIFEST);
        assert_shows(&registry().head(&manifest(reference)), head_of(MANIFEST));
    }
}

#[test]
fn the_namespace_that_a_mirror_client_sends_is_ignored() {
    for query in ["?ns=docker.io", "?ns=", "?ns=a&ns=b", "?"] {
        assert_shows(&registry().get(&format!("{}{query}", manifest("latest"))), MANIFEST);
    }
}

#[test]
fn a_client_that_accepts_something_else_gets_the_manifest_all_the_same() {
    for accept in ["application/vnd.docker.distribution.manifest.v2+json", "text/html", "*/*;q=0", "", "junk"]
    {
        assert_shows(&ask("GET", &manifest("latest"), "Accept", accept), MANIFEST);
        assert_shows(&ask("HEAD", &manifest(&manifest_digest()), "Accept", accept), head_of(MANIFEST));
    }
}

#[test]
fn nothing_is_encoded_on_the_way() {
    for encoding in ["gzip", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5", "identity;q=0", "*"] {
        assert_shows(&ask("GET", &manifest("latest"), "Accept-Encoding", encoding), MANIFEST);
        let answer = ask("GET", &blob(&layer_digest()), "Accept-Encoding", encoding);
        assert_eq!((answer.status, answer.header("content-encoding")), (200, None));
    }
}

#[test]
fn a_client_that_has_the_manifest_is_not_sent_it_again() {
    let etag = format!("\"{}\"", manifest_digest());
    for names in [&*etag, &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
        assert_shows(&ask("GET", &manifest("latest"), "If-None-Match", names), NOT_MODIFIED);
        assert_shows(&ask("HEAD", &manifest("latest"), "If-None-Match", names), NOT_MODIFIED);
    }
    assert_shows(&ask("GET", &manifest("latest"), "If-None-Match", "\"x\""), MANIFEST);
    // The other condition is by date, which nothing here has.
    assert_shows(
        &ask("GET", &manifest("latest"), "If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"),
        MANIFEST,
    );
}

#[test]
fn blobs_are_bytes_without_a_type() {
    let expected = "
        200
        accept-ranges: bytes
        content-length: CONFIG LENGTH
        content-type: application/octet-stream
        docker-content-digest: CONFIG
        etag: \"CONFIG\"

        CONFIG BYTES";
    let digest = config_digest();
    for digest in [digest.clone(), percent_encoded(&digest)] {
        assert_shows(&registry().get(&blob(&digest)), expected);
        assert_shows(&registry().head(&blob(&digest)), head_of(expected));
    }
    let expected = expected.replace("CONFIG", "LAYER");
    assert_shows(&registry().get(&blob(&layer_digest())), &expected);
    assert_shows(&registry().head(&blob(&layer_digest())), head_of(&expected));
}

#[test]
fn a_client_that_has_the_blob_is_not_sent_it_again() {
    let etag = format!("\"{}\"", layer_digest());
    let answer = registry().ask(
        "GET",
        &blob(&layer_digest()),
        // A range does not come into it (RFC 9110, 13.2.2).
        &[("If-None-Match", &etag), ("Range", "bytes=0-1")],
        b"",
    );
    assert_shows(
        &answer,
        "
        304
        accept-ranges: bytes
        docker-content-digest: LAYER
        etag: \"LAYER\"",
    );
}

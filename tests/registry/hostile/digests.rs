//! Rows 13–22: digests and tags.

use crate::hostile::assert_each_survives;
use crate::support::http::request;
use crate::support::server::Server;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Asserts 400 `DIGEST_INVALID` wherever a path takes a digest.
fn assert_malformed(digests: &[&str]) {
    assert_each_survives(|peer| {
        for digest in digests {
            for kind in ["blobs", "manifests", "referrers"] {
                peer.get(&format!("/v2/quinistry/{kind}/{digest}")).assert_refused(400, "DIGEST_INVALID");
            }
        }
    });
}

#[test]
fn row_13_paths_make_no_digest() {
    assert_malformed(&["sha256:../../x", "sha256:..%2F..%2Fx", "sha256:%2e%2e", "sha256:.."]);
}

#[test]
fn row_14_upper_case_hex_makes_no_digest() {
    assert_malformed(&[&format!("sha256:{}", EMPTY[7..].to_uppercase()), &EMPTY.to_uppercase()]);
}

#[test]
fn row_15_digests_have_one_length() {
    assert_malformed(&[&EMPTY[..EMPTY.len() - 1], &format!("{EMPTY}0"), &format!("sha512:{}", &EMPTY[7..])]);
}

#[test]
fn row_16_unknown_algorithms_are_digests_of_nothing_here() {
    assert_each_survives(|peer| {
        let digest = "md5:d41d8cd98f00b204e9800998ecf8427e";
        peer.get(&format!("/v2/quinistry/blobs/{digest}")).assert_refused(404, "BLOB_UNKNOWN");
        peer.get(&format!("/v2/quinistry/manifests/{digest}")).assert_refused(404, "MANIFEST_UNKNOWN");
        peer.ask("PUT", &format!("/v2/quinistry/manifests/{digest}"), &[], b"{}").assert_read_only();
        peer.ask("POST", &format!("/v2/quinistry/blobs/uploads/?digest={digest}"), &[], b"")
            .assert_read_only();
    });
}

#[test]
fn row_17_a_digest_has_two_parts() {
    assert_malformed(&["sha256:", ":", "sha256::", "sha256:%00"]);
    assert_each_survives(|peer| peer.get("/v2/quinistry/blobs/sha256").assert_refused(400, "DIGEST_INVALID"));
}

#[test]
fn row_18_a_query_of_megabytes_is_cut_off() {
    assert_each_survives(|peer| {
        let query = "a".repeat(10_000_000);
        for (method, path) in
            [("POST", "/v2/quinistry/blobs/uploads/?digest="), ("GET", "/v2/quinistry/tags/list?last=")]
        {
            let answer = peer.ask(method, &format!("{path}{query}"), &[], b"");
            assert!(matches!(answer.status, 400 | 414 | 431), "{answer:?}");
        }
    });
}

#[test]
fn row_19_two_digests_in_a_push_are_refused_like_one() {
    assert_each_survives(|peer| {
        let path = format!("/v2/quinistry/blobs/uploads/1?digest={EMPTY}&digest=sha256:0");
        peer.ask("PUT", &path, &[], b"").assert_read_only();
    });
}

#[test]
fn row_20_nothing_is_stored_under_a_wrong_digest_nor_under_a_right_one() {
    assert_each_survives(|peer| {
        for body in [&b"not empty"[..], b""] {
            let path = format!("/v2/quinistry/blobs/uploads/?digest={EMPTY}");
            peer.ask("POST", &path, &[], body).assert_read_only();
            peer.ask("PUT", &format!("/v2/quinistry/manifests/{EMPTY}"), &[], body).assert_read_only();
            peer.get(&format!("/v2/quinistry/blobs/{EMPTY}")).assert_refused(404, "BLOB_UNKNOWN");
            peer.get(&format!("/v2/quinistry/manifests/{EMPTY}")).assert_refused(404, "MANIFEST_UNKNOWN");
        }
    });
}

#[test]
fn row_21_what_cannot_be_a_tag_does_not_exist() {
    assert_each_survives(|peer| {
        for tag in [&*"x".repeat(129), ".x", "-x", "a%20b", "%00", ".INVALID_MANIFEST_NAME", "latest%0a"] {
            let path = format!("/v2/quinistry/manifests/{tag}");
            peer.get(&path).assert_refused(404, "MANIFEST_UNKNOWN");
            assert_eq!(peer.head(&path).status, 404);
            peer.ask("PUT", &path, &[], b"{}").assert_read_only();
        }
    });
}

#[test]
fn row_22_a_manifest_is_no_blob_and_a_blob_no_manifest() {
    let server = Server::start();
    let path = |kind: &str, digest: &str| format!("/v2/quinistry/{kind}/{digest}");
    server.peer.get(&path("blobs", &server.manifest)).assert_refused(404, "BLOB_UNKNOWN");
    for digest in [&server.config, &server.layer] {
        server.peer.get(&path("manifests", digest)).assert_refused(404, "MANIFEST_UNKNOWN");
    }
    let mut connection = server.peer.connect();
    let head = request("HEAD", &path("blobs", &server.manifest), &[], b"");
    assert_eq!(connection.ask(&head).status, 404);
    assert_eq!(connection.ask(&request("GET", "/v2/", &[], b"")).status, 200);
}

//! Rows 1–22: names, digests and tags.

use quinistry::oci::Digest;
use serde_json::json;

use super::{EMPTY, refuses};
use crate::push::registry::{MANIFEST, on_each, sha512};

#[test]
fn rows_01_to_12_what_is_no_name_makes_no_repository() {
    on_each(|registry| {
        for name in [
            "../x",
            "%2e%2e/x",
            "a%2Fb",
            "%252e",
            "a%00",
            "A",
            "a//b",
            "/a",
            "_uploads",
            ".lock",
            "a/_layers",
            "%c0%af",
        ] {
            let path = format!("/v2/{name}/blobs/uploads/");
            let answer = registry.peer.ask("POST", &path, &[("Content-Length", "0")], b"");
            answer.assert_refused(400, "NAME_INVALID");
        }
        let long = format!("/v2/{}/blobs/uploads/", "a".repeat(256));
        registry.peer.ask("POST", &long, &[], b"").assert_refused(400, "NAME_INVALID");
        assert_eq!(registry.peer.get("/v2/_catalog").json()["repositories"], json!(["quinistry"]));
    });
}

#[test]
fn rows_09_to_11_names_that_look_like_endpoints_or_folders_are_names() {
    on_each(|registry| {
        let names =
            ["blobs/uploads", "manifests", "tags/list", "a", "a/b", "a/link", "con", "a/data", "a/current"];
        let pushed: Vec<_> = names
            .iter()
            .map(|name| registry.repository(name).push_image("blobs", &[name.as_bytes()]))
            .collect();
        for (name, (digest, bytes)) in names.iter().zip(&pushed) {
            let repository = registry.repository(name);
            repository.assert_manifest("blobs", digest, bytes);
            assert_eq!(repository.tags(), ["blobs"]);
        }
        let mut all: Vec<&str> = [&names[..], &["quinistry"]].concat();
        all.sort_unstable();
        assert_eq!(registry.peer.get("/v2/_catalog").json()["repositories"], json!(all));
    });
}

#[test]
fn rows_13_to_17_what_is_no_digest_is_pushed_under_none() {
    refuses(|repository| {
        let hex = &EMPTY[7..];
        for digest in [
            "sha256:../../x".into(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("{EMPTY}0"),
            "md5:d41d8cd98f00b204e9800998ecf8427e".into(),
            "sha256:".into(),
            String::new(),
        ] {
            let path = format!("blobs/uploads/?digest={digest}");
            repository.ask("POST", &path, &[], b"x").assert_refused(400, "DIGEST_INVALID");
            let at = repository.begin();
            repository
                .peer
                .ask("PUT", &format!("{at}?digest={digest}"), &[], b"x")
                .assert_refused(400, "DIGEST_INVALID");
            assert_eq!(
                repository.peer.ask("DELETE", &at, &[], b"").status,
                204,
                "the session is still there"
            );
            if digest.contains(':') && !digest.contains('/') {
                repository.put_manifest(&digest, MANIFEST, b"{}").assert_refused(400, "DIGEST_INVALID");
            }
        }
    });
}

#[test]
fn row_19_two_digests_leave_open_which_one_is_meant() {
    refuses(|repository| {
        let digest = Digest::sha256(b"x");
        let path = format!("blobs/uploads/?digest={digest}&digest={digest}");
        repository.ask("POST", &path, &[], b"x").assert_refused(400, "DIGEST_INVALID");
    });
}

#[test]
fn row_20_bytes_of_another_digest_are_not_stored() {
    refuses(|repository| {
        for digest in [Digest::sha256(b"other"), sha512(b"other")] {
            repository
                .ask("POST", &format!("blobs/uploads/?digest={digest}"), &[], b"x")
                .assert_refused(400, "DIGEST_INVALID");
            let at = repository.begin();
            repository
                .peer
                .ask("PUT", &format!("{at}?digest={digest}"), &[], b"x")
                .assert_refused(400, "DIGEST_INVALID");
            repository.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
            let bytes = repository.image(&[], &json!({}));
            repository.put_manifest(digest.as_str(), MANIFEST, &bytes).assert_refused(400, "DIGEST_INVALID");
            for found in [digest, Digest::sha256(b"x")] {
                repository.get(&format!("blobs/{found}")).assert_refused(404, "BLOB_UNKNOWN");
            }
        }
    });
}

#[test]
fn row_21_what_is_no_tag_is_not_pushed() {
    refuses(|repository| {
        let bytes = repository.image(&[], &json!({}));
        for tag in [&*"x".repeat(129), ".x", "-x", "a%20b", "%00", "a%2Fb", ".."] {
            repository.put_manifest(tag, MANIFEST, &bytes).assert_refused(400, "NAME_INVALID");
            repository.get(&format!("manifests/{tag}")).assert_refused(404, "MANIFEST_UNKNOWN");
        }
    });
}

#[test]
fn row_22_a_manifest_is_no_blob_and_a_blob_no_manifest() {
    on_each(|registry| {
        let repository = registry.repository("kinds");
        let (digest, _) = repository.push_image("v1", &[b"layer"]);
        repository.get(&format!("blobs/{digest}")).assert_refused(404, "BLOB_UNKNOWN");
        let blob = Digest::sha256(b"layer");
        repository.get(&format!("manifests/{blob}")).assert_refused(404, "MANIFEST_UNKNOWN");
    });
}

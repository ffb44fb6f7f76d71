//! Manifests, tags and lists.

use std::time::{Duration, Instant};

use quinistry::oci::Digest;
use serde_json::json;

use crate::push::registry::{INDEX, MANIFEST, Registry, on_each, sha512};

#[test]
fn a_manifest_is_what_was_pushed_by_tag_and_by_digest() {
    on_each(|registry| {
        let repository = registry.repository("a/b");
        let bytes = repository.image(&[b"layer"], &json!({"unknown": {"field": [1, 2.5, null]}}));
        let digest = Digest::sha256(&bytes);
        let answer = repository.put_manifest("v1", &format!("{MANIFEST}; charset=utf-8"), &bytes);
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("location"), Some(&*format!("/v2/a/b/manifests/{digest}")));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
        for reference in ["v1", digest.as_str()] {
            repository.assert_manifest(reference, &digest, &bytes);
            let head = repository.ask("HEAD", &format!("manifests/{reference}"), &[], b"");
            assert_eq!(head.header("content-type"), Some(MANIFEST));
            assert_eq!(head.header("content-length"), Some(&*bytes.len().to_string()));
        }
        assert_eq!(repository.tags(), ["v1"]);
        // Whatever a client accepts.
        let answer = repository.ask("GET", "manifests/v1", &[("Accept", "text/plain")], b"");
        assert_eq!(answer.body, bytes);
        repository.get("manifests/v2").assert_refused(404, "MANIFEST_UNKNOWN");
        registry.repository("x").get("manifests/v1").assert_refused(404, "NAME_UNKNOWN");
        registry.repository("x").get("tags/list").assert_refused(404, "NAME_UNKNOWN");
    });
}

#[test]
fn a_tag_moves_and_what_it_meant_stays() {
    on_each(|registry| {
        let repository = registry.repository("moves");
        let (first, first_bytes) = repository.push_image("latest", &[b"1"]);
        let (second, second_bytes) = repository.push_image("latest", &[b"2"]);
        repository.assert_manifest("latest", &second, &second_bytes);
        repository.assert_manifest(first.as_str(), &first, &first_bytes);
    });
}

#[test]
fn one_request_sets_many_tags_and_a_tag_keeps_the_digest_it_was_pushed_with() {
    on_each(|registry| {
        let repository = registry.repository("many");
        let bytes = repository.image(&[], &json!({}));
        let digest = sha512(&bytes);
        let tags: Vec<String> = (0..12).map(|i| format!("t{i}")).collect();
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let answer = repository.put_manifest(&format!("{digest}?{}", query.join("&")), MANIFEST, &bytes);
        assert_eq!(answer.status, 201, "{answer:?}");
        let set: Vec<&str> =
            answer.headers.iter().filter(|(name, _)| name == "oci-tag").map(|(_, tag)| &**tag).collect();
        assert_eq!(set, tags);
        for tag in &tags {
            repository.assert_manifest(tag, &digest, &bytes);
        }
        repository.assert_manifest(digest.as_str(), &digest, &bytes);
        let many: Vec<String> = (0..101).map(|i| format!("tag=x{i}")).collect();
        let answer = repository.put_manifest(&format!("{digest}?{}", many.join("&")), MANIFEST, &bytes);
        assert_eq!(answer.status, 414, "{answer:?}");
        repository
            .put_manifest(&format!("{digest}?tag=-x"), MANIFEST, &bytes)
            .assert_refused(400, "NAME_INVALID");
    });
}

#[test]
fn what_a_manifest_refers_to_must_be_there_and_is_named_if_not() {
    on_each(|registry| {
        let repository = registry.repository("parts");
        let digests = [Digest::sha256(b"one"), Digest::sha256(b"two")];
        let layer = |digest: &Digest| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 3});
        let bytes = repository.image(&[], &json!({"layers": [layer(&digests[0]), layer(&digests[1])]}));
        let answer = repository.put_manifest("v1", MANIFEST, &bytes);
        assert_eq!(answer.status, 400);
        let errors = answer.json()["errors"].as_array().unwrap().clone();
        assert_eq!(errors.len(), 2);
        for (error, digest) in errors.iter().zip(&digests) {
            assert_eq!(error["code"], "MANIFEST_BLOB_UNKNOWN");
            assert!(error["message"].as_str().unwrap().contains(digest.as_str()), "{error}");
        }
        repository.get("manifests/v1").assert_refused(404, "MANIFEST_UNKNOWN");

        repository.push_blob(b"one");
        repository.push_blob(b"two");
        assert_eq!(repository.put_manifest("v1", MANIFEST, &bytes).status, 201);
        let index = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{"mediaType": MANIFEST, "digest": Digest::sha256(&bytes), "size": bytes.len()}],
        }));
        let index = index.unwrap();
        assert_eq!(repository.put_manifest("index", INDEX, &index).status, 201);
        registry
            .repository("elsewhere")
            .put_manifest("index", INDEX, &index)
            .assert_refused(400, "MANIFEST_BLOB_UNKNOWN");
        // An index of that index.
        let nested = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{"mediaType": INDEX, "digest": Digest::sha256(&index), "size": index.len()}],
        }));
        assert_eq!(repository.put_manifest("nested", INDEX, &nested.unwrap()).status, 201);
    });
}

#[test]
fn lists_come_in_pages_and_in_order() {
    on_each(|registry| {
        let repository = registry.repository("pages");
        let bytes = repository.image(&[], &json!({}));
        for tag in ["b", "B", "a.1", "a", "10", "9", "_x"] {
            assert_eq!(repository.put_manifest(tag, MANIFEST, &bytes).status, 201);
        }
        assert_eq!(repository.tags(), ["10", "9", "B", "_x", "a", "a.1", "b"]);
        let answer = repository.get("tags/list?n=3");
        assert_eq!(answer.json()["tags"], json!(["10", "9", "B"]));
        assert_eq!(answer.header("link"), Some("</v2/pages/tags/list?n=3&last=B>; rel=\"next\""));
        let answer = repository.get("tags/list?n=4&last=B");
        assert_eq!(
            (answer.json()["tags"].clone(), answer.header("link")),
            (json!(["_x", "a", "a.1", "b"]), None)
        );
        assert_eq!(repository.get("tags/list?n=0").json()["tags"], json!([]));

        for name in ["a/b", "a-b", "a", "z/z/z"] {
            registry.repository(name).push_image("v1", &[]);
        }
        let all = registry.peer.get("/v2/_catalog").json();
        assert_eq!(all["repositories"], json!(["a", "a-b", "a/b", "pages", "quinistry", "z/z/z"]));
        let answer = registry.peer.get("/v2/_catalog?n=2&last=a");
        assert_eq!(answer.json()["repositories"], json!(["a-b", "a/b"]));
        assert_eq!(answer.header("link"), Some("</v2/_catalog?n=2&last=a%2Fb>; rel=\"next\""));
    });
}

#[test]
fn what_is_built_in_cannot_be_pushed_to_nor_hidden() {
    on_each(|registry| {
        let repository = registry.repository("quinistry");
        let digest = Digest::sha256(b"x");
        repository.ask("POST", &format!("blobs/uploads/?digest={digest}"), &[], b"x").assert_read_only();
        repository.put_manifest("latest", MANIFEST, b"{}").assert_read_only();
        repository.ask("DELETE", "manifests/latest", &[], b"").assert_read_only();
        assert_eq!(repository.get("manifests/latest").status, 200);
    });
}

#[test]
fn a_manifest_without_a_type_of_its_own_keeps_the_one_it_came_with() {
    on_each(|registry| {
        let repository = registry.repository("untyped");
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        for (tag, media_type) in [("oci", MANIFEST), ("docker", docker)] {
            let mut manifest: serde_json::Value =
                serde_json::from_slice(&repository.image(&[tag.as_bytes()], &json!({}))).unwrap();
            manifest.as_object_mut().unwrap().remove("mediaType");
            let bytes = serde_json::to_vec(&manifest).unwrap();
            assert_eq!(repository.put_manifest(tag, media_type, &bytes).status, 201);
            assert_eq!(repository.get(&format!("manifests/{tag}")).header("content-type"), Some(media_type));
        }
    });
}

#[test]
fn what_another_program_makes_of_a_tag_is_soon_seen() {
    let registry = Registry::on_disk();
    let repository = registry.repository("shared");
    let (one, _) = repository.push_image("tag", &[b"one"]);
    let (two, bytes) = repository.push_image("other", &[b"two"]);
    let meant = || repository.get("manifests/tag").header("docker-content-digest").map(ToOwned::to_owned);
    assert_eq!(meant().as_deref(), Some(one.as_str()));
    let link =
        registry.folder().join("docker/registry/v2/repositories/shared/_manifests/tags/tag/current/link");
    std::fs::write(link, two.as_str()).unwrap();
    let begun = Instant::now();
    while meant().as_deref() != Some(two.as_str()) {
        assert!(begun.elapsed() < Duration::from_mins(1), "it still means {:?}", meant());
    }
    repository.assert_manifest("tag", &two, &bytes);
}

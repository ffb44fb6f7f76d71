//! Rows 42–59: uploads, and races for the same thing.

use std::sync::{Arc, Barrier};

use quinistry::oci::Digest;
use quinistry::registry::Settings;
use quinistry::store::{Memory, Store};
use serde_json::json;

use super::EMPTY;
use crate::push::registry::{MANIFEST, Registry, on_each};
use crate::support::http::request;

#[test]
fn rows_42_to_44_sessions_are_known_by_their_own_name_in_their_own_repository() {
    on_each(|registry| {
        let (own, other) = (registry.repository("own"), registry.repository("other"));
        let at = own.begin();
        let id = at.rsplit('/').next().unwrap();
        let forged = "6b3c9a93-af5d-473f-a4cf-9710022195cd";
        let shouted = id.to_uppercase();
        let plain = id.replace('-', "");
        for path in [
            own.path(&format!("blobs/uploads/{forged}")),
            other.path(&format!("blobs/uploads/{id}")),
            own.path(&format!("blobs/uploads/{shouted}x")),
            own.path(&format!("blobs/uploads/{plain}")),
            own.path("blobs/uploads/..%2Fx"),
            own.path("blobs/uploads/%00"),
            own.path("blobs/uploads/%2e%2e"),
        ] {
            for method in ["GET", "PATCH", "DELETE"] {
                registry.peer.ask(method, &path, &[], b"").assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
            }
            let put = format!("{path}?digest={EMPTY}");
            registry.peer.ask("PUT", &put, &[], b"").assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        }
        assert_eq!(registry.peer.get(&at).status, 204);
    });
}

#[test]
fn rows_45_and_46_odd_chunks_change_nothing() {
    on_each(|registry| {
        let repository = registry.repository("odd");
        let at = repository.begin();
        assert_eq!(repository.peer.ask("PATCH", &at, &[], b"hello").status, 202);
        for range in [
            "0-0",
            "4-4",
            "6-6",
            "5-9",
            "9-5",
            "5-18446744073709551615",
            "5-18446744073709551616",
            "bytes 5-5",
            "-",
            "",
            "5-",
            "-5",
            "5-5, 6-6",
            "+5-5",
        ] {
            for method in ["PATCH", "PUT"] {
                let path = format!("{at}?digest={EMPTY}");
                let answer = repository.peer.ask(method, &path, &[("Content-Range", range)], b"x");
                assert!(matches!(answer.status, 400 | 416), "{range:?}: {answer:?}");
            }
            assert_eq!(repository.peer.get(&at).header("range"), Some("0-4"), "{range:?}");
        }
        repository
            .peer
            .ask("PATCH", &at, &[("Content-Range", "5-9")], b"x")
            .assert_refused(400, "SIZE_INVALID");
    });
}

#[test]
fn rows_47_and_48_of_two_at_once_one_is_refused_or_waits() {
    on_each(|registry| {
        let repository = registry.repository("race");
        let at = repository.begin();
        let mut first = repository.begin_chunk(&at, 6);
        first.send(b"abc").unwrap();
        repository.peer.ask("PATCH", &at, &[], b"xyz").assert_refused(416, "BLOB_UPLOAD_INVALID");
        // A PUT waits for its turn.
        let digest = Digest::sha256(b"abcdefend");
        let mut last = repository.peer.connect();
        last.send(&request("PUT", &format!("{at}?digest={digest}"), &[], b"end")).unwrap();
        first.send(b"def").unwrap();
        assert_eq!(first.answer(false).unwrap().status, 202);
        let end = last.answer(false).unwrap();
        assert_eq!(end.status, 201, "no interleaving: {end:?}");
        repository.assert_blob(&digest, b"abcdefend");
    });
}

#[test]
fn row_49_a_second_put_finds_no_session_and_does_no_harm() {
    on_each(|registry| {
        let repository = registry.repository("twice");
        let digest = Digest::sha256(b"once");
        let at = format!("{}?digest={digest}", repository.begin());
        assert_eq!(repository.peer.ask("PUT", &at, &[], b"once").status, 201);
        repository.peer.ask("PUT", &at, &[], b"once").assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        repository.assert_blob(&digest, b"once");
    });
}

#[test]
fn row_51_a_body_that_ends_early_commits_nothing() {
    on_each(|registry| {
        let repository = registry.repository("short");
        let digest = Digest::sha256(b"shor");
        let at = repository.begin();
        for target in
            [repository.path(&format!("blobs/uploads/?digest={digest}")), format!("{at}?digest={digest}")]
        {
            let method = if target.contains("uploads/?") { "POST" } else { "PUT" };
            let mut connection = repository.peer.connect();
            let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nshor");
            connection.send(head.as_bytes()).unwrap();
            connection.end_sending();
            let rest = connection.rest();
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{}", rest.escape_ascii());
        }
        repository.get(&format!("blobs/{digest}")).assert_refused(404, "BLOB_UNKNOWN");
    });
}

#[test]
fn row_54_sessions_are_counted() {
    let registry = Registry::in_memory();
    let repository = registry.repository("many");
    let mut connection = repository.peer.connect();
    let post = request("POST", &repository.path("blobs/uploads/"), &[("Content-Length", "0")], b"");
    let first = connection.ask(&post).header("location").unwrap().to_owned();
    // One more than there may be is refused, or takes the place of the oldest that have received nothing.
    let refused = (0..10_001).map(|_| connection.ask(&post)).find(|answer| answer.status != 202);
    match refused {
        Some(refused) => {
            refused.assert_refused(429, "TOOMANYREQUESTS");
            assert!(refused.header("retry-after").is_some());
        }
        None => repository.peer.get(&first).assert_refused(404, "BLOB_UPLOAD_UNKNOWN"),
    }
    // Who needs no session is not concerned.
    repository.push_blob(b"x");
}

#[test]
fn row_55_where_there_is_no_room_nothing_is_lost_and_room_helps() {
    let store = Store::open(Memory::new(100_000), false).unwrap();
    let registry = Registry::on(store, Settings::default(), None);
    let repository = registry.repository("full");
    let (digest, bytes) = repository.push_image("v1", &[b"layer"]);
    let large = vec![1; 200_000];
    let path = format!("blobs/uploads/?digest={}", Digest::sha256(&large));
    for _ in 0..3 {
        assert_eq!(repository.ask("POST", &path, &[], &large).status, 507);
    }
    repository.assert_manifest("v1", &digest, &bytes);
    repository.push_image("v2", &[&vec![2; 50_000]]);
}

#[test]
fn row_56_one_blob_by_many_clients_is_one_file() {
    let registry = Registry::on_disk();
    let bytes = Arc::new(vec![3; 100_000]);
    let barrier = Arc::new(Barrier::new(32));
    let clients: Vec<_> = (0..32)
        .map(|i| {
            let (repository, bytes, barrier) =
                (registry.repository(&format!("r{}", i % 4)), bytes.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                repository.push_blob(&bytes)
            })
        })
        .collect();
    let digests: Vec<Digest> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let hex = digests[0].hex();
    let folder = registry.folder().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    registry.repository("r0").assert_blob(&digests[0], &bytes);
}

#[test]
fn row_57_of_two_manifests_for_one_tag_the_last_one_wins_and_none_is_torn() {
    on_each(|registry| {
        let repository = registry.repository("contested");
        let images: Vec<Vec<u8>> = (0..8_u8).map(|i| repository.image(&[&[i]], &json!({}))).collect();
        std::thread::scope(|scope| {
            for image in &images {
                scope.spawn(|| assert_eq!(repository.put_manifest("tag", MANIFEST, image).status, 201));
            }
        });
        let answer = repository.get("manifests/tag");
        assert!(images.contains(&answer.body));
        assert_eq!(answer.header("docker-content-digest"), Some(Digest::sha256(&answer.body).as_str()));
    });
}

#[test]
fn row_58_a_mount_tells_nothing_about_what_is_not_there() {
    on_each(|registry| {
        let repository = registry.repository("curious");
        let digest = Digest::sha256(b"nobody has it");
        for query in ["", "&from=curious", "&from=nobody", "&from=..%2F..", "&from=%00", "&from="] {
            let path = format!("blobs/uploads/?mount={digest}{query}");
            let answer = repository.ask("POST", &path, &[("Content-Length", "0")], b"");
            assert_eq!((answer.status, answer.body.len()), (202, 0), "{query}");
        }
    });
}

#[test]
fn row_59_a_mount_from_itself_is_there_already() {
    on_each(|registry| {
        let repository = registry.repository("self");
        let digest = repository.push_blob(b"x");
        let path = format!("blobs/uploads/?mount={digest}&from=self");
        assert_eq!(repository.ask("POST", &path, &[("Content-Length", "0")], b"").status, 201);
    });
}

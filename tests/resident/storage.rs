//! Memory of a registry with storage, where clients can also have content kept for them.

use quinistry_oci::Digest;
use serde_json::json;

use crate::crowd::Crowd;
use crate::support::http::Peer;
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::{STORAGE_BOUND, get, held};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn stored(what: &str, prepare: impl FnOnce(Peer), attack: impl FnOnce(&mut Crowd)) {
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "storage"]));
    prepare(server.peer);
    held(&server, what, STORAGE_BOUND, attack);
}

fn put_blob(peer: Peer, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(peer.ask("POST", &path, &[], bytes).status, 201);
    digest
}

/// Pushes a manifest that is padded to a length, which may have a subject.
fn put_manifest(peer: Peer, reference: &str, length: usize, subject: Option<&Digest>) {
    let part = |digest: &Digest| json!({"mediaType": "application/x", "digest": digest.as_str(), "size": 2});
    let config = part(&put_blob(peer, b"{}"));
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [],
        "annotations": {"is": reference, "pad": "y".repeat(length)},
    });
    if let Some(subject) = subject {
        manifest["subject"] = part(subject);
    }
    let bytes = manifest.to_string().into_bytes();
    let path = format!("/v2/a/manifests/{reference}");
    let answer = peer.ask("PUT", &path, &[("Content-Type", MANIFEST)], &bytes);
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[test]
fn unread_manifests() {
    for (length, count) in [(3_900_000, 8), (200_000, 64), (7000, 64)] {
        let prepare = |peer| (0..count).for_each(|i| put_manifest(peer, &format!("m{i}"), length, None));
        stored(&format!("unread manifests of {length} bytes"), prepare, |crowd| {
            // Other connections wait until the clients that do not read are cut off.
            crowd.try_send_each(|i| get(&format!("/v2/a/manifests/m{}", i % count)));
        });
    }
}

#[test]
fn unread_blobs() {
    for (length, count) in [(8_000_000, 2), (60_000, 64)] {
        let blob = |i: usize| [i.to_string().into_bytes(), vec![b'x'; length]].concat();
        let prepare = |peer| (0..count).for_each(|i| drop(put_blob(peer, &blob(i))));
        let digests: Vec<Digest> = (0..count).map(|i| Digest::sha256(&blob(i))).collect();
        stored(&format!("unread blobs of {length} bytes"), prepare, |crowd| {
            crowd.try_send_each(|i| get(&format!("/v2/a/blobs/{}", digests[i % count])));
        });
    }
}

#[test]
fn unread_lists() {
    let subject = Digest::sha256(b"subject");
    let prepare = |peer| (0..100).for_each(|i| put_manifest(peer, &format!("r{i}"), 15_000, Some(&subject)));
    stored("unread referrers", prepare, |crowd| crowd.send(&get(&format!("/v2/a/referrers/{subject}"))));
}

#[test]
fn trickled_uploads() {
    let digest = Digest::sha256(b"x");
    // Uploads to the built-in repository are refused, and their bodies discarded.
    for (repository, begun) in [("a", 0), ("a", 100_000), ("quinistry", 0), ("quinistry", 100_000)] {
        stored(
            &format!("uploads to {repository} that trickle after {begun} bytes"),
            |_| {},
            |crowd| {
                let head = format!(
                    "POST /v2/{repository}/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\n\
                     Content-Length: 1000000000\r\n\r\n"
                );
                crowd.try_send(&[head.as_bytes(), &vec![b'x'; begun]].concat());
                for _ in 0..20 {
                    crowd.try_send(&[b'x'; 120]);
                }
            },
        );
    }
}

#[test]
fn manifests_that_do_not_end() {
    // Some of them are long; all of 4,080 would take as long to send as nothing here takes.
    for (length, few) in [(3000, 3000), (60_000, 60_000), (3000, 4_000_000)] {
        stored(
            &format!("{length} bytes of a manifest, or {few}"),
            |_| {},
            |crowd| {
                let head = format!(
                    "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Type: {MANIFEST}\r\n\
                     Content-Length: 4194304\r\n\r\n"
                );
                crowd.try_send_each(|i| {
                    let length = if i % 100 == 0 { few } else { length };
                    [head.as_bytes(), &vec![b' '; length]].concat()
                });
            },
        );
    }
}

//! Many writers of one tag that must not move.

use std::sync::{Arc, Barrier};
use std::thread;

use quinistry::oci::{Digest, media_type};

use super::program::{Given, Place};
use super::users::basic;
use crate::support::http::request;

/// Writers of one tag at once.
const WRITERS: usize = 50;

/// Tags that are fought for, one after another.
const TAGS: usize = 20;

/// Configuration of a registry in which tags are made and never moved.
const CONFIG: &str = "version: 0.1
log: {accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '{root}'}}
http: {addr: '{addr}'}
auth: {htpasswd: {realm: Test, path: '{folder}/htpasswd'}}
quinistry: {access: [{repositories: ['**'], who: [alice], can: [push]}]}
";

/// Half of the writers push to the tag, and half push by digest and name the tag in the query.
#[test]
fn of_fifty_writers_of_an_immutable_tag_exactly_one_wins() {
    let place = Place::new();
    std::fs::write(place.path("htpasswd"), super::tls::PASSWORDS).unwrap();
    let registry = place.serve_ours(Given { file: Some(CONFIG), ..Given::default() });
    let authorization = basic("alice", "right-ox4Kq");
    let field = [("Authorization", authorization.as_str())];
    // The password is remembered from here on, so that no writer waits for its check.
    assert_eq!(registry.peer.ask("GET", "/v2/", &field, b"").status, 200);
    for tag in 0..TAGS {
        let barrier = Arc::new(Barrier::new(WRITERS));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (peer, barrier) = (registry.peer, barrier.clone());
                let authorization = authorization.clone();
                thread::spawn(move || {
                    let media_type = media_type::OCI_INDEX;
                    let body = format!(
                        r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[],"annotations":{{"n":"{tag}-{writer}"}}}}"#
                    );
                    let target = match writer % 2 {
                        0 => format!("/v2/app/manifests/{tag}"),
                        _ => format!("/v2/app/manifests/{}?tag={tag}", Digest::sha256(body.as_bytes())),
                    };
                    let fields = [("Authorization", authorization.as_str()), ("Content-Type", media_type)];
                    let request = request("PUT", &target, &fields, body.as_bytes());
                    let (last, first) = request.split_last().unwrap();
                    let mut connection = peer.connect();
                    connection.send(first).unwrap();
                    // The registry has all but one byte of every request.
                    barrier.wait();
                    (connection.ask(&[*last]), body)
                })
            })
            .collect();
        let (winners, losers): (Vec<_>, Vec<_>) = writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .partition(|(answer, _)| answer.status == 201);
        assert_eq!(winners.len(), 1, "tag {tag}: {winners:?}");
        for (answer, _) in &losers {
            answer.assert_refused(403, "DENIED");
        }
        let ask = |reference: &str| {
            registry.peer.ask("GET", &format!("/v2/app/manifests/{reference}"), &field, b"")
        };
        assert_eq!(ask(&tag.to_string()).text(), winners[0].1, "tag {tag}");
        for (_, body) in &losers {
            assert_eq!(ask(Digest::sha256(body.as_bytes()).as_str()).status, 404, "a loser leaves nothing");
        }
    }
}

//! A replica dies at each request of an upload; another one goes on, and the content is whole.

use quinistry::oci::Digest;

use crate::attempt::{Attempts, Outcome, Replicas};
use crate::client::{Client, target};
use crate::stores::{Replica, start_mortal};
use crate::support::versitygw::{Versitygw, section};

/// Requests of uploads at which a replica dies, before they are sent and after they are answered.
const REQUESTS: [&str; 7] = ["put", "list", "get", "create-multipart", "put-part", "complete", "copy"];

/// Bound of the passages of one point, for a loop that would not end: requests of the start come first.
const MOST_PASSAGES: usize = 40;

/// Length of the chunks of an upload, and their number: several chunks fill a part.
const CHUNK: usize = 3 << 20;
const CHUNKS: usize = 4;

/// Sends an upload to a replica that dies at a point, and goes on at another one. Returns false if the replica
/// did not die.
fn dies_at(section: &str, second: &Replica, failpoint: &str) -> bool {
    // A replica may die while it starts, before it can take an upload.
    let Some((first, _folder)) = start_mortal(section, failpoint) else { return true };
    // Bytes that no other upload has.
    let bytes: Vec<u8> = failpoint.bytes().cycle().take(CHUNK * CHUNKS).collect();
    let digest = Digest::sha256(&bytes);
    let only_first = Replicas::new(&[first.peer]);
    let dying = Attempts { replicas: &only_first, repository: "app" };
    let begun = dying.send("POST", &dying.path("blobs/uploads/"), &[("Content-Length", "0")], b"");
    let Outcome::Answered(begun) = begun else {
        // An upload whose begin was not answered has no name.
        return true;
    };
    let at = target(begun.header("location").unwrap());
    let joint = if at.contains('?') { '&' } else { '?' };
    let end = format!("{at}{joint}digest={digest}");
    let mut acknowledged = 0;
    let mut is_dead = false;
    for chunk in bytes.chunks(CHUNK) {
        let range = format!("{acknowledged}-{}", acknowledged + chunk.len() - 1);
        match dying.send("PATCH", &at, &[("Content-Range", &range)], chunk) {
            Outcome::Answered(answer) => {
                assert_eq!(answer.status, 202, "{failpoint}: {answer:?}");
                acknowledged += chunk.len();
            }
            Outcome::Lost(_) => {
                is_dead = true;
                break;
            }
        }
    }
    if !is_dead {
        match dying.send("PUT", &end, &[("Content-Length", "0")], b"") {
            Outcome::Answered(answer) => assert_eq!(answer.status, 201, "{failpoint}: {answer:?}"),
            Outcome::Lost(_) => is_dead = true,
        }
    }
    drop(first);
    let client = Client::new(&[second.peer()], "app");
    if is_dead && client.head(&format!("blobs/{digest}")).status == 404 {
        let progress = second.peer().get(&at);
        // Nothing was acknowledged, or not less than that is there.
        assert_eq!(progress.status, 204, "{failpoint}: {progress:?}");
        let range = progress.header("range").unwrap();
        let last: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
        let mut start = if last == 0 { 0 } else { last + 1 };
        assert!(
            start >= acknowledged,
            "{failpoint}: {acknowledged} bytes were acknowledged, {range} are there"
        );
        while start < bytes.len() {
            let piece = &bytes[start..bytes.len().min(start + CHUNK)];
            let answer = client.patch(&at, start, piece);
            assert_eq!(answer.status, 202, "{failpoint}: {answer:?}");
            start += piece.len();
        }
        let answer = client.finish(&at, &digest, b"");
        assert_eq!(answer.status, 201, "{failpoint}: {answer:?}");
    }
    let descriptor = quinistry::oci::Descriptor::of("a/b", &bytes);
    assert!(client.blob(&descriptor) == bytes, "{failpoint}: other bytes");
    is_dead
}

/// Lets a replica die at each passage of the points of some requests, until an upload passes none. Returns the
/// number of deaths.
fn die_at_all(requests: &[&str], sides: &[&str]) -> usize {
    let Some(store) = Versitygw::start() else { return usize::MAX };
    let section = section(store.address, "");
    let second = Replica::start(&section);
    let mut deaths = 0;
    for request in requests {
        for side in sides {
            for passage in 1..MOST_PASSAGES {
                let failpoint = format!("bucket.{request}.{side}:{passage}");
                if !dies_at(&section, &second, &failpoint) {
                    break;
                }
                deaths += 1;
            }
        }
    }
    deaths
}

#[test]
fn row_230_an_upload_goes_on_after_its_replica_died_at_a_write() {
    assert!(die_at_all(&["create-multipart", "put-part", "complete", "put"], &["after"]) > 5);
}

#[test]
#[ignore = "a command of its own: a program is started for each of many requests"]
fn row_230_an_upload_goes_on_after_its_replica_died_at_any_request() {
    assert!(die_at_all(&REQUESTS, &["before", "after"]) > 20);
}

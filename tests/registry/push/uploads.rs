//! Blobs, by every way in.

use std::time::Duration;

use quinistry::oci::{Algorithm, Digest, Hasher};

use crate::push::registry::{Registry, Repository, on_each, sha512};
use crate::support::http::request;
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};

#[test]
fn row_50_a_blob_comes_in_by_every_way_also_an_empty_one() {
    on_each(|registry| {
        let repository = registry.repository("a/b");
        for length in [0, 1, 1000, 300_000] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let digest = Digest::sha256(&bytes);
            repository.push_blob(&bytes);
            repository.assert_blob(&digest, &bytes);

            let length = [("Content-Length", "0")];
            let none: &[(&str, &str)] = if bytes.is_empty() { &length } else { &[] };
            let at = repository.begin();
            let answer = repository.peer.ask("PUT", &format!("{at}?digest={digest}"), none, &bytes);
            assert_eq!(answer.status, 201, "{answer:?}");
            assert_eq!(answer.header("location"), Some(&*repository.path(&format!("blobs/{digest}"))));
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
            repository.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");

            let at = repository.begin();
            let answer = repository.peer.ask("PATCH", &at, none, &bytes);
            assert_eq!((answer.status, answer.header("location")), (202, Some(&*at)));
            let answer = repository.peer.ask("PUT", &format!("{at}?digest={digest}"), &length, b"");
            assert_eq!(answer.status, 201, "{answer:?}");
            repository.assert_blob(&digest, &bytes);
        }
    });
}

#[test]
fn chunks_go_on_where_the_last_one_ended_and_nowhere_else() {
    on_each(|registry| {
        let repository = registry.repository("chunks");
        let at = repository.begin();
        let patch =
            |range: &str, bytes: &[u8]| repository.peer.ask("PATCH", &at, &[("Content-Range", range)], bytes);
        let status = || {
            let answer = repository.peer.get(&at);
            assert_eq!((answer.status, answer.header("location")), (204, Some(&*at)));
            answer.header("range").unwrap().to_owned()
        };
        assert_eq!(status(), "0-0");
        assert_eq!(patch("0-4", b"hello").header("range"), Some("0-4"));
        for wrong in ["0-4", "4-8", "6-10"] {
            let answer = patch(wrong, b"again");
            answer.assert_refused(416, "BLOB_UPLOAD_INVALID");
            assert_eq!((answer.header("location"), answer.header("range")), (Some(&*at), Some("0-4")));
        }
        assert_eq!(patch("5-9", b"again").header("range"), Some("0-9"));
        assert_eq!(status(), "0-9");

        // A last chunk out of order leaves the session as it is, also where it is asked for with the digest.
        let digest = Digest::sha256(b"helloagain!");
        let put = |range: &str| {
            repository.peer.ask("PUT", &format!("{at}?digest={digest}"), &[("Content-Range", range)], b"!")
        };
        put("0-0").assert_refused(416, "BLOB_UPLOAD_INVALID");
        assert_eq!(repository.peer.get(&format!("{at}?digest={digest}")).status, 204);
        assert_eq!(put("10-10").status, 201);
        repository.assert_blob(&digest, b"helloagain!");
    });
}

#[test]
fn sha512_is_a_name_like_any_other() {
    on_each(|registry| {
        let repository = registry.repository("long");
        let digest = sha512(b"words");
        let answer = repository.ask("POST", &format!("blobs/uploads/?digest={digest}"), &[], b"words");
        assert_eq!((answer.status, answer.header("docker-content-digest")), (201, Some(digest.as_str())));
        repository.assert_blob(&digest, b"words");
        repository.assert_blob(&Digest::sha256(b"words"), b"words");

        // Announced or not, in pieces or not.
        for query in ["", "?digest-algorithm=sha512"] {
            let digest = sha512(b"in pieces");
            let at =
                repository.ask("POST", &format!("blobs/uploads/{query}"), &[("Content-Length", "0")], b"");
            let at = at.header("location").unwrap();
            assert_eq!(repository.peer.ask("PATCH", at, &[], b"in ").status, 202);
            let end = repository.peer.ask("PUT", &format!("{at}?digest={digest}"), &[], b"pieces");
            assert_eq!(end.status, 201, "{end:?}");
            repository.assert_blob(&digest, b"in pieces");
        }
        let other = registry.repository("other");
        let answer =
            other.ask("POST", &format!("blobs/uploads/?mount={digest}"), &[("Content-Length", "0")], b"");
        assert_eq!(answer.status, 201, "{answer:?}");
        other.assert_blob(&digest, b"words");
    });
}

#[test]
fn a_mount_is_a_blob_or_the_beginning_of_one() {
    on_each(|registry| {
        let (from, to) = (registry.repository("from"), registry.repository("to/here"));
        let digest = from.push_blob(b"shared");
        let mount =
            |query: &str| to.ask("POST", &format!("blobs/uploads/?{query}"), &[("Content-Length", "0")], b"");
        for query in [
            format!("mount={digest}&from=nowhere"),
            format!("mount={digest}&from=..%2Ffrom"),
            format!("mount={}&from=from", Digest::sha256(b"unknown")),
            "mount=sha256:x&from=from".into(),
        ] {
            let answer = mount(&query);
            assert_eq!(answer.status, 202, "{query}: {answer:?}");
            assert!(answer.header("location").unwrap().starts_with("/v2/to/here/blobs/uploads/"));
        }
        to.get(&format!("blobs/{digest}")).assert_refused(404, "BLOB_UNKNOWN");
        let answer = mount(&format!("mount={digest}&from=from"));
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("location"), Some(&*format!("/v2/to/here/blobs/{digest}")));
        to.assert_blob(&digest, b"shared");

        let third = registry.repository("third");
        let anonymous =
            third.ask("POST", &format!("blobs/uploads/?mount={digest}"), &[("Content-Length", "0")], b"");
        assert_eq!(anonymous.status, 201);
        third.assert_blob(&digest, b"shared");
    });
}

#[test]
fn a_mount_does_not_read_what_the_built_in_repository_hides() {
    let registry = Registry::in_memory();
    let digest = Digest::sha256(b"hidden");
    let mut receiver = registry.store().receive(&digest, None).unwrap();
    receiver.append(b"hidden").unwrap();
    registry.store().commit(&"quinistry".parse().unwrap(), &mut receiver, &digest).unwrap();
    let to = registry.repository("to");
    let mount = format!("blobs/uploads/?mount={digest}&from=quinistry");
    assert_eq!(to.ask("POST", &mount, &[("Content-Length", "0")], b"").status, 202);
    to.get(&format!("blobs/{digest}")).assert_refused(404, "BLOB_UNKNOWN");
}

#[test]
fn row_53_a_session_can_be_cancelled_also_while_it_is_written_to() {
    on_each(|registry| {
        let repository = registry.repository("cancelled");
        let at = repository.begin();
        assert_eq!(repository.peer.ask("DELETE", &at, &[], b"").status, 204);
        repository.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        repository.peer.ask("DELETE", &at, &[], b"").assert_refused(404, "BLOB_UPLOAD_UNKNOWN");

        let at = repository.begin();
        let mut connection = repository.begin_chunk(&at, 1_000_000);
        connection.send(b"some").unwrap();
        assert_eq!(repository.peer.ask("PATCH", &at, &[], b"x").status, 416);
        assert_eq!(repository.peer.ask("DELETE", &at, &[], b"").status, 204);
        connection.answer(false).unwrap().assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
    });
}

#[test]
fn content_is_sent_in_ranges_and_not_at_all_to_who_has_it() {
    on_each(|registry| {
        let repository = registry.repository("ranges");
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let digest = repository.push_blob(&bytes);
        let ask =
            |header, value: &str| repository.ask("GET", &format!("blobs/{digest}"), &[(header, value)], b"");
        let part = ask("Range", "bytes=300000-300009");
        assert_eq!((part.status, &part.body[..]), (206, &bytes[300_000..300_010]));
        assert_eq!(part.header("content-range"), Some("bytes 300000-300009/800000"));
        assert_eq!(ask("Range", "bytes=799999-").body, &bytes[799_999..]);
        assert_eq!(ask("Range", "bytes=800000-").status, 416);
        assert_eq!(ask("If-None-Match", &format!("\"{digest}\"")).status, 304);
        // On the same connection: lengths are right, or this would not go on.
        let mut connection = repository.peer.connect();
        for _ in 0..3 {
            let answer =
                connection.ask(&request("GET", &repository.path(&format!("blobs/{digest}")), &[], b""));
            assert!(answer.body == bytes);
        }
    });
}

#[test]
fn what_came_before_a_connection_was_cut_is_kept() {
    on_each(|registry| {
        let repository = registry.repository("cut");
        let at = repository.begin();
        let bytes = vec![7; 600_000];
        let mut connection = repository.peer.connect();
        let head = format!("PATCH {at} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        connection.send(head.as_bytes()).unwrap();
        connection.send(&bytes).unwrap();
        connection.end_sending();
        drop(connection.rest());
        // The session is free again when the cut was noticed.
        let range = repository.peer.get(&at).header("range").unwrap().to_owned();
        let last: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
        assert_eq!(last, 599_999, "all that came");
        let digest = Digest::sha256(&[&bytes[..], b"end"].concat());
        let end = repository.peer.ask(
            "PUT",
            &format!("{at}?digest={digest}"),
            &[("Content-Range", "600000-600002")],
            b"end",
        );
        assert_eq!(end.status, 201, "{end:?}");
    });
}

#[test]
fn a_client_that_is_gone_without_a_word_finds_its_session_again() {
    on_each(|registry| {
        let repository = registry.repository("gone");
        let at = repository.begin();
        let bytes = vec![9; 900_000];
        let head = format!("PATCH {at} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        let mut connection = repository.peer.connect();
        connection.send(head.as_bytes()).unwrap();
        connection.send(&bytes).unwrap();
        drop(connection);
        // When the registry has noticed, it tells how far it is, and that is where it goes on.
        let offset = loop {
            let answer = repository.peer.get(&at);
            assert_eq!(answer.status, 204, "{answer:?}");
            let last: usize = answer.header("range").unwrap().strip_prefix("0-").unwrap().parse().unwrap();
            if last > 0 {
                break last + 1;
            }
            std::thread::yield_now();
        };
        let range = format!("{offset}-{}", bytes.len() - 1);
        let digest = Digest::sha256(&bytes);
        if offset < bytes.len() {
            let rest = repository.peer.ask("PATCH", &at, &[("Content-Range", &range)], &bytes[offset..]);
            assert_eq!(rest.status, 202, "{rest:?}");
        }
        let end =
            repository.peer.ask("PUT", &format!("{at}?digest={digest}"), &[("Content-Length", "0")], b"");
        assert_eq!(end.status, 201, "{end:?}");
    });
}

#[test]
fn a_hundred_clients_push_at_once() {
    on_each(|registry| {
        std::thread::scope(|scope| {
            for i in 0..100_u32 {
                let repository = registry.repository(&format!("many/r{}", i % 7));
                scope.spawn(move || {
                    let layer = i.to_le_bytes().repeat(5_000);
                    let (digest, bytes) = repository.push_image(&format!("t{i}"), &[&layer, b"shared"]);
                    repository.assert_manifest(&format!("t{i}"), &digest, &bytes);
                    repository.assert_blob(&Digest::sha256(&layer), &layer);
                });
            }
        });
        let tags: usize = (0..7).map(|i| registry.repository(&format!("many/r{i}")).tags().len()).sum();
        assert_eq!(tags, 100);
    });
}

#[test]
fn a_mount_beside_a_deletion_is_there_or_is_not() {
    for registry in [Registry::in_memory(), Registry::on_a_quick_disk()] {
        let (from, to) = (registry.repository("from"), registry.repository("to"));
        let digest = from.push_blob(b"shared");
        let mount = to.path(&format!("blobs/uploads/?mount={digest}&from=from"));
        let blob = to.path(&format!("blobs/{digest}"));
        let again_and_again = |method: &str, target: &str, taken: &[u16]| {
            let mut connection = registry.peer.connect();
            for _ in 0..2000 {
                let answer = connection.ask(&request(method, target, &[("Content-Length", "0")], b""));
                assert!(taken.contains(&answer.status), "{answer:?}");
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| again_and_again("POST", &mount, &[201]));
            scope.spawn(|| again_and_again("DELETE", &blob, &[202, 404]));
        });
        assert_eq!(registry.peer.ask("POST", &mount, &[("Content-Length", "0")], b"").status, 201);
        to.assert_blob(&digest, b"shared");
    }
}

/// Tests the real program, whose memory is not that of the tests.
#[test]
fn two_gigabytes_go_in_and_out_and_are_never_in_memory() {
    const PIECES: u64 = 2048;
    let piece: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    (0..PIECES).for_each(|_| hasher.update(&piece));
    let digest = hasher.finish();
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "storage"]));
    let high_water = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = high_water();
    let repository = Repository { peer: server.peer, name: "large".into() };
    let at = repository.begin();
    let mut connection = repository.peer.connect();
    // All bytes are flushed before the answer.
    connection.set_read_timeout(Duration::from_mins(5));
    let length = PIECES << 20;
    let head = format!("PUT {at}?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    connection.send(head.as_bytes()).unwrap();
    for _ in 0..PIECES {
        connection.send(&piece).unwrap();
    }
    assert_eq!(connection.answer(false).unwrap().status, 201);
    connection.send(&request("GET", &repository.path(&format!("blobs/{digest}")), &[], b"")).unwrap();
    let (status, headers) = connection.head().unwrap();
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-length".into(), length.to_string())));
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let (mut left, mut buffer) = (length, vec![0; 1 << 20]);
    while left > 0 {
        let read = connection.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "cut off {left} bytes before the end");
        hasher.update(&buffer[..read]);
        left -= read as u64;
    }
    assert_eq!(hasher.finish(), digest);
    let grown = high_water() - before;
    assert!(grown < 64 * 1024, "the program grew by {grown} kB");
}

//! Several replicas on one bucket, without stickiness: each request goes to the next one.

use quinistry::oci::Digest;

use crate::client::{Client, Way, target};
use crate::stores::Replica;
use crate::support::http::Peer;
use crate::support::images::{Image, Packing};
use crate::support::versitygw::{Versitygw, section};

/// Two replicas on a fresh bucket.
struct Pair {
    _store: Versitygw,
    replicas: [Replica; 2],
}

impl Pair {
    fn start() -> Option<Self> {
        let store = Versitygw::start()?;
        let section = section(store.address, "");
        Some(Self { replicas: [Replica::start(&section), Replica::start(&section)], _store: store })
    }

    fn peers(&self) -> [Peer; 2] {
        self.replicas.each_ref().map(Replica::peer)
    }

    fn client(&self) -> Client {
        Client::new(&self.peers(), "app")
    }
}

/// Bytes that differ at each place.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

#[test]
fn an_image_that_is_pushed_to_all_is_served_by_each() {
    let Some(pair) = Pair::start() else { return };
    let ways = [Way::Put, Way::Patch, Way::Chunks(70)];
    for (number, way) in ways.into_iter().enumerate() {
        let (text, tag) = (format!("image {number}"), format!("t{number}"));
        let image = Image::new("amd64", &[&text], Packing::Plain);
        pair.client().push(way, &tag, &image);
        for peer in pair.peers() {
            Client::new(&[peer], "app").assert_image(&tag, &image);
        }
    }
    assert_eq!(pair.client().tags(2), ["t0", "t1", "t2"]);
}

#[test]
fn an_upload_of_many_parts_goes_on_at_another_replica() {
    let Some(pair) = Pair::start() else { return };
    let client = pair.client();
    for (length, chunk) in [(25 << 20, 12 << 20), (13 << 20, 1 << 20), (11 << 20, 11 << 20)] {
        let bytes = bytes(length);
        let digest = client.push_blob(Way::Chunks(chunk), &bytes);
        let descriptor = quinistry::oci::Descriptor::of("a/b", &bytes);
        assert_eq!(descriptor.digest, digest);
        assert!(client.blob(&descriptor) == bytes);
    }
}

/// Pushes a blob in chunks of 100 kB, each to the next replica, and pulls it.
fn push_in_chunks(number: usize) {
    let Some(pair) = Pair::start() else { return };
    let client = pair.client();
    let bytes = bytes(number * 100_000 - 1);
    let descriptor = quinistry::oci::Descriptor::of("a/b", &bytes);
    assert_eq!(client.push_blob(Way::Chunks(100_000), &bytes), descriptor.digest);
    for peer in pair.peers() {
        assert!(Client::new(&[peer], "app").blob(&descriptor) == bytes);
    }
}

#[test]
fn an_upload_of_more_chunks_than_a_part_holds_to_each_replica_in_turn_is_whole() {
    push_in_chunks(120);
}

#[test]
#[ignore = "a command of its own: ten thousand requests, each of which reads back what is in no part"]
fn an_upload_of_ten_thousand_chunks_to_each_replica_in_turn_is_whole() {
    push_in_chunks(10_000);
}

#[test]
fn row_231_of_two_chunks_at_one_offset_one_wins_and_the_content_is_whole() {
    let Some(pair) = Pair::start() else { return };
    let client = pair.client();
    for round in 0..10_u8 {
        let at = client.begin();
        let start = b"the begin, ";
        assert_eq!(client.patch(&at, 0, start).status, 202);
        let chunks = [vec![round; 1000], vec![round + 100; 1000]];
        let answers: Vec<_> = std::thread::scope(|scope| {
            let send = |peer: Peer, chunk: &[u8]| {
                let range = format!("{}-{}", start.len(), start.len() + chunk.len() - 1);
                peer.ask("PATCH", &at, &[("Content-Range", &range)], chunk)
            };
            let (peers, chunks) = (pair.peers(), &chunks);
            let threads: Vec<_> =
                (0..2).map(|index| scope.spawn(move || send(peers[index], &chunks[index]))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert!(statuses == [202, 416] || statuses == [416, 202], "{answers:?}");
        let loser = &answers[usize::from(statuses[0] == 202)];
        assert!(loser.header("location").is_some() && loser.header("range").is_some(), "{loser:?}");
        let winner = &chunks[usize::from(statuses[1] == 202)];
        let whole = [&start[..], winner].concat();
        let digest = Digest::sha256(&whole);
        let answer = client.finish(&at, &digest, b"");
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[test]
fn an_upload_survives_the_replica_that_took_it() {
    let Some(Pair { _store, replicas: [first, second] }) = Pair::start() else { return };
    let bytes = bytes(7 << 20);
    let taken = Client::new(&[first.peer()], "app");
    let at = taken.begin();
    let answer = taken.patch(&at, 0, &bytes[..6 << 20]);
    assert_eq!(answer.status, 202, "{answer:?}");
    drop(first);
    let left = Client::new(&[second.peer()], "app");
    let progress = second.peer().get(&at);
    assert_eq!(progress.status, 204, "{progress:?}");
    assert_eq!(progress.header("range"), Some(&*format!("0-{}", (6 << 20) - 1)));
    let at = target(answer.header("location").unwrap());
    assert_eq!(left.patch(&at, 6 << 20, &bytes[6 << 20..]).status, 202);
    let digest = Digest::sha256(&bytes);
    assert_eq!(left.finish(&at, &digest, b"").status, 201);
    // The answer may have been lost: the same request again succeeds.
    assert_eq!(left.finish(&at, &digest, b"").status, 201);
}

#[test]
fn a_change_at_one_replica_is_seen_at_the_other_at_once() {
    let Some(pair) = Pair::start() else { return };
    let [here, there] = pair.peers().map(|peer| Client::new(&[peer], "app"));
    for round in 0..20 {
        let (text, tag) = (format!("round {round}"), format!("t{round}"));
        let image = Image::new("amd64", &[&text], Packing::Plain);
        // The other replica has looked before, and must not believe what it saw.
        assert_eq!(there.head(&format!("manifests/{tag}")).status, 404);
        assert_eq!(there.head(&format!("blobs/{}", image.layers[0].0.digest)).status, 404);
        here.push(Way::Put, &tag, &image);
        there.assert_image(&tag, &image);
        assert!(there.tags(100).contains(&tag));
        here.delete(&format!("manifests/{}", image.digest()));
        assert_eq!(there.head(&format!("manifests/{tag}")).status, 404);
        assert_eq!(there.head(&format!("manifests/{}", image.digest())).status, 404);
        assert!(!there.tags(100).contains(&tag));
        here.delete(&format!("blobs/{}", image.layers[0].0.digest));
        assert_eq!(there.head(&format!("blobs/{}", image.layers[0].0.digest)).status, 404);
    }
}

#[test]
fn a_session_that_was_never_begun_is_unknown() {
    let Some(pair) = Pair::start() else { return };
    let client = pair.client();
    let at = client.begin();
    let other = at.replace("/app/", "/other/");
    let unknown = client.peer().ask("PATCH", &other, &[], b"x");
    unknown.assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
}

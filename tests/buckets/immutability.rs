//! Immutable tags on a real store: of writers at several replicas, one gives a tag its digest.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use crate::client::{Client, MANIFEST, Way};
use crate::stores::{Replica, ReplicaSettings};
use crate::support::images::{Image, Packing};
use crate::support::versitygw::{Versitygw, section};

const WRITERS: usize = 16;
const ROUNDS: usize = 10;
const SECTIONS: &str = "quinistry: {immutability: [{repositories: ['**'], tags: ['v*']}]}\n";

#[test]
fn of_sixteen_writers_over_three_replicas_one_gives_an_immutable_tag_its_digest() {
    let Some(store) = Versitygw::start() else { return };
    let section = section(store.address, "");
    let settings = ReplicaSettings { sections: SECTIONS, ..ReplicaSettings::default() };
    let replicas: Vec<Replica> = (0..3).map(|_| Replica::with(&section, settings)).collect();
    let peers: Vec<_> = replicas.iter().map(Replica::peer).collect();
    let client = |writer: usize| Client::new(&[peers[writer % peers.len()]], "app");
    let images: Vec<Image> = (0..WRITERS)
        .map(|writer| Image::new(&format!("writer {writer}"), &["layer"], Packing::Plain))
        .collect();
    for (writer, image) in images.iter().enumerate() {
        client(writer).push(Way::Put, &format!("own-{writer}"), image);
    }
    for round in 0..ROUNDS {
        let tag = format!("v{round}");
        let barrier = Barrier::new(WRITERS);
        let write = |writer: usize| {
            let client = client(writer);
            barrier.wait();
            let answer = client.put_manifest(&tag, &images[writer].manifest);
            assert!(matches!(answer.status, 201 | 403), "{tag}: {answer:?}");
            // Each writer that has an answer sees the digest of the winner.
            let found = client.ask("GET", &format!("manifests/{tag}"), &[("Accept", MANIFEST)], b"");
            assert_eq!(found.status, 200, "{tag}: {found:?}");
            (answer.status == 201, found.body)
        };
        let write = &write;
        let answers: Vec<(bool, Vec<u8>)> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..WRITERS).filter(|writer| answers[*writer].0).collect();
        let seen: BTreeSet<Vec<u8>> = answers.into_iter().map(|(_, body)| body).collect();
        let [winner] = winners[..] else { panic!("{tag}: {} winners", winners.len()) };
        assert_eq!(seen.len(), 1, "{tag}: readers see one digest");
        assert!(seen.contains(&images[winner].manifest[..]), "{tag}: that of the winner");
    }
}

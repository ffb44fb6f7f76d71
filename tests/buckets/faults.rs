//! Stores that fail: clients see success, or an answer by which they try again; what was acknowledged is there.

use std::collections::BTreeMap;
use std::time::Duration;

use quinistry_bucket::testing::{Fault, FaultRates, RequestKind};

use crate::attempt::{Attempts, Outcome, Replicas};
use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::images::{Image, Packing};
use crate::support::stub_store::{Shape, StubStore};

/// Number of clients that push at once.
const PUSHERS: usize = 4;
/// Number of images that each of them pushes.
const IMAGES: usize = 6;

/// Faults of all kinds at once, far more than a store has.
const RATES: FaultRates = FaultRates {
    unavailable: 0.15,
    error_after_success: 0.1,
    held: 0.002,
    hold: Duration::from_mins(1),
    cut_body: 0.05,
    conflict: 0.1,
    error_in_success: 0.1,
};

fn image(pusher: usize, number: usize) -> Image {
    // Each image has a layer of several parts, one that all share, and one of its own.
    let large = "0123456789abcdef".repeat(700_000);
    let own = format!("image {pusher} {number}");
    let tars: Vec<Vec<u8>> = [large.as_str(), "shared", &own]
        .map(|text| crate::support::images::tar_of("file", text.as_bytes()))
        .into();
    let tars = if number.is_multiple_of(3) { &tars[..] } else { &tars[1..] };
    Image::of_tars("amd64", tars, Packing::Plain)
}

fn way(number: usize) -> Way {
    [Way::Put, Way::Patch, Way::Chunks(3 << 20)][number % 3]
}

/// Pushes images through two replicas to a store with faults, and checks all that was acknowledged once the
/// store is well again.
fn push_through_faults(shape: Shape, rates: FaultRates, section: impl Fn(&StubStore) -> String) {
    let stub = StubStore::start(shape);
    let section = section(&stub);
    let replicas = [Replica::start(&section), Replica::start(&section)];
    let peers = replicas.each_ref().map(Replica::peer);
    let shared = Replicas::new(&peers);
    stub.plan().set_rates(rates);
    // Acknowledged images by tag, and the image that the last unanswered push of a tag may have left.
    let acknowledged: BTreeMap<String, (usize, usize)> = std::thread::scope(|scope| {
        let push = |pusher: usize| {
            let client = Attempts { replicas: &shared, repository: "app" };
            let mut done = Vec::new();
            for number in 0..IMAGES {
                let image = image(pusher, number);
                for (_, bytes) in image.blobs() {
                    client.ensure_blob(way(pusher + number), bytes);
                }
                let tag = format!("t{pusher}-{number}");
                if let Outcome::Answered(answer) = client.put_manifest(&tag, &image.manifest) {
                    // All parts were acknowledged.
                    assert_eq!(answer.status, 201, "{answer:?}");
                    done.push((tag, (pusher, number)));
                }
            }
            done
        };
        let threads: Vec<_> = (0..PUSHERS).map(|pusher| scope.spawn(move || push(pusher))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    stub.plan().set_active(false);
    assert!(acknowledged.len() > PUSHERS * IMAGES / 4, "few pushes succeeded: {acknowledged:?}");
    let client = Client::new(&peers, "app");
    let listed = client.tags(1000);
    for (tag, (pusher, number)) in &acknowledged {
        assert!(listed.contains(tag), "{tag} is acknowledged and not listed in {listed:?}");
        client.assert_image(tag, &image(*pusher, *number));
    }
    // A tag whose push was not acknowledged is there as a whole, or not at all.
    for tag in listed {
        let (pusher, number) = tag[1..].split_once('-').unwrap();
        client.assert_image(&tag, &image(pusher.parse().unwrap(), number.parse().unwrap()));
    }
}

#[test]
fn row_232_pushes_through_all_faults_of_s3_lose_nothing() {
    push_through_faults(Shape::S3, RATES, |stub| stub.section(""));
}

#[test]
fn row_232_pushes_to_an_overloaded_store_lose_nothing() {
    let rates = FaultRates { unavailable: 0.3, ..FaultRates::default() };
    push_through_faults(Shape::S3, rates, |stub| stub.section(""));
}

/// Runs one push with a fault of each request in turn, until a push has none left to spoil.
fn spoil_each(way: Way, kind: RequestKind, fault: Fault) {
    let stub = StubStore::start(Shape::S3);
    let replica = Replica::start(&stub.section(""));
    let replicas = Replicas::new(&[replica.peer()]);
    let client = Attempts { replicas: &replicas, repository: "app" };
    let text = format!("{way:?} {kind:?} {fault:?}");
    let bytes = text.repeat(if way == Way::Chunks(3 << 20) { 400_000 } else { 3 });
    let layer = crate::support::images::tar_of("file", bytes.as_bytes());
    let image = Image::of_tars("amd64", &[layer], Packing::Plain);
    stub.plan().spoil(kind, "", fault, 2);
    for (_, bytes) in image.blobs() {
        client.ensure_blob(way, bytes);
    }
    let answer = (0..5).find_map(|_| match client.put_manifest("t", &image.manifest) {
        Outcome::Answered(answer) => Some(answer.status),
        Outcome::Lost(_) => None,
    });
    assert_eq!(answer, Some(201), "{text}");
    stub.plan().set_active(false);
    let reader = Client::new(&[replica.peer()], "app");
    reader.assert_image("t", &image);
    assert_eq!(reader.tags(10), ["t"], "{text}");
}

#[test]
fn row_232_a_fault_of_any_request_of_a_push_is_survived() {
    let faults = [Fault::Unavailable, Fault::ErrorAfterSuccess, Fault::CutBody];
    for way in [Way::Put, Way::Patch, Way::Chunks(3 << 20)] {
        for kind in [RequestKind::Put, RequestKind::Get, RequestKind::Head, RequestKind::List] {
            for fault in faults {
                spoil_each(way, kind, fault);
            }
        }
    }
}

#[test]
fn row_222_a_conflict_at_a_create_is_looked_at() {
    for fault in [Fault::Conflict, Fault::ConflictAfterSuccess] {
        for way in [Way::Put, Way::Patch] {
            spoil_each(way, RequestKind::Put, fault);
        }
    }
}

#[test]
fn row_232_a_fault_of_an_upload_in_parts_is_survived() {
    use RequestKind::{Complete, Copy, CopyPart, CreateMultipart, PutPart};
    for kind in [CreateMultipart, PutPart, Complete, Copy, CopyPart] {
        for fault in [Fault::Unavailable, Fault::ErrorAfterSuccess, Fault::ErrorInSuccess] {
            spoil_each(Way::Chunks(3 << 20), kind, fault);
        }
    }
}

#[test]
fn row_233_an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    spoil_each(Way::Put, RequestKind::Put, Fault::Held(Duration::from_mins(5)));
}

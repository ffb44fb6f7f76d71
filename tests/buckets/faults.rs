//! Stores that fail: clients see success, or an answer by which they try again; what was acknowledged is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quinistry_bucket::testing::{Fault, FaultRates, RequestKind};

use crate::attempt::{Attempts, Outcome, Replicas};
use crate::client::{Client, Way};
use crate::gcs;
use crate::stores::Replica;
use crate::support::images::{Image, Packing};
use crate::support::stub_store::{Shape, StubStore};

/// Number of clients that push at once.
const PUSHERS: usize = 4;
/// Number of images that each of them pushes.
const IMAGES: usize = 6;

/// Faults of all kinds at once, far more than a store has. An answer that is held comes before a client gives up, since
/// copies, and the ends of uploads in parts, may take minutes.
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

/// Acknowledgements of one client.
#[derive(Debug, Default)]
struct Acknowledged {
    /// Tags, and the images that they mean.
    pushed: BTreeMap<String, (usize, usize)>,
    /// Tags that were removed, by themselves or with their manifest.
    removed: BTreeSet<String>,
}

/// Pushes images, and removes some of them again.
fn push_and_remove(client: Attempts<'_>, pusher: usize) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    for number in 0..IMAGES {
        let image = image(pusher, number);
        for (_, bytes) in image.blobs() {
            client.ensure_blob(way(pusher + number), bytes);
        }
        let tag = format!("t{pusher}-{number}");
        if let Outcome::Answered(answer) = client.put_manifest(&tag, &image.manifest) {
            // All parts were acknowledged.
            assert_eq!(answer.status, 201, "{answer:?}");
            acknowledged.pushed.insert(tag.clone(), (pusher, number));
        }
        if number % 3 == 1 && acknowledged.pushed.remove(&tag).is_some() {
            let by_tag = pusher.is_multiple_of(2);
            let reference = if by_tag { tag.clone() } else { image.digest().to_string() };
            let target = client.path(&format!("manifests/{reference}"));
            if let Outcome::Answered(answer) = client.send("DELETE", &target, &[], b"") {
                assert_eq!(answer.status, 202, "{answer:?}");
                acknowledged.removed.insert(tag);
            }
        }
    }
    acknowledged
}

/// Pushes images through two replicas to a store with faults, and checks all that was acknowledged once the
/// store is well again.
fn push_through_faults(stub: &StubStore, rates: FaultRates, start: impl Fn() -> Replica) {
    let replicas = [start(), start()];
    let peers = replicas.each_ref().map(Replica::peer);
    let shared = Replicas::new(&peers);
    stub.plan().set_rates(rates);
    let mut acknowledged = Acknowledged::default();
    std::thread::scope(|scope| {
        let client = Attempts { replicas: &shared, repository: "app" };
        let threads: Vec<_> =
            (0..PUSHERS).map(|pusher| scope.spawn(move || push_and_remove(client, pusher))).collect();
        for thread in threads {
            let Acknowledged { pushed, removed } = thread.join().unwrap();
            acknowledged.pushed.extend(pushed);
            acknowledged.removed.extend(removed);
        }
    });
    stub.plan().set_active(false);
    let Acknowledged { pushed, removed } = acknowledged;
    assert!(pushed.len() > PUSHERS * IMAGES / 4, "few pushes succeeded: {pushed:?}");
    assert!(!removed.is_empty(), "no removal succeeded");
    let client = Client::new(&peers, "app");
    let listed = client.tags(1000);
    for (tag, (pusher, number)) in &pushed {
        assert!(listed.contains(tag), "{tag} is acknowledged and not listed in {listed:?}");
        client.assert_image(tag, &image(*pusher, *number));
    }
    for tag in &removed {
        assert!(!listed.contains(tag), "the removal of {tag} is acknowledged: {listed:?}");
        assert_eq!(client.head(&format!("manifests/{tag}")).status, 404, "{tag}");
    }
    // A tag whose push was not acknowledged is there as a whole, or not at all.
    for tag in listed {
        let (pusher, number) = tag[1..].split_once('-').unwrap();
        client.assert_image(&tag, &image(pusher.parse().unwrap(), number.parse().unwrap()));
    }
}

#[test]
fn row_232_pushes_through_all_faults_of_s3_lose_nothing() {
    let stub = StubStore::start(Shape::S3);
    push_through_faults(&stub, RATES, || Replica::start(&stub.section("")));
}

#[test]
fn row_232_pushes_through_all_faults_of_google_storage_lose_nothing() {
    let stub = StubStore::start(Shape::Gcs);
    push_through_faults(&stub, RATES, || gcs::on_machine(&stub));
}

#[test]
fn row_232_pushes_to_an_overloaded_store_lose_nothing() {
    let stub = StubStore::start(Shape::S3);
    let rates = FaultRates { unavailable: 0.3, ..FaultRates::default() };
    push_through_faults(&stub, rates, || Replica::start(&stub.section("")));
}

/// The secret of the sessions is a key that the first replica creates, and each other one reads.
#[test]
fn row_222_replicas_that_begin_at_once_agree_on_one_secret_whatever_becomes_of_its_creation() {
    for fault in [Fault::ErrorAfterSuccess, Fault::ConflictAfterSuccess, Fault::Conflict, Fault::CutBody] {
        let stub = StubStore::start(Shape::S3);
        stub.plan().spoil(RequestKind::Put, "_quinistry/secret", fault, 2);
        let replicas: Vec<Replica> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| Replica::start(&stub.section("")))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let clients: Vec<Client> =
            replicas.iter().map(|replica| Client::new(&[replica.peer()], "app")).collect();
        let sessions: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = clients.iter().map(|client| scope.spawn(|| client.begin())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (index, at) in sessions.iter().enumerate() {
            let next = &clients[(index + 1) % clients.len()];
            let answer = next.patch(at, 0, b"content");
            assert_eq!(answer.status, 202, "{fault:?}: {answer:?}");
        }
    }
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

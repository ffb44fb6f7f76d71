//! A replica dies at each request of an operation; another one goes on, and all content is whole.

mod operation;

use std::collections::{BTreeMap, BTreeSet};

use quinistry_bucket::testing::{RequestKind, SentRequest, failpoints};
use rustix::process::{Signal, kill_process};

use self::operation::Operation;
use crate::attempt::{Attempts, Replicas};
use crate::client::Client;
use crate::stores::{Replica, is_background, start_mortal};
use crate::support::http::Peer;
use crate::support::stub_store::{Interruption, Moment, Shape, StubStore};
use crate::support::versitygw::{Versitygw, section};

/// Bound of the requests of one operation, for a loop that would not end.
const MOST_REQUESTS: usize = 60;
/// Text in the `User-Agent` of the replica that dies.
const DYING: &str = "dying";

/// Runs an operation at a replica that may die, and goes on at one that lives. Returns true if the client has missed
/// an answer.
fn run(operation: Operation, name: &str, dying: Peer, alive: &Replica, end: impl FnOnce()) -> bool {
    let dying = Replicas::new(&[dying]);
    let progress = operation.run(Attempts { replicas: &dying, repository: name }, name);
    // What still runs of the replica must not go on while the other one is looked at.
    end();
    operation.check(&Client::new(&[alive.peer()], name), name, &progress);
    !progress.is_complete
}

/// Returns the number of requests of each kind that an operation waits for, at a replica that lives.
fn requests(
    stub: &StubStore,
    section: &str,
    operation: Operation,
    alive: &Replica,
) -> BTreeMap<RequestKind, usize> {
    let name = format!("app-{operation:?}-whole").to_lowercase();
    operation.prepare(&Client::new(&[alive.peer()], &name), &name);
    let replica = Replica::start(section);
    stub.wait_until_quiet();
    stub.take_spans();
    let mut requests = BTreeMap::new();
    let is_disturbed = run(operation, &name, replica.peer(), alive, || {
        for span in stub.take_spans().iter().filter(|span| !is_background(&span.request)) {
            *requests.entry(span.request.kind).or_insert(0) += 1;
        }
    });
    assert!(!is_disturbed, "{name}: an answer is missing without a kill");
    requests
}

/// Kills a replica at each request that an operation waits for, before and after the store has carried it out.
/// Returns the kinds of these requests, and their number.
fn kill_at_each(operation: Operation) -> (BTreeSet<RequestKind>, usize) {
    let stub = StubStore::start(Shape::S3);
    let section = stub.section("");
    let alive = Replica::start(&section);
    let named = section.replacen("s3: {", &format!("s3: {{useragent: {DYING}, "), 1);
    // Requests are numbered within their kind: some are under way together, and come in another order each time.
    let places = requests(&stub, &section, operation, &alive)
        .into_iter()
        .flat_map(|(kind, count)| (1..=count).map(move |number| (kind, number)));
    let (mut kinds, mut kills) = (BTreeSet::new(), 0);
    for ((kind, number), moment) in places.flat_map(|place| [(place, Moment::Before), (place, Moment::After)])
    {
        let name = format!("app-{operation:?}-{moment:?}-{kind:?}-{number}").to_lowercase();
        operation.prepare(&Client::new(&[alive.peer()], &name), &name);
        let dying = Replica::start(&named);
        let pid = dying.server.pid();
        let act = Box::new(move || kill_process(pid, Signal::KILL).unwrap());
        let counts = |request: &SentRequest| !is_background(request);
        stub.interrupt(Interruption { agent: DYING, kind, counts, number, moment, act });
        let peer = dying.peer();
        let is_disturbed = run(operation, &name, peer, &alive, || {
            drop(dying);
            stub.wait_until_done();
        });
        let is_interrupted = stub.end_interruption();
        assert!(is_interrupted || !is_disturbed, "{name}: an answer is missing without a kill");
        // The client does not miss an answer if the replica died at a request in the background, or if this time it
        // has sent fewer requests of the kind.
        if is_disturbed {
            kinds.insert(kind);
            kills += 1;
        }
    }
    (kinds, kills)
}

/// Returns the kinds at which a replica was killed during operations.
fn kill_in(operations: &[Operation]) -> BTreeSet<RequestKind> {
    let mut kinds = BTreeSet::new();
    for operation in operations {
        let (of_operation, kills) = kill_at_each(*operation);
        println!("{operation:?}: {kills} kills, at {of_operation:?}");
        assert!(kills > 2, "{operation:?} sends requests, and a replica was killed at {kills} of them");
        kinds.extend(of_operation);
    }
    kinds
}

#[test]
fn row_230_an_upload_in_chunks_goes_on_after_its_replica_died_at_any_request() {
    use RequestKind::{Complete, CreateMultipart, Put, PutPart};
    let kinds = kill_in(&[Operation::Chunks]);
    assert!([Complete, CreateMultipart, Put, PutPart].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
}

#[test]
fn row_230_a_push_of_a_blob_is_repeated_after_its_replica_died_at_any_request() {
    kill_in(&[Operation::Put, Operation::SmallPut, Operation::SmallPatch, Operation::Mount]);
}

#[test]
fn row_230_a_push_of_a_manifest_is_whole_after_its_replica_died_at_any_request() {
    kill_in(&[Operation::Manifest]);
}

#[test]
fn row_230_a_removal_is_whole_after_its_replica_died_at_any_request() {
    kill_in(&[Operation::DeleteManifest, Operation::DeleteTag, Operation::DeleteBlob]);
}

/// Dies at each passage of one failpoint that comes after the start. Returns the number of deaths.
fn die_at(section: &str, alive: &Replica, failpoint: &str) -> usize {
    let armed = |passage| format!("{failpoint}:{passage}");
    // Requests of the start pass the point too.
    let mut of_start = 0;
    while start_mortal(section, &armed(of_start + 1)).is_none() {
        of_start += 1;
    }
    let mut deaths = 0;
    for operation in Operation::ALL {
        let mut undisturbed = 0;
        for number in 1..MOST_REQUESTS {
            let name = format!("app-{operation:?}-{failpoint}-{number}").to_lowercase();
            operation.prepare(&Client::new(&[alive.peer()], &name), &name);
            // A request in the background may be the one at which the replica dies.
            let Some((dying, _folder)) = start_mortal(section, &armed(of_start + number)) else { continue };
            let peer = dying.peer;
            if run(operation, &name, peer, alive, || drop(dying)) {
                (deaths, undisturbed) = (deaths + 1, 0);
            } else if undisturbed > 0 {
                break;
            } else {
                undisturbed += 1;
            }
        }
    }
    deaths
}

#[test]
#[ignore = "a command of its own: a program is started for each of many requests"]
fn row_230_operations_on_a_real_store_go_on_after_a_replica_died_at_any_failpoint() {
    let Some(store) = Versitygw::start() else { return };
    let section = section(store.address, "");
    let alive = Replica::start(&section);
    for failpoint in failpoints() {
        println!("{failpoint}: {} deaths", die_at(&section, &alive, failpoint));
    }
}

//! Requests to the bucket per operation of a client, counted at the stub.

use std::fmt::Write as _;
use std::time::Duration;

use quinistry_bucket::testing::RequestKind;

use crate::client::{Client, Way};
use crate::stores::{Replica, ReplicaSettings, is_background};
use crate::support::images::{Image, Packing};
use crate::support::stub_store::{Shape, Span, StubStore, depth};

/// Time before each answer, so that requests which need not wait for each other are under way together, also where a
/// thread of the replica gets no processor for a while.
const DELAY: Duration = Duration::from_millis(400);

/// Row of the table: an operation, the most requests that it may send, the most that may wait for another, and those
/// that it sent.
struct Row {
    operation: &'static str,
    most: usize,
    most_in_turn: usize,
    sent: Vec<Span>,
}

/// Runs an operation, and notes its requests.
fn count(
    stub: &StubStore,
    operation: &'static str,
    (most, most_in_turn): (usize, usize),
    run: impl FnOnce(),
) -> Row {
    // Requests of the start, and those that operations before have left to the background, are none of this one.
    stub.wait_until_quiet();
    stub.take_spans();
    run();
    Row { operation, most, most_in_turn, sent: stub.take_spans() }
}

/// Returns the requests that belong to the operation.
fn own(row: &Row) -> Vec<&Span> {
    row.sent.iter().filter(|span| !is_background(&span.request)).collect()
}

fn table(rows: &[&Row]) -> String {
    let mut table = String::new();
    for row in rows {
        let own = own(row);
        let (count, in_turn) = (own.len(), depth(own.iter().copied()));
        let Row { operation, most, most_in_turn, sent: _ } = *row;
        writeln!(table, "{operation:<52} {count:>2} ({in_turn}), at most {most:>2} ({most_in_turn})")
            .unwrap();
        for span in own {
            writeln!(table, "    {:?} {}", span.request.kind, span.request.key).unwrap();
        }
    }
    table
}

/// Requests for a manifest of two known parts under one tag, each after another. The last one looks whether a removal
/// at another replica came in between.
const OF_MANIFEST: usize = 5;

/// Counts the requests of each operation.
fn count_operations(settings: ReplicaSettings<'_>) -> Vec<Row> {
    let stub = StubStore::start(Shape::S3);
    let start = || Replica::with(&stub.section(""), settings);
    let writer = start();
    let push = Client::new(&[writer.peer()], "app");
    // The first push to a repository also registers its name.
    push.push(Way::Put, "first", &Image::new("amd64", &["first"], Packing::Plain));
    let image = Image::new("amd64", &["second"], Packing::Plain);
    let [(config, config_bytes), (layer, layer_bytes)] = [&image.config, &image.layers[0]];
    let large_bytes: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0] ^ 7).collect();
    let large = quinistry::oci::Descriptor::of("a/b", &large_bytes).digest;
    stub.set_delay(DELAY);
    let mut rows = vec![
        count(&stub, "POST of an upload", (0, 0), || drop(push.begin())),
        count(&stub, "blob of few bytes: POST, PATCH, PUT", (5, 3), || {
            push.push_blob(Way::Patch, config_bytes);
        }),
        count(&stub, "blob of few bytes: POST, PUT", (2, 2), || drop(push.push_blob(Way::Put, layer_bytes))),
        count(&stub, "blob of 100 kB: POST, PUT", (2, 2), || drop(push.push_blob(Way::Put, &large_bytes))),
        count(&stub, "PUT of a manifest: two parts, one tag", (OF_MANIFEST, OF_MANIFEST), || {
            assert_eq!(push.put_manifest("second", &image.manifest).status, 201);
        }),
    ];
    // Another program that knows nothing of what was pushed.
    stub.set_delay(Duration::ZERO);
    let reader = start();
    let pull = Client::new(&[reader.peer()], "app");
    // What a program does once, after its start: it learns what the tags of the store's objects mean, and registers the
    // repository.
    pull.head("manifests/first");
    pull.push(Way::Put, "own", &Image::new("amd64", &["own"], Packing::Plain));
    stub.set_delay(DELAY);
    let get = |reference: &str| assert_eq!(pull.ask("GET", reference, &[], b"").status, 200);
    rows.extend([
        count(&stub, "HEAD of a blob", (2, 1), || {
            assert_eq!(pull.head(&format!("blobs/{}", layer.digest)).status, 200);
        }),
        count(&stub, "GET of a blob, redirected", (2, 1), || {
            assert_eq!(pull.ask("GET", &format!("blobs/{large}"), &[], b"").status, 307);
        }),
        count(&stub, "GET of a manifest by tag", (3, 2), || get("manifests/second")),
        count(&stub, "GET of a manifest by tag, bytes known", (2, 2), || get("manifests/second")),
        // Two for each part, all at once.
        count(
            &stub,
            "PUT of a manifest whose parts another program linked",
            (OF_MANIFEST + 4, OF_MANIFEST + 1),
            || assert_eq!(pull.put_manifest("third", &image.manifest).status, 201),
        ),
    ]);
    assert_eq!(pull.head(&format!("blobs/{}", config.digest)).status, 200);
    rows
}

#[track_caller]
fn assert_few(rows: &[Row]) {
    let table = table(&rows.iter().collect::<Vec<_>>());
    println!("{table}");
    for row in rows {
        let own = own(row);
        let is_met = own.len() <= row.most && depth(own) <= row.most_in_turn;
        assert!(is_met, "{}:\n{table}", row.operation);
    }
}

#[test]
fn operations_of_replicas_send_few_requests() {
    assert_few(&count_operations(ReplicaSettings::default()));
}

#[test]
fn operations_of_the_only_program_on_a_bucket_send_few_requests() {
    let only = ReplicaSettings { sections: "quinistry: {exclusive: true}\n", ..ReplicaSettings::default() };
    assert_few(&count_operations(only));
}

#[test]
fn a_page_of_the_catalog_is_one_request() {
    let stub = StubStore::start(Shape::S3);
    let replica = Replica::start(&stub.section(""));
    let image = Image::new("amd64", &["one"], Packing::Plain);
    for name in ["a", "b/c", "b-c"] {
        Client::new(&[replica.peer()], name).push(Way::Put, "t", &image);
    }
    let client = Client::new(&[replica.peer()], "a");
    let row = count(&stub, "page of the catalog", (1, 1), || {
        let page = client.peer().get("/v2/_catalog?n=2");
        assert_eq!(page.json()["repositories"].as_array().unwrap().len(), 2);
    });
    let lists = |folder: &str| {
        let is_one =
            |span: &&Span| span.request.kind == RequestKind::List && span.request.key.ends_with(folder);
        row.sent.iter().filter(is_one).count()
    };
    // A walk for repositories of another program lists the registers, too.
    assert!(lists("/_quinistry/repos/") <= 1 + lists("/repositories/"), "{}", table(&[&row]));
    assert!(own(&row).is_empty(), "{}", table(&[&row]));
    assert_eq!(client.catalog(2), ["a", "b-c", "b/c", "quinistry"]);
}

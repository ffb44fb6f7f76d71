//! Requests to the bucket per operation of a client, counted at the stub.

use std::fmt::Write as _;

use quinistry_bucket::testing::{RequestCounts, RequestKind, SentRequest};

use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::images::{Image, Packing};
use crate::support::stub_store::{Shape, StubStore};

/// Row of the table: an operation, the most requests that it may send, and those that it sent.
struct Row {
    operation: &'static str,
    most: usize,
    sent: Vec<SentRequest>,
}

/// Runs an operation, and notes its requests.
fn count(stub: &StubStore, operation: &'static str, most: usize, run: impl FnOnce()) -> Row {
    // Requests that came in the background before, such as those of the start, are none of the operation.
    stub.log().take();
    run();
    Row { operation, most, sent: stub.log().take() }
}

/// Returns the requests that belong to the operation. Heartbeats come at any time, a walk for repositories of another
/// program half a minute after a start, and sessions that have ended are cleared after the answer.
fn own(row: &Row) -> Vec<&SentRequest> {
    let is_background = |request: &SentRequest| {
        request.key.contains("/_quinistry/replicas/")
            || request.key.contains("/_quinistry/leader/")
            || (request.kind == RequestKind::List && request.key.ends_with("/repositories/"))
            || (request.kind == RequestKind::DeleteMany && request.key.contains("/_uploads/"))
    };
    row.sent.iter().filter(|request| !is_background(request)).collect()
}

fn table(rows: &[Row]) -> String {
    let mut table = String::new();
    for row in rows {
        let own = own(row);
        let counts: RequestCounts = own.iter().copied().collect();
        writeln!(table, "{:<44} {:>2} of at most {:>2}", row.operation, counts.total(), row.most).unwrap();
        for request in own {
            writeln!(table, "    {:?} {}", request.kind, request.key).unwrap();
        }
    }
    table
}

#[test]
fn operations_send_few_requests() {
    let stub = StubStore::start(Shape::S3);
    let (writer, reader) = (Replica::start(&stub.section("")), Replica::start(&stub.section("")));
    let [push, pull] = [&writer, &reader].map(|replica| Client::new(&[replica.peer()], "app"));
    // The first push to a repository also registers its name.
    push.push(Way::Put, "first", &Image::new("amd64", &["first"], Packing::Plain));
    let image = Image::new("amd64", &["second"], Packing::Plain);
    let [(config, config_bytes), (layer, layer_bytes)] = [&image.config, &image.layers[0]];
    let large: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0] ^ 7).collect();
    let large = quinistry::oci::Descriptor::of("a/b", &large).digest.to_string();
    let large_bytes: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0] ^ 7).collect();

    let rows = [
        count(&stub, "POST of an upload", 0, || {
            push.begin();
        }),
        count(&stub, "blob of few bytes: POST, PATCH, PUT", 5, || {
            push.push_blob(Way::Patch, config_bytes);
        }),
        count(&stub, "blob of one request: POST, PUT", 2, || drop(push.push_blob(Way::Put, layer_bytes))),
        count(&stub, "blob of 100 kB: POST, PUT", 2, || drop(push.push_blob(Way::Put, &large_bytes))),
        count(&stub, "HEAD of a blob", 2, || {
            assert_eq!(pull.head(&format!("blobs/{}", layer.digest)).status, 200);
        }),
        count(&stub, "GET of a blob, redirected", 2, || {
            assert_eq!(pull.ask("GET", &format!("blobs/{large}"), &[], b"").status, 307);
        }),
        count(&stub, "PUT of a manifest: two parts, one tag", 5, || {
            assert_eq!(push.put_manifest("second", &image.manifest).status, 201);
        }),
        count(&stub, "GET of a manifest by tag", 3, || {
            assert_eq!(pull.ask("GET", "manifests/second", &[], b"").status, 200);
        }),
        count(&stub, "GET of a manifest by tag, bytes known", 2, || {
            assert_eq!(pull.ask("GET", "manifests/second", &[], b"").status, 200);
        }),
    ];
    let table = table(&rows);
    println!("{table}");
    assert_eq!(pull.head(&format!("blobs/{}", config.digest)).status, 200);
    for row in &rows {
        assert!(own(row).len() <= row.most, "{}:\n{table}", row.operation);
    }
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
    let row = count(&stub, "page of the catalog", 1, || {
        let page = client.peer().get("/v2/_catalog?n=2");
        assert_eq!(page.json()["repositories"].as_array().unwrap().len(), 2);
    });
    assert!(own(&row).len() <= 1, "{}", table(&[row]));
    assert_eq!(client.catalog(2), ["a", "b-c", "b/c", "quinistry"]);
}

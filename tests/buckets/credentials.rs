//! Temporary credentials that expire while a registry runs.

use std::fs;

use crate::client::{Client, Way};
use crate::support::process::command;
use crate::support::server::{PROGRAM, Server};
use crate::support::stub_store::{BUCKET, Shape, StubStore};

/// Starts a registry whose credentials the stub issues, as to a container of EKS.
fn start(stub: &StubStore, folder: &std::path::Path) -> Server {
    let token = folder.join("token");
    fs::write(&token, "Bearer of the container").unwrap();
    let bucket = format!("s3://{BUCKET}?region=us-east-1&endpoint={}", stub.endpoint());
    let mut start = command(PROGRAM);
    start.args(["serve", "--listen", "127.0.0.1:0", "--storage", &bucket]);
    start.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", stub.credentials_url());
    start.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
    Server::launch(&mut start)
}

#[test]
fn credentials_that_expire_early_are_replaced_and_no_request_fails() {
    let stub = StubStore::start(Shape::S3);
    let folder = tempfile::tempdir().unwrap();
    let server = start(&stub, folder.path());
    assert_eq!(stub.issued_credentials(), 1, "all requests of the start share them");
    let client = Client::new(&[server.peer], "app");
    let first = client.push_blob(Way::Put, b"first");
    stub.expire_credentials();
    client.push_blob(Way::Put, b"second");
    assert_eq!(client.head(&format!("blobs/{first}")).status, 200);
    assert_eq!(stub.issued_credentials(), 2);
    server.log_line("credentials of the bucket had expired, fetched others");
    assert!(!server.log().contains("token-") && !server.log().contains("Bearer"), "{}", server.log());
}

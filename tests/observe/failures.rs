//! Log of requests that fail.

use std::fs;

use quinistry::oci::Digest;

use crate::support::process::command;
use crate::support::server::{PROGRAM, Server};

/// Number of the error of a device that cannot be written.
const EIO: i32 = 5;

#[test]
fn an_error_of_the_storage_is_logged_with_the_request_that_met_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let root = folder.path().join("storage");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
        root.display()
    );
    fs::write(&config, text).unwrap();
    let mut start = command(PROGRAM);
    start.arg("serve").arg(&config).env("QUINISTRY_FAILPOINT", format!("folder.sync={EIO}"));
    let server = Server::launch(&mut start);
    let target = format!("/v2/a/b/blobs/uploads/?digest={}", Digest::sha256(b"blob"));
    let answer = server.peer.ask("POST", &target, &[], b"blob");
    // The store may have written, and failed, before the request.
    assert!([500, 503].contains(&answer.status), "{answer:?}");
    let line = server.log_line("request failed in storage");
    let id = answer.header("x-request-id").unwrap();
    for part in ["method=POST", "path=\"/v2/a/b/blobs/uploads/\"", &format!("request_id=\"{id}\"")] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

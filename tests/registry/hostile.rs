//! Hostile requests: the rows of `docs/hostile-inputs.md` that touch a registry without storage, each under
//! its number, and those that need nothing stored, of a registry with storage as well. `push` has the rows
//! that store something.
//!
//! Whatever is sent, the answer is an error of the specification (or, where the bytes are no HTTP request,
//! hyper's own bare 400), the program goes on serving, does not panic, and leaves no file behind. Deadlines
//! are tested in process, with limits that a test can wait for; everything else against the real program.
//!
//! | rows | only in `push`, or nowhere, because here they |
//! |---|---|
//! | 25, 33–35 | need a manifest that is read, and no client can push one here; row 23 bounds the body |
//! | 37, 39 | need something stored by a client |
//! | 47, 48, 54–57 | race or exhaust upload sessions or the disk |
//! | 74–81 | speak of users and rights; everything is public |

mod deadlines;
mod digests;
mod framing;
mod manifests;
mod names;
mod requests;
mod uploads;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use quinistry::oci::Digest;

use crate::support::http::{Peer, TEST_TIMEOUT};
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};

/// The real program, and something that can be pulled from it.
struct Target {
    server: Server,
    /// A repository that can be pulled from, and pushed to if anything can.
    name: &'static str,
    /// A blob of it, and its bytes.
    blob: String,
    content: Vec<u8>,
}

impl Target {
    /// Starts a registry without storage, to which no client can write.
    fn read_only(command: &mut Command) -> Self {
        let server = Server::launch(command.args(SERVE));
        let blob = format!("/v2/quinistry/blobs/{}", server.config);
        let content = server.peer.get(&blob).body;
        Self { server, name: "quinistry", blob, content }
    }

    /// Starts a registry with storage, and pushes a blob.
    fn with_storage(command: &mut Command, flags: &[&str]) -> Self {
        let server = Server::launch(command.args(SERVE).args(["--storage", "storage"]).args(flags));
        let content = b"content ".repeat(100);
        let digest = Digest::sha256(&content);
        let path = format!("/v2/stored/blobs/uploads/?digest={digest}");
        assert_eq!(server.peer.ask("POST", &path, &[], &content).status, 201);
        Self { server, name: "stored", blob: format!("/v2/stored/blobs/{digest}"), content }
    }
}

/// Lets `attack` loose on the real program of each kind, then looks at what is left of it.
fn on_each(attack: impl Fn(&Target)) {
    for target in [Target::read_only(&mut command(PROGRAM)), Target::with_storage(&mut command(PROGRAM), &[])]
    {
        assert_survives(&target, &attack);
    }
}

/// Runs an attack on the real program of each kind. The attack needs no content.
fn assert_each_survives(attack: impl Fn(Peer)) {
    on_each(|target| attack(target.server.peer));
}

/// Runs an attack on a registry without storage: on requests that a registry with storage accepts.
fn assert_read_only_survives(attack: impl Fn(Peer)) {
    assert_survives(&Target::read_only(&mut command(PROGRAM)), |target| attack(target.server.peer));
}

fn assert_survives(target: &Target, attack: impl Fn(&Target)) {
    let server = &target.server;
    let before = kept_files(server);
    assert_eq!(before.is_empty(), target.name == "quinistry", "{before:?}");
    attack(target);
    let answer = server.peer.get("/v2/");
    assert_eq!((answer.status, answer.text()), (200, "{}"));
    assert_eq!(server.peer.get(&target.blob).body, target.content);
    assert_eq!(kept_files(server), before, "files left behind");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Returns the files of a registry once it writes none, without that of the scrub's position, which comes at some time
/// after the start.
fn kept_files(server: &Server) -> Vec<PathBuf> {
    let begun = Instant::now();
    loop {
        let mut files = server.files();
        if !files.iter().any(|file| file.to_string_lossy().contains("/_quinistry/tmp/")) {
            files.retain(|file| !file.ends_with("_quinistry/scrub/position"));
            return files;
        }
        assert!(begun.elapsed() < TEST_TIMEOUT, "a file is never finished: {files:?}");
        std::thread::yield_now();
    }
}

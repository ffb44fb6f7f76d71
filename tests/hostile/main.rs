//! Hostile requests: the rows of the registry contract's table of hostile inputs that touch a registry nobody can
//! write to, each under its number.
//!
//! Whatever is sent, the answer is an error of the specification (or, where the bytes are no HTTP request, hyper's
//! own bare 400), the program goes on serving, does not panic, and leaves no file behind. Deadlines are tested in
//! process, with limits that a test can wait for; everything else against the real program.
//!
//! | rows | not here, because |
//! |---|---|
//! | 25, 33–35 | speak of a manifest's descriptors, and no manifest is ever read; row 23 bounds the body |
//! | 37, 39 | need something stored by a client |
//! | 47, 48, 54–57 | race or exhaust upload sessions or the disk; no session is ever opened, nothing written |
//! | 74–81 | speak of users and rights; everything here is public and read-only |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod deadlines;
mod digests;
mod framing;
mod manifests;
mod names;
mod requests;
mod uploads;

use support::http::Peer;
use support::server::Server;

/// Lets `attack` loose on the real program, then looks at what is left of it.
fn survives(attack: impl FnOnce(Peer)) {
    let server = Server::start();
    attack(server.peer);
    let answer = server.peer.get("/v2/");
    assert_eq!((answer.status, answer.text()), (200, "{}"));
    assert_eq!(server.files(), [""; 0], "files left behind");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

//! The wire contract as a client sees it: status, headers and body, word for word.
//!
//! Read through a socket, because lengths, HEAD and keep-alive are what hyper makes of our answers.

mod connections;
mod listings;
mod pulls;
mod ranges;
mod refusals;

use std::sync::LazyLock;

use quinistry::registry::Limits;

use crate::support::http::{Answer, Peer};
use crate::support::in_process::{InProcess, QUINE};

/// One registry for all tests: nothing that they do changes it.
static REGISTRY: LazyLock<InProcess> = LazyLock::new(|| InProcess::start(Limits::default()));

fn registry() -> Peer {
    REGISTRY.peer
}

fn manifest_digest() -> String {
    QUINE.digest().to_string()
}

fn config_digest() -> String {
    QUINE.config().digest().to_string()
}

fn layer_digest() -> String {
    QUINE.layer().digest().to_string()
}

fn blob(digest: &str) -> String {
    format!("/v2/quinistry/blobs/{digest}")
}

fn manifest(reference: &str) -> String {
    format!("/v2/quinistry/manifests/{reference}")
}

/// An answer as text: status, headers in alphabetical order, body. What differs from build to build, digests,
/// lengths and contents of the image, is named instead of shown. What is the same in every answer is checked
/// here and left out.
fn shown(answer: &Answer) -> String {
    assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")));
    let everywhere = ["docker-distribution-api-version", "x-content-type-options", "date"];
    let mut headers: Vec<String> = (answer.headers.iter())
        .filter(|(name, _)| !everywhere.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    let parts = [("MANIFEST", QUINE.manifest()), ("CONFIG", QUINE.config()), ("LAYER", QUINE.layer())];
    let content = parts.iter().find(|(_, part)| part.content.to_bytes().unwrap() == answer.body);
    let body = content
        .map_or_else(|| String::from_utf8_lossy(&answer.body).into_owned(), |(n, _)| format!("{n} BYTES"));
    let mut text = format!("{}\n{}\n\n{body}", answer.status, headers.join("\n"));
    text = text.replace("\r\n", "\n");
    for (name, part) in parts {
        let length = format!("content-length: {}\n", part.content.len());
        text = text
            .replace(&part.digest().to_string(), name)
            .replace(&part.digest().to_string().replace(':', "-"), &format!("{name}-BOUNDARY"))
            .replace(&format!("/{}\n", part.content.len()), &format!("/{name} LENGTH\n"))
            .replace(&format!(" {} bytes", part.content.len()), &format!(" {name} LENGTH bytes"))
            .replace(&length, &format!("content-length: {name} LENGTH\n"));
    }
    text.trim_end().to_owned()
}

/// Asserts what an answer looks like. `expected` may be indented like the code around it.
#[track_caller]
fn assert_shows(answer: &Answer, expected: &str) {
    let lines: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(shown(answer), lines.join("\n"));
}

//! Pushes of small images.

use std::time::{Duration, Instant};

use quinistry::oci::{Digest, media_type};

use super::connection::Connection;

/// Pushes a configuration and a manifest with a tag. Each number is another image, of a hundred tags.
pub(crate) fn push_image(connection: &mut Connection, number: usize) -> Duration {
    let config =
        format!(r#"{{"architecture":"amd64","os":"linux","push":"{number}-{}"}}"#, std::process::id());
    let digest = Digest::sha256(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{digest}","size":{}}},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
        config.len()
    );
    let begin = Instant::now();
    let target = format!("/v2/pushed/blobs/uploads/?digest={digest}");
    let octets = "content-type: application/octet-stream\r\n";
    let answer = connection.ask("POST", &target, octets, &[config.as_bytes()], |_| ());
    assert_eq!(answer.status, 201, "{answer:?}");
    let fields = format!("content-type: {}\r\n", media_type::OCI_MANIFEST);
    let target = format!("/v2/pushed/manifests/v{}", number % 100);
    let answer = connection.ask("PUT", &target, &fields, &[manifest.as_bytes()], |_| ());
    assert_eq!(answer.status, 201, "{answer:?}");
    begin.elapsed()
}

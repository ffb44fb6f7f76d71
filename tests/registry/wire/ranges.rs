//! Parts of blobs: what an interrupted or a parallel download asks for.

use crate::support::http::Answer;
use crate::support::in_process::QUINE;
use crate::wire::{assert_shows, blob, config_digest, layer_digest, manifest, registry};

fn range(spec: &str) -> Answer {
    registry().ask("GET", &blob(&config_digest()), &[("Range", spec)], b"")
}

fn config() -> Vec<u8> {
    QUINE.config().content.to_bytes().unwrap().to_vec()
}

#[test]
fn one_range_is_sent_with_its_place_in_the_whole() {
    let total = config().len();
    let answer = range("bytes=0-13");
    assert_shows(
        &answer,
        "
        206
        accept-ranges: bytes
        content-length: 14
        content-range: bytes 0-13/CONFIG LENGTH
        content-type: application/octet-stream
        docker-content-digest: CONFIG
        etag: \"CONFIG\"

        {\"architecture",
    );
    for (spec, from, to) in [
        ("bytes=5-", 5, total),
        ("bytes=-5", total - 5, total),
        ("bytes=-999999999", 0, total),
        ("bytes=7-999999999", 7, total),
        ("BYTES=0-0", 0, 1),
        ("bytes=0-1,999999999-", 0, 2),
    ] {
        let answer = range(spec);
        assert_eq!((answer.status, &answer.body[..]), (206, &config()[from..to]), "{spec}");
        assert_eq!(
            answer.header("content-range"),
            Some(&*format!("bytes {from}-{}/{total}", to - 1)),
            "{spec}"
        );
    }
}

#[test]
fn ranges_across_the_seams_of_the_layer_are_its_bytes() {
    let layer = QUINE.layer().content.to_bytes().unwrap();
    let executable = layer.windows(4).position(|bytes| bytes == b"\x7fELF").unwrap();
    for (from, to) in
        [(executable - 1, executable), (0, executable + 1), (layer.len() - 2000, layer.len() - 1)]
    {
        let header = format!("bytes={from}-{to}");
        let answer = registry().ask("GET", &blob(&layer_digest()), &[("Range", &header)], b"");
        assert_eq!((answer.status, &answer.body[..]), (206, &layer[from..=to]), "{header}");
    }
}

#[test]
fn several_ranges_are_sent_in_parts() {
    assert_shows(
        &range("bytes=0-1, 2-13"),
        "
        206
        accept-ranges: bytes
        content-length: 392
        content-type: multipart/byteranges; boundary=CONFIG-BOUNDARY
        docker-content-digest: CONFIG
        etag: \"CONFIG\"


        --CONFIG-BOUNDARY
        Content-Type: application/octet-stream
        Content-Range: bytes 0-1/CONFIG LENGTH

        {\"
        --CONFIG-BOUNDARY
        Content-Type: application/octet-stream
        Content-Range: bytes 2-13/CONFIG LENGTH

        architecture
        --CONFIG-BOUNDARY--",
    );
}

#[test]
fn a_range_outside_is_refused_with_the_length() {
    for spec in ["bytes=999999999-", "bytes=500-0", "bytes=-0"] {
        assert_shows(
            &range(spec),
            "
            416
            content-length: 95
            content-range: bytes */CONFIG LENGTH
            content-type: application/json

            {\"errors\":[{\"code\":\"BLOB_UPLOAD_INVALID\",\"message\":\"range lies outside the blob's CONFIG LENGTH bytes\"}]}",
        );
    }
}

#[test]
fn a_range_of_other_content_gets_the_whole() {
    let ask = |if_range: &str| {
        let headers = [("Range", "bytes=0-1"), ("If-Range", if_range)];
        registry().ask("GET", &blob(&config_digest()), &headers, b"")
    };
    let etag = format!("\"{}\"", config_digest());
    assert_eq!((ask(&etag).status, ask(&etag).body.len()), (206, 2));
    // Another tag, a weak one (RFC 9110, 13.1.5), a date.
    for other in ["\"x\"", &format!("W/{etag}"), "Thu, 01 Jan 1970 00:00:00 GMT"] {
        assert_eq!((ask(other).status, ask(other).body), (200, config()), "{other}");
    }
}

#[test]
fn ranges_are_for_reading_blobs_alone() {
    let headers = [("Range", "bytes=0-1")];
    let answer = registry().ask("HEAD", &blob(&config_digest()), &headers, b"");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some(&*config().len().to_string()));
    let answer = registry().ask("GET", &manifest("latest"), &headers, b"");
    assert_eq!((answer.status, &answer.body), (200, &QUINE.manifest().content.to_bytes().unwrap().to_vec()));
}

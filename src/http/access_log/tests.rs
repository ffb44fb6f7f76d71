//! Tests of the lines, and of the queue in front of a slow or closed output.

use std::io::{self, Read as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::Request;

use super::format::{MAX_LINE_BYTES, append};
use super::*;
use crate::client_address::ClientAddress;

/// Longest wait for a condition that holds at once unless the code is wrong.
const PATIENCE: Duration = Duration::from_mins(1);

fn entry(headers: &[(&str, &[u8])]) -> AccessLogEntry {
    let mut request = Request::get("/v2/a/manifests/x?n=1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    AccessLogEntry {
        time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_136_214_245_123_456),
        client: Some(ClientAddress::Ip("192.0.2.1".parse().unwrap())),
        status: 200,
        sent: 17,
        duration: Duration::from_micros(1500),
        is_complete: true,
        ..AccessLogEntry::begin(&request.body(()).unwrap())
    }
}

fn line(format: AccessLogFormat, entry: &AccessLogEntry) -> String {
    let mut text = Vec::new();
    append(format, entry, &mut text);
    String::from_utf8(text).unwrap()
}

/// Output that several values share.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_of_the_combined_format_is_as_apache_writes_it() {
    let entry = entry(&[("user-agent", b"docker/27"), ("referer", b"http://example.com/")]);
    assert_eq!(
        line(AccessLogFormat::Combined, &entry),
        "192.0.2.1 - - [02/Jan/2006:15:04:05 +0000] \"GET /v2/a/manifests/x?n=1 HTTP/1.1\" 200 17 \
         \"http://example.com/\" \"docker/27\"\n"
    );
    let bare =
        AccessLogEntry { client: None, sent: 0, status: 404, referer: None, user_agent: None, ..entry };
    assert_eq!(
        line(AccessLogFormat::Combined, &AccessLogEntry { identity: Some("a b".into()), ..bare }),
        "- - a\\x20b [02/Jan/2006:15:04:05 +0000] \"GET /v2/a/manifests/x?n=1 HTTP/1.1\" 404 - \"-\" \"-\"\n"
    );
}

#[test]
fn a_key_is_masked_wherever_a_client_pastes_it() {
    let secret = "0123456789abcdef".repeat(5)[..72].to_owned();
    let key = format!("qk_0123456789ab_{secret}");
    let pasted = AccessLogEntry {
        identity: Some(key.to_uppercase()),
        target: format!("/v2/a/manifests/{key}"),
        ..entry(&[("user-agent", key.as_bytes()), ("referer", key.as_bytes())])
    };
    for format in [AccessLogFormat::Combined, AccessLogFormat::Json] {
        let line = line(format, &pasted);
        assert!(!line.to_lowercase().contains(&secret[..16]), "{line}");
        assert!(line.contains("/v2/a/manifests/qk_0123456789ab_***"), "{line}");
    }
}

#[test]
fn a_line_of_json_has_all_fields() {
    let entry = AccessLogEntry {
        repository: Some("a".into()),
        digest: Some("sha256:ab".into()),
        request_id: Some("r-1".into()),
        trace_id: Some("t".into()),
        received: 3,
        ..entry(&[("user-agent", b"docker/27")])
    };
    let json: serde_json::Value = serde_json::from_str(&line(AccessLogFormat::Json, &entry)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "time": "2006-01-02T15:04:05.123456Z", "client": "192.0.2.1", "identity": "-", "method": "GET",
            "uri": "/v2/a/manifests/x?n=1", "protocol": "HTTP/1.1", "status": 200, "bytes": 17, "received": 3,
            "duration": 0.0015, "complete": true, "repository": "a", "digest": "sha256:ab", "request_id": "r-1",
            "trace_id": "t", "user_agent": "docker/27",
        })
    );
}

#[test]
fn row_173_hostile_text_is_one_line_of_printable_ascii_of_bounded_length() {
    let hostile = "\u{1b}[2J\u{202e}\"\\\u{9b}\t".as_bytes();
    let header: Vec<u8> = hostile.iter().copied().filter(|byte| *byte >= 32 || *byte == b'\t').collect();
    for length in [1, 20, 1 << 20] {
        let header: Vec<u8> = header.iter().copied().cycle().take(length).collect();
        let entry = AccessLogEntry {
            identity: Some("\u{1b}\n\u{202e}\" x".repeat(length.min(1000))),
            method: "\u{1b}\n".repeat(10),
            target: "/\u{202e}\n\"".repeat(500),
            repository: Some("\u{202e}".repeat(200)),
            ..entry(&[("user-agent", &header), ("referer", &header)])
        };
        for format in [AccessLogFormat::Combined, AccessLogFormat::Json] {
            let line = line(format, &entry);
            assert!(line.len() <= MAX_LINE_BYTES, "{format:?}: {}", line.len());
            let inner = line.strip_suffix('\n').unwrap();
            assert!(inner.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{format:?}: {inner}");
        }
        serde_json::from_str::<serde_json::Value>(&line(AccessLogFormat::Json, &entry)).unwrap();
    }
}

#[test]
fn lines_come_in_the_order_of_their_requests_and_the_last_ones_at_the_end() {
    let output = Output::default();
    let log = AccessLog::start(output.clone(), AccessLogFormat::Combined).unwrap();
    for status in 200..1200 {
        log.log(AccessLogEntry { status, ..entry(&[]) });
    }
    log.flush(PATIENCE);
    let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    let statuses: Vec<u16> =
        text.lines().map(|line| line.split(' ').nth(8).unwrap().parse().unwrap()).collect();
    assert_eq!(statuses, (200..1200).collect::<Vec<_>>());
    assert_eq!(log.dropped(), 0);
    log.set_format(AccessLogFormat::Json);
    log.log(entry(&[]));
    log.flush(PATIENCE);
    assert!(output.0.lock().unwrap().ends_with(b"}\n"));
}

#[test]
fn row_175_a_full_pipe_makes_no_request_wait_and_the_lost_lines_are_counted() {
    let (mut reader, writer) = io::pipe().unwrap();
    let log = AccessLog::start(writer, AccessLogFormat::Combined).unwrap();
    // Nothing is read yet, so that all of this fills the pipe and the queue.
    let total = 100_000;
    for _ in 0..total {
        log.log(entry(&[]));
    }
    let dropped = log.dropped();
    assert!(dropped > 0 && dropped < total, "{dropped}");
    // Once the reader is back, the queued lines arrive and new ones are taken again.
    let mut read = String::new();
    let counted = std::thread::spawn(move || {
        reader.read_to_string(&mut read).unwrap();
        read.lines().count() as u64
    });
    log.flush(PATIENCE);
    log.log(entry(&[]));
    assert_eq!(log.dropped(), dropped);
    drop(log);
    assert_eq!(counted.join().unwrap(), total - dropped + 1);
}

#[test]
fn row_175_a_closed_output_loses_lines_and_counts_them() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let log = AccessLog::start(writer, AccessLogFormat::Json).unwrap();
    for _ in 0..100 {
        log.log(entry(&[]));
    }
    log.flush(PATIENCE);
    assert_eq!(log.dropped(), 100);
}

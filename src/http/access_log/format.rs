//! Lines of the access log. Pure; no line is longer than 8 KiB.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use http::Version;
use jiff::Timestamp;

use super::{AccessLogEntry, AccessLogFormat};
use crate::json_line::{self, JsonLine};
use crate::redaction::mask_keys;

/// Longest line in bytes, with its end.
#[cfg(test)]
pub(super) const MAX_LINE_BYTES: usize = 8 * 1024;

/// Longest form of each kind of text in a line, in bytes. Their sum leaves room for the names of the fields.
const MAX_TARGET_BYTES: usize = 3072;
const MAX_HEADER_BYTES: usize = 1280;
const MAX_NAME_BYTES: usize = 384;
const MAX_ID_BYTES: usize = 128;

/// Value that is absent.
const ABSENT: &str = "-";

/// Appends the line of an entry.
pub(super) fn append(format: AccessLogFormat, entry: &AccessLogEntry, text: &mut Vec<u8>) {
    let start = text.len();
    match format {
        AccessLogFormat::Combined => combined(entry, text),
        AccessLogFormat::Json => json(entry, text),
    }
    mask_keys(text, start);
}

/// Appends a line of Apache's Combined format:
/// `client - user [time] "request" status bytes "referer" "agent"`.
fn combined(entry: &AccessLogEntry, text: &mut Vec<u8>) {
    let client = client(entry);
    let client = client.as_deref().unwrap_or(ABSENT);
    let time = timestamp(entry.time).strftime("%d/%b/%Y:%H:%M:%S +0000");
    let mut line = String::with_capacity(256);
    let _ = write!(line, "{client} - ");
    escape(&mut line, entry.identity.as_deref().unwrap_or(ABSENT).as_bytes(), MAX_NAME_BYTES, b" ");
    let _ = write!(line, " [{time}] \"");
    escape(&mut line, entry.method.as_bytes(), MAX_ID_BYTES, b" ");
    line.push(' ');
    escape(&mut line, entry.target.as_bytes(), MAX_TARGET_BYTES, b" ");
    let _ = write!(line, " {}\" {} ", protocol(entry.version), entry.status);
    // Common Log Format writes "-" for no bytes.
    let _ = if entry.sent == 0 { write!(line, "-") } else { write!(line, "{}", entry.sent) };
    for header in [&entry.referer, &entry.user_agent] {
        line.push_str(" \"");
        escape(&mut line, header.as_deref().unwrap_or(ABSENT.as_bytes()), MAX_HEADER_BYTES, b"");
        line.push('"');
    }
    line.push('\n');
    text.extend(line.as_bytes());
}

/// Appends bytes as Apache does: quotation marks and backslashes behind a backslash, and bytes that are not
/// printable ASCII, or in `also`, as `\xhh`. Cuts them where they would take more than `max` bytes.
fn escape(line: &mut String, bytes: &[u8], max: usize, also: &[u8]) {
    let start = line.len();
    for byte in bytes {
        let before = line.len();
        match byte {
            b'"' | b'\\' => line.extend(['\\', char::from(*byte)]),
            b' '..=b'~' if !also.contains(byte) => line.push(char::from(*byte)),
            byte => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
        if line.len() - start > max {
            line.truncate(before);
            return;
        }
    }
}

fn json(entry: &AccessLogEntry, text: &mut Vec<u8>) {
    let name =
        |value: &'_ Option<String>, max| value.clone().map(|value| json_line::cut(&value, max).to_owned());
    let header = |value: &Option<Box<[u8]>>| {
        let text: Cow<'_, str> = String::from_utf8_lossy(value.as_deref()?);
        Some(json_line::cut(&text, MAX_HEADER_BYTES).to_owned())
    };
    let mut line = JsonLine::begin(text);
    line.field("time", &format!("{:.6}", timestamp(entry.time)));
    line.field("client", client(entry).as_deref().unwrap_or(ABSENT));
    line.field("identity", name(&entry.identity, MAX_NAME_BYTES).as_deref().unwrap_or(ABSENT));
    line.field("method", json_line::cut(&entry.method, MAX_ID_BYTES));
    line.field("uri", json_line::cut(&entry.target, MAX_TARGET_BYTES));
    line.field("protocol", protocol(entry.version));
    line.field("status", &entry.status);
    line.field("bytes", &entry.sent);
    line.field("received", &entry.received);
    line.field("duration", &entry.duration.as_secs_f64());
    line.field("complete", &entry.is_complete);
    line.optional("repository", name(&entry.repository, MAX_NAME_BYTES).as_deref());
    line.optional("digest", name(&entry.digest, 2 * MAX_ID_BYTES).as_deref());
    line.optional("request_id", name(&entry.request_id, MAX_ID_BYTES).as_deref());
    line.optional("trace_id", name(&entry.trace_id, MAX_ID_BYTES).as_deref());
    line.optional("referer", header(&entry.referer).as_deref());
    line.optional("user_agent", header(&entry.user_agent).as_deref());
    line.end();
}

fn client(entry: &AccessLogEntry) -> Option<String> {
    entry.client.map(|client| client.to_string())
}

fn timestamp(time: SystemTime) -> Timestamp {
    // Only times before the year -9999 or after 9999 are none.
    Timestamp::try_from(time).unwrap_or_default()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

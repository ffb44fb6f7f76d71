//! Ranges, checked by an independent reading of RFC 9110, section 14: the bytes served of a blob, and the
//! place of a chunk in an upload.
//!
//! An input is text: a `Range` on the first line; an `If-Range` on the second, empty for none, `same` for the
//! blob's own; then, on each line, the `Content-Range` of a chunk, empty for none, a space, and the length of
//! its body. `~` behind the length sends the body without a length, and `!` sends half of the body.

#![no_main]

use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE};
use http::{HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use quinistry::oci::{Digest, ErrorCode};
use quinistry_fuzz::upload::Upload;
use quinistry_fuzz::{Answer, BodyTransfer, CONTENT_BYTES, Registry, content, line, request, run};

/// Lengths of the blobs: none, short enough to count by hand, and long enough to be sent in several chunks.
const BLOB_LENGTHS: [usize; 3] = [0, 10, 120_000];

/// Limit of chunks per input; more find nothing new.
const MAX_CHUNKS: usize = 12;

struct BlobFixture {
    registry: Registry,
    blobs: Vec<(Digest, Bytes)>,
}

static BLOBS: LazyLock<BlobFixture> = LazyLock::new(|| {
    let registry = Registry::new(false);
    let blobs = BLOB_LENGTHS
        .map(|length| content(0..length))
        .map(|bytes| (registry.with_blob("a", &bytes), bytes))
        .into();
    BlobFixture { registry, blobs }
});

fuzz_target!(|input: &[u8]| {
    let (range, rest) = line(input);
    let (if_range, chunks) = line(rest);
    run(async {
        if [range, if_range].into_iter().all(|value| HeaderValue::from_bytes(value).is_ok()) {
            pull(range, if_range).await;
        }
        push(chunks).await;
    });
});

// === Downloads ===

async fn pull(range: &[u8], if_range: &[u8]) {
    for (digest, bytes) in &BLOBS.blobs {
        let etag = format!("\"{digest}\"");
        let condition = if if_range == b"same" { etag.as_bytes() } else { if_range };
        let mut headers = vec![(RANGE.as_str(), range)];
        if !if_range.is_empty() {
            headers.push((IF_RANGE.as_str(), condition));
        }
        let path = format!("/v2/a/blobs/{digest}");
        let ask = |method| {
            let request = request(method, path.parse().unwrap(), &headers, BodyTransfer::Sized(Bytes::new()));
            BLOBS.registry.ask(request)
        };
        let answer = ask(Method::GET).await;
        let expected = if if_range.is_empty() || condition == etag.as_bytes() {
            expected_ranges(range, bytes.len() as u64)
        } else {
            ExpectedRanges::Everything
        };
        expected.assert_answered(&answer, bytes);
        // A range applies to GET only, and HEAD ignores it.
        let head = ask(Method::HEAD).await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), Some(&*bytes.len().to_string()));
    }
}

/// Request of a `Range` header.
#[derive(Debug)]
enum ExpectedRanges {
    /// The header is not understood and asks for everything.
    Everything,
    /// One satisfiable range.
    One(Range<u64>),
    /// One range, not satisfiable.
    Unsatisfiable,
    /// Several ranges, of which these are satisfiable.
    Several(Vec<Range<u64>>),
}

fn expected_ranges(header: &[u8], total: u64) -> ExpectedRanges {
    let blank = |c: char| matches!(c, ' ' | '\t');
    let Some((unit, set)) = std::str::from_utf8(header).ok().and_then(|text| text.split_once('=')) else {
        return ExpectedRanges::Everything;
    };
    if !unit.trim_matches(blank).eq_ignore_ascii_case("bytes") {
        return ExpectedRanges::Everything;
    }
    let specs: Vec<&str> = set.split(',').map(|spec| spec.trim_matches(blank)).collect();
    let mut there = Vec::new();
    for spec in &specs {
        let Some((first, last)) = spec.split_once('-') else { return ExpectedRanges::Everything };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if (first.is_empty() && last.is_empty()) || !digits(first) || !digits(last) {
            return ExpectedRanges::Everything;
        }
        let number = |text: &str| text.parse::<u128>().unwrap_or(u128::MAX / 2);
        let whole = u128::from(total);
        let (from, to) = match (first, last) {
            ("", last) => (whole.saturating_sub(number(last)), whole),
            (first, "") => (number(first), whole),
            (first, last) => (number(first), whole.min(number(last) + 1)),
        };
        if from < to {
            there.push(u64::try_from(from).unwrap()..u64::try_from(to).unwrap());
        }
    }
    match (specs.len(), there.pop()) {
        (1, Some(range)) => ExpectedRanges::One(range),
        (1, None) => ExpectedRanges::Unsatisfiable,
        (_, last) => {
            there.extend(last);
            ExpectedRanges::Several(there)
        }
    }
}

impl ExpectedRanges {
    fn assert_answered(&self, answer: &Answer, bytes: &[u8]) {
        let parts = match answer.status.as_u16() {
            200 => {
                assert_eq!(answer.body, bytes);
                assert_eq!(answer.header(CONTENT_RANGE.as_str()), None);
                None
            }
            206 => Some(parts_of(answer, bytes)),
            416 => {
                answer.assert_refused(&[416], ErrorCode::BlobUploadInvalid);
                let total = format!("bytes */{}", bytes.len());
                assert_eq!(answer.header(CONTENT_RANGE.as_str()), Some(&*total));
                Some(Vec::new())
            }
            _ => panic!("{self:?} {answer:?}"),
        };
        match (self, parts) {
            (Self::Everything | Self::Several(_), None) => {}
            (Self::One(range), Some(parts)) => assert_eq!(parts, std::slice::from_ref(range)),
            (Self::Unsatisfiable, Some(parts)) => assert_eq!(parts, []),
            (Self::Several(there), Some(parts)) => assert_eq!(parts, *there),
            (expected, parts) => panic!("{expected:?} gets {parts:?}"),
        }
    }
}

/// Returns the ranges in a response, whose bytes must be those of the blob.
fn parts_of(answer: &Answer, bytes: &[u8]) -> Vec<Range<u64>> {
    let content_type = answer.header(CONTENT_TYPE.as_str()).unwrap();
    let Some(boundary) = content_type.strip_prefix("multipart/byteranges; boundary=") else {
        let range = checked_range(answer.header(CONTENT_RANGE.as_str()).unwrap(), bytes, &answer.body);
        assert_eq!(range.end - range.start, answer.body.len() as u64);
        return vec![range];
    };
    assert_eq!(answer.header(CONTENT_RANGE.as_str()), None);
    let mut ranges = Vec::new();
    let mut rest = &answer.body[..];
    loop {
        rest = rest.strip_prefix(format!("\r\n--{boundary}").as_bytes()).expect("a part begins");
        if rest == b"--\r\n" {
            return ranges;
        }
        let end = rest.windows(4).position(|end| end == b"\r\n\r\n").expect("headers end");
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let header = head.lines().find_map(|line| line.strip_prefix("Content-Range: ")).unwrap();
        rest = &rest[end + 4..];
        let range = checked_range(header, bytes, rest);
        rest = &rest[usize::try_from(range.end - range.start).unwrap()..];
        ranges.push(range);
    }
}

/// Returns the range that a `Content-Range` names; `body` must begin with its bytes.
fn checked_range(header: &str, bytes: &[u8], body: &[u8]) -> Range<u64> {
    let (range, total) = header.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
    assert_eq!(total, bytes.len().to_string());
    let (first, last) = range.split_once('-').unwrap();
    let (first, end) = (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap() + 1);
    assert!(body.starts_with(&bytes[first..end]), "other bytes than the blob's {header}");
    first as u64..end as u64
}

// === Uploads ===

async fn push(chunks: &[u8]) {
    let registry = Registry::new(false);
    let answer = registry.ask_for(Method::POST, "/v2/a/blobs/uploads/").await;
    let mut upload = Upload::opened("a", &answer);
    for chunk in chunks.split(|byte| *byte == b'\n').filter(|chunk| !chunk.is_empty()).take(MAX_CHUNKS) {
        let space = chunk.iter().rposition(|byte| *byte == b' ').unwrap_or(0);
        let (range, length) =
            (&chunk[..space], std::str::from_utf8(&chunk[space..]).unwrap_or_default().trim());
        if HeaderValue::from_bytes(range).is_err() {
            continue;
        }
        let sent = body(length, upload.bytes.len());
        upload.patch(&registry, (!range.is_empty()).then_some(range), &sent).await;
    }
    let digest = Digest::sha256(&upload.bytes);
    let end = format!("?digest={digest}");
    let answer = upload.send(&registry, Method::PUT, &end, None, &BodyTransfer::Sized(Bytes::new())).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let answer = registry.ask_for(Method::GET, &format!("/v2/a/blobs/{digest}")).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &upload.bytes[..]));
}

/// Makes a body of some length, distinct from all others.
fn body(length: &str, offset: usize) -> BodyTransfer {
    /// Longest body of an input, in bytes: longer than the registry's reads. All bodies together fit into
    /// [`content`].
    const MAX_BODY_BYTES: usize = 300_000;
    const { assert!(MAX_BODY_BYTES * MAX_CHUNKS <= CONTENT_BYTES) };
    let digits = length.trim_end_matches(['~', '!']);
    let length_of = digits.parse::<usize>().unwrap_or(1).min(MAX_BODY_BYTES);
    let bytes = content(offset..offset + length_of);
    let chunks = |bytes: &Bytes| bytes.chunks(length_of / 3 + 1).map(Bytes::copy_from_slice).collect();
    match &length[digits.len()..] {
        "~" => BodyTransfer::Chunked(chunks(&bytes)),
        "!" => BodyTransfer::Truncated(length_of as u64, chunks(&bytes.slice(..length_of / 2))),
        _ => BodyTransfer::Sized(bytes),
    }
}

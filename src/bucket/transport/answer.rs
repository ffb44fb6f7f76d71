//! Answers of a store, and the errors that refusals are.

use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::What;
use crate::{ObjectError, ObjectErrorKind, ObjectMeta};

/// Longest body of an answer that is read as a whole, in bytes: a list of a thousand keys of a kilobyte, escaped,
/// fits.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// A successful answer, whose body has not been read.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    response: reqwest::Response,
}

// === impl Answer ===

impl Answer {
    /// Takes a response. A refusal is an error, whose body is read for the code.
    pub(super) async fn new(response: reqwest::Response, what: What<'_>) -> Result<Self, ObjectError> {
        let status = response.status();
        if status.is_success() {
            return Ok(Self { headers: response.headers().clone(), response });
        }
        let code =
            response.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok()).map(str::to_owned);
        let body = collect(response).await.unwrap_or_default();
        Err(refusal(what, status, code, &body))
    }

    /// Reads the body as a whole. A body that is an error, in spite of its status, is one here.
    pub(crate) async fn bytes(self, what: What<'_>) -> Result<Bytes, ObjectError> {
        let status = self.response.status();
        let body = collect(self.response).await.map_err(|error| cut_off(&what.to_string(), error))?;
        if is_error(&body) {
            return Err(refusal(what, status, None, &body));
        }
        Ok(body)
    }

    /// Reads and drops the body, so that the connection serves the next request.
    pub(crate) async fn drain(self, what: What<'_>) -> Result<HeaderMap, ObjectError> {
        let headers = self.headers.clone();
        self.bytes(what).await.map(|_| headers)
    }

    /// Returns the body as a stream.
    pub(crate) fn stream(self, what: What<'_>) -> BoxStream<'static, Result<Bytes, ObjectError>> {
        let what = what.to_string();
        self.response.bytes_stream().map(move |chunk| chunk.map_err(|error| cut_off(&what, error))).boxed()
    }
}

/// Reads a body up to [`MAX_ANSWER_BYTES`].
async fn collect(mut response: reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER_BYTES - body.len())]);
        if body.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(body.into())
}

fn cut_off(what: &str, error: reqwest::Error) -> ObjectError {
    ObjectError {
        kind: ObjectErrorKind::Unknown,
        message: format!("{what}: the answer was cut off"),
        source: Some(io::Error::other(error.without_url())),
    }
}

/// Returns true if the root of an XML document is `Error`, as of answers whose head had been sent before the store
/// failed.
fn is_error(body: &[u8]) -> bool {
    let text = body.trim_ascii_start();
    let text = match text.strip_prefix(b"<?xml") {
        Some(rest) => rest.iter().position(|byte| *byte == b'>').map_or(&[][..], |end| &rest[end + 1..]),
        None => text,
    };
    let text = text.trim_ascii_start();
    text.starts_with(b"<Error>") || text.starts_with(b"<Error ")
}

/// Body of a refusal.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorBody {
    code: String,
    message: String,
}

fn refusal(what: What<'_>, status: StatusCode, code: Option<String>, body: &[u8]) -> ObjectError {
    let body: ErrorBody = std::str::from_utf8(body)
        .ok()
        .and_then(|text| quick_xml::de::from_str(text).ok())
        .unwrap_or_default();
    let code = code.unwrap_or(body.code);
    let mut message = format!("{what}: {}", status.as_u16());
    for text in [&code, &body.message] {
        // The first line: Azure adds the time and a number of the request.
        let line = text.lines().next().unwrap_or_default();
        if !line.is_empty() {
            message = format!("{message} {}", quinistry_oci::escape::Escaped(line));
        }
    }
    ObjectError::new(kind(status, &code), message)
}

/// Returns the kind of a refusal. Codes come first where stores put several meanings into one status.
fn kind(status: StatusCode, code: &str) -> ObjectErrorKind {
    use ObjectErrorKind as Kind;
    match code {
        "SlowDown" | "ServerBusy" | "TooManyRequests" | "RequestLimitExceeded" => return Kind::Throttled,
        // The next signature is by the store's own clock.
        "RequestTimeTooSkewed" | "RequestTimeout" | "InternalError" | "OperationAborted" => {
            return Kind::Unknown;
        }
        // The last one: Azure does not put a block blob in the place of an append blob.
        "NoSuchBucket" | "ContainerNotFound" | "InvalidBlobType" => return Kind::Refused,
        // Amazon says so with 400 or 403.
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => return Kind::Expired,
        // The parts, or the blocks, that the end of an upload names are not there.
        "InvalidPart" | "InvalidBlockList" => return Kind::NotFound,
        "BlobAlreadyExists" | "ConditionNotMet" | "PreconditionFailed" => return Kind::Precondition,
        _ => {}
    }
    match status.as_u16() {
        304 => Kind::Unchanged,
        // Google and Azure have no other way to say that a token has expired.
        401 => Kind::Expired,
        403 => Kind::Denied,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        412 => Kind::Precondition,
        501 => Kind::Refused,
        416 => Kind::OutOfRange,
        429 | 503 => Kind::Throttled,
        // An error in a body of 200 is one that the store found late.
        200..=299 | 408 | 500..=599 => Kind::Unknown,
        _ => Kind::Refused,
    }
}

/// Returns the version by an `ETag`, without its quotes.
pub(crate) fn etag(text: &str) -> String {
    text.trim().trim_matches('"').to_owned()
}

/// Reads the metadata of an object from the head of an answer, and the range of its bytes that the body has.
pub(crate) fn metadata(
    headers: &HeaderMap,
    version_header: &http::HeaderName,
    what: What<'_>,
) -> Result<(ObjectMeta, std::ops::Range<u64>), ObjectError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let missing = |name: &str| {
        ObjectError::new(ObjectErrorKind::Refused, format!("{what}: the answer has no valid {name}"))
    };
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let length: u64 = length.ok_or_else(|| missing("Content-Length"))?;
    let (range, length) = match text(CONTENT_RANGE) {
        None => (0..length, length),
        Some(range) => content_range(range)
            .filter(|(range, _)| range.end - range.start == length)
            .ok_or_else(|| missing("Content-Range"))?,
    };
    let modified = text(LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok());
    let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
    let version =
        text(version_header.clone()).or_else(|| text(ETAG)).map(etag).ok_or_else(|| missing("ETag"))?;
    Ok((ObjectMeta { length, modified, version }, range))
}

/// Parses `bytes first-last/length` (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(std::ops::Range<u64>, u64)> {
    let (range, length) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, length): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, length.parse().ok()?);
    (first <= last && last < length).then_some((first..last + 1, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: What<'_> = What("PUT", "a/b");

    #[test]
    fn row_225_a_refusal_is_told_by_status_and_code() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>Reduce\u{1b} it.\nNow</Message></Error>";
        let error = refusal(WHAT, StatusCode::SERVICE_UNAVAILABLE, None, xml.as_bytes());
        assert_eq!(error.kind, ObjectErrorKind::Throttled);
        assert_eq!(error.to_string(), "PUT a/b: 503 SlowDown Reduce\\u{1b} it.");
        for (status, code, expected) in [
            (409, "ConditionalRequestConflict", ObjectErrorKind::Conflict),
            (409, "BlobAlreadyExists", ObjectErrorKind::Precondition),
            (409, "InvalidBlobType", ObjectErrorKind::Refused),
            (412, "PreconditionFailed", ObjectErrorKind::Precondition),
            (404, "NoSuchBucket", ObjectErrorKind::Refused),
            (404, "NoSuchUpload", ObjectErrorKind::NotFound),
            (403, "RequestTimeTooSkewed", ObjectErrorKind::Unknown),
            (403, "SignatureDoesNotMatch", ObjectErrorKind::Denied),
            (400, "ExpiredToken", ObjectErrorKind::Expired),
            (403, "ExpiredToken", ObjectErrorKind::Expired),
            (401, "InvalidAuthenticationInfo", ObjectErrorKind::Expired),
            (400, "RequestTimeout", ObjectErrorKind::Unknown),
            (400, "InvalidPart", ObjectErrorKind::NotFound),
            (400, "InvalidBlockList", ObjectErrorKind::NotFound),
            (500, "", ObjectErrorKind::Unknown),
            (501, "NotImplemented", ObjectErrorKind::Refused),
            (429, "", ObjectErrorKind::Throttled),
        ] {
            assert_eq!(kind(StatusCode::from_u16(status).unwrap(), code), expected, "{status} {code}");
        }
        assert_eq!(refusal(WHAT, StatusCode::NOT_FOUND, None, b"no xml").to_string(), "PUT a/b: 404");
    }

    #[test]
    fn row_225_an_error_in_the_body_of_a_success_is_found() {
        for body in [
            "<Error><Code>InternalError</Code></Error>",
            "\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n  <Error xmlns=\"x\"></Error>",
        ] {
            assert!(is_error(body.as_bytes()), "{body}");
        }
        for body in ["", "<CopyObjectResult><ETag>x</ETag></CopyObjectResult>", "<Errors/>", "<?xml"] {
            assert!(!is_error(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn metadata_of_a_part_is_that_of_the_whole() {
        let mut headers = HeaderMap::new();
        let version = http::HeaderName::from_static("x-goog-generation");
        headers.insert(CONTENT_LENGTH, "3".parse().unwrap());
        headers.insert(ETAG, "\"abc\"".parse().unwrap());
        let read = |headers: &HeaderMap| metadata(headers, &version, WHAT);
        let (meta, range) = read(&headers).unwrap();
        assert_eq!((meta.length, &meta.version[..], range), (3, "abc", 0..3));
        headers.insert(CONTENT_RANGE, "bytes 4-6/10".parse().unwrap());
        headers.insert(version.clone(), "17".parse().unwrap());
        let (meta, range) = read(&headers).unwrap();
        assert_eq!((meta.length, &meta.version[..], range), (10, "17", 4..7));
        for bad in ["bytes 4-7/10", "bytes 9-11/10", "bytes */10", "4-6/10"] {
            headers.insert(CONTENT_RANGE, bad.parse().unwrap());
            assert!(read(&headers).is_err(), "{bad}");
        }
    }
}

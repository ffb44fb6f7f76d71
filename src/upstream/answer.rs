//! Meaning of an upstream's answers: statuses, and headers, which are parsed and made again. Pure.

use std::time::{Duration, SystemTime};

use quinistry_client::headers;
use quinistry_fetch::{Answer, ManifestHeaders, SourceError, Validator};
use quinistry_oci::escape::Escaped;
use quinistry_oci::{Digest, DigestError, Manifest, media_type};
use reqwest::StatusCode;
use reqwest::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    RETRY_AFTER,
};

use crate::error::AskError;

/// Length of the longest manifest.
pub(crate) const MAX_MANIFEST_BYTES: u64 = quinistry_client::MAX_MANIFEST_BYTES;

/// Longest time for which an upstream can ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Length of an upstream's text that an error repeats.
const MAX_TEXT_CHARS: usize = 100;

const DIGEST_HEADER: &str = "docker-content-digest";

/// Types of manifests of Docker's schema 1, which no client here gets.
const SCHEMA_1_PREFIX: &str = "application/vnd.docker.distribution.manifest.v1+";

/// Types that servers of files give to manifests.
const GENERIC_TYPES: [&str; 4] = ["", "application/json", "application/octet-stream", "text/plain"];

/// Start of a blob's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobHead {
    pub(crate) answer: Answer,
    /// Number of bytes behind which the answer ends before the content does.
    pub(crate) part: Option<u64>,
}

/// Returns the reason for which a status is no answer to a question. `is_own`: the upstream itself has answered, and no
/// target of a redirect, whose refusals say nothing about the rights of this registry.
pub(crate) fn failure(status: StatusCode, fields: &HeaderMap, host: &str, is_own: bool) -> SourceError {
    match status.as_u16() {
        404 | 410 => SourceError::NotFound,
        401 | 403 if is_own => SourceError::Refused,
        429 => SourceError::Limited { retry_after: retry_after(fields, SystemTime::now()) },
        508 => SourceError::Circular,
        // The upstream is there, and has answered; 408 says that it is slow.
        200..=407 | 409..=499 => SourceError::Invalid(format!("unexpected status {status}")),
        _ => SourceError::Unavailable(Box::new(AskError::Status { host: host.into(), status })),
    }
}

/// Returns the time for which an upstream asks to be left alone.
pub(crate) fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    Some(headers::retry_after(text(fields, RETRY_AFTER.as_str())?, now)?.min(MAX_RETRY_AFTER))
}

/// Returns the headers of a manifest.
pub(crate) fn manifest_headers(fields: &HeaderMap) -> Result<ManifestHeaders, SourceError> {
    refuse_encoding(fields)?;
    let length = length(fields);
    if length.is_some_and(|length| length > MAX_MANIFEST_BYTES) {
        return Err(invalid("a manifest of more than 4 MiB"));
    }
    Ok(ManifestHeaders { digest: manifest_digest(fields)?, media_type: manifest_type(fields)?, length })
}

/// Fails unless these can be the bytes of a manifest.
pub(crate) fn check_manifest(bytes: &[u8]) -> Result<(), SourceError> {
    match Manifest::type_of(bytes) {
        None => Err(invalid("the bytes are not a manifest")),
        Some(media_type::DOCKER_SCHEMA_1) => Err(SourceError::NotFound),
        Some(_) => Ok(()),
    }
}

/// Returns the start of an answer with a blob. `asked_from` is the offset of the range that was asked for, if any.
pub(crate) fn blob_head(
    status: StatusCode,
    fields: &HeaderMap,
    target: &str,
    asked_from: Option<u64>,
) -> Result<BlobHead, SourceError> {
    let (from, length, part) = if status == StatusCode::PARTIAL_CONTENT {
        let range = text(fields, CONTENT_RANGE.as_str()).and_then(headers::content_range);
        let (first, last, total) = range.ok_or_else(|| invalid("a part without a valid Content-Range"))?;
        if asked_from != Some(first) {
            return Err(invalid("another part than was asked for"));
        }
        let is_rest = total.is_none_or(|total| last + 1 == total);
        (first, total, (!is_rest).then_some(last - first + 1))
    } else {
        (0, length(fields), None)
    };
    let is_resumable = text(fields, ACCEPT_RANGES.as_str()) != Some("none");
    let etag = text(fields, ETAG.as_str()).filter(|_| is_resumable);
    let answer = Answer {
        from,
        length,
        digest: text(fields, DIGEST_HEADER).and_then(|digest| digest.parse().ok()),
        validator: etag.and_then(|etag| Validator::new(target, etag)),
        is_encoded: is_encoded(fields),
    };
    Ok(BlobHead { answer, part })
}

/// Fails if the body is encoded, though no encoding was asked for.
pub(crate) fn refuse_encoding(fields: &HeaderMap) -> Result<(), SourceError> {
    if is_encoded(fields) { Err(invalid("a body with a Content-Encoding")) } else { Ok(()) }
}

/// Returns the declared `Content-Length`, if any: the HTTP library tells that of a body, which a `HEAD` has none.
pub(crate) fn length(fields: &HeaderMap) -> Option<u64> {
    text(fields, CONTENT_LENGTH.as_str())?.parse().ok()
}

/// Returns the media type without parameters, in lower case; empty without one.
pub(crate) fn content_type(fields: &HeaderMap) -> String {
    headers::essence(text(fields, CONTENT_TYPE.as_str()).unwrap_or_default())
}

pub(crate) fn invalid(reason: impl Into<String>) -> SourceError {
    SourceError::Invalid(reason.into())
}

/// Returns a text of an upstream as errors repeat it: short, and harmless to a terminal.
pub(crate) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(MAX_TEXT_CHARS).collect();
    Escaped(&short).to_string()
}

fn is_encoded(fields: &HeaderMap) -> bool {
    fields.get_all(CONTENT_ENCODING).iter().any(|coding| {
        let coding = coding.as_bytes().trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    })
}

fn manifest_digest(fields: &HeaderMap) -> Result<Option<Digest>, SourceError> {
    match text(fields, DIGEST_HEADER).map(str::parse) {
        None | Some(Err(DigestError::Unsupported)) => Ok(None),
        Some(Ok(digest)) => Ok(Some(digest)),
        Some(Err(DigestError::Malformed)) => Err(invalid("a Docker-Content-Digest that is no digest")),
    }
}

fn manifest_type(fields: &HeaderMap) -> Result<Option<String>, SourceError> {
    let own = content_type(fields);
    if own.starts_with(SCHEMA_1_PREFIX) {
        return Err(SourceError::NotFound);
    }
    if let Some(known) = media_type::known(&own) {
        return Ok(Some(known.into()));
    }
    if GENERIC_TYPES.contains(&own.as_str()) {
        return Ok(None);
    }
    Err(invalid(format!("Content-Type {}, which is no manifest's", quoted(&own))))
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn meaning(status: u16, pairs: &[(&'static str, &str)], is_own: bool) -> SourceError {
        failure(StatusCode::from_u16(status).unwrap(), &fields(pairs), "h", is_own)
    }

    #[test]
    fn statuses_mean_what_the_caller_can_do_about_them() {
        assert!(matches!(meaning(404, &[], true), SourceError::NotFound));
        assert!(matches!(meaning(404, &[], false), SourceError::NotFound));
        for status in [401, 403] {
            assert!(matches!(meaning(status, &[], true), SourceError::Refused));
            assert!(matches!(meaning(status, &[], false), SourceError::Invalid(_)));
        }
        for status in [408, 500, 502, 503, 504, 511] {
            assert!(matches!(meaning(status, &[], true), SourceError::Unavailable(_)), "{status}");
        }
        for status in [204, 206, 300, 304, 400, 405, 416] {
            assert!(matches!(meaning(status, &[], true), SourceError::Invalid(_)), "{status}");
        }
        assert!(matches!(meaning(508, &[], true), SourceError::Circular));
        let limited = |value| match meaning(429, &[("retry-after", value)], true) {
            SourceError::Limited { retry_after } => retry_after.map(|wait| wait.as_secs()),
            other => panic!("{other}"),
        };
        assert_eq!((limited("7"), limited("soon"), limited("-1")), (Some(7), None, None));
        assert_eq!(limited("18446744073709551615"), Some(3600));
        assert_eq!(limited("Fri, 31 Dec 9999 23:59:59 GMT"), Some(3600));
        assert_eq!(limited("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    }

    #[test]
    fn row_161_pages_for_browsers_are_no_manifests() {
        let of =
            |kind: &str| manifest_headers(&fields(&[("content-type", kind)])).map(|head| head.media_type);
        assert_eq!(
            of("Application/vnd.oci.image.index.v1+JSON; x=y").unwrap(),
            Some(media_type::OCI_INDEX.into())
        );
        assert_eq!(of("application/json; charset=utf-8").unwrap(), None);
        for kind in ["text/html", "text/html; charset=utf-8", "image/png", "application/xhtml+xml"] {
            assert!(matches!(of(kind), Err(SourceError::Invalid(_))), "{kind}");
        }
        for kind in [media_type::DOCKER_SCHEMA_1, "application/vnd.docker.distribution.manifest.v1+json"] {
            assert!(matches!(of(kind), Err(SourceError::NotFound)), "{kind}");
        }
        assert!(matches!(check_manifest(b"<html>"), Err(SourceError::Invalid(_))));
        assert!(matches!(check_manifest(br#"{"schemaVersion":1}"#), Err(SourceError::NotFound)));
        assert!(check_manifest(br#"{"schemaVersion":2,"manifests":[]}"#).is_ok());
    }

    #[test]
    fn row_164_digests_of_unknown_algorithms_are_ignored_and_malformed_ones_are_not() {
        let of = |digest: &str| {
            manifest_headers(&fields(&[("docker-content-digest", digest)])).map(|head| head.digest)
        };
        let digest = Digest::sha256(b"x");
        assert_eq!(of(digest.as_str()).unwrap(), Some(digest));
        let longer = Digest::of(quinistry_oci::Algorithm::Sha512, b"x");
        assert_eq!(of(longer.as_str()).unwrap(), Some(longer));
        for other in ["md5:d41d8cd98f00b204e9800998ecf8427e", "blake3:00"] {
            assert_eq!(of(other).unwrap(), None, "{other}");
        }
        for malformed in ["", "sha256", "sha256:00", "sha256:../../x"] {
            assert!(matches!(of(malformed), Err(SourceError::Invalid(_))), "{malformed}");
        }
    }

    #[test]
    fn lengths_and_encodings_are_bounded() {
        let of = |name, value: &str| manifest_headers(&fields(&[(name, value)])).map(|head| head.length);
        assert_eq!(of("content-length", "4194304").unwrap(), Some(4 << 20));
        assert!(matches!(of("content-length", "4194305"), Err(SourceError::Invalid(_))));
        assert_eq!(of("content-encoding", "identity").unwrap(), None);
        assert!(matches!(of("content-encoding", "gzip"), Err(SourceError::Invalid(_))));
    }

    #[test]
    fn parts_must_be_those_that_were_asked_for() {
        let part = |range: &str, asked_from| {
            blob_head(StatusCode::PARTIAL_CONTENT, &fields(&[("content-range", range)]), "t", asked_from)
        };
        let head = part("bytes 5-9/10", Some(5)).unwrap();
        assert_eq!((head.answer.from, head.answer.length, head.part), (5, Some(10), None));
        let head = part("bytes 5-7/10", Some(5)).unwrap();
        assert_eq!((head.answer.length, head.part), (Some(10), Some(3)));
        assert_eq!(part("bytes 5-7/*", Some(5)).unwrap().answer.length, None);
        for (range, asked_from) in [("bytes 4-9/10", Some(5)), ("bytes 0-9/10", None), ("bytes x", Some(5))] {
            assert!(matches!(part(range, asked_from), Err(SourceError::Invalid(_))), "{range}");
        }
    }

    #[test]
    fn only_a_strong_tag_of_a_target_with_ranges_lets_a_transfer_go_on() {
        let validator = |pairs: &[(&'static str, &str)]| {
            blob_head(StatusCode::OK, &fields(pairs), "t", None).unwrap().answer.validator
        };
        assert_eq!(validator(&[("etag", "\"x\"")]), Validator::new("t", "\"x\""));
        assert_eq!(validator(&[("etag", "\"x\""), ("accept-ranges", "bytes")]), Validator::new("t", "\"x\""));
        assert_eq!(validator(&[("etag", "\"x\""), ("accept-ranges", "none")]), None);
        assert_eq!(validator(&[("etag", "W/\"x\"")]), None);
        let encoded = blob_head(StatusCode::OK, &fields(&[("content-encoding", "gzip")]), "t", None).unwrap();
        assert!(encoded.answer.is_encoded);
    }
}

//! Answers of the stub.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use quinistry_bucket::{ObjectError, ObjectMeta};

use super::Shape;

/// An answer before any fault.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<Bytes>,
    /// Length that is announced; of a HEAD, that of the object.
    pub(super) length: u64,
}

impl Answer {
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), body: Vec::new(), length: 0 }
    }

    pub(super) fn xml(status: u16, text: &str) -> Self {
        let mut answer = Self::empty(status).with("content-type", "application/xml");
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}");
        answer.length = text.len() as u64;
        answer.body = vec![text.into()];
        answer
    }

    /// Returns an error document.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let message = super::xml::escape(message);
        Self::xml(status, &format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// Adds the headers of an object.
    pub(super) fn with_meta(self, shape: Shape, meta: &ObjectMeta) -> Self {
        self.with_version(shape, &meta.version).with("last-modified", &http_date(meta.modified))
    }

    pub(super) fn with_version(self, shape: Shape, version: &str) -> Self {
        let tagged = self.with("etag", &etag(shape, version));
        if shape == Shape::Gcs { tagged.with("x-goog-generation", version) } else { tagged }
    }
}

/// Returns the `ETag` of a version.
pub(super) fn etag(shape: Shape, version: &str) -> String {
    match shape {
        Shape::S3 => version.to_owned(),
        Shape::Gcs => format!("\"{version}\""),
    }
}

/// Makes the answer of an error of the bucket, whose message has status and code behind a colon.
pub(super) fn of_error(error: &ObjectError) -> Answer {
    let is_reason = |part: &&str| part.len() > 4 && part.as_bytes()[..3].iter().all(u8::is_ascii_digit);
    let reason = error.message.rsplit(": ").find(is_reason).unwrap_or("500 InternalError");
    let (status, code) = reason.split_once(' ').unwrap();
    if status == "304" {
        return Answer::empty(304);
    }
    Answer::error(status.parse().unwrap(), code, &error.message)
}

/// Returns a time as headers have it (RFC 9110, section 5.6.7).
pub(super) fn http_date(at: SystemTime) -> String {
    Timestamp::try_from(at).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Returns a time as documents have it.
pub(super) fn xml_date(at: SystemTime) -> String {
    Timestamp::try_from(at).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

//! Requests as they come.

use bytes::Bytes;
use http::{HeaderMap, Method, request};
use percent_encoding::percent_decode_str;

/// A request with its body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) bucket: String,
    /// Key of the object; empty if the request is for the bucket.
    pub(super) key: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(parts: request::Parts) -> Self {
        let path = parts.uri.path().trim_start_matches('/');
        // Google's clients write the slashes of a key as `%2F`.
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes());
        Self {
            method: parts.method,
            bucket: decode(bucket),
            key: decode(key),
            query: query.into_owned().collect(),
            headers: parts.headers,
            body: Bytes::new(),
        }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

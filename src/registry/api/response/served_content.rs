//! Content that is served under its digest: its headers, made once, and the conditions of RFC 9110.

use std::ops::ControlFlow;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use quinistry_http::memory_budget::{PERMIT_TIMEOUT, Permit, RESPONSES, UNBUDGETED_BYTES, with_permit};
use quinistry_oci::Digest;
use quinistry_oci::segments::Segments;

use super::body;
use super::error::Error;
use super::range::{Selection, select};

pub(crate) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Longest content that a store copies into memory; what is longer it reads by pieces, or holds there anyway.
const MAX_COPY: usize = 256 * 1024;

/// Bytes of room for an answer, to be waited for.
#[derive(Debug)]
pub(crate) struct Wait(usize);

impl Wait {
    pub(crate) async fn share(self) -> Result<Permit, Error> {
        RESPONSES.acquire(self.0, PERMIT_TIMEOUT).await.ok_or(Error::Crowded)
    }
}

/// A blob or manifest, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Entity {
    content: Segments,
    from: body::From,
    length: u64,
    /// Digest, type, length, entity tag and the rest: the same for every answer, so made once.
    headers: HeaderMap,
}

impl Entity {
    /// A manifest: typed, sent whole.
    pub(crate) fn manifest(digest: &Digest, media_type: &str, content: &Segments) -> Self {
        Self::new(digest, content, ascii(media_type.into()))
    }

    /// A blob: typeless, sent in ranges if asked.
    pub(crate) fn blob(digest: &Digest, content: &Segments) -> Self {
        let mut entity = Self::new(digest, content, HeaderValue::from_static("application/octet-stream"));
        entity.headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        entity
    }

    /// The same, from somebody's disk.
    pub(crate) fn on_disk(self) -> Self {
        Self { from: body::From::Disk, ..self }
    }

    /// Answers as [`Self::answer`] does if there is room for a long answer that lies in memory; else returns
    /// what to wait for, and holds nothing any more.
    pub(crate) fn answer_with_room(
        self,
        request: &Parts,
        waited: Option<Permit>,
    ) -> Result<ControlFlow<Response, Wait>, Error> {
        let length = self.copied(request);
        if length <= UNBUDGETED_BYTES {
            return self.answer(request).map(ControlFlow::Break);
        }
        match waited.or_else(|| RESPONSES.try_acquire(length)) {
            Some(share) => self.charged(share).answer(request).map(ControlFlow::Break),
            None => Ok(ControlFlow::Continue(Wait(length))),
        }
    }

    /// Bytes of a copy in memory that the answer would hold until the client has read it.
    fn copied(&self, request: &Parts) -> usize {
        let length = self.content.as_bytes().map_or(0, Bytes::len);
        if request.method == Method::HEAD || length > MAX_COPY { 0 } else { length }
    }

    /// Returns the same content, which now holds a share of the room for answers.
    fn charged(mut self, share: Permit) -> Self {
        if let Some(bytes) = self.content.as_bytes() {
            self.content = [with_permit(bytes.clone(), share)].into();
        }
        self
    }

    fn new(digest: &Digest, content: &Segments, content_type: HeaderValue) -> Self {
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, content_type),
            (CONTENT_LENGTH, content.len().into()),
            (DIGEST, ascii(digest.to_string())),
            (ETAG, ascii(format!("\"{digest}\""))),
        ]);
        Self { length: content.len(), content: content.clone(), from: body::From::Memory, headers }
    }

    /// Answers GET or HEAD.
    pub(crate) fn answer(&self, request: &Parts) -> Result<Response, Error> {
        let etag = &self.headers[ETAG];
        if request.headers.get_all(IF_NONE_MATCH).iter().any(|header| names(header, etag)) {
            return Ok(self.not_modified());
        }
        // Ranges are for GET alone (RFC 9110, 14.2), and for content that is still what the client holds a part of.
        let may_select = request.method == Method::GET && self.headers.contains_key(ACCEPT_RANGES);
        let range = if may_select { request.headers.get(RANGE) } else { None };
        let range = range
            .filter(|_| request.headers.get(IF_RANGE).is_none_or(|header| header == etag))
            .and_then(|header| header.to_str().ok());
        match range.map_or(Selection::Whole, |header| select(header, self.length)) {
            Selection::Whole if request.method == Method::HEAD => Ok(self.with_headers(Body::empty())),
            Selection::Whole => Ok(self.with_headers(body::from_segments(&self.content, self.from))),
            Selection::One(range) => {
                let mut response =
                    self.with_headers(body::from_segments(&self.content.slice(range.clone()), self.from));
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let headers = response.headers_mut();
                headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
                headers.insert(CONTENT_RANGE, ascii(content_range(&range, self.length)));
                Ok(response)
            }
            Selection::Many(many) => Ok(self.multipart(&many)),
            Selection::Unsatisfiable => Err(Error::Range { total: self.length }),
        }
    }

    fn with_headers(&self, body: Body) -> Response {
        let mut response = Response::new(body);
        response.headers_mut().clone_from(&self.headers);
        response
    }

    fn not_modified(&self) -> Response {
        let mut response = self.with_headers(body::none());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        // A 304 says what the 200 would have said, but for the body that it has not (RFC 9110, 15.4.5).
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(CONTENT_TYPE);
        response
    }

    /// RFC 9110, 14.6. The digest is the boundary: content cannot hold its own hash but by a collision.
    fn multipart(&self, ranges: &[std::ops::Range<u64>]) -> Response {
        let boundary = self.headers[DIGEST].to_str().expect("a digest is ASCII").replace(':', "-");
        let content_type = self.headers[CONTENT_TYPE].to_str().expect("a media type is ASCII");
        let mut parts: Vec<Segments> = Vec::new();
        for range in ranges {
            let header = format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
                content_range(range, self.length)
            );
            parts.push([header.into()].into());
            parts.push(self.content.slice(range.clone()));
        }
        parts.push([format!("\r\n--{boundary}--\r\n").into()].into());
        let content: Segments = parts.into_iter().collect();
        let length = content.len();
        let mut response = self.with_headers(body::from_segments(&content, self.from));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CONTENT_TYPE, ascii(format!("multipart/byteranges; boundary={boundary}")));
        response
    }
}

fn content_range(range: &std::ops::Range<u64>, total: u64) -> String {
    format!("bytes {}-{}/{total}", range.start, range.end - 1)
}

/// A header of what was parsed, or made here.
pub(crate) fn ascii(text: String) -> HeaderValue {
    text.try_into().expect("names, tags, digests and media types are ASCII")
}

/// Whether an `If-None-Match` header names `etag`. Weak comparison (RFC 9110, 13.1.2).
fn names(header: &HeaderValue, etag: &HeaderValue) -> bool {
    let Ok(header) = header.to_str() else { return false };
    header
        .split(',')
        .map(str::trim)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == etag)
}

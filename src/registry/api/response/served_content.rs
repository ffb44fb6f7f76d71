//! Content with its response headers, answered under the conditions and ranges of RFC 9110.

use std::ops::ControlFlow;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use quinistry_http::FileSender;
use quinistry_http::memory_budget::{PERMIT_TIMEOUT, Permit, RESPONSES, UNBUDGETED_BYTES, with_permit};
use quinistry_oci::Content;
use quinistry_oci::Digest;
use quinistry_store::Store;

use super::body;
use super::error::Error;
use super::range::{RangeSelection, select};
use super::verified_body::VerifiedBody;

pub(crate) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Headers of a response for which there is room at once, with those that [`crate::api::dispatch`] adds.
const HEADER_CAPACITY: usize = 10;

/// Longest content that a store copies into memory for a response, in bytes. Longer content is read by
/// pieces, or lies in memory without a copy.
const MAX_COPIED_BYTES: usize = 256 * 1024;

/// Bytes of the budget of responses that a response must wait for.
#[derive(Debug)]
pub(crate) struct BudgetWait(usize);

impl BudgetWait {
    /// Waits for the budget.
    pub(crate) async fn permit(self) -> Result<Permit, Error> {
        RESPONSES.acquire(self.0, PERMIT_TIMEOUT).await.ok_or(Error::TooManyResponses)
    }
}

/// Blob or manifest with its headers, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct ServedContent {
    content: Content,
    read_cost: body::ReadCost,
    /// Nothing but responses holds the bytes.
    is_unstored: bool,
    length: u64,
    /// Digest that the content must have, if nothing has hashed it yet, and the store that hears of damage.
    unverified: Option<(Digest, Store)>,
    /// Digest, type, length, entity tag and the others: equal for every response, so made once.
    headers: HeaderMap,
}

impl ServedContent {
    /// Makes a manifest: typed, always sent whole.
    pub(crate) fn manifest(digest: &Digest, media_type: &str, content: &Content) -> Self {
        Self::new(digest, content, ascii(media_type.into()))
    }

    /// Makes a blob: untyped, sent in ranges on request.
    pub(crate) fn blob(digest: &Digest, content: &Content) -> Self {
        let mut blob = Self::new(digest, content, HeaderValue::from_static("application/octet-stream"));
        blob.headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        blob
    }

    /// Makes a manifest of which only the headers are known, to answer HEAD.
    pub(crate) fn manifest_head(digest: &Digest, media_type: &str, length: u64) -> Self {
        Self::of_length(digest, length, &Content::default(), ascii(media_type.into()))
    }

    /// Makes a blob whose bytes come from elsewhere, to be answered by [`Self::respond_with`].
    pub(crate) fn blob_of_length(digest: &Digest, length: u64) -> Self {
        let content_type = HeaderValue::from_static("application/octet-stream");
        let mut blob = Self::of_length(digest, length, &Content::default(), content_type);
        blob.headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        blob
    }

    /// Returns the content as content whose reads may block.
    pub(crate) fn with_blocking_reads(self) -> Self {
        Self { read_cost: body::ReadCost::MayBlock, ..self }
    }

    /// Returns the content as content that no store holds, so that the budget of responses counts it at any length.
    pub(crate) fn unstored(self) -> Self {
        Self { is_unstored: true, ..self }
    }

    /// Returns the content as content that is hashed on its way to a client that reads all of it. The store hears
    /// of damage.
    pub(crate) fn verified(self, digest: Digest, store: Store) -> Self {
        Self { unverified: Some((digest, store)), ..self }
    }

    /// Responds as [`Self::respond`] does if the budget of responses permits the copy that the response holds
    /// in memory; else frees the copy and returns the bytes to wait for.
    pub(crate) fn respond_within_budget(
        self,
        request: &Parts,
        acquired: Option<Permit>,
    ) -> Result<ControlFlow<Response, BudgetWait>, Error> {
        let length = self.copied_bytes(request);
        if length <= UNBUDGETED_BYTES {
            return self.respond(request).map(ControlFlow::Break);
        }
        match acquired.or_else(|| RESPONSES.try_acquire(length)) {
            Some(permit) => self.holding(permit).respond(request).map(ControlFlow::Break),
            None => Ok(ControlFlow::Continue(BudgetWait(length))),
        }
    }

    /// Returns the bytes of the copy in memory that a response would hold until the client has read it.
    fn copied_bytes(&self, request: &Parts) -> usize {
        let length = self.content.as_bytes().map_or(0, Bytes::len);
        let is_shared = length > MAX_COPIED_BYTES && !self.is_unstored;
        if request.method == Method::HEAD || is_shared { 0 } else { length }
    }

    /// Returns the content as content that holds `permit` until it is dropped.
    fn holding(mut self, permit: Permit) -> Self {
        if let Some(bytes) = self.content.as_bytes() {
            self.content = [with_permit(bytes.clone(), permit)].into();
        }
        self
    }

    fn new(digest: &Digest, content: &Content, content_type: HeaderValue) -> Self {
        Self::of_length(digest, content.len(), content, content_type)
    }

    fn of_length(digest: &Digest, length: u64, content: &Content, content_type: HeaderValue) -> Self {
        // Room for all, since a table that grows is made again.
        let mut headers = HeaderMap::with_capacity(HEADER_CAPACITY);
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(DIGEST, ascii(digest.as_str().into()));
        headers.insert(ETAG, ascii(["\"", digest.as_str(), "\""].concat()));
        Self {
            length,
            content: content.clone(),
            read_cost: body::ReadCost::Immediate,
            is_unstored: false,
            unverified: None,
            headers,
        }
    }

    /// Responds to GET or HEAD. Takes the content, since a copy of the headers costs as much as the headers.
    pub(crate) fn respond(self, request: &Parts) -> Result<Response, Error> {
        let files = request.extensions.get::<FileSender>();
        match self.selection(request) {
            None => Ok(self.not_modified()),
            Some(RangeSelection::Whole) if request.method == Method::HEAD => {
                Ok(self.with_headers(Body::empty()))
            }
            Some(RangeSelection::Whole) => {
                let body = self.whole(files);
                Ok(self.with_headers(body))
            }
            Some(RangeSelection::One(range)) => {
                let body = body::content(&self.content.slice(range.clone()), self.read_cost, files);
                Ok(self.partial(&range, body))
            }
            Some(RangeSelection::Many(many)) => Ok(self.multipart(&many, files)),
            Some(RangeSelection::Unsatisfiable) => Err(Error::RangeNotSatisfiable { total: self.length }),
        }
    }

    /// Responds to GET or HEAD with a body that `body` makes of the selected range. A request for several ranges gets
    /// the whole (RFC 9110, 14.2).
    pub(crate) fn respond_with(
        self,
        request: &Parts,
        body: impl FnOnce(std::ops::Range<u64>) -> Body,
    ) -> Result<Response, Error> {
        match self.selection(request) {
            None => Ok(self.not_modified()),
            _ if request.method == Method::HEAD => Ok(self.with_headers(Body::empty())),
            Some(RangeSelection::Whole | RangeSelection::Many(_)) => {
                let body = body(0..self.length);
                Ok(self.with_headers(body))
            }
            Some(RangeSelection::One(range)) => Ok(self.partial(&range, body(range.clone()))),
            Some(RangeSelection::Unsatisfiable) => Err(Error::RangeNotSatisfiable { total: self.length }),
        }
    }

    /// Returns the part that the client asks for; `None` if it has the content already.
    fn selection(&self, request: &Parts) -> Option<RangeSelection> {
        let etag = &self.headers[ETAG];
        if request.headers.get_all(IF_NONE_MATCH).iter().any(|header| etag_matches(header, etag)) {
            return None;
        }
        // Only GET has ranges (RFC 9110, 14.2), and `If-Range` limits them to content that the client has a
        // part of.
        let may_select = request.method == Method::GET && self.headers.contains_key(ACCEPT_RANGES);
        let range = if may_select { request.headers.get(RANGE) } else { None };
        let range = range
            .filter(|_| request.headers.get(IF_RANGE).is_none_or(|header| header == etag))
            .and_then(|header| header.to_str().ok());
        Some(range.map_or(RangeSelection::Whole, |header| select(header, self.length)))
    }

    fn partial(self, range: &std::ops::Range<u64>, body: Body) -> Response {
        let total = self.length;
        let mut response = self.with_headers(body);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
        headers.insert(CONTENT_RANGE, ascii(content_range(range, total)));
        response
    }

    fn whole(&self, files: Option<&FileSender>) -> Body {
        match &self.unverified {
            Some((digest, store)) if self.length > 0 => {
                // Bytes that are hashed must be read.
                let body = body::content(&self.content, self.read_cost, None);
                Body::new(VerifiedBody::new(body, self.length, digest.clone(), store.clone()))
            }
            _ => body::content(&self.content, self.read_cost, files),
        }
    }

    fn with_headers(self, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.headers_mut() = self.headers;
        response
    }

    fn not_modified(self) -> Response {
        let mut response = self.with_headers(body::no_body());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        // A 304 has the headers of the 200, without those of the body (RFC 9110, 15.4.5).
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(CONTENT_TYPE);
        response
    }

    /// Responds with several ranges (RFC 9110, 14.6). The digest is the boundary: only a collision could make
    /// content contain its own hash.
    fn multipart(self, ranges: &[std::ops::Range<u64>], files: Option<&FileSender>) -> Response {
        let boundary = self.headers[DIGEST].to_str().expect("a digest is ASCII").replace(':', "-");
        let content_type = self.headers[CONTENT_TYPE].to_str().expect("a media type is ASCII");
        let mut parts: Vec<Content> = Vec::new();
        for range in ranges {
            let header = format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
                content_range(range, self.length)
            );
            parts.push([header.into()].into());
            parts.push(self.content.slice(range.clone()));
        }
        parts.push([format!("\r\n--{boundary}--\r\n").into()].into());
        let content: Content = parts.into_iter().collect();
        let length = content.len();
        let content_type = ascii(format!("multipart/byteranges; boundary={boundary}"));
        let body = body::content(&content, self.read_cost, files);
        let mut response = self.with_headers(body);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CONTENT_TYPE, content_type);
        response
    }
}

fn content_range(range: &std::ops::Range<u64>, total: u64) -> String {
    format!("bytes {}-{}/{total}", range.start, range.end - 1)
}

/// Makes a header value of parsed or generated text, which is ASCII.
pub(crate) fn ascii(text: String) -> HeaderValue {
    text.try_into().expect("names, tags, digests and media types are ASCII")
}

/// Returns true if an `If-None-Match` header names `etag`, by weak comparison (RFC 9110, 13.1.2).
fn etag_matches(header: &HeaderValue, etag: &HeaderValue) -> bool {
    let Ok(header) = header.to_str() else { return false };
    header
        .split(',')
        .map(str::trim)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_content_that_no_store_holds_waits_for_memory() {
        let length = MAX_COPIED_BYTES + 1;
        let content: Content = [Bytes::from(vec![b' '; length])].into();
        let served = ServedContent::manifest(&Digest::sha256(b"x"), "application/x", &content);
        let request = http::Request::get("/").body(()).unwrap().into_parts().0;
        assert_eq!(served.copied_bytes(&request), 0);
        assert_eq!(served.unstored().copied_bytes(&request), length);
    }
}

//! Requests to the API server. Pure.

use http::{Method, Request};

/// Media type of requests and answers by default.
const JSON_TYPE: &str = "application/json";

/// Effect of a request, which decides its method and the form of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Create,
    /// Server-side apply.
    Apply,
    /// JSON merge patch.
    Merge,
    Delete,
}

/// Request with the media type that it accepts.
#[derive(Clone, Debug)]
pub(super) struct ApiRequest<'a> {
    verb: Verb,
    /// Path and query of the URL.
    path: &'a str,
    accept: &'a str,
    body: Vec<u8>,
}

// === impl ApiRequest ===

impl<'a> ApiRequest<'a> {
    pub(super) const fn new(verb: Verb, path: &'a str, body: Vec<u8>) -> Self {
        Self { verb, path, accept: JSON_TYPE, body }
    }

    pub(super) const fn read(path: &'a str) -> Self {
        Self::new(Verb::Read, path, Vec::new())
    }

    pub(super) fn accepting(self, accept: Option<&'a str>) -> Self {
        Self { accept: accept.unwrap_or(JSON_TYPE), ..self }
    }

    pub(super) fn build(&self) -> Request<Vec<u8>> {
        let (method, content) = match self.verb {
            Verb::Read => (Method::GET, JSON_TYPE),
            Verb::Create => (Method::POST, JSON_TYPE),
            Verb::Apply => (Method::PATCH, "application/apply-patch+yaml"),
            Verb::Merge => (Method::PATCH, "application/merge-patch+json"),
            Verb::Delete => (Method::DELETE, JSON_TYPE),
        };
        Request::builder()
            .method(method)
            .uri(self.path)
            .header("content-type", content)
            .header("accept", self.accept)
            .body(self.body.clone())
            .expect("paths are made of names that the API server takes")
    }
}

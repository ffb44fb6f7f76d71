//! Readiness of a store of named images, for load balancers and for the operator.

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use serde::Serialize;

use crate::api::response::body;
use crate::named_images::{NamedImages, Report};
use crate::{LimitedStore, Settings};

/// Path of the endpoint.
const PATH: &str = "/readyz";

/// Document about the readiness of a store.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// Bytes that new content may take. `load` asks all stores for it before it sends anything.
    room_bytes: Option<u64>,
}

/// Returns the named images that a request asks about. Returns `None` for other requests, and for registries that keep no
/// named images.
pub(crate) fn subject<'a>(settings: &'a Settings, request: &Parts) -> Option<&'a NamedImages> {
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    settings.named.as_deref().filter(|_| is_read && request.uri.path() == PATH)
}

/// Responds to a question about readiness: 200 if the store is ready, and else 503, in one line, or with `?verbose` as a
/// document.
pub(crate) async fn handle(named: &NamedImages, stored: Option<&LimitedStore>, request: &Parts) -> Response {
    let report = &named.report();
    let is_verbose =
        request.uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("verbose")));
    let mut response = if is_verbose {
        let room_bytes = match stored {
            Some(stored) => stored.run(|store| Ok(store.room_bytes())).await.ok().flatten(),
            None => None,
        };
        body::json(&Document { report, room_bytes })
    } else {
        text(report)
    };
    if !report.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(report: &Report) -> Response {
    let text = if report.ready {
        "ok\n".to_owned()
    } else {
        let missing = report.images - report.complete;
        format!("copying images from other stores, {missing} of {} are not here yet\n", report.images)
    };
    let length = text.len();
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, length.into());
    response
}

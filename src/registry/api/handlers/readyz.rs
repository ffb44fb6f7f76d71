//! Readiness of a store of named images, for load balancers and for the operator.

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use crate::Settings;
use crate::api::response::body;
use crate::named_images::Report;

/// Path of the endpoint.
const PATH: &str = "/readyz";

/// Responds to a question about readiness: 200 if the store is ready, and else 503, in one line, or with `?verbose` as a
/// document. Returns `None` for other requests, and for registries that keep no named images.
pub(crate) fn answer(settings: &Settings, request: &Parts) -> Option<Response> {
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    let named = settings.named.as_ref().filter(|_| is_read && request.uri.path() == PATH)?;
    let report = &named.report();
    let is_verbose =
        request.uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("verbose")));
    let mut response = if is_verbose { body::json(report) } else { text(report) };
    if !report.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
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

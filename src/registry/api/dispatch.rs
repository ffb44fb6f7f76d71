//! From request to response: route, method, name, reference, in this order.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::handlers::{blobs, listing, manifests, referrers, uploads};
use super::method::{self, Method};
use super::panic;
use super::query::Query;
use super::response::body::json;
use super::response::error::Error;
use super::route::{Route, RouteError};
use crate::State;
use crate::builtin::Builtin;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers any request.
pub(crate) async fn answer(state: &State, request: Request) -> Response {
    let (request, mut body) = request.into_parts();
    let mut response = panic::isolate(async {
        respond(state, &request, &mut body).await.unwrap_or_else(IntoResponse::into_response)
    })
    .await;
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Debug formatting escapes what a hostile path or agent would like to write into the log.
    tracing::debug!(
        method = %request.method,
        path = ?request.uri.path(),
        status = response.status().as_u16(),
        length = ?response.headers().get(CONTENT_LENGTH),
        "answered"
    );
    let is_head = request.method == http::Method::HEAD;
    let waits = !body.is_end_stream() && request.headers.contains_key(EXPECT);
    // The head would keep its read buffer while the rest of a body is drained.
    drop(request);
    if !drain(waits, body).await {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if is_head { without_body(response) } else { response }
}

async fn respond(state: &State, request: &Parts, body: &mut Body) -> Result<Response, Error> {
    // hyper reads no body after a head that frames none.
    if !body.is_end_stream() {
        check_framing(request)?;
    }
    let route = Route::parse(request.uri.path());
    if let Err(RouteError::Unknown) = route {
        return Err(RouteError::Unknown.into());
    }
    let stored = state.0.stored.as_ref();
    let method = Method::of(&request.method, stored.map(|stored| &stored.options))?;
    let route = route?;
    let builtin = state.0.builtin.as_ref();
    // What is built in hides what was pushed under its name before.
    if let Some(builtin) = builtin.filter(|_| route.name().is_some_and(Builtin::is)) {
        return of_builtin(builtin, route, method, request).await;
    }
    let query = Query::of(&request.uri);
    let (route, stored) = match (route, stored) {
        (Route::Base, _) if method == Method::Read => return Ok(json(&serde_json::Map::new())),
        (Route::Catalog, _) if method == Method::Read => {
            return listing::catalog(stored, builtin.is_some(), query).await;
        }
        (Route::Referrers { name, digest }, _) if method == Method::Read => {
            return referrers::list(stored, name, &digest, query).await;
        }
        (route, Some(stored)) => (route, stored),
        (Route::Upload { .. } | Route::Uploads { .. }, None) => return Err(Error::UploadUnknown),
        (_, None) => return Err(Error::NameUnknown),
    };
    if stored.options.read_only && matches!(route, Route::Upload { .. }) {
        // Sessions that lie there can go on only where something can be written.
        return Err(Error::UploadUnknown);
    }
    let deletes = stored.options.delete;
    match (route, method) {
        (Route::Tags { name }, Method::Read) => listing::tags(stored, name, query).await,
        (Route::Manifest { name, reference }, Method::Read) => {
            manifests::get(stored, name, &reference, request).await
        }
        (Route::Manifest { name, reference }, Method::Put) => {
            manifests::put(stored, name, &reference, request, body).await
        }
        (Route::Manifest { name, reference }, Method::Delete) if deletes => {
            manifests::delete(stored, name, &reference).await
        }
        (Route::Blob { name, digest }, Method::Read) => blobs::get(stored, name, &digest, request).await,
        (Route::Blob { name, digest }, Method::Delete) if deletes => {
            blobs::delete(stored, name, &digest).await
        }
        (Route::Uploads { name }, Method::Post) => uploads::post(stored, name, request, body).await,
        (Route::Upload { name, id }, Method::Read) => uploads::get(stored, name, &id).await,
        (Route::Upload { name, id }, Method::Patch) => uploads::patch(stored, name, &id, request, body).await,
        (Route::Upload { name, id }, Method::Put) => uploads::put(stored, name, &id, request, body).await,
        (Route::Upload { name, id }, Method::Delete) => uploads::delete(stored, name, &id).await,
        (route, _) => Err(method::not_here(&route, &stored.options)),
    }
}

/// Refuses a body that is framed by more than chunks: another server on the way may read `identity, chunked`
/// otherwise, and see two requests where one is (RFC 9112, 6.1 and 11.2).
fn check_framing(request: &Parts) -> Result<(), Error> {
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Error::TransferEncoding),
    }
}

/// The image that this program is.
async fn of_builtin(
    builtin: &Builtin,
    route: Route,
    method: Method,
    request: &Parts,
) -> Result<Response, Error> {
    if method != Method::Read {
        return Err(method::READ_ONLY);
    }
    let query = Query::of(&request.uri);
    match route {
        Route::Tags { name } => listing::builtin_tags(&name, builtin.tags(), query).await,
        Route::Manifest { reference, .. } => builtin.manifest(&reference)?.answer(request),
        Route::Blob { digest, .. } => builtin.blob(&digest)?.answer(request),
        Route::Referrers { name, digest } => referrers::list(None, name, &digest, query).await,
        // No session is ever opened here.
        Route::Uploads { .. } | Route::Upload { .. } => Err(Error::UploadUnknown),
        Route::Base | Route::Catalog => Err(Error::NameUnknown),
    }
}

/// HEAD answers as GET would, length included (RFC 9110, 9.3.2).
fn without_body(response: Response) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(parts, Body::empty())
}

/// Takes in the body of a request that was refused, so that the client reads the refusal and not a reset
/// connection; whether all of it came. Bounded, for nobody wants these bytes.
async fn drain(waits: bool, mut body: Body) -> bool {
    /// A manifest of the greatest size that clients send.
    const MOST: usize = 4 * 1024 * 1024;
    const LONGEST: Duration = Duration::from_secs(5);
    if body.is_end_stream() {
        return true;
    }
    // Such a client waits to be told before it sends; not reading is how it is told.
    if waits {
        return false;
    }
    let all = async {
        let mut seen = 0;
        while let Some(frame) = body.frame().await {
            seen += frame.ok().and_then(|frame| frame.into_data().ok()).map_or(0, |data| data.len());
            if seen > MOST {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(LONGEST, all).await.unwrap_or(false)
}

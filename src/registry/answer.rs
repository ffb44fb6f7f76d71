//! From request to response: route, method, name, reference, in this order.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::body::json;
use super::error::Error;
use super::route::{Route, RouteError};
use super::{State, listing, panic, referrers};
use crate::oci::RepositoryName;
use crate::quine;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The handler of every request.
pub(super) async fn answer(
    axum::extract::State(state): axum::extract::State<State>,
    request: Request,
) -> Response {
    let (request, body) = request.into_parts();
    let mut response =
        panic::isolate(async { respond(&state, &request).unwrap_or_else(IntoResponse::into_response) }).await;
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !drain(&request, body).await {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // Debug formatting escapes what a hostile path or agent would like to write into the log.
    tracing::debug!(
        method = %request.method,
        path = ?request.uri.path(),
        status = response.status().as_u16(),
        length = ?response.headers().get(CONTENT_LENGTH),
        "answered"
    );
    if request.method == Method::HEAD { without_body(response) } else { response }
}

fn respond(state: &State, request: &Parts) -> Result<Response, Error> {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    let route = match Route::parse(request.uri.path()) {
        Err(RouteError::Unknown) => return Err(RouteError::Unknown.into()),
        _ if !reads => return Err(Error::Method),
        route => route?,
    };
    let query = request.uri.query().unwrap_or_default();
    match route {
        Route::Base => Ok(json(&serde_json::Map::new())),
        Route::Catalog => listing::catalog(query),
        Route::Tags { name } => in_repository(&name).and_then(|()| listing::tags(&name, state.tags(), query)),
        Route::Manifest { name, reference } => in_repository(&name)
            .and_then(|()| state.manifest(&reference))
            .and_then(|entity| entity.answer(request)),
        Route::Blob { name, digest } => {
            in_repository(&name).and_then(|()| state.blob(&digest)).and_then(|entity| entity.answer(request))
        }
        Route::Referrers { name: _, digest } => referrers::list(&digest, query),
        // No session is ever opened here.
        Route::Uploads { .. } | Route::Upload { .. } => Err(Error::UploadUnknown),
    }
}

fn in_repository(name: &RepositoryName) -> Result<(), Error> {
    if name.as_str() == quine::REPOSITORY { Ok(()) } else { Err(Error::NameUnknown) }
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
async fn drain(request: &Parts, mut body: Body) -> bool {
    /// A manifest of the greatest size that clients send.
    const MOST: usize = 4 * 1024 * 1024;
    const LONGEST: Duration = Duration::from_secs(5);
    if body.is_end_stream() {
        return true;
    }
    // Such a client waits to be told before it sends; not reading is how it is told.
    if request.headers.contains_key(EXPECT) {
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

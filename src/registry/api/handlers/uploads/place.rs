//! Place and progress of a session, as responses tell them.

use axum::response::Response;
use http::header::{LOCATION, RANGE};
use http::{HeaderName, StatusCode};
use quinistry_oci::RepositoryName;
use quinistry_store::{Session, UploadId};

use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::ascii;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Parameter of the location with the text by which replicas recognise a session.
pub(super) const STATE: &str = "_state";

/// Place of a session, and its progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) id: &'a UploadId,
    /// Text by which replicas recognise the session.
    pub(super) state: Option<&'a str>,
    /// Number of acknowledged bytes.
    pub(super) offset: u64,
}

impl<'a> Place<'a> {
    pub(super) fn of(session: &'a Session) -> Self {
        Self { id: session.id(), state: session.state(), offset: session.offset() }
    }
}

/// Makes a response with the location of a session, which never changes, and its progress.
pub(super) fn session_response(status: StatusCode, name: &RepositoryName, place: Place<'_>) -> Response {
    let mut response = body::empty(status);
    let headers = response.headers_mut();
    headers.insert(LOCATION, ascii(location(name, place)));
    headers.insert(RANGE, ascii(range(place.offset)));
    headers.insert(UPLOAD_UUID, ascii(place.id.to_string()));
    response
}

pub(super) fn out_of_order(name: &RepositoryName, session: &Session) -> Error {
    let place = Place::of(session);
    Error::OutOfOrder { location: location(name, place), range: range(place.offset) }
}

fn location(name: &RepositoryName, place: Place<'_>) -> String {
    match place.state {
        None => format!("/v2/{name}/blobs/uploads/{}", place.id),
        Some(state) => format!("/v2/{name}/blobs/uploads/{}?{STATE}={state}", place.id),
    }
}

/// Returns the first and last byte of a session. This form cannot express an empty session; all registries
/// send `0-0` then, since clients refuse a range that ends before its start.
fn range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

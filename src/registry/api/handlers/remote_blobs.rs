//! Pulls of blobs from a storage that other machines hold, such as a bucket: answered by a URL of the storage, or sent
//! on piece by piece.

use axum::response::Response;
use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{RemoteAnswer, RemoteBlob, Store};

use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::{DIGEST, ServedContent, ascii};
use crate::auth::challenge::is_protected;
use crate::notifications::Announcer;
use crate::{LimitedStore, Redirects};

use super::blobs::sends_content;

/// Answers GET and HEAD. A client that asks for the bytes of a long blob is redirected, if `redirects` says so; HEAD is
/// answered here, with digest and length, and holds the blob against collection.
pub(super) async fn get(
    stored: &LimitedStore,
    (redirects, announcer): (Option<Redirects>, &Announcer),
    name: RepositoryName,
    digest: Digest,
    request: &Parts,
) -> Result<Response, Error> {
    let redirects = redirects.filter(|_| request.method == Method::GET);
    let answer = RemoteAnswer {
        redirect: redirects.map(|redirects| (redirects.min_bytes, redirects.lifetime)),
        is_protected: is_protected(request),
    };
    let (of, wanted) = (name.clone(), digest.clone());
    let is_held = request.method == Method::HEAD;
    let look_up = move |store: &Store| {
        let look_up = || store.remote_blob(&of, &wanted, answer);
        if is_held { store.holding_blob(&of, &wanted, look_up) } else { look_up() }
    };
    let (response, size) = match stored.run(look_up).await? {
        RemoteBlob::Redirect { url, length } => {
            let mut response = body::empty(StatusCode::TEMPORARY_REDIRECT);
            let location = HeaderValue::try_from(url).expect("a URL is ASCII");
            response.headers_mut().insert(LOCATION, location);
            response.headers_mut().insert(DIGEST, ascii(digest.to_string()));
            (response, length)
        }
        RemoteBlob::Content(content) => {
            let served = ServedContent::blob(&digest, &content).with_blocking_reads();
            let served = served.verified(digest.clone(), stored.store.clone());
            (served.respond(request)?, content.len())
        }
    };
    if sends_content(&response) {
        announcer.pulled_blob(&name, &digest, size);
    }
    Ok(response)
}

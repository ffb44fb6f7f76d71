//! Referrers: none, since nothing can be pushed. An empty index and not a 404, which would send clients looking
//! for fallback tags (distribution-spec, section Listing Referrers).

use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};

use super::body::json;
use super::error::Error;
use crate::oci::{Digest, DigestError, ImageIndex, media_type};

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Always 200 for a well-formed digest, whatever the repository.
pub(super) fn list(digest: &str, query: &str) -> Result<Response, Error> {
    if let Err(error @ DigestError::Malformed) = digest.parse::<Digest>() {
        return Err(Error::Digest(error));
    }
    let index = ImageIndex {
        manifests: Vec::new(),
        media_type: Some(media_type::OCI_INDEX.into()),
        schema_version: 2,
    };
    let mut response = json(&index);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_INDEX));
    if form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == "artifactType") {
        headers.insert(FILTERS, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

//! Referrers of an image, and the deletion of images.

use std::collections::BTreeSet;

use quinistry_oci::{Descriptor, Digest, ImageReference, media_type};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::lists::next_page;
use super::manifest::text;
use super::request::{self, Call};
use super::{Client, ClientError, MAX_MANIFEST_BYTES, headers, retry};

/// Number of pages of a list of referrers; a registry that goes on is broken or hostile.
const MAX_REFERRER_PAGES: usize = 1000;
/// Number of referrers of one manifest.
const MAX_REFERRERS: usize = 10_000;
/// Length of all pages together: 1.6 KiB for each of the greatest number of referrers.
const MAX_REFERRER_LIST_BYTES: u64 = 16 * 1024 * 1024;

/// Page of the list of referrers.
#[derive(Deserialize)]
struct ReferrersPage {
    manifests: Option<Vec<Descriptor>>,
}

impl Client {
    /// Returns the descriptors of all referrers of a manifest in the image's repository, each digest once.
    /// Where the registry has no referrers API, reads the tag that clients write instead (distribution-spec,
    /// section Referrers Tag Schema).
    pub async fn referrers(
        &self,
        image: &ImageReference,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let mut found = match self.api_referrers(image, subject).await? {
            Some(found) => found,
            None => self.tagged_referrers(image, subject).await?,
        };
        let mut seen = BTreeSet::new();
        found.retain(|referrer| seen.insert(referrer.digest.clone()));
        Ok(found)
    }

    /// Returns the registry's own list of referrers; `None` if the registry has no such list.
    pub(super) async fn api_referrers(
        &self,
        image: &ImageReference,
        subject: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let what = format!("list what refers to {subject} in {}/{repository}", image.host());
        let protocol = |reason: &str| ClientError::Protocol { what: what.clone(), reason: reason.into() };
        let bound = |reason: String| ClientError::Bound { what: what.clone(), reason };
        let mut url = endpoint.url(&format!("/v2/{repository}/referrers/{subject}"));
        let (mut all, mut left) = (Vec::new(), MAX_REFERRER_LIST_BYTES);
        for page in 0..MAX_REFERRER_PAGES {
            let mut call = Call::new(&what, &endpoint, Method::GET, url.clone()).scope(&repository, "pull");
            call.headers.insert(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
            let answer = match self.send(&call).await {
                Err(ClientError::NoCredentials { .. } | ClientError::Refused { .. }) if page == 0 => {
                    // A token server may not know the scope; reading the tag shows whether the client has
                    // access at all.
                    return Ok(None);
                }
                answer => answer?,
            };
            match answer.status() {
                StatusCode::OK => {}
                // Transient failures are errors: with the tag alone, referrers would be missing without
                // notice.
                status if page == 0 && !retry::is_transient(status) => return Ok(None),
                _ => return Err(request::failure(&what, answer).await),
            }
            let content_type = text(answer.headers(), CONTENT_TYPE.as_str()).map(headers::essence);
            let is_index = content_type.as_deref() == Some(media_type::OCI_INDEX);
            if page == 0 && content_type.as_deref().is_some_and(|content_type| !content_type.contains("json"))
            {
                // An HTML page for browsers, such as a login page.
                return Ok(None);
            }
            let mut links = answer.headers().get_all(LINK).iter().filter_map(|field| field.to_str().ok());
            let next = links.find_map(headers::next_link).map(str::to_owned);
            let body = request::read(&what, answer, MAX_MANIFEST_BYTES).await?;
            if page == 0 && Digest::of(subject.algorithm(), &body) == *subject {
                // The registry has answered with the manifest itself.
                return Ok(None);
            }
            let entries = match serde_json::from_slice(&body) {
                Ok(ReferrersPage { manifests: Some(entries) }) => entries,
                // Go writes an empty list as null.
                Ok(ReferrersPage { manifests: None }) if is_index => Vec::new(),
                _ if page == 0 && !is_index => return Ok(None),
                _ => return Err(protocol("not the JSON of an index")),
            };
            if page == 0 && are_platforms(&entries) {
                return Ok(None);
            }
            all.extend(entries);
            left = left.checked_sub(body.len() as u64).ok_or_else(|| {
                bound(format!(
                    "the list is longer than {} MiB; ask for a referrer by its digest",
                    MAX_REFERRER_LIST_BYTES >> 20
                ))
            })?;
            if all.len() > MAX_REFERRERS {
                let reason = format!(
                    "the list has more than {MAX_REFERRERS} entries; ask for a referrer by its digest"
                );
                return Err(bound(reason));
            }
            match next {
                None => return Ok(Some(all)),
                Some(next) => match next_page(&url, &next) {
                    Some(next) => url = next,
                    None => return Err(protocol("the list goes on at another host")),
                },
            }
        }
        Err(bound(format!(
            "the list has more than {MAX_REFERRER_PAGES} pages; ask for a referrer by its digest"
        )))
    }

    /// Deletes a tag, or a manifest with all of its tags. The manifest is also removed from a list of
    /// referrers that clients maintain for its subject.
    pub async fn delete(&self, image: &ImageReference) -> Result<(), ClientError> {
        // Read first, because it cannot be read after the deletion. If reading fails, the deletion reports
        // the error.
        let subject = match image.digest() {
            Some(_) => self.manifest(image).await.ok().and_then(|manifest| manifest.subject()),
            None => None,
        };
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let url = endpoint.url(&format!("/v2/{repository}/manifests/{}", image.reference()));
        let what = format!("delete {image}");
        let call = Call::new(what, &endpoint, Method::DELETE, url).scope(&repository, "pull,push,delete");
        let done = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT];
        self.send_for(&call, &done).await?;
        match (image.digest(), subject) {
            (Some(digest), Some(subject)) => self.remove_referrer(image, &subject, digest).await,
            _ => Ok(()),
        }
    }
}

/// Returns true if this is a list of the image's platforms, which some registries give instead: descriptors
/// of referrers have no platform.
fn are_platforms(entries: &[Descriptor]) -> bool {
    let is_platform = |entry: &Descriptor| entry.platform.is_some() && entry.artifact_type.is_none();
    !entries.is_empty() && entries.iter().all(is_platform)
}

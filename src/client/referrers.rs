//! What refers to an image, and the deletion of images.

use std::collections::BTreeSet;

use quinistry_oci::{Descriptor, Digest, ImageReference, media_type};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::lists::next_page;
use super::manifest::text;
use super::request::{self, Call};
use super::{Client, ClientError, MAX_MANIFEST, headers, retry};

/// A thousand pages of what refers to one image; a registry that goes on is broken or hostile.
const MAX_PAGES: usize = 1000;
/// Referrers of one manifest.
const MAX_REFERRERS: usize = 10_000;
/// Length in bytes of all pages: 1.6 KiB for each of the greatest number of referrers.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A page of the list.
#[derive(Deserialize)]
struct List {
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
        let (mut all, mut left) = (Vec::new(), MAX_BYTES);
        for page in 0..MAX_PAGES {
            let mut call = Call::new(&what, &endpoint, Method::GET, url.clone()).scope(&repository, "pull");
            call.headers.insert(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
            let answer = match self.send(&call).await {
                Err(ClientError::NoCredentials { .. } | ClientError::Refused { .. }) if page == 0 => {
                    // A token server may know no such scope; the tag says whether anything is allowed at all.
                    return Ok(None);
                }
                answer => answer?,
            };
            match answer.status() {
                StatusCode::OK => {}
                // Passing failures are failures: by the tag alone, referrers would be lost without a word.
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
            let body = request::read(&what, answer, MAX_MANIFEST).await?;
            if page == 0 && Digest::of(subject.algorithm(), &body) == *subject {
                // The question was taken for one about the manifest itself.
                return Ok(None);
            }
            let entries = match serde_json::from_slice(&body) {
                Ok(List { manifests: Some(entries) }) => entries,
                // Go writes an empty list as null.
                Ok(List { manifests: None }) if is_index => Vec::new(),
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
                    MAX_BYTES >> 20
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
        Err(bound(format!("the list has more than {MAX_PAGES} pages; ask for a referrer by its digest")))
    }

    /// Deletes a tag, or a manifest with all of its tags. What a manifest refers to does not list it any
    /// more, also where clients keep that list.
    pub async fn delete(&self, image: &ImageReference) -> Result<(), ClientError> {
        // Afterwards it cannot be asked any more. If it cannot be read, deletion says why.
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

/// Returns whether this is a list of the image's platforms, which some registries give instead: descriptors
/// of referrers have no platform.
fn are_platforms(entries: &[Descriptor]) -> bool {
    let is_platform = |entry: &Descriptor| entry.platform.is_some() && entry.artifact_type.is_none();
    !entries.is_empty() && entries.iter().all(is_platform)
}

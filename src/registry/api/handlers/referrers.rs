//! Referrers of a manifest (distribution-spec, section Listing Referrers).
//!
//! A manifest without referrers gets an empty index and not a 404, which would make clients look for fallback
//! tags.

use axum::response::Response;
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderName, HeaderValue};
use quinistry_oci::{Descriptor, Digest, ImageIndex, RepositoryName, media_type};
use quinistry_store::{Page, Referrers};
use tokio::sync::SemaphorePermit;

use super::listing;
use crate::api::query::Query;
use crate::api::references;
use crate::api::response::body::json_within_budget;
use crate::api::response::error::Error;
use crate::api::response::served_content::ascii;
use crate::{LimitedStore, PageLimits};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Most bytes of descriptors in a response: some clients read no more than 4 MiB of JSON.
pub(super) const MAX_DESCRIPTOR_BYTES: usize = 2 * 1024 * 1024;

/// Page of referrers, and whether there are more.
pub(super) type Found = Referrers;

/// Looks up referrers, and returns them with a permit to make a list. If a repository's list of referrers
/// must be made first, only one of the requests for it does so.
pub(super) async fn look_up<'a>(
    stored: &'a LimitedStore,
    name: &RepositoryName,
    subject: &Digest,
    types: &[String],
    page: &Page,
) -> Result<(Referrers, SemaphorePermit<'a>), Error> {
    let cached = || stored.store.cached_referrers(name, subject, types, page, MAX_DESCRIPTOR_BYTES);
    // Waits for the repository before taking a list permit: requests that wait for one repository must not
    // hold the permits of all.
    let turn = if cached().is_none() { Some(stored.referrers_queue.wait(name).await) } else { None };
    let list_permit = stored.list_permits.acquire().await.expect("the semaphore is never closed");
    if let Some(found) = cached() {
        return Ok((found, list_permit));
    }
    let (name, subject, types, page) = (name.clone(), subject.clone(), types.to_vec(), page.clone());
    let found = stored
        .run(move |store| {
            let _turn = turn;
            store.referrers(&name, &subject, &types, &page, MAX_DESCRIPTOR_BYTES)
        })
        .await?;
    Ok((found, list_permit))
}

/// Lists referrers. Responds 200 for each well-formed digest, even if the repository does not exist.
pub(crate) async fn list(
    stored: Option<&LimitedStore>,
    name: RepositoryName,
    digest: &str,
    query: Query<'_>,
) -> Result<Response, Error> {
    let subject = references::digest(digest)?;
    let types: Vec<String> = query.all("artifactType").map(Into::into).collect();
    let page = listing::parse_page(query, PageLimits::REFERRERS)?;
    let mut found: Found = ([].into(), false);
    let mut _list_permit = None;
    if let (Some(stored), Some(subject)) = (stored, &subject) {
        let (all, list_permit) = look_up(stored, &name, subject, &types, &page).await?;
        (found, _list_permit) = (all, Some(list_permit));
    }
    let (manifests, more) = found;
    respond(&name, subject.as_ref(), (manifests.to_vec(), more), &types, &page).await
}

/// Responds with a page of referrers, and a link to the next one if there are more.
pub(super) async fn respond(
    name: &RepositoryName,
    subject: Option<&Digest>,
    (manifests, more): (Vec<Descriptor>, bool),
    types: &[String],
    page: &Page,
) -> Result<Response, Error> {
    let next = manifests.last().filter(|_| more).zip(subject).map(|(last, subject): (&Descriptor, _)| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &page.size.to_string()).append_pair("last", last.digest.as_str());
        for wanted in types {
            query.append_pair("artifactType", wanted);
        }
        format!("</v2/{name}/referrers/{subject}?{}>; rel=\"next\"", query.finish())
    });
    let index = ImageIndex { manifests, media_type: Some(media_type::OCI_INDEX.into()), schema_version: 2 };
    let mut response = json_within_budget(&index).await?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_INDEX));
    if !types.is_empty() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(next) = next {
        headers.insert(LINK, ascii(next));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::MAX_CONCURRENT_LISTS;
    use quinistry_store::{Memory, Store};

    #[tokio::test]
    async fn requests_that_wait_for_one_repository_hold_no_list_permits() {
        let stored = LimitedStore::new(Store::open(Memory::new(1 << 20), false).unwrap());
        let name: RepositoryName = "a/b".parse().unwrap();
        let digest = Digest::sha256(b"");
        let turn = stored.referrers_queue.wait(&name).await;
        let request = |_| Box::pin(list(Some(&stored), name.clone(), digest.as_str(), Query::new("")));
        let mut responses: Vec<_> = (0..MAX_CONCURRENT_LISTS).map(request).collect();
        assert!(responses.iter_mut().all(|one| one.now_or_never().is_none()));
        assert_eq!(stored.list_permits.available_permits(), MAX_CONCURRENT_LISTS);
        drop(turn);
        for one in responses {
            assert!(one.await.unwrap().status().is_success());
        }
    }
}

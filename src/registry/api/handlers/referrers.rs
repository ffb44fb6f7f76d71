//! What refers to a manifest (distribution-spec, section Listing Referrers). An empty index where nothing does, and not a
//! 404, which would send clients looking for fallback tags.

use axum::response::Response;
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderName, HeaderValue};
use quinistry_oci::{Descriptor, Digest, ImageIndex, RepositoryName, media_type};
use quinistry_store::{Page, Referrers};
use tokio::sync::SemaphorePermit;

use super::listing;
use crate::Stored;
use crate::api::query::Query;
use crate::api::references;
use crate::api::response::body::json_with_room;
use crate::api::response::error::Error;
use crate::api::response::served_content::ascii;

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Bytes of descriptors in an answer; some clients read no more than 4 MiB of JSON.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Looks referrers up, and returns them with a turn to make a list. Of many requests to a repository whose referrers must be
/// made first, one makes them.
async fn look_up<'a>(
    stored: &'a Stored,
    name: &RepositoryName,
    subject: &Digest,
    types: &[String],
    page: &Page,
) -> Result<(Referrers, SemaphorePermit<'a>), Error> {
    let at_hand = || stored.store.referrers_at_hand(name, subject, types, page, MAX_BYTES);
    // Before the turn to make a list: those who wait for one repository must not hold the turns of all.
    let turn = if at_hand().is_none() { Some(stored.referrers.wait(name).await) } else { None };
    let list = stored.lists.acquire().await.expect("the semaphore is never closed");
    if let Some(found) = at_hand() {
        return Ok((found, list));
    }
    let (name, subject, types, page) = (name.clone(), subject.clone(), types.to_vec(), page.clone());
    let found = stored
        .run(move |store| {
            let _turn = turn;
            store.referrers(&name, &subject, &types, &page, MAX_BYTES)
        })
        .await?;
    Ok((found, list))
}

/// Always 200 for a well-formed digest, whatever the repository.
pub(crate) async fn list(
    stored: Option<&Stored>,
    name: RepositoryName,
    digest: &str,
    query: Query<'_>,
) -> Result<Response, Error> {
    let subject = references::digest(digest)?;
    let types: Vec<String> = query.all("artifactType").map(Into::into).collect();
    let page = listing::page(query)?;
    let mut found = ([].into(), false);
    let mut _list = None;
    if let (Some(stored), Some(subject)) = (stored, &subject) {
        let (all, list) = look_up(stored, &name, subject, &types, &page).await?;
        (found, _list) = (all, Some(list));
    }
    let (manifests, more) = found;
    let next = manifests.last().filter(|_| more).zip(subject).map(|(last, subject): (&Descriptor, _)| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &page.size.to_string()).append_pair("last", last.digest.as_str());
        for wanted in &types {
            query.append_pair("artifactType", wanted);
        }
        format!("</v2/{name}/referrers/{subject}?{}>; rel=\"next\"", query.finish())
    });
    let index = ImageIndex {
        manifests: manifests.to_vec(),
        media_type: Some(media_type::OCI_INDEX.into()),
        schema_version: 2,
    };
    let mut response = json_with_room(&index).await?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_INDEX));
    if !types.is_empty() {
        headers.insert(FILTERS, HeaderValue::from_static("artifactType"));
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
    use crate::{MAX_LISTS, Options};
    use quinistry_store::{Memory, Store};

    #[tokio::test]
    async fn those_who_wait_for_one_repository_hold_no_turns_of_others() {
        let stored = Stored::new(Store::open(Memory::new(1 << 20), false).unwrap(), Options::default());
        let name: RepositoryName = "a/b".parse().unwrap();
        let digest = Digest::sha256(b"");
        let turn = stored.referrers.wait(&name).await;
        let ask = |_| Box::pin(list(Some(&stored), name.clone(), digest.as_str(), Query::new("")));
        let mut asked: Vec<_> = (0..MAX_LISTS).map(ask).collect();
        assert!(asked.iter_mut().all(|one| one.now_or_never().is_none()));
        assert_eq!(stored.lists.available_permits(), MAX_LISTS);
        drop(turn);
        for one in asked {
            assert!(one.await.unwrap().status().is_success());
        }
    }
}

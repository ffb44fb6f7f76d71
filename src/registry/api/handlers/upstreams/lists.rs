//! Lists of tags and of referrers of upstreams' repositories.

use std::collections::BTreeMap;

use axum::response::Response;
use quinistry_oci::{Descriptor, Digest, Tag, to_json};
use quinistry_store::{Page, StoreError};

use super::{UpstreamRequest, stale};
use crate::PageLimits;
use crate::api::handlers::{listing, referrers};
use crate::api::query::Query;
use crate::api::references;
use crate::api::response::error::Error;

/// Greatest number of stored tags that complete the list of an upstream which is away.
const MAX_STORED_TAGS: usize = 10_000;

impl UpstreamRequest<'_> {
    /// Lists the tags of the upstream; if it is away, those of its last answer and those that are stored.
    pub(super) async fn tags(self, query: Query<'_>) -> Result<Response, Error> {
        let Self { stored, settings, located, .. } = self;
        let repository = &located.repository;
        let list = located.upstream.tags(stored, repository).await;
        let Some(failure) = list.failure else {
            return listing::known_tags(&repository.name, &list.entries, query, settings.pages).await;
        };
        let mut tags = self.stored_tags().await?;
        tags.extend_from_slice(&list.entries);
        if tags.is_empty() {
            return Err(failure.into_error(Error::NameUnknown));
        }
        tags.sort_unstable();
        tags.dedup();
        listing::known_tags(&repository.name, &tags, query, settings.pages).await.map(stale)
    }

    async fn stored_tags(self) -> Result<Vec<Tag>, Error> {
        let name = self.located.repository.name.clone();
        let _permit = self.stored.list_permits.acquire().await.expect("the semaphore is never closed");
        let page = Page { size: MAX_STORED_TAGS, last: String::new() };
        match self.stored.run(move |store| store.tags(&name, &page)).await {
            Ok((tags, _)) => Ok(tags),
            Err(Error::Store(StoreError::RepositoryUnknown)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Lists the referrers that the upstream or the store knows.
    pub(super) async fn referrers(self, digest: &str, query: Query<'_>) -> Result<Response, Error> {
        let Self { stored, located, .. } = self;
        let repository = &located.repository;
        let Some(subject) = references::digest(digest)? else {
            return referrers::list(None, repository.name.clone(), digest, query).await;
        };
        let types: Vec<String> = query.all("artifactType").map(Into::into).collect();
        let page = listing::parse_page(query, PageLimits::REFERRERS)?;
        let list = located.upstream.referrers(stored, repository, &subject).await;
        let (own, list_permit) =
            referrers::look_up(stored, &repository.name, &subject, &types, &page).await?;
        let found = union(&own, &list.entries, &types, &page);
        let response = referrers::respond(&repository.name, Some(&subject), found, &types, &page).await?;
        drop(list_permit);
        Ok(if list.failure.is_some() { stale(response) } else { response })
    }
}

/// Returns the page of the descriptors in either list, and whether there are more.
fn union(
    (own, own_has_more): &referrers::Found,
    upstream: &[Descriptor],
    types: &[String],
    page: &Page,
) -> (Vec<Descriptor>, bool) {
    let is_wanted = |descriptor: &&Descriptor| {
        let own = descriptor.artifact_type.as_ref();
        descriptor.digest.as_str() > page.last.as_str()
            && (types.is_empty() || own.is_some_and(|own| types.contains(own)))
    };
    // Behind the end of the store's page, the store may have others.
    let end = own.last().filter(|_| *own_has_more).map(|last| last.digest.clone());
    let is_before_end = |digest: &Digest| end.as_ref().is_none_or(|end| digest <= end);
    let upstream = upstream.iter().filter(is_wanted);
    let all: BTreeMap<&Digest, &Descriptor> =
        upstream.chain(own.iter()).map(|descriptor| (&descriptor.digest, descriptor)).collect();
    let (mut found, mut bytes) = (Vec::new(), 0);
    for (digest, descriptor) in &all {
        bytes += to_json(descriptor).len();
        let is_full =
            found.len() >= page.size || bytes > referrers::MAX_DESCRIPTOR_BYTES && !found.is_empty();
        if is_full || !is_before_end(digest) {
            return (found, page.size > 0);
        }
        found.push((*descriptor).clone());
    }
    (found, *own_has_more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(number: u8, artifact_type: &str) -> Descriptor {
        let digest = format!("sha256:{}", format!("{number:02x}").repeat(32)).parse().unwrap();
        Descriptor {
            digest,
            artifact_type: Some(artifact_type.into()),
            ..Descriptor::of("application/x", b"")
        }
    }

    #[test]
    fn pages_of_both_lists_have_each_descriptor_once_and_in_order() {
        let own: Vec<_> = [1, 3, 5].map(|number| descriptor(number, "a")).into();
        let upstream: Vec<_> = (1..7).map(|number| descriptor(number, "a")).collect();
        let mut page = Page { size: 2, last: String::new() };
        let mut numbers = Vec::new();
        loop {
            let rest: Vec<_> =
                own.iter().filter(|one| one.digest.as_str() > page.last.as_str()).cloned().collect();
            let has_more = rest.len() > page.size;
            let own: Vec<_> = rest.into_iter().take(page.size).collect();
            let (found, more) = union(&(own.into(), has_more), &upstream, &[], &page);
            numbers.extend(found.iter().map(|found| found.digest.hex()[..2].parse::<u8>().unwrap()));
            match found.last().filter(|_| more) {
                Some(last) => page.last = last.digest.to_string(),
                None => break,
            }
        }
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn only_the_wanted_types_are_listed() {
        let upstream = [descriptor(1, "a"), descriptor(2, "b")];
        let page = Page { size: 10, last: String::new() };
        let (found, more) = union(&([].into(), false), &upstream, &["b".into()], &page);
        assert_eq!((found.as_slice(), more), (&upstream[1..], false));
    }
}

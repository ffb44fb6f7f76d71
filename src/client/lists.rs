//! Lists of tags and repositories, and the check that a registry accepts a client.

use std::collections::BTreeSet;
use std::time::Duration;

use quinistry_oci::ImageReference;
use reqwest::header::LINK;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::endpoint::Endpoint;
use super::request::Call;
use super::{Client, ClientError, headers};

/// Number of entries to request at once; registries may give fewer.
const PAGE_ENTRIES: &str = "1000";
/// Number of pages of a list, a million entries if all are full; a registry that goes on is broken or
/// hostile.
const MAX_LIST_PAGES: usize = 1000;
/// Number of entries of a list.
const MAX_LIST_ENTRIES: usize = 1_000_000;
/// Length of all pages of a list together, and so of one page: registries without pages, such as distribution
/// before version 3, give hundreds of thousands of tags at once.
const MAX_LIST_BYTES: u64 = 64 * 1024 * 1024;
/// Time limit for a whole list.
const LIST_TIMEOUT: Duration = Duration::from_mins(15);

#[derive(Deserialize)]
struct TagsPage {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CatalogPage {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// Lists all tags of the image's repository, in the registry's order.
    pub async fn tags(&self, image: &ImageReference) -> Result<Vec<String>, ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let path = format!("/v2/{repository}/tags/list");
        let scope = format!("repository:{repository}:pull");
        let what = format!("list tags of {}/{repository}", image.host());
        self.pages(&endpoint, &path, scope, &what, |page: TagsPage| page.tags).await
    }

    /// Lists all repositories that a registry shows to this client, in the registry's order.
    pub async fn repositories(&self, host: &str) -> Result<Vec<String>, ClientError> {
        let endpoint = self.endpoint(host)?;
        let what = format!("list repositories of {host}");
        let scope = "registry:catalog:*".into();
        self.pages(&endpoint, "/v2/_catalog", scope, &what, |page: CatalogPage| page.repositories).await
    }

    /// Fails unless a registry answers and accepts this client.
    pub async fn ping(&self, host: &str) -> Result<(), ClientError> {
        let endpoint = self.endpoint(host)?;
        let call = Call::new(format!("reach registry {host}"), &endpoint, Method::GET, endpoint.url("/v2/"));
        self.send_for(&call, &[StatusCode::OK]).await.map(drop)
    }

    /// Requests all entries of a list, within its bounds.
    async fn pages<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        path: &str,
        scope: String,
        what: &str,
        entries: impl Fn(T) -> Option<Vec<String>>,
    ) -> Result<Vec<String>, ClientError> {
        let all = self.all_pages(endpoint, path, scope, what, entries);
        let late = |_| {
            let reason = format!("the list did not end within {} minutes", LIST_TIMEOUT.as_secs() / 60);
            ClientError::Bound { what: what.into(), reason }
        };
        tokio::time::timeout(LIST_TIMEOUT, all).await.map_err(late)?
    }

    async fn all_pages<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        path: &str,
        scope: String,
        what: &str,
        entries: impl Fn(T) -> Option<Vec<String>>,
    ) -> Result<Vec<String>, ClientError> {
        let protocol = |reason: &str| ClientError::Protocol { what: what.into(), reason: reason.into() };
        let bound = |reason: String| ClientError::Bound { what: what.into(), reason };
        let mut url = endpoint.url(path);
        url.set_query(Some(&format!("n={PAGE_ENTRIES}")));
        let mut seen = BTreeSet::new();
        let (mut all, mut left) = (Vec::new(), MAX_LIST_BYTES);
        loop {
            if !seen.insert(url.to_string()) {
                return Err(protocol("the list does not end: it leads back to an earlier page"));
            }
            if seen.len() > MAX_LIST_PAGES {
                return Err(bound(format!("the list does not end within {MAX_LIST_PAGES} pages")));
            }
            let mut call = Call::new(what, endpoint, Method::GET, url.clone());
            call.scopes.push(scope.clone());
            let (fields, body) = match self.fetch(&call, left).await {
                Err(ClientError::Status { status, .. })
                    if seen.len() == 1 && may_refuse_page_size(status) =>
                {
                    // Some registries refuse a page longer than their own instead of giving a shorter one.
                    url.set_query(None);
                    continue;
                }
                Err(ClientError::TooLarge { .. }) => {
                    return Err(bound(format!("the list is longer than {} MiB", MAX_LIST_BYTES >> 20)));
                }
                page => page?,
            };
            left -= body.len() as u64;
            let mut links = fields.get_all(LINK).iter().filter_map(|field| field.to_str().ok());
            let next = links.find_map(headers::next_link).map(str::to_owned);
            let page: T = serde_json::from_slice(&body).map_err(|_| protocol("not the JSON of a list"))?;
            drop(body);
            all.extend(entries(page).unwrap_or_default());
            if all.len() > MAX_LIST_ENTRIES {
                return Err(bound(format!("the list has more than {MAX_LIST_ENTRIES} entries")));
            }
            match next {
                None => return Ok(all),
                Some(next) => match next_page(&url, &next) {
                    Some(next) => url = next,
                    None => return Err(protocol("the list goes on at another host")),
                },
            }
        }
    }
}

/// Returns the next page of a list by its link, at the origin of this page; `None` if the link leads to
/// another host. A registry behind a proxy that ends TLS calls itself `http`, and may not know its own port.
#[must_use]
pub fn next_page(page: &Url, link: &str) -> Option<Url> {
    let link = page.join(link).ok()?;
    let is_own = link.host_str() == page.host_str() && (link.port().is_none() || link.port() == page.port());
    let is_web = matches!(link.scheme(), "http" | "https");
    let mut next = page.clone();
    next.set_path(link.path());
    next.set_query(link.query());
    (is_own && is_web).then_some(next)
}

/// Returns true if a status may refuse the requested number of entries.
fn may_refuse_page_size(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 406 | 413 | 416 | 422 | 501)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_at_the_registry_itself() {
        let page: Url = "https://host:5000/v2/a/tags/list?n=2".parse().unwrap();
        let next = |link: &str| next_page(&page, link).map(String::from);
        let at = |rest: &str| Some(format!("https://host:5000{rest}"));
        assert_eq!(next("/v2/a/tags/list?last=b%2Fc"), at("/v2/a/tags/list?last=b%2Fc"));
        assert_eq!(next("?last=b"), at("/v2/a/tags/list?last=b"));
        assert_eq!(next("https://host:5000/x"), at("/x"));
        assert_eq!(next("http://host/x?y"), at("/x?y"), "as a proxy made it");
        for other in ["https://other:5000/x", "https://host:5001/x", "//other/x", "file:///x", "http://"] {
            assert_eq!(next(other), None, "{other}");
        }
    }
}

//! Lists: tags of a repository, repositories of a registry; and whether a registry lets one in.

use std::collections::BTreeSet;

use reqwest::header::LINK;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::oci::ImageReference;

use super::endpoint::Endpoint;
use super::request::Call;
use super::{Client, ClientError, Credentials, headers};

/// How many entries to ask for at once; registries give fewer if they like.
const PAGE: &str = "1000";
/// A million entries of full pages; a registry that goes on is broken or hostile.
const MAX_PAGES: usize = 1000;
/// A thousand entries of 255 bytes, generously.
const MAX_PAGE: u64 = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// All tags of the image's repository, in the registry's order.
    pub async fn tags(&self, image: &ImageReference) -> Result<Vec<String>, ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let path = format!("/v2/{repository}/tags/list");
        let scope = format!("repository:{repository}:pull");
        let what = format!("list tags of {}/{repository}", image.host());
        self.pages(&endpoint, &path, scope, &what, |page: Tags| page.tags).await
    }

    /// All repositories of a registry that it is willing to tell, in its order.
    pub async fn repositories(&self, host: &str) -> Result<Vec<String>, ClientError> {
        let endpoint = self.endpoint(host)?;
        let what = format!("list repositories of {host}");
        let scope = "registry:catalog:*".into();
        self.pages(&endpoint, "/v2/_catalog", scope, &what, |page: Catalog| page.repositories).await
    }

    /// Whether a registry is there and lets this client in.
    pub async fn ping(&self, host: &str) -> Result<(), ClientError> {
        let endpoint = self.endpoint(host)?;
        let call = Call::new(format!("reach registry {host}"), &endpoint, Method::GET, endpoint.url("/v2/"));
        self.send_for(&call, &[StatusCode::OK]).await.map(drop)
    }

    /// Whether a registry accepts these credentials; this client and its clones use them from now on.
    pub async fn log_in(&self, host: &str, credentials: Credentials) -> Result<(), ClientError> {
        self.shared.auth.give(host, credentials);
        self.ping(host).await
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        path: &str,
        scope: String,
        what: &str,
        entries: impl Fn(T) -> Option<Vec<String>>,
    ) -> Result<Vec<String>, ClientError> {
        let protocol = |reason: &str| ClientError::Protocol { what: what.into(), reason: reason.into() };
        let mut url = endpoint.url(path);
        url.set_query(Some(&format!("n={PAGE}")));
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        loop {
            if seen.len() >= MAX_PAGES || !seen.insert(url.to_string()) {
                return Err(protocol("the list does not end"));
            }
            let mut call = Call::new(what, endpoint, Method::GET, url.clone());
            call.scopes.push(scope.clone());
            let (fields, body) = self.fetch(&call, MAX_PAGE).await?;
            let mut links = fields.get_all(LINK).iter().filter_map(|field| field.to_str().ok());
            let next = links.find_map(headers::next_link).map(str::to_owned);
            let page: T = serde_json::from_slice(&body).map_err(|_| protocol("not the JSON of a list"))?;
            all.extend(entries(page).unwrap_or_default());
            match next {
                None => return Ok(all),
                Some(next) => match url.join(&next) {
                    Ok(next) if endpoint.is_origin_of(&next) => url = next,
                    _ => return Err(protocol("the list goes on at another host")),
                },
            }
        }
    }
}

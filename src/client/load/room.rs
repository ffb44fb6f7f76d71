//! Room for a load: what a store has, and what a bundle takes there.

use quinistry_oci::{ImageReference, Reference};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::Bundle;
use super::bundle::BundledBlob;
use crate::parallel::ordered;
use crate::request::{self, Call};
use crate::{BLOBS_AT_ONCE, Client, ClientError};

/// Path of the report of a store.
const REPORT_PATH: &str = "/readyz";

/// Query that asks for the report as a document.
const REPORT_QUERY: &str = "verbose";

/// Length of the longest report, in bytes: a store lists at most a hundred images, each with a reason.
const MAX_REPORT_BYTES: u64 = 1024 * 1024;

/// Part of the report of a store.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoreReport {
    room_bytes: Option<u64>,
}

impl Client {
    /// Returns the bytes that a store has room for; `None` if it does not tell, as other registries and earlier versions.
    pub async fn room_bytes(&self, host: &str) -> Result<Option<u64>, ClientError> {
        let endpoint = self.endpoint(host)?;
        let what = format!("read the room of {host}");
        let mut url = endpoint.url(REPORT_PATH);
        url.set_query(Some(REPORT_QUERY));
        let mut call = Call::new(&*what, &endpoint, Method::GET, url);
        // 503 is the answer of a store that lacks images, and comes with the report.
        call.is_repeatable = false;
        let answer = self.send(&call).await?;
        if !matches!(answer.status(), StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
            return Ok(None);
        }
        let body = request::read(&what, answer, MAX_REPORT_BYTES).await?;
        Ok(serde_json::from_slice(&body).ok().and_then(|report: StoreReport| report.room_bytes))
    }

    /// Returns the length of the blobs of a bundle that none of their repositories at the registry `host` has, in bytes.
    /// Fails if one of them cannot be looked up.
    pub async fn lacking_bytes(&self, bundle: &Bundle, host: &str) -> Result<u64, ClientError> {
        let lacking = ordered(bundle.blobs.values(), BLOBS_AT_ONCE, async |blob: &BundledBlob| {
            for repository in &blob.repositories {
                let digest = &blob.descriptor.digest;
                let image = ImageReference::new(host, repository.clone(), Reference::Digest(digest.clone()))
                    .expect("the host was parsed");
                if self.find_blob(&image, digest).await?.is_some() {
                    return Ok(0);
                }
            }
            Ok::<_, ClientError>(blob.descriptor.size)
        });
        Ok(lacking.await?.into_iter().sum())
    }
}

//! The client of a bucket, whatever store it is in.

use std::sync::Arc;

use crate::{Azure, BucketOptions, Governed, InvalidStore, Objects, RepetitionPolicy, S3, StoreOptions};

/// Creates the client of a bucket, with deadlines, repetitions and limits. Sends nothing.
///
/// `client` is one of [`http_client`](crate::http_client), whose user agent and TLS follow the options.
pub fn connect(options: &BucketOptions, client: reqwest::Client) -> Result<Governed, InvalidStore> {
    let objects: Arc<dyn Objects> = match &options.store {
        StoreOptions::S3(s3) => Arc::new(S3::amazon(s3, &options.root, client)?),
        StoreOptions::Gcs(gcs) => Arc::new(S3::google(gcs, &options.root, client)?),
        StoreOptions::Azure(azure) => Arc::new(Azure::new(azure, &options.root, client)?),
    };
    let usual = RepetitionPolicy::default();
    let policy = RepetitionPolicy {
        max_repetitions: options
            .max_retries
            .map_or(usual.max_repetitions, |max| max.min(usual.max_repetitions)),
        first_pause: options.retry_delay.unwrap_or(usual.first_pause),
    };
    Ok(Governed::new(objects, policy))
}

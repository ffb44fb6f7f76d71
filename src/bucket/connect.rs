//! The client of a bucket, whatever store it is in.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{
    Azure, BucketOptions, Governed, InvalidExternalAccount, MAX_IN_FLIGHT, Objects, RepetitionPolicy, S3,
    StoreOptions,
};

/// Reasons why a store cannot be addressed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidStore {
    /// Nothing names the region.
    #[error("the bucket has no region; set it, or AWS_REGION")]
    NoRegion,
    /// Bucket or region are not parts of a URL.
    #[error("the bucket {0:?} cannot be part of a URL; check its name, the region and the endpoint")]
    Url(String),
    /// The chain of credentials cannot be built.
    #[error("the credentials of the environment cannot be used")]
    Credentials(#[source] object_store::Error),
    /// The file of credentials cannot be read.
    #[error("failed to read the credentials in {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The file of a workload identity federation cannot be used.
    #[error("the workload identity federation cannot be used")]
    ExternalAccount(#[from] InvalidExternalAccount),
}

/// HTTP clients of a bucket, which [`http_client`](crate::http_client) makes.
#[derive(Clone, Debug)]
pub struct HttpClients {
    /// Client towards the store. Its user agent and TLS follow the options of the bucket.
    pub store: reqwest::Client,
    /// Client towards the services that give credentials: secrets are sent to them, so that their certificates are
    /// always verified.
    pub credentials: reqwest::Client,
}

impl From<reqwest::Client> for HttpClients {
    /// Uses a client that verifies certificates for both.
    fn from(client: reqwest::Client) -> Self {
        Self { store: client.clone(), credentials: client }
    }
}

/// Creates the client of a bucket, with deadlines, repetitions and limits. Sends nothing.
pub fn connect(options: &BucketOptions, clients: HttpClients) -> Result<Governed, InvalidStore> {
    let objects: Arc<dyn Objects> = match &options.store {
        StoreOptions::S3(s3) => Arc::new(S3::amazon(s3, &options.root, clients)?),
        StoreOptions::Gcs(gcs) => Arc::new(S3::google(gcs, &options.root, clients)?),
        StoreOptions::Azure(azure) => Arc::new(Azure::new(azure, &options.root, clients)?),
    };
    let usual = RepetitionPolicy::default();
    let policy = RepetitionPolicy {
        max_repetitions: options
            .max_retries
            .map_or(usual.max_repetitions, |max| max.min(usual.max_repetitions)),
        first_pause: options.retry_delay.unwrap_or(usual.first_pause),
    };
    Ok(Governed::with_limit(objects, policy, options.max_in_flight.unwrap_or(MAX_IN_FLIGHT)))
}

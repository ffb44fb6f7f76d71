//! Storage in a bucket, by the keys of distribution's drivers and this program's own.
//!
//! Texts that name an endpoint or a folder are as they were written: the caller that opens the bucket reads them, and
//! refuses the configuration if it cannot.

use std::path::PathBuf;
use std::time::Duration;

use super::SecretText;

/// A bucket, with everything that the configuration says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketConfig {
    /// Store, with the bucket and its credentials.
    pub store: BucketStore,
    /// Folder of the registry in the bucket (`rootdirectory`).
    pub root: String,
    /// Text that is appended to the `User-Agent` header.
    pub user_agent: Option<String>,
    /// True if the certificate of the store is not verified.
    pub skips_verification: bool,
    /// Length of a part of an upload, in bytes.
    pub part_bytes: u64,
    /// Memory for the parts of all uploads, in bytes.
    pub memory_bytes: u64,
    /// True if no other process writes to the bucket.
    pub is_exclusive: bool,
}

/// Store, with the bucket and its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketStore {
    /// `storage.s3`.
    S3(S3Config),
    /// `storage.gcs`.
    Gcs(GcsConfig),
    /// `storage.azure`.
    Azure(AzureConfig),
}

/// Keys of `storage.s3`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of distribution's")]
pub struct S3Config {
    /// Name of the bucket.
    pub bucket: String,
    /// Region, if it is given.
    pub region: Option<String>,
    /// Host or URL of a store that is not Amazon's.
    pub endpoint: Option<String>,
    /// True if an endpoint without a scheme is `https`.
    pub is_secure: bool,
    /// True if the bucket stands in the path of a URL, and not in the name of the host.
    pub path_style: bool,
    /// Access key and secret key, if they are given.
    pub keys: Option<(String, SecretText)>,
    /// Token of a session, for temporary keys.
    pub session_token: Option<SecretText>,
    /// True if the store encrypts new objects.
    pub encrypts: bool,
    /// Key of the key management service by which the store encrypts.
    pub key_id: Option<String>,
    /// Class of new objects, in upper case; `None` sends none.
    pub storage_class: Option<String>,
    /// Canned access control list of new objects, unless it is `private`.
    pub acl: Option<String>,
    /// Host or URL for which URLs are signed, unless it is the endpoint.
    pub redirect_endpoint: Option<String>,
    /// True if the hosts are those that have IPv6 addresses as well.
    pub dual_stack: bool,
    /// True if the hosts are those of the FIPS endpoints.
    pub fips: bool,
    /// True if the host is that of transfer acceleration.
    pub accelerate: bool,
    /// Length of a part of a copy, in bytes.
    pub copy_part_bytes: u64,
    /// Length from which on a copy is made in parts, in bytes.
    pub copy_threshold_bytes: u64,
    /// Greatest number of parts of one copy that are made at the same time.
    pub copy_parts_at_once: usize,
}

/// Keys of `storage.gcs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcsConfig {
    /// Name of the bucket.
    pub bucket: String,
    /// File with the key of a service account.
    pub key_file: Option<PathBuf>,
    /// Key of a service account, as JSON.
    pub credentials: Option<SecretText>,
    /// Greatest number of parts of one copy that are made at the same time, if it is given.
    pub max_concurrency: Option<usize>,
}

/// Keys of `storage.azure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureConfig {
    /// Name of the storage account.
    pub account: String,
    /// Name of the container.
    pub container: String,
    /// Credentials.
    pub credentials: AzureLogin,
    /// URL of the account.
    pub service_url: Option<String>,
    /// Domain of the accounts.
    pub realm: Option<String>,
    /// Greatest number of repetitions of a request; `None` for none.
    pub max_retries: Option<u32>,
    /// Pause before the first repetition.
    pub retry_delay: Duration,
    /// True if keys begin with a slash, as `registry:2` wrote them.
    pub has_legacy_root: bool,
}

/// Credentials of an Azure account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureLogin {
    /// Those of the environment.
    Environment,
    /// Key of the account.
    SharedKey(SecretText),
    /// Secret of an application.
    ClientSecret {
        /// Name of the tenant.
        tenant: String,
        /// Name of the application.
        client: String,
        /// Secret.
        secret: SecretText,
    },
}

/// Redirects of pulls to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectConfig {
    /// Least lifetime of a signed URL.
    pub expiry: Duration,
    /// Least length of a blob whose client is redirected, in bytes.
    pub min_bytes: u64,
}

/// Visibility of other replicas' changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoherenceConfig {
    /// At once.
    Strict,
    /// Within a second.
    Relaxed,
}

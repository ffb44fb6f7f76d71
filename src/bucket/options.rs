//! Settings of a bucket: the store, its credentials, and the sizes of transfers. Pure.
//!
//! [`BucketOptions`] come from a URL such as `s3://bucket/prefix`, or from a configuration. Nothing here opens a
//! connection or reads an environment; the client of each store looks for credentials that are not given.

mod endpoint;
mod root;
mod secret;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use self::endpoint::{Endpoint, InvalidEndpoint};
pub use self::root::{InvalidRoot, RootPrefix};
pub use self::secret::Secret;
pub use self::url::InvalidBucketUrl;

/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// A bucket, the root of the registry in the bucket, and everything that a client needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketOptions {
    /// Store, with the bucket and its credentials.
    pub store: StoreOptions,
    /// Folder of the registry in the bucket.
    pub root: RootPrefix,
    /// Text that is appended to the `User-Agent` header.
    pub user_agent: Option<String>,
    /// True if the certificate of the store must be valid.
    pub verifies_certificate: bool,
    /// Sizes of transfers.
    pub transfers: TransferOptions,
    /// Greatest number of requests in flight, if the configuration limits them further.
    pub max_in_flight: Option<usize>,
    /// Greatest number of repetitions of a request, if the configuration limits them further.
    pub max_retries: Option<u32>,
    /// Least pause before a repetition, if the configuration sets one.
    pub retry_delay: Option<Duration>,
    /// True if no other process writes to the bucket, so that the store need not create keys atomically.
    pub is_exclusive: bool,
}

/// Store, with the bucket and its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOptions {
    /// Amazon S3, or a store with the same interface.
    S3(S3Options),
    /// Google Cloud Storage.
    Gcs(GcsOptions),
    /// Azure Blob Storage.
    Azure(AzureOptions),
}

/// A bucket of Amazon S3, or of a store with the same interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of distribution's driver")]
pub struct S3Options {
    /// Name of the bucket.
    pub bucket: String,
    /// Region; without one, that of the environment (`AWS_REGION`), and `us-east-1` where there is an endpoint.
    pub region: Option<String>,
    /// Store, unless it is Amazon's.
    pub endpoint: Option<Endpoint>,
    /// True if the bucket stands in the path of a URL, and not in the name of the host.
    pub path_style: bool,
    /// Keys; without them, those that the environment offers.
    pub keys: Option<S3Keys>,
    /// Encryption by the store.
    pub encryption: S3Encryption,
    /// Class of new objects, in upper case.
    pub storage_class: Option<String>,
    /// Canned access control list of new objects.
    pub acl: Option<String>,
    /// Host that signed URLs name, in path style, unless it is that of the endpoint.
    pub redirect_endpoint: Option<Endpoint>,
    /// True if the hosts are those that have IPv6 addresses as well.
    pub dual_stack: bool,
    /// True if the hosts are those of the FIPS endpoints.
    pub fips: bool,
    /// True if the host is that of transfer acceleration.
    pub accelerate: bool,
}

/// Keys of an S3 account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Keys {
    /// Access key, which names the account.
    pub access_key: String,
    /// Secret key.
    pub secret_key: Secret,
    /// Token of a session, for temporary keys.
    pub session_token: Option<Secret>,
}

/// Encryption of new objects by the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum S3Encryption {
    /// The bucket's own setting.
    #[default]
    BucketDefault,
    /// `AES256`.
    Aes256,
    /// `aws:kms` with this key.
    Kms(String),
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcsOptions {
    /// Name of the bucket.
    pub bucket: String,
    /// Credentials.
    pub credentials: GcsCredentials,
    /// Store, unless it is Google's.
    pub endpoint: Option<Endpoint>,
}

/// Credentials of Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GcsCredentials {
    /// Those of the environment: `GOOGLE_APPLICATION_CREDENTIALS`, else the metadata server.
    #[default]
    Environment,
    /// File with the key of a service account.
    KeyFile(PathBuf),
    /// Key of a service account, as JSON.
    Key(Secret),
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureOptions {
    /// Name of the storage account.
    pub account: String,
    /// Name of the container.
    pub container: String,
    /// Credentials.
    pub credentials: AzureCredentials,
    /// URL of the account, unless it is `https://ACCOUNT.blob.REALM`. May have a path.
    pub endpoint: Option<Endpoint>,
    /// Domain after `blob.`; without one `core.windows.net`.
    pub realm: Option<String>,
    /// True if the keys begin with a slash, as `registry:2` wrote them.
    pub has_leading_slash: bool,
}

/// Credentials of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AzureCredentials {
    /// Those of the environment: the file of a workload identity, else a managed identity.
    #[default]
    Environment,
    /// Shared key of the account, in Base64.
    SharedKey(Secret),
    /// Secret of an application.
    ClientSecret {
        /// Name of the tenant.
        tenant: String,
        /// Name of the application.
        client: String,
        /// Secret of the application.
        secret: Secret,
    },
}

/// Sizes of transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferOptions {
    /// Length of a part of an upload, in bytes: at least [`MIN_PART_BYTES`](Self::MIN_PART_BYTES).
    pub part_bytes: u64,
    /// Greatest number of parts of one upload that are sent at the same time.
    pub parts_at_once: usize,
    /// Length from which on a copy is made in parts, in bytes.
    pub copy_threshold_bytes: u64,
    /// Length of a part of a copy, in bytes.
    pub copy_part_bytes: u64,
    /// Greatest number of parts of one copy that are made at the same time.
    pub copy_parts_at_once: usize,
    /// Memory for the parts of all uploads, and for reading ahead, in bytes.
    pub memory_bytes: u64,
}

// === impl BucketOptions ===

impl BucketOptions {
    /// Returns the options of a store, all others being the defaults.
    #[must_use]
    pub fn new(store: StoreOptions, root: RootPrefix) -> Self {
        Self {
            store,
            root,
            user_agent: None,
            verifies_certificate: true,
            transfers: TransferOptions::default(),
            max_in_flight: None,
            max_retries: None,
            retry_delay: None,
            is_exclusive: false,
        }
    }

    /// Returns the place with the host of its store, without credentials.
    #[must_use]
    pub fn address(&self) -> String {
        let endpoint = match &self.store {
            StoreOptions::S3(s3) => &s3.endpoint,
            StoreOptions::Gcs(gcs) => &gcs.endpoint,
            StoreOptions::Azure(azure) => &azure.endpoint,
        };
        match endpoint {
            Some(endpoint) => format!("{self} at {endpoint}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for BucketOptions {
    /// Writes the place as a URL, without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = match &self.store {
            StoreOptions::S3(s3) => {
                write!(f, "s3://{}", s3.bucket)?;
                &s3.endpoint
            }
            StoreOptions::Gcs(gcs) => {
                write!(f, "gs://{}", gcs.bucket)?;
                &gcs.endpoint
            }
            StoreOptions::Azure(azure) => {
                write!(f, "az://{}/{}", azure.account, azure.container)?;
                &azure.endpoint
            }
        };
        match self.root.as_str() {
            "" => {}
            root => write!(f, "/{root}")?,
        }
        endpoint.iter().try_for_each(|endpoint| write!(f, "?endpoint={endpoint}"))
    }
}

// === impl StoreOptions ===

impl StoreOptions {
    /// Returns true if the store takes parts of different lengths by its documentation, as those of the clouds do.
    /// Cloudflare R2 does not. A start does not try, since that takes 11 MiB.
    #[must_use]
    pub const fn is_known_to_take_unequal_parts(&self) -> bool {
        match self {
            Self::S3(s3) => s3.endpoint.is_none(),
            Self::Gcs(gcs) => gcs.endpoint.is_none(),
            Self::Azure(_) => true,
        }
    }
}

// === impl TransferOptions ===

impl TransferOptions {
    /// Shortest part that S3 accepts but for the last one, in bytes (S3 user guide, multipart upload limits).
    pub const MIN_PART_BYTES: u64 = 5 * MIB;

    /// Longest part that S3 accepts, in bytes.
    pub const MAX_PART_BYTES: u64 = 5 * 1024 * MIB;

    /// Greatest number of parts of one copy that are made at the same time, whatever the configuration says.
    pub const MAX_COPY_PARTS_AT_ONCE: usize = 32;
}

impl Default for TransferOptions {
    /// Distribution's sizes (`registry/storage/driver/s3-aws/s3.go`), and memory for 25 parts.
    fn default() -> Self {
        Self {
            part_bytes: 10 * MIB,
            parts_at_once: 4,
            copy_threshold_bytes: 32 * MIB,
            copy_part_bytes: 32 * MIB,
            copy_parts_at_once: Self::MAX_COPY_PARTS_AT_ONCE,
            memory_bytes: 256 * MIB,
        }
    }
}

//! Object stores as the storage of a registry.
//!
//! The room knows keys, objects and parts, and nothing of repositories or manifests: `quinistry-store` lays them
//! out. [`Objects`] is one bucket of any kind, with asynchronous requests.

mod abilities;
mod azure;
mod connect;
mod credentials;
mod governed;
mod memory;
mod objects;
mod options;
mod payload;
mod probe;
mod s3;
mod settings;
mod storage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transport;
mod uploads;
mod xml;

pub use self::abilities::StoreAbilities;
pub use self::azure::Azure;
pub use self::connect::{HttpClients, InvalidStore, connect};
pub use self::governed::{Governed, MAX_IN_FLIGHT, RepetitionPolicy};
pub use self::memory::TransferMemory;
pub use self::objects::{
    Condition, Listing, ListingQuery, Multipart, Object, ObjectError, ObjectErrorKind, ObjectMeta, Objects,
    Part, PendingUpload, Put, RemovalFence, RequestFuture, SignedMethod, StoreTime,
};
pub use self::options::{
    AzureCredentials, AzureOptions, BucketOptions, Endpoint, GcsCredentials, GcsOptions, InvalidBucketUrl,
    InvalidEndpoint, InvalidRoot, RootPrefix, S3Encryption, S3Keys, S3Options, Secret, StoreOptions,
    TransferOptions,
};
pub use self::payload::Payload;
pub use self::probe::{Finding, KeptProbe, ProbeDepth, ProbeError, ProbeReport, probe, probe_reading};
pub use self::s3::{InvalidExternalAccount, S3};
pub use self::settings::BucketSettings;
pub use self::storage::Bucket;
pub use self::transport::http_client;
pub use self::uploads::{BucketUploads, UploadOptions};

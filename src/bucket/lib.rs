//! Object stores as the storage of a registry.
//!
//! The room knows keys, objects and parts, and nothing of repositories or manifests: `quinistry-store` lays them
//! out. [`Objects`] is one bucket of any kind, with asynchronous requests.

mod objects;
mod options;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod uploads;

pub use self::objects::{
    Condition, Listing, ListingQuery, Multipart, Object, ObjectError, ObjectErrorKind, ObjectMeta, Objects,
    Part, PendingUpload, Put, RequestFuture, SignedMethod, StoreTime,
};
pub use self::options::{
    AzureCredentials, AzureOptions, BucketOptions, Endpoint, GcsCredentials, GcsOptions, InvalidBucketUrl,
    InvalidEndpoint, InvalidRoot, RootPrefix, S3Encryption, S3Keys, S3Options, Secret, StoreOptions,
    TransferOptions,
};
pub use self::uploads::{BucketUploads, PartMemory, UploadOptions};

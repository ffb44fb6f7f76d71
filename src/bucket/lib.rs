//! Object stores as the storage of a registry.
//!
//! The room knows keys, objects and parts, and nothing of repositories or manifests: `quinistry-store` lays them
//! out. [`Objects`] is one bucket of any kind, with asynchronous requests.

mod objects;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use self::objects::{
    Condition, Listing, ListingQuery, Multipart, Object, ObjectError, ObjectErrorKind, ObjectMeta, Objects,
    Part, PendingUpload, Put, RequestFuture, SignedMethod, StoreTime,
};

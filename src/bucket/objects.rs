//! One bucket of an object store, request by request.
//!
//! Keys are raw strings, relative to the root of the registry in the bucket. The clients of the stores and the
//! bucket of the tests implement [`Objects`]; deadlines, repetitions and concurrency are above it.

mod error;
mod removal;

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use quinistry_oci::Digest;

pub(crate) use self::error::present;
pub use self::error::{ObjectError, ObjectErrorKind};
pub(crate) use self::removal::remove_each;
use crate::{BucketSettings, Payload};

/// Future of a request.
pub type RequestFuture<'a, T> = BoxFuture<'a, Result<T, ObjectError>>;

/// A bucket. Each call is one request, which is sent once.
pub trait Objects: fmt::Debug + Send + Sync + 'static {
    /// Returns an object, or a range of it. An object whose `ETag` is `unless` is [`ObjectErrorKind::Unchanged`].
    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        unless: Option<&'a str>,
    ) -> RequestFuture<'a, Object>;

    /// Returns the metadata of an object.
    fn head<'a>(&'a self, key: &'a str) -> RequestFuture<'a, ObjectMeta>;

    /// Returns the SHA-256 of all bytes of an object that its store computed when they were written, if the store tells
    /// one.
    fn kept_sha256<'a>(&'a self, key: &'a str) -> RequestFuture<'a, Option<Digest>> {
        let _ = key;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Writes an object. Where the condition does not hold: [`ObjectErrorKind::Precondition`], and nothing is
    /// changed.
    fn put<'a>(&'a self, key: &'a str, body: Payload, condition: Condition<'a>) -> RequestFuture<'a, Put> {
        self.put_hashed(key, body, condition, None)
    }

    /// Returns true if [`put_hashed`](Self::put_hashed) tells the store the hash.
    fn sends_sha256(&self) -> bool {
        false
    }

    /// Writes an object whose bytes have this SHA-256, if it is known. A store that verifies it refuses other bytes,
    /// which a fault on the way has made: [`ObjectErrorKind::Refused`], and nothing is changed. Other stores are not
    /// told.
    fn put_hashed<'a>(
        &'a self,
        key: &'a str,
        body: Payload,
        condition: Condition<'a>,
        sha256: Option<&'a Digest>,
    ) -> RequestFuture<'a, Put>;

    /// Returns the way in which the store refuses a removal that comes too late.
    fn removal_fence(&self) -> RemovalFence;

    /// Removes an object. The removal of an absent one succeeds, where the store does not tell. Where the
    /// condition does not hold: [`ObjectErrorKind::Precondition`]. With `signed_at`, a store whose removals expire
    /// refuses the request ten seconds after that time of the store; others ignore it.
    fn delete<'a>(
        &'a self,
        key: &'a str,
        condition: Condition<'a>,
        signed_at: Option<StoreTime>,
    ) -> RequestFuture<'a, ()>;

    /// Removes at most 1,000 objects, and returns the keys that could not be removed.
    fn delete_many<'a>(&'a self, keys: &'a [String]) -> RequestFuture<'a, Vec<(String, ObjectError)>>;

    /// Returns a page of keys in the order of their bytes.
    fn list<'a>(&'a self, query: ListingQuery<'a>) -> RequestFuture<'a, Listing>;

    /// Begins an upload in parts, and returns its name.
    fn create_multipart<'a>(&'a self, key: &'a str) -> RequestFuture<'a, String>;

    /// Sends a part. Numbers begin at 1; a part replaces an earlier one of its number.
    fn put_part<'a>(&'a self, upload: Multipart<'a>, number: u32, body: Payload) -> RequestFuture<'a, Part>;

    /// Copies a range of an object of the bucket into a part.
    fn copy_part<'a>(
        &'a self,
        upload: Multipart<'a>,
        number: u32,
        from: &'a str,
        range: Range<u64>,
    ) -> RequestFuture<'a, Part>;

    /// Makes the object of the parts. Where the condition does not hold: [`ObjectErrorKind::Precondition`].
    fn complete<'a>(
        &'a self,
        upload: Multipart<'a>,
        parts: &'a [Part],
        condition: Condition<'a>,
    ) -> RequestFuture<'a, Put>;

    /// Ends an upload, and removes its parts. The end of an unknown one succeeds.
    fn abort<'a>(&'a self, upload: Multipart<'a>) -> RequestFuture<'a, ()>;

    /// Returns the uploads whose keys begin with a prefix and have not ended.
    fn list_uploads<'a>(&'a self, prefix: &'a str) -> RequestFuture<'a, Vec<PendingUpload>>;

    /// Copies an object of the bucket as a whole, at most 5 GiB.
    fn copy<'a>(&'a self, from: &'a str, to: &'a str) -> RequestFuture<'a, Put>;

    /// Returns a URL by which any client may send one request for the object until it expires; `None` if the store
    /// or its credentials cannot sign. Sends nothing.
    fn sign(&self, method: SignedMethod, key: &str, expiry: Duration) -> Option<String>;

    /// Returns the settings of the bucket that its owner should know of. Those that the store does not tell are
    /// unknown; by default all are.
    fn settings(&self) -> RequestFuture<'_, BucketSettings> {
        Box::pin(std::future::ready(Ok(BucketSettings::default())))
    }

    /// Returns the number of answers so far by which the store asked for fewer requests; 0 where they are not counted.
    fn throttlings(&self) -> u64 {
        0
    }

    /// Returns the time of the store: that of its last answer, and the time since; `None` before the first.
    fn now(&self) -> Option<StoreTime>;
}

/// Condition of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// No condition.
    Always,
    /// There is no object under the key.
    Absent,
    /// The object has this version.
    Version(&'a str),
}

/// Way in which a store refuses a removal that comes too late, when the bytes under the key may have been written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalFence {
    /// The signature of a removal expires. The same bytes may have the same version again, as on S3.
    Expiry,
    /// A removal has the version of the object as its condition, since each write makes a version that no other has, as
    /// on Google Cloud Storage and Azure.
    Version,
}

/// Metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Number of bytes.
    pub length: u64,
    /// Time of the last change, by the clock of the store.
    pub modified: SystemTime,
    /// Version of the bytes: the `ETag`, or the generation.
    pub version: String,
}

/// An object that is read.
pub struct Object {
    /// Metadata of the whole object.
    pub meta: ObjectMeta,
    /// Range of the bytes that follow.
    pub range: Range<u64>,
    /// The bytes.
    pub body: BoxStream<'static, Result<Bytes, ObjectError>>,
}

/// A written object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Version of the bytes; `None` where the store does not tell.
    pub version: Option<String>,
}

/// Query of a page of keys.
#[derive(Clone, Copy, Debug)]
pub struct ListingQuery<'a> {
    /// Beginning of the keys.
    pub prefix: &'a str,
    /// Key after which the page begins, which need not exist.
    pub after: Option<&'a str>,
    /// Greatest number of keys, at most 1,000.
    pub limit: usize,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Keys in the order of their bytes.
    pub entries: Vec<(String, ObjectMeta)>,
    /// True if more keys may follow; such a page has at least one.
    pub is_truncated: bool,
}

/// An upload in parts.
#[derive(Clone, Copy, Debug)]
pub struct Multipart<'a> {
    /// Key of the object.
    pub key: &'a str,
    /// Name that the store gave the upload.
    pub id: &'a str,
}

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number, from 1.
    pub number: u32,
    /// `ETag`, or the name of the block.
    pub tag: String,
    /// Number of bytes.
    pub length: u64,
}

/// An upload in parts that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpload {
    /// Key of the object.
    pub key: String,
    /// Name that the store gave the upload.
    pub id: String,
    /// Time of its begin.
    pub begun: SystemTime,
}

/// Method that a signed URL allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedMethod {
    /// Reads the object.
    Get,
    /// Reads its metadata.
    Head,
}

/// A time by the clock of the store, which may differ from the clock of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreTime(pub SystemTime);

// === impl Object ===

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { meta, range, .. } = self;
        f.debug_struct("Object").field("meta", meta).field("range", range).finish_non_exhaustive()
    }
}

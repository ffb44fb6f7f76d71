//! Requests to a bucket as the program sends them: with deadlines, repetitions, and a limit of how many are in
//! flight.
//!
//! A conditional change that is repeated recognises itself: after an attempt whose outcome is unknown, the condition
//! may fail because of that very attempt. What a store lacks is done in another way ([`substitutes`]).

mod deadline;
mod limit;
mod points;
mod reading;
mod repetition;
mod substitutes;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use quinistry_oci::escape::Escaped;
use quinistry_oci::{Digest, WithCauses};

use self::deadline::Deadline;
use self::limit::Limit;
use self::points::Point;
use self::repetition::Budget;
use self::substitutes::KeyLocks;
use crate::{
    BucketSettings, Condition, Listing, ListingQuery, Multipart, Object, ObjectError, ObjectErrorKind,
    ObjectMeta, Objects, Part, Payload, PendingUpload, Put, RemovalFence, RequestFuture, SignedMethod,
    StoreAbilities, StoreTime,
};

pub use self::limit::MAX_IN_FLIGHT;
#[cfg(feature = "testing")]
pub(crate) use self::points::FAILPOINTS;
pub use self::repetition::RepetitionPolicy;
pub(crate) use self::repetition::{Repetition, fraction};

/// A bucket whose requests have deadlines, are repeated, and are limited in number. Clones share the limit.
#[derive(Clone, Debug)]
pub struct Governed {
    inner: Arc<Inner>,
    abilities: StoreAbilities,
}

struct Inner {
    objects: Arc<dyn Objects>,
    policy: RepetitionPolicy,
    budget: Budget,
    limit: Limit,
    /// Held by changes whose conditions are checked in this process.
    locks: KeyLocks,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// Failure of a request, which may have been repeated.
struct Failed {
    error: ObjectError,
    /// True if an earlier attempt failed, and so may have been carried out: proxies answer 503 and 504 after a success,
    /// too.
    is_again: bool,
}

impl From<Failed> for ObjectError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

// === impl Governed ===

impl Governed {
    /// Governs the requests to a bucket, whose store can do everything as far as is known.
    #[must_use]
    pub fn new(objects: Arc<dyn Objects>, policy: RepetitionPolicy) -> Self {
        Self::with_limit(objects, policy, MAX_IN_FLIGHT)
    }

    /// Governs the requests to a bucket, of which a number is in flight at most.
    #[must_use]
    pub fn with_limit(objects: Arc<dyn Objects>, policy: RepetitionPolicy, max_in_flight: usize) -> Self {
        let (budget, limit, locks) = (Budget::default(), Limit::new(max_in_flight), KeyLocks::default());
        let inner = Arc::new(Inner { objects, policy, budget, limit, locks });
        Self { inner, abilities: StoreAbilities::ALL }
    }

    /// Sends no request that the store cannot carry out, from now on.
    #[must_use]
    pub fn with_abilities(self, abilities: StoreAbilities) -> Self {
        Self { abilities, ..self }
    }

    /// Sends a request until it succeeds, fails for good, or may not be repeated again.
    async fn repeat<'a, T>(
        &'a self,
        point: Point,
        deadline: Deadline,
        attempt: impl Fn() -> RequestFuture<'a, T> + Send + Sync,
    ) -> Result<T, Failed> {
        let Inner { policy, budget, limit, .. } = &*self.inner;
        let mut repetition = Repetition::new(*policy).with_transfer(deadline.transfer());
        let mut is_again = false;
        budget.earn();
        loop {
            let error = match self.once(point, deadline, &attempt, limit).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let pause = repetition.pause(error.kind).filter(|_| budget.spend());
            let Some(pause) = pause else { return Err(Failed { error, is_again }) };
            is_again = true;
            let attempt = repetition.attempts();
            tracing::debug!(error = %WithCauses(&error), attempt, ?pause, "repeating request to the bucket");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request once, within the limit.
    async fn once<'a, T>(
        &'a self,
        point: Point,
        deadline: Deadline,
        attempt: &(impl Fn() -> RequestFuture<'a, T> + Send + Sync),
        limit: &Limit,
    ) -> Result<T, ObjectError> {
        let permit = limit.acquire().await?;
        point.before()?;
        let answered = deadline.within(point, attempt()).await;
        match &answered {
            Ok(_) => permit.succeeded(),
            Err(error) if error.kind == ObjectErrorKind::Throttled => permit.throttled(),
            Err(_) => drop(permit),
        }
        let answered = answered?;
        point.after()?;
        Ok(answered)
    }

    fn objects(&self) -> &dyn Objects {
        &*self.inner.objects
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        unless: Option<&str>,
    ) -> Result<Object, ObjectError> {
        let attempt = || self.objects().get(key, range.clone(), unless);
        let object = self.repeat(points::GET, Deadline::FIRST_BYTE, attempt).await?;
        Ok(reading::resumed(self.clone(), key.to_owned(), object))
    }

    async fn write(
        &self,
        key: &str,
        body: Payload,
        condition: Condition<'_>,
        sha256: Option<&Digest>,
    ) -> Result<Put, ObjectError> {
        let attempt = || self.objects().put_hashed(key, body.clone(), condition, sha256);
        let failed = match self.repeat(points::PUT, Deadline::of_body(body.length()), attempt).await {
            Ok(put) => return Ok(put),
            Err(failed) => failed,
        };
        if failed.is_again && failed.error.kind == ObjectErrorKind::Precondition {
            // The bytes of an earlier attempt, or of another writer that writes the same: either way they are there.
            if let Some(version) = self.version_of_equal(key, &body).await? {
                return Ok(Put { version: Some(version) });
            }
        }
        Err(failed.error)
    }

    /// Returns the version of an object that has these bytes.
    async fn version_of_equal(&self, key: &str, body: &Payload) -> Result<Option<String>, ObjectError> {
        let mut object = match self.read(key, None, None).await {
            Ok(object) if object.meta.length == body.length() => object,
            Err(error) if error.kind != ObjectErrorKind::NotFound => return Err(error),
            _ => return Ok(None),
        };
        let mut rest = body.clone();
        while let Some(chunk) = object.body.next().await {
            if !rest.strip_prefix(&chunk?) {
                return Ok(None);
            }
        }
        Ok(rest.is_empty().then_some(object.meta.version))
    }

    async fn remove(
        &self,
        key: &str,
        condition: Condition<'_>,
        signed_at: Option<StoreTime>,
    ) -> Result<(), ObjectError> {
        let attempt = || self.objects().delete(key, condition, signed_at);
        if signed_at.is_some() {
            // Sent once: the caller must know of every attempt whose outcome is unknown, and repeats with a new fence.
            return self.once(points::DELETE, Deadline::SMALL, &attempt, &self.inner.limit).await;
        }
        let failed = match self.repeat(points::DELETE, Deadline::SMALL, attempt).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        let is_gone = matches!(failed.error.kind, ObjectErrorKind::NotFound | ObjectErrorKind::Precondition);
        if failed.is_again && is_gone {
            match self.metadata(key).await {
                Err(error) if error.kind == ObjectErrorKind::NotFound => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Err(failed.error)
    }

    async fn remove_many(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        let attempt = || self.objects().delete_many(keys);
        let mut failed = self.repeat(points::DELETE_MANY, Deadline::MANY, attempt).await?;
        // Removals that the store puts off are repeated one by one, each with its own repetitions.
        let mut lost = Vec::new();
        for (key, error) in failed.drain(..) {
            if matches!(
                error.kind,
                ObjectErrorKind::Throttled | ObjectErrorKind::Unknown | ObjectErrorKind::Conflict
            ) {
                if let Err(error) = self.remove(&key, Condition::Always, None).await {
                    lost.push((key, error));
                }
            } else {
                lost.push((key, error));
            }
        }
        Ok(lost)
    }

    async fn metadata(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        Ok(self.repeat(points::HEAD, Deadline::SMALL, || self.objects().head(key)).await?)
    }

    async fn complete_upload(
        &self,
        upload: Multipart<'_>,
        parts: &[Part],
        condition: Condition<'_>,
    ) -> Result<Put, ObjectError> {
        let attempt = || self.objects().complete(upload, parts, condition);
        let Failed { mut error, is_again } =
            match self.repeat(points::COMPLETE, Deadline::COMPLETE, attempt).await {
                Ok(put) => return Ok(put),
                Err(failed) => failed,
            };
        if is_again && matches!(error.kind, ObjectErrorKind::NotFound | ObjectErrorKind::Precondition) {
            // An earlier attempt may have ended the upload, or another writer with other parts: only the caller knows
            // which bytes the object shall have.
            error.kind = ObjectErrorKind::Unknown;
        }
        Err(error)
    }
}

/// Returns an error if a page does not begin after its key: a reader of all pages would never come to an end.
fn check_progress(query: ListingQuery<'_>, listing: &Listing) -> Result<(), ObjectError> {
    let (Some(after), Some((first, _))) = (query.after, listing.entries.first()) else { return Ok(()) };
    if first.as_str() > after {
        return Ok(());
    }
    let message = format!(
        "LIST {}: the store returned a page that begins with {}, and was asked for keys after {}",
        Escaped(query.prefix),
        Escaped(first),
        Escaped(after)
    );
    Err(ObjectError::new(ObjectErrorKind::Refused, message))
}

impl Objects for Governed {
    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        unless: Option<&'a str>,
    ) -> RequestFuture<'a, Object> {
        Box::pin(self.read(key, range, unless))
    }

    fn head<'a>(&'a self, key: &'a str) -> RequestFuture<'a, ObjectMeta> {
        Box::pin(self.metadata(key))
    }

    fn kept_sha256<'a>(&'a self, key: &'a str) -> RequestFuture<'a, Option<Digest>> {
        Box::pin(async move {
            let attempt = || self.objects().kept_sha256(key);
            Ok(self.repeat(points::HEAD, Deadline::SMALL, attempt).await?)
        })
    }

    fn sends_sha256(&self) -> bool {
        self.objects().sends_sha256()
    }

    fn put_hashed<'a>(
        &'a self,
        key: &'a str,
        body: Payload,
        condition: Condition<'a>,
        sha256: Option<&'a Digest>,
    ) -> RequestFuture<'a, Put> {
        if condition == Condition::Absent && !self.abilities.creates {
            return Box::pin(self.create_within_process(key, body));
        }
        Box::pin(self.write(key, body, condition, sha256.filter(|_| self.abilities.verifies_sha256)))
    }

    fn removal_fence(&self) -> RemovalFence {
        self.objects().removal_fence()
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        condition: Condition<'a>,
        signed_at: Option<StoreTime>,
    ) -> RequestFuture<'a, ()> {
        match condition {
            Condition::Version(version) if !self.abilities.removes_if_unchanged => {
                Box::pin(self.remove_within_process(key, version, signed_at))
            }
            _ => Box::pin(self.remove(key, condition, signed_at)),
        }
    }

    fn delete_many<'a>(&'a self, keys: &'a [String]) -> RequestFuture<'a, Vec<(String, ObjectError)>> {
        if !self.abilities.removes_many {
            return Box::pin(self.remove_one_by_one(keys));
        }
        Box::pin(self.remove_many(keys))
    }

    fn list<'a>(&'a self, query: ListingQuery<'a>) -> RequestFuture<'a, Listing> {
        Box::pin(async move {
            let listing = self.repeat(points::LIST, Deadline::SMALL, || self.objects().list(query)).await?;
            check_progress(query, &listing)?;
            Ok(listing)
        })
    }

    fn create_multipart<'a>(&'a self, key: &'a str) -> RequestFuture<'a, String> {
        Box::pin(async move {
            let attempt = || self.objects().create_multipart(key);
            Ok(self.repeat(points::CREATE_UPLOAD, Deadline::SMALL, attempt).await?)
        })
    }

    fn put_part<'a>(&'a self, upload: Multipart<'a>, number: u32, body: Payload) -> RequestFuture<'a, Part> {
        Box::pin(async move {
            let attempt = || self.objects().put_part(upload, number, body.clone());
            Ok(self.repeat(points::PUT_PART, Deadline::of_body(body.length()), attempt).await?)
        })
    }

    fn copy_part<'a>(
        &'a self,
        upload: Multipart<'a>,
        number: u32,
        from: &'a str,
        range: Range<u64>,
    ) -> RequestFuture<'a, Part> {
        Box::pin(async move {
            let attempt = || self.objects().copy_part(upload, number, from, range.clone());
            Ok(self.repeat(points::COPY_PART, Deadline::COPY_PART, attempt).await?)
        })
    }

    fn complete<'a>(
        &'a self,
        upload: Multipart<'a>,
        parts: &'a [Part],
        condition: Condition<'a>,
    ) -> RequestFuture<'a, Put> {
        Box::pin(self.complete_upload(upload, parts, condition))
    }

    fn abort<'a>(&'a self, upload: Multipart<'a>) -> RequestFuture<'a, ()> {
        Box::pin(async move {
            Ok(self.repeat(points::ABORT, Deadline::SMALL, || self.objects().abort(upload)).await?)
        })
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> RequestFuture<'a, Vec<PendingUpload>> {
        Box::pin(async move {
            let attempt = || self.objects().list_uploads(prefix);
            Ok(self.repeat(points::LIST_UPLOADS, Deadline::MANY, attempt).await?)
        })
    }

    fn copy<'a>(&'a self, from: &'a str, to: &'a str) -> RequestFuture<'a, Put> {
        if !self.abilities.copies {
            return Box::pin(std::future::ready(Err(substitutes::no_copies(to))));
        }
        Box::pin(async move {
            Ok(self.repeat(points::COPY, Deadline::COPY, || self.objects().copy(from, to)).await?)
        })
    }

    fn sign(&self, method: SignedMethod, key: &str, expiry: Duration) -> Option<String> {
        self.objects().sign(method, key, expiry)
    }

    fn settings(&self) -> RequestFuture<'_, BucketSettings> {
        // Asked once, at the start: a question that fails leaves a setting unknown.
        self.objects().settings()
    }

    fn throttlings(&self) -> u64 {
        self.inner.limit.throttlings()
    }

    fn now(&self) -> Option<StoreTime> {
        self.objects().now()
    }
}

//! Requests in place of those that a store cannot carry out.
//!
//! Conditions that a store ignores or refuses are checked here, under a lock of this process. Other processes are not
//! kept out, so that a store without creations is refused unless there is one writer.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use quinistry_oci::escape::Escaped;
use tokio::sync::{Mutex, MutexGuard};

use super::Governed;
use crate::objects::remove_each;
use crate::{Condition, ObjectError, ObjectErrorKind, Payload, Put, StoreTime};

/// Number of locks. Changes of different keys seldom wait for each other.
const LOCKS: usize = 64;

/// Locks of keys. Several keys share one.
#[derive(Debug)]
pub(super) struct KeyLocks([Mutex<()>; LOCKS]);

impl Default for KeyLocks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

// === impl KeyLocks ===

impl KeyLocks {
    async fn lock(&self, key: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % LOCKS as u64).expect("less than the number of locks");
        self.0[index].lock().await
    }
}

/// Returns the error of a condition that does not hold.
fn precondition(request: &str, key: &str, reason: &str) -> ObjectError {
    ObjectError::new(ObjectErrorKind::Precondition, format!("{request} {}: {reason}", Escaped(key)))
}

/// Returns the error of a copy that the store cannot make.
pub(super) fn no_copies(to: &str) -> ObjectError {
    let message = format!("COPY {}: the store does not copy objects", Escaped(to));
    ObjectError::new(ObjectErrorKind::Refused, message)
}

impl Governed {
    /// Creates an object if there is none, for a store that does not check this.
    pub(super) async fn create_within_process(&self, key: &str, body: Payload) -> Result<Put, ObjectError> {
        let _guard = self.inner.locks.lock(key).await;
        match self.metadata(key).await {
            Ok(_) => Err(precondition("PUT", key, "there is an object already")),
            Err(error) if error.kind == ObjectErrorKind::NotFound => {
                self.write(key, body, Condition::Always, None).await
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an object if it has a version, for a store that does not check this.
    pub(super) async fn remove_within_process(
        &self,
        key: &str,
        version: &str,
        signed_at: Option<StoreTime>,
    ) -> Result<(), ObjectError> {
        let _guard = self.inner.locks.lock(key).await;
        if self.metadata(key).await?.version != version {
            return Err(precondition("DELETE", key, "the object has changed"));
        }
        self.remove(key, Condition::Always, signed_at).await
    }

    /// Removes objects by one request each, for a store that has no other. Returns those that could not be removed.
    pub(super) async fn remove_one_by_one(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        Ok(remove_each(keys, |key| self.remove(key, Condition::Always, None)).await)
    }
}

//! Quarantine: copies of damaged bytes, for a month, in case they are all that is left of a content.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use quinistry_oci::Digest;
use uuid::Uuid;

use crate::layout::{Key, quarantine};
use crate::{Store, StoreError};

/// Age at which damaged bytes leave the quarantine.
const QUARANTINE_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// Damaged bytes in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Digest that the bytes should have had.
    pub digest: Digest,
    /// Key of the bytes.
    pub key: Key,
    /// Number of bytes.
    pub length: u64,
}

/// Returns a key of the quarantine for damaged bytes, which no other replica uses: one that finds its copy
/// useless removes it.
pub(super) fn place(canonical: &Digest, now: SystemTime) -> Key {
    let time = Timestamp::try_from(now).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string();
    let nonce = Uuid::new_v4().simple().to_string();
    quarantine().child(&format!("{}-{time}-{}", canonical.hex(), &nonce[..8]))
}

impl Store {
    /// Returns the damaged bytes in the quarantine.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>, StoreError> {
        let mut found = Vec::new();
        self.scan(&quarantine(), |key, meta| {
            let hex =
                key.beneath(&quarantine()).and_then(|(name, _)| name.split_once('-')).map(|(hex, _)| hex);
            let digest = hex.and_then(|hex| format!("sha256:{hex}").parse().ok());
            found.extend(digest.map(|digest| Quarantined { digest, key, length: meta.length }));
            Ok(())
        })?;
        Ok(found)
    }

    /// Removes bytes that have been in the quarantine for a month.
    pub(super) fn expire_quarantine(&self) -> Result<(), StoreError> {
        let mut expired = Vec::new();
        let now = self.storage().now();
        self.scan(&quarantine(), |key, meta| {
            let age = now.duration_since(meta.modified).unwrap_or_default();
            expired.extend((age > QUARANTINE_LIFETIME).then_some(key));
            Ok(())
        })?;
        for key in expired {
            self.storage().remove(&key)?;
            tracing::info!(%key, "removed damaged bytes from the quarantine after 30 days");
        }
        Ok(())
    }
}

//! Result of a probe as it is kept in the bucket, so that a restart neither pays for a probe nor writes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::objects::present;
use crate::{BucketOptions, ObjectError, Objects, StoreAbilities};

/// Object that describes the layout of the registry, beside whose versions the result is kept.
pub(crate) const FORMAT: &str = "docker/registry/v2/_quinistry/format";

/// Time for which a result is believed.
const LIFETIME: Duration = Duration::from_hours(24);

/// Time by which a result may come from the future: each process estimates the time of the store, which tells seconds.
const TOLERANCE: Duration = Duration::from_mins(1);

/// Longest description of the layout that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Result of a probe as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptProbe {
    /// Abilities that were found.
    pub abilities: StoreAbilities,
    /// Time of the probe by the clock of the store (RFC 3339).
    pub probed: String,
    /// Store that was probed: a bucket may have been copied to another one.
    store: String,
    /// Version of the program that probed: another one may try more.
    version: String,
}

/// Description of the layout, as far as probes are concerned.
#[derive(Debug, Deserialize)]
struct Format {
    probe: Option<serde_json::Value>,
}

// === impl KeptProbe ===

impl KeptProbe {
    /// Name of the field of the description that has the result.
    pub const FIELD: &str = "probe";

    /// Makes the result of a probe that has just ended.
    #[must_use]
    pub fn new(abilities: StoreAbilities, objects: &dyn Objects, options: &BucketOptions) -> Self {
        Self {
            abilities,
            probed: Timestamp::try_from(now(objects)).unwrap_or_default().to_string(),
            store: options.address(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Reads the result of an earlier probe of this store; `None` if there is none. Writes nothing.
    pub async fn read(objects: &dyn Objects, options: &BucketOptions) -> Result<Option<Self>, ObjectError> {
        let Some(object) = present(objects.get(FORMAT, None, None).await)? else { return Ok(None) };
        if object.meta.length > MAX_BYTES {
            return Ok(None);
        }
        let chunks: Vec<Bytes> = object.body.try_collect().await?;
        let format: Option<Format> = serde_json::from_slice(&chunks.concat()).ok();
        let kept = format.and_then(|format| format.probe);
        // That of another version may have other abilities.
        let kept: Option<Self> = kept.and_then(|kept| serde_json::from_value(kept).ok());
        Ok(kept.filter(|kept| kept.store == options.address() && kept.version == env!("CARGO_PKG_VERSION")))
    }

    /// Returns true if a writer may rely on the result.
    #[must_use]
    pub fn is_fresh(&self, objects: &dyn Objects) -> bool {
        self.probed.parse::<Timestamp>().is_ok_and(|probed| is_recent(probed.into(), now(objects)))
    }
}

fn is_recent(probed: SystemTime, now: SystemTime) -> bool {
    let age = (now + TOLERANCE).duration_since(probed);
    age.is_ok_and(|age| age < LIFETIME + TOLERANCE)
}

/// Returns the time of the store.
fn now(objects: &dyn Objects) -> SystemTime {
    objects.now().map_or_else(SystemTime::now, |now| now.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_believed_for_a_day_and_by_clocks_that_differ_a_little() {
        let probed = SystemTime::UNIX_EPOCH + Duration::from_hours(1000);
        for early in [Duration::ZERO, Duration::from_secs(1), TOLERANCE] {
            assert!(is_recent(probed, probed - early), "{early:?}");
        }
        assert!(!is_recent(probed, probed - Duration::from_mins(2)), "a clock that was wrong");
        assert!(is_recent(probed, probed + LIFETIME - Duration::from_secs(1)));
        assert!(!is_recent(probed, probed + LIFETIME));
    }
}

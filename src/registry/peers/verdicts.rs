//! Results of checks of manifests, for a short time. Pure.

use std::time::{Duration, Instant};

use super::ContentKey;
use super::completeness::HeldManifest;
use crate::upstreams::bounded_map::BoundedMap;

/// Time for which a manifest counts as complete.
const COMPLETE_LIFETIME: Duration = Duration::from_secs(10);

/// Time for which a manifest counts as absent or incomplete. Short, so that what is being loaded is found soon.
const INCOMPLETE_LIFETIME: Duration = Duration::from_secs(2);

/// Capacity in bytes, of manifests and their keys.
const CAPACITY_BYTES: usize = 8 * 1024 * 1024;

/// Weight of an entry beside the manifest, in bytes.
const ENTRY_BYTES: usize = 512;

/// Result of a check.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Neither this registry nor a peer has the manifest.
    Absent,
    /// Something that the manifest needs cannot be served.
    Incomplete,
    /// Peers that may have something of it are busy, which is not remembered.
    Busy,
    /// Everything that the manifest needs can be served.
    Complete(HeldManifest),
}

/// Results of the last checks.
#[derive(Debug)]
pub(super) struct Verdicts(BoundedMap<ContentKey, (Instant, Verdict)>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(BoundedMap::new(CAPACITY_BYTES))
    }
}

impl Verdicts {
    /// Returns the result of a check that still counts.
    pub(super) fn get(&self, key: &ContentKey, now: Instant) -> Option<Verdict> {
        let (time, verdict) = self.0.get(key)?;
        let lifetime = match verdict {
            Verdict::Complete(_) => COMPLETE_LIFETIME,
            Verdict::Absent | Verdict::Incomplete | Verdict::Busy => INCOMPLETE_LIFETIME,
        };
        (now.duration_since(*time) < lifetime).then(|| verdict.clone())
    }

    pub(super) fn note(&mut self, key: ContentKey, verdict: Verdict, now: Instant) {
        let bytes = match &verdict {
            Verdict::Complete(manifest) => manifest.bytes.len(),
            Verdict::Absent | Verdict::Incomplete | Verdict::Busy => 0,
        };
        self.0.insert(key, (now, verdict), ENTRY_BYTES + bytes);
    }

    /// Forgets all results.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinistry_oci::{Digest, media_type};

    use super::*;

    #[test]
    fn a_complete_manifest_counts_for_ten_seconds_and_an_incomplete_one_for_two() {
        let key: ContentKey = ("a".parse().unwrap(), Digest::sha256(b"a"));
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        let after = |millis| now + Duration::from_millis(millis);
        let held = HeldManifest { bytes: Bytes::from_static(b"a"), media_type: media_type::OCI_MANIFEST };
        verdicts.note(key.clone(), Verdict::Complete(held), now);
        assert!(matches!(verdicts.get(&key, after(9_999)), Some(Verdict::Complete(_))));
        assert!(verdicts.get(&key, after(10_000)).is_none());
        for verdict in [Verdict::Absent, Verdict::Incomplete] {
            verdicts.note(key.clone(), verdict, now);
            assert!(verdicts.get(&key, after(1_999)).is_some());
            assert!(verdicts.get(&key, after(2_000)).is_none());
        }
        verdicts.note(key.clone(), Verdict::Absent, now);
        verdicts.clear();
        assert!(verdicts.get(&key, now).is_none());
    }

    #[test]
    fn manifests_take_no_more_than_8_mib() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        let key = |number: u8| ("a".parse().unwrap(), Digest::sha256(&[number]));
        let bytes = Bytes::from(vec![b' '; 3 * 1024 * 1024]);
        for number in 0..3 {
            let held = HeldManifest { bytes: bytes.clone(), media_type: media_type::OCI_INDEX };
            verdicts.note(key(number), Verdict::Complete(held), now);
        }
        assert!(verdicts.get(&key(0), now).is_none());
        assert!(verdicts.get(&key(1), now).is_some() && verdicts.get(&key(2), now).is_some());
    }
}

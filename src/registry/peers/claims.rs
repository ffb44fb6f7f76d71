//! Peers that say they have a blob, and then do not send it. Pure.
//!
//! A client that finds a manifest, and then none of its blobs, asks for the manifest again, in a loop (spegel#1378).
//! What such a peer says about the blob does not count for some time, so that the manifest is not served either.

use std::time::{Duration, Instant};

use quinistry_oci::Digest;

use crate::upstreams::bounded_map::BoundedMap;

/// Time for which a peer is not believed that has not sent a blob. An address may lead to several stores, of which
/// another one has the blob.
const UNSENT_DISBELIEF: Duration = Duration::from_secs(10);

/// Time for which a peer is not believed that has sent wrong bytes, and is not asked for them again.
const WRONG_DISBELIEF: Duration = Duration::from_mins(1);

/// Capacity in pairs of peer and digest. One that is forgotten is believed again.
const CAPACITY: usize = 4096;

type Pair = (usize, Digest);

/// Claims of peers, and those that were wrong.
#[derive(Debug)]
pub(super) struct Claims {
    made: BoundedMap<Pair, ()>,
    /// Ends of disbelief.
    wrong: BoundedMap<Pair, Instant>,
}

impl Default for Claims {
    fn default() -> Self {
        Self { made: BoundedMap::new(CAPACITY), wrong: BoundedMap::new(CAPACITY) }
    }
}

impl Claims {
    /// Notes that a peer says it has a blob.
    pub(super) fn note(&mut self, peer: usize, digest: &Digest) {
        self.made.refresh(&(peer, digest.clone()), (), 1);
    }

    /// Notes that a peer has not sent a blob. Returns true if the peer had said that it has the blob.
    pub(super) fn note_unsent(&mut self, peer: usize, digest: &Digest, now: Instant) -> bool {
        let pair = (peer, digest.clone());
        let was_made = self.made.remove(&pair).is_some();
        if was_made {
            self.wrong.insert(pair, now + UNSENT_DISBELIEF, 1);
        }
        was_made
    }

    /// Notes that a peer has sent other bytes than those of the digest.
    pub(super) fn note_wrong(&mut self, peer: usize, digest: &Digest, now: Instant) {
        self.made.remove(&(peer, digest.clone()));
        self.wrong.insert((peer, digest.clone()), now + WRONG_DISBELIEF, 1);
    }

    /// Returns true if a peer is believed when it says that it has a blob.
    pub(super) fn believes(&self, peer: usize, digest: &Digest, now: Instant) -> bool {
        self.wrong.get(&(peer, digest.clone())).is_none_or(|end| now >= *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_peer_that_claims_and_does_not_send_loses_its_credit_for_ten_seconds() {
        let (digest, other, now) = (Digest::sha256(b"a"), Digest::sha256(b"b"), Instant::now());
        let mut claims = Claims::default();
        // Absent content of which nothing was said takes no room.
        assert!(!claims.note_unsent(0, &digest, now));
        assert!(claims.believes(0, &digest, now));
        claims.note(0, &digest);
        assert!(claims.note_unsent(0, &digest, now));
        assert!(!claims.believes(0, &digest, now + Duration::from_secs(9)));
        assert!(claims.believes(0, &digest, now + Duration::from_secs(10)));
        assert!(claims.believes(1, &digest, now) && claims.believes(0, &other, now));
    }

    #[test]
    fn wrong_bytes_need_no_claim_and_count_for_a_minute() {
        let (digest, now) = (Digest::sha256(b"a"), Instant::now());
        let mut claims = Claims::default();
        claims.note_wrong(2, &digest, now);
        assert!(!claims.believes(2, &digest, now + Duration::from_secs(59)));
        assert!(claims.believes(2, &digest, now + Duration::from_mins(1)));
    }
}

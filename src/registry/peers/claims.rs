//! Peers that say they have a blob, and then do not send it. Pure.
//!
//! A client that finds a manifest, and then none of its blobs, asks for the manifest again, in a loop (spegel#1378).
//! The claim of such a peer about the blob does not count for some time, so that the manifest is not served either.

use std::time::{Duration, Instant};

use quinistry_oci::Digest;

use super::ContentKey;
use crate::upstreams::bounded_map::BoundedMap;

/// Time for which a peer is not believed that has not sent a blob. An address may lead to several stores, of which
/// another one has the blob.
const UNSENT_DISBELIEF: Duration = Duration::from_secs(10);

/// Time for which a peer is not believed that has sent wrong bytes, and is not asked for them again.
const WRONG_DISBELIEF: Duration = Duration::from_mins(1);

/// Number of wrong transfers within that time after which a peer is not believed. Behind the address of a
/// service are several stores, of which one may lie: the next connection may reach another one.
const WRONGS_UNTIL_DISBELIEF: u8 = 3;

/// Capacity in peers and digests. One that is forgotten is believed again.
const CAPACITY: usize = 4096;

/// Claims of peers, and those that were wrong.
#[derive(Debug)]
pub(super) struct Claims {
    made: BoundedMap<(usize, ContentKey), ()>,
    /// Ends of disbelief because of blobs that were not sent. A peer may have a blob in one repository, and not in another.
    unsent: BoundedMap<(usize, ContentKey), Instant>,
    /// Wrong transfers, in any repository, and the time until which they count.
    wrong: BoundedMap<(usize, Digest), (u8, Instant)>,
    /// Blobs whose wrong bytes came from several peers, and the time until which that counts.
    mixed: BoundedMap<Digest, Instant>,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            made: BoundedMap::new(CAPACITY),
            unsent: BoundedMap::new(CAPACITY),
            wrong: BoundedMap::new(CAPACITY),
            mixed: BoundedMap::new(CAPACITY),
        }
    }
}

impl Claims {
    /// Notes that a peer says it has a blob.
    pub(super) fn note(&mut self, peer: usize, blob: &ContentKey) {
        self.made.refresh(&(peer, blob.clone()), (), 1);
    }

    /// Notes that a peer has not sent a blob. Returns true if the peer had said that it has the blob.
    pub(super) fn note_unsent(&mut self, peer: usize, blob: &ContentKey, now: Instant) -> bool {
        let claim = (peer, blob.clone());
        let was_made = self.made.remove(&claim).is_some();
        if was_made {
            self.unsent.insert(claim, now + UNSENT_DISBELIEF, 1);
        }
        was_made
    }

    /// Notes that a peer has sent other bytes than those of the digest.
    pub(super) fn note_wrong(&mut self, peer: usize, digest: &Digest, now: Instant) {
        let times = self.wrongs(peer, digest, now).saturating_add(1);
        self.wrong.insert((peer, digest.clone()), (times, now + WRONG_DISBELIEF), 1);
    }

    /// Notes that wrong bytes came from several peers, of which any may have lied.
    pub(super) fn note_mixed(&mut self, digest: &Digest, now: Instant) {
        self.mixed.insert(digest.clone(), now + WRONG_DISBELIEF, 1);
    }

    /// Returns true if a transfer that breaks may go on at another peer. Otherwise it would not show again
    /// which of them lies.
    pub(super) fn may_mix(&self, digest: &Digest, now: Instant) -> bool {
        self.mixed.get(digest).is_none_or(|end| now >= *end)
    }

    /// Returns the number of wrong transfers of a blob from a peer that count.
    fn wrongs(&self, peer: usize, digest: &Digest, now: Instant) -> u8 {
        let counted = self.wrong.get(&(peer, digest.clone())).filter(|(_, end)| now < *end);
        counted.map_or(0, |(times, _)| *times)
    }

    /// Returns true if a peer has sent wrong bytes, so that others are asked first, and this one on a new
    /// connection.
    pub(super) fn is_suspect(&self, peer: usize, digest: &Digest, now: Instant) -> bool {
        self.wrongs(peer, digest, now) > 0
    }

    /// Returns true if a peer is not asked for a blob, of which it has sent wrong bytes again and again.
    pub(super) fn is_liar(&self, peer: usize, digest: &Digest, now: Instant) -> bool {
        self.wrongs(peer, digest, now) >= WRONGS_UNTIL_DISBELIEF
    }

    /// Returns true if a peer is believed when it says that it has a blob.
    pub(super) fn believes(&self, peer: usize, blob: &ContentKey, now: Instant) -> bool {
        let has_ended = |end: Option<&Instant>| end.is_none_or(|end| now >= *end);
        has_ended(self.unsent.get(&(peer, blob.clone()))) && !self.is_liar(peer, &blob.1, now)
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::RepositoryName;

    use super::*;

    fn key(name: &str, bytes: &[u8]) -> ContentKey {
        let name: RepositoryName = name.parse().unwrap();
        (name, Digest::sha256(bytes))
    }

    #[test]
    fn only_a_peer_that_claims_and_does_not_send_loses_its_credit_for_ten_seconds() {
        let (blob, other, now) = (key("a", b"a"), key("a", b"b"), Instant::now());
        let mut claims = Claims::default();
        // Absent content of which nothing was said takes no room.
        assert!(!claims.note_unsent(0, &blob, now));
        assert!(claims.believes(0, &blob, now));
        claims.note(0, &blob);
        assert!(claims.note_unsent(0, &blob, now));
        assert!(!claims.believes(0, &blob, now + Duration::from_secs(9)));
        assert!(claims.believes(0, &blob, now + Duration::from_secs(10)));
        assert!(claims.believes(1, &blob, now) && claims.believes(0, &other, now));
    }

    #[test]
    fn a_claim_about_one_repository_says_nothing_about_another() {
        let (blob, elsewhere, now) = (key("a", b"a"), key("b", b"a"), Instant::now());
        let mut claims = Claims::default();
        claims.note(0, &blob);
        assert!(!claims.note_unsent(0, &elsewhere, now));
        assert!(claims.believes(0, &blob, now) && claims.believes(0, &elsewhere, now));
    }

    #[test]
    fn wrong_bytes_again_and_again_need_no_claim_and_count_for_a_minute_in_each_repository() {
        let (blob, elsewhere, now) = (key("a", b"a"), key("b", b"a"), Instant::now());
        let mut claims = Claims::default();
        for _ in 0..WRONGS_UNTIL_DISBELIEF {
            assert!(claims.believes(2, &blob, now));
            claims.note_wrong(2, &blob.1, now);
            assert!(claims.is_suspect(2, &blob.1, now));
        }
        for blob in [blob, elsewhere] {
            assert!(!claims.believes(2, &blob, now + Duration::from_secs(59)));
            assert!(claims.believes(2, &blob, now + Duration::from_mins(1)));
        }
    }
}

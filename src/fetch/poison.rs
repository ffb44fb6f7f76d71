//! Memory of the sources that have sent wrong content. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinistry_oci::Digest;

/// Time for which a source is not asked again for content of which it has sent other bytes.
pub(crate) const POISON_LIFETIME: Duration = Duration::from_mins(1);

/// Capacity in pairs of source and digest. Beyond it the oldest are forgotten, which costs a transfer that fails.
const CAPACITY: usize = 4096;

type Pair = (Arc<str>, Digest);

/// Pairs of source and digest, with the time at which wrong content came last.
#[derive(Debug, Default)]
pub(crate) struct PoisonMemory {
    times: HashMap<Pair, Instant>,
    /// Pairs in the order of their times, with those of former times.
    order: VecDeque<(Instant, Pair)>,
}

impl PoisonMemory {
    /// Remembers that a source has sent wrong content.
    pub(crate) fn note(&mut self, source: &Arc<str>, digest: &Digest, now: Instant) {
        let pair = (source.clone(), digest.clone());
        self.times.insert(pair.clone(), now);
        self.order.push_back((now, pair));
        while self.order.len() > CAPACITY {
            self.forget_oldest();
        }
    }

    /// Returns true if the source has sent wrong content for the digest within [`POISON_LIFETIME`].
    pub(crate) fn contains(&mut self, source: &Arc<str>, digest: &Digest, now: Instant) -> bool {
        while self.order.front().is_some_and(|(time, _)| now.duration_since(*time) >= POISON_LIFETIME) {
            self.forget_oldest();
        }
        !self.times.is_empty() && self.times.contains_key(&(source.clone(), digest.clone()))
    }

    fn forget_oldest(&mut self) {
        if let Some((time, pair)) = self.order.pop_front()
            && self.times.get(&pair) == Some(&time)
        {
            self.times.remove(&pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_forgotten_after_its_lifetime_and_others_never_match() {
        let mut memory = PoisonMemory::default();
        let [one, other] = ["one", "other"].map(Arc::<str>::from);
        let [a, b] = [b"a", b"b"].map(|bytes| Digest::sha256(bytes));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        memory.note(&one, &a, start);
        assert!(memory.contains(&one, &a, after(59)));
        assert!(!memory.contains(&other, &a, after(59)) && !memory.contains(&one, &b, after(59)));
        // Noted again, the pair stays for as long again.
        memory.note(&one, &a, after(59));
        assert!(memory.contains(&one, &a, after(118)));
        assert!(!memory.contains(&one, &a, after(119)));
        assert!(memory.times.is_empty() && memory.order.is_empty());
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut memory = PoisonMemory::default();
        let (source, now) = (Arc::from("one"), Instant::now());
        let digest = |number: usize| Digest::sha256(&number.to_le_bytes());
        for number in 0..=CAPACITY {
            memory.note(&source, &digest(number), now);
        }
        assert_eq!((memory.times.len(), memory.order.len()), (CAPACITY, CAPACITY));
        assert!(
            !memory.contains(&source, &digest(0), now) && memory.contains(&source, &digest(CAPACITY), now)
        );
    }
}

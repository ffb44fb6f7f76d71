//! Refused writes of `ConfigMaps` of names, in memory: a refusal holds for a while, so that a failing
//! admission webhook is not called in each pass, and longer each time. Pure, with the time as an argument.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::plan::Verdict;

/// Time for which the first refusal holds that may pass by itself.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Time for which any other refusal holds, and the longest time of one that may pass.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// Last refusal for each registry, by UID.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<String, Refused>);

#[derive(Debug)]
struct Refused {
    /// Hash of the refused content.
    hash: String,
    verdict: Verdict,
    at: Instant,
    /// Time for which the refusal holds.
    limit: Duration,
}

// === impl Refusals ===

impl Refusals {
    /// Returns the refusal of this content, while it holds.
    pub(super) fn holding(&self, registry: &str, hash: &str, now: Instant) -> Option<Verdict> {
        let last = self.0.get(registry)?;
        let holds = last.hash == hash && now.duration_since(last.at) < last.limit;
        holds.then(|| last.verdict.clone())
    }

    /// Records a refusal, which may pass by itself if `passes`. Returns true if it is news.
    pub(super) fn record(
        &mut self,
        registry: &str,
        hash: &str,
        verdict: Verdict,
        passes: bool,
        now: Instant,
    ) -> bool {
        let last = self.0.get(registry).filter(|last| last.hash == hash);
        let limit = match last {
            Some(last) if passes => last.limit.saturating_mul(2).min(MAX_PAUSE),
            None if passes => FIRST_PAUSE,
            _ => MAX_PAUSE,
        };
        let is_news = last.is_none_or(|last| last.verdict != verdict);
        self.0.insert(registry.into(), Refused { hash: hash.into(), verdict, at: now, limit });
        is_news
    }

    /// Records that a registry's content was accepted.
    pub(super) fn clear(&mut self, registry: &str) {
        self.0.remove(registry);
    }

    /// Returns the time until the next write is tried again.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        self.0.values().map(|last| last.limit.saturating_sub(now.duration_since(last.at))).min()
    }

    /// Removes the refusals of all registries but these.
    pub(super) fn retain(&mut self, registries: &BTreeSet<String>) {
        self.0.retain(|uid, _| registries.contains(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::BundleReason;

    fn verdict(message: &str) -> Verdict {
        Verdict { reason: BundleReason::NamesRejected, message: message.into() }
    }

    #[test]
    fn a_refusal_that_may_pass_holds_longer_each_time() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            refusals.record("r", "h", verdict("webhook"), true, now);
            let due = refusals.due(now).unwrap();
            assert_eq!(refusals.holding("r", "h", now + due / 2), Some(verdict("webhook")));
            now += due;
            assert_eq!(refusals.holding("r", "h", now), None, "it is tried again");
            pauses.push(due.as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn other_content_is_written_at_once_and_a_quota_holds_for_a_minute() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert!(refusals.record("r", "h", verdict("quota"), false, now));
        assert_eq!(refusals.due(now), Some(MAX_PAUSE));
        assert_eq!(refusals.holding("r", "other", now), None);
        assert_eq!(refusals.holding("another", "h", now), None);
        assert!(!refusals.record("r", "h", verdict("quota"), false, now), "it is logged once");
        assert!(refusals.record("r", "h", verdict("policy"), false, now));
        refusals.clear("r");
        assert_eq!((refusals.due(now), refusals.holding("r", "h", now)), (None, None));
    }
}

//! Decision about which copies go. Pure.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::gc::online::subject::ContentId;

/// Limits of the copies of one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyLimits {
    /// Name of the upstream, for reasons and the log.
    pub upstream: String,
    /// Time since the last use after which a copy goes; `None` if copies do not expire. These do not make room for other
    /// content, either.
    pub keep: Option<Duration>,
    /// Greatest number of bytes of all copies, if they are limited.
    pub max_bytes: Option<u64>,
}

/// Reason of an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvictionReason {
    /// No client has used the copy for so long.
    Unused(Duration),
    /// The copies of the upstream have more bytes than their limit.
    Size(u64),
    /// The storage has too little room.
    Room,
}

/// Facts about one copy.
#[derive(Clone, Debug)]
pub(super) struct CopyFacts {
    /// Index of the upstream.
    pub(super) upstream: usize,
    /// Last use of the copy, or of an index or subject that leads to it.
    pub(super) used: SystemTime,
    /// The copy must stay.
    pub(super) is_protected: bool,
    /// Stored content that the copy needs, its own bytes among it, each with its length.
    pub(super) content: Vec<(ContentId, u64)>,
}

/// Facts about time and room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Time at which the facts were read.
    pub(super) now: SystemTime,
    /// Time since the last use before which a copy counts as being read.
    pub(super) min_idle: Duration,
    /// Bytes that other content needs.
    pub(super) room: u64,
}

/// Copy that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    /// Index of the copy.
    pub(super) at: usize,
    pub(super) reason: EvictionReason,
    /// Bytes of the content that no copy needs any more.
    pub(super) freed_bytes: u64,
}

/// Number of copies that need each content, and the length of all content.
#[derive(Default)]
pub(super) struct Usage {
    needs: HashMap<ContentId, usize>,
    bytes: u64,
}

impl fmt::Display for EvictionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused(Duration::ZERO) => f.write_str("an administrator asked for it"),
            Self::Unused(keep) => write!(f, "no use for {} seconds", keep.as_secs()),
            Self::Size(bytes) => write!(f, "copies have more than {bytes} bytes"),
            Self::Room => f.write_str("the storage has too little room"),
        }
    }
}

impl Usage {
    pub(super) fn add(&mut self, copy: &CopyFacts) {
        for (content, length) in &copy.content {
            let needs = self.needs.entry(*content).or_default();
            *needs += 1;
            if *needs == 1 {
                self.bytes += length;
            }
        }
    }

    /// Returns the length of all content.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a copy out. Returns the length of the content that no other copy needs.
    fn remove(&mut self, copy: &CopyFacts) -> u64 {
        let mut freed = 0;
        for (content, length) in &copy.content {
            let Some(needs) = self.needs.get_mut(content) else { continue };
            *needs -= 1;
            if *needs == 0 {
                self.needs.remove(content);
                freed += length;
            }
        }
        self.bytes -= freed;
        freed
    }
}

/// Plan that is being made.
struct Planner<'a> {
    copies: &'a [CopyFacts],
    /// Usage of each upstream.
    usages: Vec<Usage>,
    /// Usage of all upstreams together, which may need the same content.
    whole: Usage,
    freed_bytes: u64,
    gone: Vec<Departure>,
}

/// Returns the copies that go, in this order: those that were not used for too long, then the
/// least recently used ones of upstreams that are too large, then those of all upstreams for the room that is needed.
pub(super) fn plan(limits: &[CopyLimits], copies: &[CopyFacts], demand: Demand) -> Vec<Departure> {
    let idle = |at: usize| demand.now.duration_since(copies[at].used).unwrap_or_default();
    let limits_of = |at: usize| &limits[copies[at].upstream];
    let mut order: Vec<usize> = (0..copies.len()).collect();
    order.retain(|at| !copies[*at].is_protected && idle(*at) >= demand.min_idle);
    order.sort_by_key(|at| copies[*at].used);
    let mut planner = Planner::new(limits.len(), copies);
    order.retain(|at| match limits_of(*at).keep {
        Some(keep) if idle(*at) >= keep => planner.evict(*at, EvictionReason::Unused(keep)),
        _ => true,
    });
    order.retain(|at| match limits_of(*at).max_bytes {
        Some(max) if planner.usages[copies[*at].upstream].bytes > max => {
            planner.evict(*at, EvictionReason::Size(max))
        }
        _ => true,
    });
    order.retain(|at| {
        let is_wanted = planner.freed_bytes < demand.room && limits_of(*at).keep.is_some();
        !is_wanted || planner.evict(*at, EvictionReason::Room)
    });
    planner.gone
}

impl<'a> Planner<'a> {
    fn new(upstreams: usize, copies: &'a [CopyFacts]) -> Self {
        let mut usages: Vec<Usage> = (0..upstreams).map(|_| Usage::default()).collect();
        let mut whole = Usage::default();
        for copy in copies {
            usages[copy.upstream].add(copy);
            whole.add(copy);
        }
        Self { copies, usages, whole, freed_bytes: 0, gone: Vec::new() }
    }

    /// Evicts a copy. Returns false: the copy does not stay.
    fn evict(&mut self, at: usize, reason: EvictionReason) -> bool {
        let copy = &self.copies[at];
        self.usages[copy.upstream].remove(copy);
        let freed_bytes = self.whole.remove(copy);
        self.freed_bytes += freed_bytes;
        self.gone.push(Departure { at, reason, freed_bytes });
        false
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Digest;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 1000 * HOUR
    }

    fn limits(keep: Option<u32>, max_bytes: Option<u64>) -> CopyLimits {
        CopyLimits { upstream: "hub".into(), keep: keep.map(|hours| hours * HOUR), max_bytes }
    }

    /// Returns a copy that was used some hours ago, and needs content by name and length.
    fn copy(upstream: usize, hours: u32, content: &[(&str, u64)]) -> CopyFacts {
        let id = |name: &str| ContentId::of(&Digest::sha256(name.as_bytes())).unwrap();
        CopyFacts {
            upstream,
            used: now() - hours * HOUR,
            is_protected: false,
            content: content.iter().map(|(name, length)| (id(name), *length)).collect(),
        }
    }

    fn planned(limits: &[CopyLimits], copies: &[CopyFacts], room: u64) -> Vec<usize> {
        let demand = Demand { now: now(), min_idle: HOUR, room };
        plan(limits, copies, demand).into_iter().map(|departure| departure.at).collect()
    }

    #[test]
    fn copies_go_when_they_were_not_used_for_as_long_as_they_are_kept() {
        let copies = [copy(0, 167, &[]), copy(0, 168, &[]), copy(1, 999, &[]), copy(0, 200, &[])];
        let reason = EvictionReason::Unused(168 * HOUR);
        let demand = Demand { now: now(), min_idle: HOUR, room: 0 };
        let both = [limits(Some(168), None), limits(None, None)];
        let expected = [3, 1].map(|at| Departure { at, reason, freed_bytes: 0 });
        assert_eq!(plan(&both, &copies, demand), expected);
    }

    #[test]
    fn a_copy_that_is_being_read_or_protected_stays_whatever_the_limits() {
        let mut copies = [copy(0, 0, &[("a", 10)]), copy(0, 500, &[("b", 10)])];
        copies[1].is_protected = true;
        // Its clock is ahead.
        let future = CopyFacts { used: now() + HOUR, ..copy(0, 0, &[("c", 10)]) };
        let copies = [copies.as_slice(), &[future]].concat();
        assert_eq!(planned(&[limits(Some(0), Some(0))], &copies, 100), [0; 0]);
    }

    #[test]
    fn the_least_recently_used_go_until_the_size_holds_and_shared_content_counts_once() {
        let copies = [
            copy(0, 2, &[("base", 50), ("a", 10)]),
            copy(0, 9, &[("base", 50), ("b", 10)]),
            copy(0, 5, &[("base", 50), ("c", 10)]),
            copy(1, 99, &[("other", 500)]),
        ];
        let with = |max| [limits(Some(168), Some(max)), limits(Some(168), None)];
        for (max, expected) in [(80, &[][..]), (79, &[1]), (70, &[1]), (69, &[1, 2]), (59, &[1, 2, 0])] {
            assert_eq!(planned(&with(max), &copies, 0), expected, "{max}");
        }
    }

    #[test]
    fn room_is_made_by_the_least_recently_used_of_all_upstreams_whose_copies_expire() {
        let copies = [
            copy(0, 2, &[("a", 10)]),
            copy(1, 9, &[("b", 10)]),
            copy(2, 99, &[("c", 10)]),
            copy(0, 7, &[("b", 10)]),
        ];
        let all = [limits(Some(168), None), limits(Some(168), None), limits(None, None)];
        assert_eq!(planned(&all, &copies, 0), [0; 0]);
        // Both copies need the same content, and only the second one frees it.
        assert_eq!(planned(&all, &copies, 10), [1, 3]);
        assert_eq!(planned(&all, &copies, 11), [1, 3, 0]);
        // What has expired makes room, too.
        let short = [limits(Some(8), None), limits(Some(8), None), limits(None, None)];
        assert_eq!(planned(&short, &copies, 10), [1, 3]);
    }
}

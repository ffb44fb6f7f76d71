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
    /// SHA-256 of the manifest, by which indexes and referrers name it.
    pub(super) own: ContentId,
    /// Copies of the repository that pass their use on to this one: indexes that name it, and its subject.
    pub(super) keepers: Vec<ContentId>,
    /// Greatest number of keepers one above the other.
    pub(super) depth: usize,
    /// Stored content that the copy needs, its own bytes among it.
    pub(super) content: Vec<ContentId>,
}

/// Lengths of stored content in bytes. What a manifest says of a length is not verified, and is not used.
pub(super) type Lengths = HashMap<ContentId, u64>;

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
pub(super) struct Usage<'a> {
    lengths: &'a Lengths,
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

impl<'a> Usage<'a> {
    pub(super) fn new(lengths: &'a Lengths) -> Self {
        Self { lengths, needs: HashMap::new(), bytes: 0 }
    }

    pub(super) fn add(&mut self, copy: &CopyFacts) {
        for content in &copy.content {
            let needs = self.needs.entry(*content).or_default();
            *needs += 1;
            if *needs == 1 {
                self.bytes = self.bytes.saturating_add(self.length_of(*content));
            }
        }
    }

    fn length_of(&self, content: ContentId) -> u64 {
        self.lengths.get(&content).copied().unwrap_or_default()
    }

    /// Returns the length of all content.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a copy out. Returns the length of the content that no other copy needs.
    fn remove(&mut self, copy: &CopyFacts) -> u64 {
        let mut freed: u64 = 0;
        for content in &copy.content {
            let Some(needs) = self.needs.get_mut(content) else { continue };
            *needs -= 1;
            if *needs == 0 {
                self.needs.remove(content);
                freed = freed.saturating_add(self.length_of(*content));
            }
        }
        self.bytes = self.bytes.saturating_sub(freed);
        freed
    }
}

/// Plan that is being made.
struct Planner<'a> {
    copies: &'a [CopyFacts],
    /// Usage of each upstream.
    usages: Vec<Usage<'a>>,
    /// Usage of all upstreams together, which may need the same content.
    whole: Usage<'a>,
    freed_bytes: u64,
    gone: Vec<Departure>,
}

/// Returns the copies that go, in this order: those that were not used for too long, then the
/// least recently used ones of upstreams that are too large, then those of all upstreams for the room that is needed.
pub(super) fn plan(
    limits: &[CopyLimits],
    (copies, lengths): (&[CopyFacts], &Lengths),
    demand: Demand,
) -> Vec<Departure> {
    let idle = |at: usize| demand.now.duration_since(copies[at].used).unwrap_or_default();
    let limits_of = |at: usize| &limits[copies[at].upstream];
    let mut order: Vec<usize> = (0..copies.len()).collect();
    order.retain(|at| !copies[*at].is_protected && idle(*at) >= demand.min_idle);
    // A copy was used at the earliest when its keepers were, so that these go first, whatever the reason.
    order.sort_by_key(|at| (copies[*at].used, copies[*at].depth));
    let mut planner = Planner::new(limits.len(), (copies, lengths));
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
    fn new(upstreams: usize, (copies, lengths): (&'a [CopyFacts], &'a Lengths)) -> Self {
        let mut usages: Vec<Usage<'a>> = (0..upstreams).map(|_| Usage::new(lengths)).collect();
        let mut whole = Usage::new(lengths);
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
        self.freed_bytes = self.freed_bytes.saturating_add(freed_bytes);
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

    fn id(name: &str) -> ContentId {
        ContentId::of(&Digest::sha256(name.as_bytes())).unwrap()
    }

    /// Returns the lengths of content: that of `base` is 50, that of `other` 500, and that of all else 10.
    fn lengths(copies: &[CopyFacts]) -> Lengths {
        let length = |content: ContentId| match content {
            content if content == id("base") => 50,
            content if content == id("other") => 500,
            _ => 10,
        };
        copies.iter().flat_map(|copy| &copy.content).map(|content| (*content, length(*content))).collect()
    }

    /// Returns a copy that was used some hours ago, and needs content by name.
    fn copy(upstream: usize, hours: u32, content: &[&str]) -> CopyFacts {
        CopyFacts {
            upstream,
            used: now() - hours * HOUR,
            is_protected: false,
            own: id(&format!("{upstream} {hours} {content:?}")),
            keepers: Vec::new(),
            depth: 0,
            content: content.iter().map(|name| id(name)).collect(),
        }
    }

    fn planned(limits: &[CopyLimits], copies: &[CopyFacts], room: u64) -> Vec<usize> {
        let demand = Demand { now: now(), min_idle: HOUR, room };
        plan(limits, (copies, &lengths(copies)), demand).into_iter().map(|departure| departure.at).collect()
    }

    #[test]
    fn copies_go_when_they_were_not_used_for_as_long_as_they_are_kept() {
        let copies = [copy(0, 167, &[]), copy(0, 168, &[]), copy(1, 999, &[]), copy(0, 200, &[])];
        let reason = EvictionReason::Unused(168 * HOUR);
        let demand = Demand { now: now(), min_idle: HOUR, room: 0 };
        let both = [limits(Some(168), None), limits(None, None)];
        let expected = [3, 1].map(|at| Departure { at, reason, freed_bytes: 0 });
        assert_eq!(plan(&both, (&copies, &Lengths::new()), demand), expected);
    }

    #[test]
    fn a_copy_that_is_being_read_or_protected_stays_whatever_the_limits() {
        let mut copies = [copy(0, 0, &["a"]), copy(0, 500, &["b"])];
        copies[1].is_protected = true;
        // Its clock is ahead.
        let future = CopyFacts { used: now() + HOUR, ..copy(0, 0, &["c"]) };
        let copies = [copies.as_slice(), &[future]].concat();
        assert_eq!(planned(&[limits(Some(0), Some(0))], &copies, 100), [0; 0]);
    }

    #[test]
    fn the_least_recently_used_go_until_the_size_holds_and_shared_content_counts_once() {
        let copies = [
            copy(0, 2, &["base", "a"]),
            copy(0, 9, &["base", "b"]),
            copy(0, 5, &["base", "c"]),
            copy(1, 99, &["other"]),
        ];
        let with = |max| [limits(Some(168), Some(max)), limits(Some(168), None)];
        for (max, expected) in [(80, &[][..]), (79, &[1]), (70, &[1]), (69, &[1, 2]), (59, &[1, 2, 0])] {
            assert_eq!(planned(&with(max), &copies, 0), expected, "{max}");
        }
    }

    #[test]
    fn an_index_goes_before_its_children_and_these_only_if_the_size_demands_it() {
        let mut copies = [copy(0, 9, &["a"]), copy(0, 9, &["b"]), copy(0, 9, &["c"])];
        (copies[0].depth, copies[1].depth) = (2, 1);
        for (max, expected) in [(20, &[2][..]), (10, &[2, 1]), (0, &[2, 1, 0])] {
            assert_eq!(planned(&[limits(None, Some(max))], &copies, 0), expected, "{max}");
        }
    }

    #[test]
    fn lengths_beyond_all_measure_end_in_no_overflow() {
        let copies = [copy(0, 2, &["a", "b"]), copy(0, 9, &["a"]), copy(0, 5, &["b"])];
        let huge: Lengths = lengths(&copies).into_keys().map(|content| (content, u64::MAX)).collect();
        let demand = Demand { now: now(), min_idle: HOUR, room: u64::MAX };
        let gone = plan(&[limits(Some(168), Some(1))], (&copies, &huge), demand);
        assert_eq!(gone.iter().map(|departure| departure.at).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn room_is_made_by_the_least_recently_used_of_all_upstreams_whose_copies_expire() {
        let copies = [copy(0, 2, &["a"]), copy(1, 9, &["b"]), copy(2, 99, &["c"]), copy(0, 7, &["b"])];
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

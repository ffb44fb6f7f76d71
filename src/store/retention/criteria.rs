//! Criteria by which tags and manifests stay: ages and counts. Pure.
//!
//! Counts count images: tags of one digest are one. zot counts tags, Harbor and ECR count images, so that no
//! policy of any of them deletes here what it keeps there.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use quinistry_oci::Digest;
use serde::Serialize;

/// Time by which a pull may be older than `pulledwithin` says: records have the precision of an hour, and a
/// crash loses those of the last minutes.
pub const PULL_SLACK: Duration = Duration::from_hours(1);

/// Criteria, any of which keeps a tag or manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Criteria {
    /// Greatest age of the last push.
    pub pushed_within: Option<Duration>,
    /// Greatest age of the last pull or push.
    pub pulled_within: Option<Duration>,
    /// Number of images that were pushed last.
    pub most_recently_pushed: Option<usize>,
    /// Number of images that were pulled last.
    pub most_recently_pulled: Option<usize>,
}

/// Criterion that keeps a tag or manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// Patterns match the name, and nothing else is asked.
    Name,
    /// Young enough.
    PushedWithin,
    /// Among the images that were pushed last.
    MostRecentlyPushed,
    /// Pulled or pushed not long ago.
    PulledWithin,
    /// Recording of pulls has not run for long enough to tell the last pull.
    NoPullStatistics,
    /// Among the images that were pulled last, or that may be.
    MostRecentlyPulled,
}

/// Tag or manifest to judge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    /// Tag, or digest of a manifest without one: decides between those of one time.
    pub(super) name: &'a str,
    pub(super) digest: &'a Digest,
    pub(super) pushed: SystemTime,
    /// Last pull, if one is recorded.
    pub(super) pulled: Option<SystemTime>,
}

/// Times that judgements compare with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) now: SystemTime,
    /// Begin of the recording of pulls.
    pub(super) recording_since: Option<SystemTime>,
}

/// Tags of one digest.
#[derive(Clone, Copy, Debug)]
struct Image<'a> {
    digest: &'a Digest,
    name: &'a str,
    pushed: SystemTime,
    pulled: Option<SystemTime>,
}

/// Knowledge of an image's last pull, from the least to the most recent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LastPull {
    /// Recording began before the push, and there was no pull.
    Never,
    /// The pull, if there was any, came before recording began.
    BeforeRecording,
    At(SystemTime),
}

// === impl Criterion ===

impl Criterion {
    /// Returns the key of the configuration that the criterion is written under.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Name => "patterns",
            Self::PushedWithin => "pushedwithin",
            Self::MostRecentlyPushed => "mostrecentlypushedcount",
            Self::PulledWithin | Self::NoPullStatistics => "pulledwithin",
            Self::MostRecentlyPulled => "mostrecentlypulledcount",
        }
    }
}

// === impl Criteria ===

impl Criteria {
    /// Returns true if a criterion needs records of pulls.
    pub(super) const fn needs_pulls(&self) -> bool {
        self.pulled_within.is_some() || self.most_recently_pulled.is_some()
    }

    const fn is_empty(&self) -> bool {
        self.pushed_within.is_none() && self.most_recently_pushed.is_none() && !self.needs_pulls()
    }

    /// Returns the criterion that keeps each candidate, or `None` for one that goes. Candidates are judged
    /// together, since counts compare them with each other; their order does not matter.
    pub(super) fn judge(&self, candidates: &[Candidate<'_>], clock: Clock) -> Vec<Option<Criterion>> {
        let images = images(candidates);
        let pushed = self.most_recently_pushed.map(|count| most_recently_pushed(&images, count));
        let pulled = self.most_recently_pulled.map(|count| most_recently_pulled(&images, count, clock));
        let judge = |candidate: &Candidate<'_>| {
            if self.is_empty() {
                return Some(Criterion::Name);
            }
            if self.pushed_within.is_some_and(|window| clock.age(candidate.pushed) <= window) {
                return Some(Criterion::PushedWithin);
            }
            if pushed.as_ref().is_some_and(|kept| kept.contains(&candidate.digest)) {
                return Some(Criterion::MostRecentlyPushed);
            }
            if let Some(kept) = self.pulled_within.and_then(|window| pulled_within(candidate, window, clock))
            {
                return Some(kept);
            }
            let is_kept = pulled.as_ref().is_some_and(|kept| kept.contains(&candidate.digest));
            is_kept.then_some(Criterion::MostRecentlyPulled)
        };
        candidates.iter().map(judge).collect()
    }
}

// === impl Clock ===

impl Clock {
    /// Returns the age of a time, which is 0 for a future one.
    fn age(self, time: SystemTime) -> Duration {
        self.now.duration_since(time).unwrap_or_default()
    }

    /// Returns true if a pull can have come before recording began.
    fn lacks_pulls_of(self, pushed: SystemTime) -> bool {
        self.recording_since.is_none_or(|since| pushed < since)
    }
}

/// Returns the criterion by which a last pull within a time keeps a candidate.
///
/// A push counts as a pull, as in zot: an image that was just pushed had no time to be pulled.
fn pulled_within(candidate: &Candidate<'_>, window: Duration, clock: Clock) -> Option<Criterion> {
    let window = window.saturating_add(PULL_SLACK);
    let used = candidate.pulled.map_or(candidate.pushed, |pulled| pulled.max(candidate.pushed));
    if clock.age(used) <= window {
        return Some(Criterion::PulledWithin);
    }
    let is_recorded = clock.recording_since.is_some_and(|since| clock.age(since) >= window);
    let is_unknown = candidate.pulled.is_none() && clock.lacks_pulls_of(candidate.pushed) && !is_recorded;
    is_unknown.then_some(Criterion::NoPullStatistics)
}

/// Joins the candidates of each digest.
fn images<'a>(candidates: &[Candidate<'a>]) -> Vec<Image<'a>> {
    let mut images: HashMap<&Digest, Image<'a>> = HashMap::new();
    for candidate in candidates {
        let Candidate { name, digest, pushed, pulled } = *candidate;
        let image = images.entry(digest).or_insert(Image { digest, name, pushed, pulled });
        image.name = image.name.max(name);
        image.pushed = image.pushed.max(pushed);
        image.pulled = image.pulled.max(pulled);
    }
    images.into_values().collect()
}

/// Returns the images that were pushed last. Of images of one time, those come first whose name sorts last:
/// `v10` of `v1` and `v10`.
fn most_recently_pushed<'a>(images: &[Image<'a>], count: usize) -> HashSet<&'a Digest> {
    let mut images = images.to_vec();
    images.sort_by_key(|image| Reverse((image.pushed, image.name)));
    images.iter().take(count).map(|image| image.digest).collect()
}

/// Returns the images that were pulled last, and those of which this cannot be excluded: fewer than `count`
/// images have a recorded pull, and theirs may have come before recording began.
fn most_recently_pulled<'a>(images: &[Image<'a>], count: usize, clock: Clock) -> HashSet<&'a Digest> {
    let last_pull = |image: &Image<'_>| match image.pulled {
        Some(pulled) => LastPull::At(pulled),
        None if clock.lacks_pulls_of(image.pushed) => LastPull::BeforeRecording,
        None => LastPull::Never,
    };
    let mut images = images.to_vec();
    images.sort_by_key(|image| Reverse((last_pull(image), image.pushed, image.name)));
    let recorded = images.iter().take_while(|image| image.pulled.is_some()).count();
    let is_kept = |(rank, image): &(usize, &Image<'a>)| {
        *rank < count || recorded < count && last_pull(image) == LastPull::BeforeRecording
    };
    images.iter().enumerate().filter(is_kept).map(|(_, image)| image.digest).collect()
}

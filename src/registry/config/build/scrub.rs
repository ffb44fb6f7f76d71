//! Scrub from a checked tree.

use std::num::NonZeroU64;

use super::super::model::ScrubConfig;
use super::super::rules::scrub::sources;
use super::Section;
use crate::Scrub;

/// Makes the settings of the scrub.
pub(super) fn scrub(root: Section<'_>) -> ScrubConfig {
    let rate = NonZeroU64::new(root.size("quinistry.scrub.rate")).unwrap_or(Scrub::DEFAULT_RATE);
    let heal_from = root.value("quinistry.scrub.healfrom").map(sources).unwrap_or_default();
    ScrubConfig {
        scrub: Scrub { interval: root.duration("quinistry.scrub.interval"), rate },
        heal_from: heal_from.into_iter().filter_map(Result::ok).collect(),
    }
}

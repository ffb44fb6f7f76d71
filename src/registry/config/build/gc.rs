//! Collection from a checked tree.

use std::num::NonZeroU32;

use super::super::model::{CollectionSettings, DamagedManifests, Writers};
use super::super::rules::gc::writers;
use super::Section;
use crate::collection::bounds::{TRASH_BESIDE_OTHERS, min_grace};

/// Makes the settings of collection, if the configuration asks for it.
pub(super) fn collection(root: Section<'_>) -> Option<CollectionSettings> {
    let writers = writers(root.node)?;
    let default = CollectionSettings::of(writers);
    let given = |key: &str| root.value(key).map(|_| root.duration(key)).filter(|time| !time.is_zero());
    let grace = match writers {
        Writers::Ours => root.positive_duration("quinistry.gc.grace"),
        // The table's default is too short beside other programs.
        Writers::Foreign => given("quinistry.gc.grace").unwrap_or_else(|| min_grace(writers)),
    };
    let trash = given("quinistry.gc.trash");
    Some(CollectionSettings {
        interval: root.positive_duration("quinistry.gc.interval"),
        grace,
        rate: NonZeroU32::new(u32::try_from(root.integer("quinistry.gc.rate")).unwrap_or(u32::MAX))
            .unwrap_or(default.rate),
        memory: root.size("quinistry.gc.memory"),
        trash: match writers {
            Writers::Ours => trash,
            Writers::Foreign => Some(trash.unwrap_or(TRASH_BESIDE_OTHERS)),
        },
        damaged: match root.word("quinistry.gc.damaged") {
            Some("keep-repository") => DamagedManifests::KeepRepository,
            _ => DamagedManifests::Stop,
        },
        window: Some(root.text("quinistry.gc.window")).and_then(|text| text.parse().ok()),
        dry_run: root.boolean("quinistry.gc.dryrun"),
        ..default
    })
}

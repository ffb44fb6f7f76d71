//! Collection of garbage while the registry serves.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{findings, with};
use crate::config::{CollectionSettings, DamagedManifests, Writers};

fn section(keys: &str) -> String {
    format!("quinistry: {{gc: {{{keys}}}}}\n")
}

/// Returns the settings of a section of these keys.
fn settings(keys: &str) -> CollectionSettings {
    with(&section(keys)).collection.unwrap_or_else(|| panic!("{keys}"))
}

#[test]
fn nothing_is_collected_unless_the_writers_are_named() {
    assert_eq!(with("").collection, None);
    assert_eq!(with("quinistry: {gc: }\n").collection, None);
    assert_eq!(settings("writers: ours"), CollectionSettings::of(Writers::Ours));
    assert_eq!(with(&section("interval: 1h")).collection, None);
    let [warning] = findings(&section("interval: 1h")).try_into().unwrap();
    assert!(
        warning.contains("warning: quinistry.gc: has no effect without writers; write ours"),
        "{warning}"
    );
    let [error] = findings(&section("writers: others")).try_into().unwrap();
    assert!(error.contains("quinistry.gc.writers: \"others\" must be one of ours, foreign"), "{error}");
}

#[test]
fn beside_other_programs_grace_and_trash_are_longer() {
    let foreign = settings("writers: foreign");
    assert_eq!(foreign, CollectionSettings::of(Writers::Foreign));
    assert_eq!((foreign.grace, foreign.trash), (Duration::from_hours(24), Some(Duration::from_hours(48))));
    let given = settings("writers: foreign, grace: 36h, trash: 96h");
    assert_eq!((given.grace, given.trash), (Duration::from_hours(36), Some(Duration::from_hours(96))));
    let [grace, trash] = findings(&section("writers: foreign, grace: 12h, trash: 1h")).try_into().unwrap();
    assert!(
        grace.contains("quinistry.gc.grace: must not be less than 24h: with writers: foreign"),
        "{grace}"
    );
    assert!(trash.contains("quinistry.gc.trash: must not be less than 24h: another program"), "{trash}");
}

#[test]
fn each_key_has_its_place() {
    let keys = "writers: ours, interval: 6h, grace: 1h, rate: 50, window: '22:00-04:00', memory: 64MiB, trash: 48h, \
                damaged: keep-repository, dryrun: true";
    assert_eq!(
        settings(keys),
        CollectionSettings {
            writers: Writers::Ours,
            interval: Duration::from_hours(6),
            grace: Duration::from_hours(1),
            rate: NonZeroU32::new(50).unwrap(),
            window: Some("22:00-04:00".parse().unwrap()),
            memory: 64 << 20,
            trash: Some(Duration::from_hours(48)),
            damaged: DamagedManifests::KeepRepository,
            removes_untagged: false,
            dry_run: true,
        }
    );
    // A duration of 0 stands for the default, as elsewhere.
    assert_eq!(settings("writers: ours, interval: 0, grace: 0"), CollectionSettings::of(Writers::Ours));
}

#[test]
fn values_that_would_lose_content_or_do_nothing_are_refused_with_their_place() {
    for (keys, problem) in [
        ("grace: 9m", "grace: must not be less than 10m: a push may take that long"),
        ("window: 1-6", "window: is not a time of the day, such as 01:00-06:00"),
        ("window: '01:00-01:00'", "window: has the same begin and end"),
        ("memory: 1MiB", "memory: must not be less than 16MiB"),
        ("rate: 0", "rate: \"0\" must not be less than 1"),
        ("rate: 4294967296", "rate: is too large"),
        ("damaged: ignore", "damaged: \"ignore\" must be one of stop, keep-repository"),
        ("garce: 1h", "garce: is not known; did you mean grace?"),
    ] {
        let [line] = findings(&section(&format!("writers: ours, {keys}"))).try_into().unwrap();
        assert!(line.starts_with("c.yml:3:") && line.contains(&format!("quinistry.gc.{problem}")), "{line}");
    }
}

//! Keys of retention. Names of zot's `storage.retention` are keys, too, so that its policies can be pasted.

use super::Kind::{Boolean, Duration, Elements, Integer, OneOf, Patterns, Section, Text, Texts};
use super::{ConfigKey, Kind, ReleaseLines, Unless};

/// Begins a row of an own key.
const fn key(path: &'static str, kind: Kind) -> ConfigKey {
    super::key(path, kind).lines(ReleaseLines::Own)
}

/// Values of `referrers`.
pub(in super::super) const REFERRERS: &[&str] = &["with-subject", "keep"];

pub(super) const RETENTION: &[ConfigKey] = &[
    key("quinistry.retention", Section)
        .note("removal of tags by rules, before each collection; see `docs/retention.md`"),
    key("quinistry.retention.dryrun", Boolean).default("true").note("reports what would be deleted"),
    key("quinistry.retention.maxdelete", Text)
        .default("20%")
        .note("share of a repository's tags that one run may delete; above it none is deleted, and a warning is logged"),
    key("quinistry.retention.ignorepulls", Texts)
        .note("names of users and user agents, such as scanners, whose pulls keep nothing"),
    key("quinistry.retention.delay", Duration)
        .default("24h")
        .note("zot's name: age below which `deleteuntagged` leaves manifests"),
    key("quinistry.retention.policies", Elements)
        .note("the first policy whose repositories match decides; without one everything stays. zot's camel case is accepted"),
    key("quinistry.retention.policies[].repositories", Texts)
        .required()
        .note("patterns: `*` within a component, `**` across components, `!` in front takes away"),
    key("quinistry.retention.policies[].reponames", Texts)
        .refuse("is an old name of zot; use `repositories`", Unless::Never),
    key("quinistry.retention.policies[].keeptags", Elements)
        .note("the first entry whose patterns match a tag decides; a tag without an entry goes; without entries all stay"),
    key("quinistry.retention.policies[].keeptags[].patterns", Patterns)
        .note("for whole names of tags, where zot's match anywhere; without patterns every tag matches"),
    key("quinistry.retention.policies[].keeptags[].pushedwithin", Duration)
        .note("tags that were pushed within this time stay"),
    key("quinistry.retention.policies[].keeptags[].pulledwithin", Duration)
        .note("tags that were pulled or pushed within this time stay"),
    key("quinistry.retention.policies[].keeptags[].mostrecentlypushedcount", Integer(0))
        .note("tags of so many images that were pushed last stay; 0 stands for no such rule"),
    key("quinistry.retention.policies[].keeptags[].mostrecentlypulledcount", Integer(0))
        .note("tags of so many images that were pulled last stay; 0 stands for no such rule"),
    key("quinistry.retention.policies[].untagged", Section)
        .note("manifests without a tag, which all stay without the section, and with the word `keep`"),
    key("quinistry.retention.policies[].untagged.keepfor", Duration)
        .note("manifests that were pushed within this time stay; 24h when absent"),
    key("quinistry.retention.policies[].untagged.pulledwithin", Duration)
        .note("manifests that were pulled or pushed within this time stay"),
    key("quinistry.retention.policies[].untagged.mostrecentlypushedcount", Integer(0))
        .note("so many manifests that were pushed last stay"),
    key("quinistry.retention.policies[].untagged.mostrecentlypulledcount", Integer(0))
        .note("so many manifests that were pulled last stay"),
    key("quinistry.retention.policies[].referrers", OneOf(REFERRERS))
        .note("`keep`: referrers stay when their subject goes; `with-subject`, when absent: they go with it"),
    key("quinistry.retention.policies[].deleteuntagged", Boolean)
        .note("zot's name: `true` stands for `untagged` with a `keepfor` of `delay`; all stay when absent, where zot deletes"),
    key("quinistry.retention.policies[].deletereferrers", Boolean)
        .note("zot's name: `true` stands for `referrers: with-subject`, and `false` for `keep`"),
    key("quinistry.retention.policies[].keepuntagged", Section).note("zot's name of `untagged`"),
    key("quinistry.retention.policies[].keepuntagged.pushedwithin", Duration)
        .note("zot's name of `keepfor`, beside `delay`"),
    key("quinistry.retention.policies[].keepuntagged.pulledwithin", Duration),
    key("quinistry.retention.policies[].keepuntagged.mostrecentlypushedcount", Integer(0)),
    key("quinistry.retention.policies[].keepuntagged.mostrecentlypulledcount", Integer(0)),
];

//! Keys of rules, groups and the audit log.

use super::Kind::{Boolean, Elements, ListOf, Path, Section, Texts, TextsMap};
use super::{ConfigKey, ReleaseLines, key};

/// Rights that a rule can grant.
const RIGHTS: &[&str] = &["pull", "push", "overwrite", "delete", "admin"];

pub(super) const ACCESS: &[ConfigKey] = &[
    key("quinistry.access", Elements).lines(ReleaseLines::Own).note(
        "rules, whose grants add up; without the key every user may do everything, and clients without credentials nothing",
    ),
    key("quinistry.access[].repositories", Texts)
        .required()
        .lines(ReleaseLines::Own)
        .note("patterns: `*` within a component, `**` across components, `!` in front takes away within the rule"),
    key("quinistry.access[].who", Texts)
        .required()
        .lines(ReleaseLines::Own)
        .note("names of users, `group:NAME`, `authenticated` and `anonymous`"),
    key("quinistry.access[].can", ListOf(RIGHTS))
        .required()
        .lines(ReleaseLines::Own)
        .note("`push` includes `pull`, and `admin` everything; `overwrite` moves existing tags"),
    key("quinistry.groups", TextsMap)
        .lines(ReleaseLines::Own)
        .note("members of groups: names of users, in which `*` stands for any text"),
    key("quinistry.builtin", Section).lines(ReleaseLines::Own),
    key("quinistry.builtin.anonymous", Boolean)
        .default("true")
        .lines(ReleaseLines::Own)
        .note("clients without credentials may read the built-in repository"),
    key("quinistry.audit", Section).lines(ReleaseLines::Own),
    key("quinistry.audit.path", Path)
        .default("off")
        .lines(ReleaseLines::Own)
        .note("`stdout`, the path of a file, or `off`"),
    key("quinistry.audit.pulls", Boolean)
        .default("false")
        .lines(ReleaseLines::Own)
        .note("reads are recorded, too"),
];

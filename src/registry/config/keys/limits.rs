//! Keys of immutable and protected tags, and of quotas.

use super::Kind::{Elements, Integer, Size, Texts};
use super::{ConfigKey, Kind, ReleaseLines, key};

/// Begins a row of this program's own keys.
const fn own(path: &'static str, kind: Kind) -> ConfigKey {
    key(path, kind).lines(ReleaseLines::Own)
}

/// Meaning of a list of patterns of repositories.
const REPOSITORIES: &str =
    "patterns: `*` within a component, `**` across components, `!` in front takes away within the entry";

pub(super) const LIMITS: &[ConfigKey] = &[
    own("quinistry.immutability", Elements)
        .note("tags that keep their first manifest; neither they nor their manifests can be deleted"),
    own("quinistry.immutability[].repositories", Texts).required().note(REPOSITORIES),
    own("quinistry.immutability[].tags", Texts).required().note("patterns, in which `*` stands for any text"),
    own("quinistry.immutability[].except", Texts).note("patterns of tags that the entry leaves out"),
    own("quinistry.protect", Elements)
        .note("tags that can be moved, but not deleted: neither by clients nor by retention"),
    own("quinistry.protect[].repositories", Texts).required().note(REPOSITORIES),
    own("quinistry.protect[].tags", Texts).required().note("patterns, in which `*` stands for any text"),
    own("quinistry.protect[].except", Texts).note("patterns of tags that the entry leaves out"),
    own("quinistry.quotas", Elements)
        .note("limits, each of which its repositories share; a repository may be in several"),
    own("quinistry.quotas[].repositories", Texts).required().note(REPOSITORIES),
    own("quinistry.quotas[].bytes", Size)
        .note("most bytes of blobs and manifests, each counted once in each repository that has it"),
    own("quinistry.quotas[].tags", Integer(0)).note("most tags"),
];

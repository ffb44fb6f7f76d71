//! Keys of the scrub.

use super::Kind::{Duration, Section, Size, Texts};
use super::{ConfigKey, ReleaseLines, key};

pub(super) const SCRUB: &[ConfigKey] = &[
    key("quinistry.scrub", Section).lines(ReleaseLines::Own),
    key("quinistry.scrub.interval", Duration).default("720h").lines(ReleaseLines::Own).note(
        "time in which all content is read and hashed once; 0: only content that a read found damaged",
    ),
    key("quinistry.scrub.rate", Size)
        .default("32MiB")
        .lines(ReleaseLines::Own)
        .note("greatest number of bytes that are read per second"),
    key("quinistry.scrub.healfrom", Texts).lines(ReleaseLines::Own).note(
        "where damaged content is replaced from, in this order: registries (`https://HOST` or `docker://HOST`; plain \
         HTTP on loopback alone), buckets (`s3://…`, `gs://…`, `az://…`) and folders (absolute paths)",
    ),
];

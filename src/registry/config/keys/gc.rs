//! Keys of the collection of garbage while the registry serves.

use super::Kind::{Boolean, Duration, Integer, OneOf, Section, Size, Text};
use super::{ConfigKey, ReleaseLines, key};

/// Begins a row of this program's own keys.
const fn own(path: &'static str, kind: super::Kind) -> ConfigKey {
    key(path, kind).lines(ReleaseLines::Own)
}

pub(super) const GC: &[ConfigKey] = &[
    own("quinistry.gc", Section).note("collection of garbage while serving; none without `writers`"),
    own("quinistry.gc.writers", OneOf(&["ours", "foreign"]))
        .note("switches collection on. `ours`: only this program writes to the storage; `foreign`: other programs write too, such as distribution"),
    own("quinistry.gc.interval", Duration).default("12h").note("between the begins of two cycles"),
    own("quinistry.gc.grace", Duration)
        .default("12h")
        .note("least time between two cycles, for which an answer about a blob holds; at least `10m`, with `foreign` at least and when absent `24h`"),
    own("quinistry.gc.rate", Integer(1)).default("100").note("requests to the storage per second, of a cycle"),
    own("quinistry.gc.window", Text).note("time of the day in UTC in which cycles begin, such as `01:00-06:00`"),
    own("quinistry.gc.memory", Size).default("128MiB").note("for the filter of what is needed, at least `16MiB`; less keeps more garbage for a cycle longer"),
    own("quinistry.gc.trash", Duration).note(
        "time for which removed bytes can still be put back; when absent they are freed at once, and with `foreign` after `48h`",
    ),
    own("quinistry.gc.damaged", OneOf(&["stop", "keep-repository"])).default("stop").note(
        "for a manifest whose parts cannot be read: end the cycle, or leave alone its repository and all bytes",
    ),
    own("quinistry.gc.dryrun", Boolean).default("false").note("cycles report what they would condemn, and remove nothing"),
];

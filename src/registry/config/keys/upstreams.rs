//! Keys of upstreams, and of distribution's `proxy`.

use super::Kind::{Duration, Elements, Integer, OneOf, Path, Section, Size, Text, Texts, Url};
use super::{ConfigKey, Kind, ReleaseLines, key};

/// Values of `insecure`.
const INSECURE: &[&str] = &["false", "true", "public"];

/// Values of `missing`.
const MISSING: &[&str] = &["keep", "drop"];

/// Begins a row of this program's own keys.
const fn own(path: &'static str, kind: Kind) -> ConfigKey {
    key(path, kind).lines(ReleaseLines::Own)
}

pub(super) const PROXY: &[ConfigKey] = &[
    key("proxy", Section),
    key("proxy.remoteurl", Url)
        .note("all repositories are those of this registry, and read-only; see `docs/upstreams.md`. A tag is asked for each time"),
    key("proxy.username", Text),
    key("proxy.password", Text).secret(),
    key("proxy.exec", Section).lines(ReleaseLines::Three),
    key("proxy.exec.command", Text).lines(ReleaseLines::Three).note("credential helper of Docker"),
    key("proxy.exec.lifetime", Duration).lines(ReleaseLines::Three).note("0 asks the helper each time; when absent, its answer is used until the upstream refuses it"),
    key("proxy.ttl", Duration)
        .lines(ReleaseLines::Three)
        .default("168h")
        .note("time since the last use after which a copy is removed; `0` for never"),
    key("proxy.cachewritetimeout", Duration)
        .lines(ReleaseLines::Three)
        .warn("clients never wait for the storage, and the key has no effect"),
];

pub(super) const UPSTREAMS: &[ConfigKey] = &[
    own("quinistry.upstreams", Elements)
        .note("registries that are asked for what this one does not have; see `docs/upstreams.md`"),
    own("quinistry.upstreams[].prefix", Text)
        .required()
        .note("components in front of the upstream's names; `\"\"` only with `allow`"),
    own("quinistry.upstreams[].remoteurl", Url).required().note("scheme, host and port"),
    own("quinistry.upstreams[].ns", Texts)
        .note("hosts that clients of a mirror name by `?ns=`; looked up, never dialled"),
    own("quinistry.upstreams[].username", Text),
    own("quinistry.upstreams[].password", Text).secret(),
    own("quinistry.upstreams[].passwordfile", Path).note("file whose content is the password"),
    own("quinistry.upstreams[].exec", Section).note("credential helper of Docker"),
    own("quinistry.upstreams[].exec.command", Text).required(),
    own("quinistry.upstreams[].exec.lifetime", Duration)
        .note("0 asks the helper each time; when absent, its answer is used until the upstream refuses it"),
    own("quinistry.upstreams[].realm", Texts)
        .note("hosts beside the upstream's own that may have the credentials, to issue tokens"),
    own("quinistry.upstreams[].ca", Path)
        .note("authorities of the upstream's certificate, beside the usual ones"),
    own("quinistry.upstreams[].insecure", OneOf(INSECURE))
        .default("false")
        .note("`true` permits HTTP and unverified certificates at private addresses, and `public` at all"),
    own("quinistry.upstreams[].ttl", Duration).default("15m").note("age below which a tag is not asked for"),
    own("quinistry.upstreams[].negative", Duration)
        .default("60s")
        .note("time for which the answer that something does not exist is remembered"),
    own("quinistry.upstreams[].allow", Texts)
        .note("patterns of names behind the prefix; without them all names belong to the upstream"),
    own("quinistry.upstreams[].deny", Texts)
        .note("patterns of names that are never asked for, whatever `allow` says"),
    own("quinistry.upstreams[].missing", OneOf(MISSING))
        .default("keep")
        .note("tags that the upstream no longer shows are served, or removed"),
    own("quinistry.upstreams[].maxconnections", Integer(1)).default("16"),
    own("quinistry.upstreams[].maxblob", Size).note("longer blobs are passed through, and not stored"),
    own("quinistry.upstreams[].keep", Duration)
        .default("168h")
        .note("time since the last use after which a copy is removed; `0` for never"),
    own("quinistry.upstreams[].size", Size)
        .note("bytes of all copies, beyond which those that were not used for longest are removed"),
    own("quinistry.upstreams[].platforms", Texts)
        .note("platforms whose images `prefetch` fetches, such as `linux/amd64`; those of all platforms when absent"),
    own("quinistry.upstreams[].prefetch", Elements).note("tags that are fetched before a client asks for them"),
    own("quinistry.upstreams[].prefetch[].repository", Text).required().note("name behind the prefix"),
    own("quinistry.upstreams[].prefetch[].tags", Texts)
        .required()
        .note("patterns, in which `*` stands for any text"),
    own("quinistry.upstreams[].prefetch[].interval", Duration)
        .default("6h")
        .note("time between two looks at the tags"),
];

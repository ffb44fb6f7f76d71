//! Table of all keys of distribution 2.8 and 3.x, and of this program's own.
//!
//! Sources: `configuration/configuration.go` of distribution 2.8.3 and 3.1.2, and the parameters of its storage
//! drivers and access controllers.

mod access;
mod drivers;
mod gc;
mod limits;
mod notifications;
pub(super) mod retention;
mod scrub;
mod tls;
mod tokens;
mod upstreams;
mod users;

use self::Kind::{
    Address, Anything, Boolean, Duration, Elements, Endpoint, Headers, Integer, Networks, OneOf, Path,
    Patterns, Section, Text, TextMap, Url, UrlPath,
};
pub(super) use self::users::ALGORITHMS;
use super::schema::{ConfigKey, Kind, ReleaseLines, Unless};

/// Begins a row.
const fn key(path: &'static str, kind: Kind) -> ConfigKey {
    ConfigKey::new(path, kind)
}

/// Returns all keys, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static ConfigKey> {
    let tables = [
        FIRST,
        drivers::STORAGE,
        users::AUTH,
        HTTP,
        tls::TLS,
        HEALTH,
        upstreams::PROXY,
        REST,
        notifications::NOTIFICATIONS,
        OWN,
        drivers::OWN,
        gc::GC,
        access::ACCESS,
        tokens::TOKENS,
        users::KEYS,
        tls::OWN,
        scrub::SCRUB,
        retention::RETENTION,
        limits::LIMITS,
        upstreams::UPSTREAMS,
    ];
    tables.into_iter().flatten()
}

const LEVELS: Kind = OneOf(&["error", "warn", "info", "debug"]);

const FIRST: &[ConfigKey] = &[
    key("version", Kind::Version).default("0.1").required().note("always `0.1`"),
    key("loglevel", LEVELS).note("old name of `log.level`, which wins"),
    key("redis", Anything).secret().warn("no cache is kept in Redis, and the section has no effect"),
    key("reporting", Anything)
        .secret()
        .lines(ReleaseLines::Two)
        .warn("no errors are reported to Bugsnag or New Relic"),
    key("log", Section),
    key("log.level", LEVELS).default("info").note("`RUST_LOG` wins"),
    key("log.formatter", OneOf(&["text", "json", "logstash"])).default("text"),
    key("log.fields", TextMap).note("added to each line"),
    key("log.accesslog", Section),
    key("log.accesslog.disabled", Boolean).default("false").note("Combined format on standard output"),
    key("log.hooks", Anything).secret().warn("no mail is sent about errors; let a log collector do that"),
    key("log.reportcaller", Boolean)
        .lines(ReleaseLines::Three)
        .warn("log lines do not name the place in the program that wrote them"),
];

const HTTP: &[ConfigKey] = &[
    key("http", Section),
    key("http.addr", Address).default(":5000").note("`:5000` when empty, where distribution takes any port"),
    key("http.net", OneOf(&["tcp", "unix"])).default("tcp").note("`unix`: `http.addr` is the socket's path"),
    key("http.prefix", UrlPath).default("/").note("path in front of `/v2/`"),
    key("http.host", Url)
        .note("scheme and host of the token endpoint in challenges, and of URLs in events; `Location` headers are paths"),
    key("http.relativeurls", Boolean).silent("`Location` headers are always paths"),
    key("http.secret", Text)
        .secret()
        .silent("own tokens are signed with a key derived from it, so that 32 random characters are needed; replicas on one bucket recognise upload sessions by it, or else by a secret in the bucket"),
    key("http.draintimeout", Duration).note("10 seconds when absent or 0, and not an end at once"),
    key("http.headers", Headers).note("on every response, and not only on those of the API"),
    key("http.debug", Section),
    key("http.debug.addr", Address).note("listener for health and metrics"),
    key("http.debug.prometheus", Section),
    key("http.debug.prometheus.enabled", Boolean).default("false"),
    key("http.debug.prometheus.path", UrlPath).default("/metrics"),
    key("http.http2", Section),
    key("http.http2.disabled", Boolean).silent("HTTP/1.1 is served"),
    key("http.h2c", Section).lines(ReleaseLines::Three),
    key("http.h2c.enabled", Boolean)
        .lines(ReleaseLines::Three)
        .warn("HTTP/2 without TLS is not supported, and HTTP/1.1 is served"),
];

const HEALTH: &[ConfigKey] = &[
    key("middleware", Section),
    key("middleware.registry", Elements)
        .refuse("no middleware is built in; remove it, or add `disabled: true`", Unless::Disabled),
    key("middleware.registry[].name", Text).within(),
    key("middleware.registry[].disabled", Boolean).within(),
    key("middleware.registry[].options", Anything).within().secret(),
    key("middleware.repository", Elements)
        .refuse("no middleware is built in; remove it, or add `disabled: true`", Unless::Disabled),
    key("middleware.repository[].name", Text).within(),
    key("middleware.repository[].disabled", Boolean).within(),
    key("middleware.repository[].options", Anything).within().secret(),
    key("middleware.storage", Elements).refuse(
        "redirects to a content delivery network are not supported; remove it, or add `disabled: true`",
        Unless::Disabled,
    ),
    key("middleware.storage[].name", Text).within(),
    key("middleware.storage[].disabled", Boolean).within(),
    key("middleware.storage[].options", Anything).within().secret(),
    key("health", Section),
    key("health.storagedriver", Section),
    key("health.storagedriver.enabled", Boolean)
        .default("false")
        .note("also unhealthy once the storage failed to keep a write"),
    key("health.storagedriver.interval", Duration).default("10s").note("at least 100ms"),
    key("health.storagedriver.threshold", Integer(0)).default("1"),
    key("health.file", Elements).note("unhealthy while the file exists"),
    key("health.file[].file", Path).required(),
    key("health.file[].interval", Duration).default("10s").note("at least 100ms"),
    key("health.file[].threshold", Integer(0)).default("1"),
    key("health.tcp", Elements),
    key("health.tcp[].addr", Endpoint).required(),
    key("health.tcp[].timeout", Duration).default("5s"),
    key("health.tcp[].interval", Duration).default("10s").note("at least 100ms"),
    key("health.tcp[].threshold", Integer(0)).default("1"),
    key("health.http", Elements),
    key("health.http[].uri", Url)
        .required()
        .note("a user or password in the URL is refused; credentials belong in `headers`. `https` trusts the public authorities and the machine's (`SSL_CERT_FILE`)"),
    key("health.http[].headers", Headers).secret(),
    key("health.http[].statuscode", Integer(0)).default("200"),
    key("health.http[].timeout", Duration).default("5s"),
    key("health.http[].interval", Duration).default("10s").note("at least 100ms"),
    key("health.http[].threshold", Integer(0)).default("1"),
];

const REST: &[ConfigKey] = &[
    key("validation", Section),
    key("validation.enabled", Boolean).note("old; when true, it wins over `validation.disabled`"),
    key("validation.disabled", Boolean).default("false").note("accepts any `urls`, and indexes without children"),
    key("validation.manifests", Section),
    key("validation.manifests.urls", Section),
    key("validation.manifests.urls.allow", Patterns)
        .note("unanchored, with ASCII classes alone (no `\\p`); without `allow` and `deny` every layer with `urls` is refused"),
    key("validation.manifests.urls.deny", Patterns),
    key("validation.manifests.indexes", Section).lines(ReleaseLines::Three),
    key("validation.manifests.indexes.platforms", OneOf(&["all", "none", "list"]))
        .default("all")
        .lines(ReleaseLines::Three)
        .note("children that must be present; `list` works as documented"),
    key("validation.manifests.indexes.platformlist", Elements).lines(ReleaseLines::Three),
    key("validation.manifests.indexes.platformlist[].architecture", Text).required().lines(ReleaseLines::Three),
    key("validation.manifests.indexes.platformlist[].os", Text).required().lines(ReleaseLines::Three),
    key("policy", Section),
    key("policy.repository", Section),
    key("policy.repository.classes", Kind::ListOf(&["image", "plugin"])),
    key("catalog", Section),
    key("catalog.maxentries", Integer(i64::MIN)).default("1000").note("0 and less stand for 1000"),
    key("tags", Section).lines(ReleaseLines::Three),
    key("tags.maxtags", Integer(0)).default("1000").lines(ReleaseLines::Three).note("0 stands for 1000"),
    key("compatibility", Section).lines(ReleaseLines::Two),
    key("compatibility.schema1", Section).lines(ReleaseLines::Two),
    key("compatibility.schema1.enabled", Boolean).lines(ReleaseLines::Two).refuse(
        "manifests of schema 1 cannot be pushed; remove it, and push with Docker 1.10 or newer",
        Unless::Idle,
    ),
    key("compatibility.schema1.signingkeyfile", Path).lines(ReleaseLines::Two).silent("manifests are not signed"),
];

/// Refused rows of this program's own keys.
const fn planned(path: &'static str, message: &'static str) -> ConfigKey {
    key(path, Anything).secret().lines(ReleaseLines::Own).refuse(message, Unless::Never)
}

const OWN: &[ConfigKey] = &[
    key("quinistry", Section).lines(ReleaseLines::Own),
    key("quinistry.http", Section).lines(ReleaseLines::Own),
    key("quinistry.http.trustedproxies", Networks).lines(ReleaseLines::Own).note(
        "proxies whose `Forwarded` and `X-Forwarded-For` tell a client's address; `unix` for those that connect to a \
         unix socket",
    ),
    planned("quinistry.oidc", "OpenID Connect is not supported yet; remove it"),
    planned("quinistry.page", "the web page is not supported yet; remove it"),
    planned("quinistry.limits", "limits cannot be set yet; remove it"),
    planned("quinistry.events", "events are configured below `notifications.endpoints`; remove it"),
];

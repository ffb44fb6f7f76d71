//! Keys of `notifications`.

use super::Kind::{
    Boolean, Duration, Elements, Headers, Integer, ListOf, OneOf, Path, Section, Text, Texts, Url,
};
use super::{ConfigKey, Kind, ReleaseLines, Unless, key};

/// Actions of events.
const ACTIONS: &[&str] = &["push", "pull", "mount", "delete"];

/// Begins a row of an own key.
const fn own(path: &'static str, kind: Kind) -> ConfigKey {
    key(path, kind).lines(ReleaseLines::Own)
}

pub(super) const NOTIFICATIONS: &[ConfigKey] = &[
    key("notifications", Section).note("events for other programs; see `docs/webhooks.md`"),
    key("notifications.events", Section),
    key("notifications.events.includereferences", Boolean)
        .default("false")
        .note("events of manifests name configuration and layers, or the entries of an index"),
    key("notifications.endpoints", Elements),
    key("notifications.endpoints[].name", Text)
        .required()
        .note("in logs and metrics; each endpoint has a name of its own"),
    key("notifications.endpoints[].disabled", Boolean).default("false"),
    key("notifications.endpoints[].url", Url)
        .required()
        .secret()
        .note("user and password in it become `Authorization`; the registry connects directly, without a proxy"),
    key("notifications.endpoints[].headers", Headers).secret(),
    key("notifications.endpoints[].timeout", Duration).default("1s").note("for one attempt; 0 stands for 1s"),
    key("notifications.endpoints[].threshold", Integer(0))
        .default("10")
        .note("failures in a row before attempts pause; 0 stands for 10"),
    key("notifications.endpoints[].backoff", Duration)
        .default("1s")
        .note("first pause, which doubles up to a minute; 0 stands for 1s"),
    key("notifications.endpoints[].ignoredmediatypes", Texts).note("old name of `ignore.mediatypes`, and added to it"),
    key("notifications.endpoints[].ignore", Section),
    key("notifications.endpoints[].ignore.mediatypes", Texts).note("media types whose events are not sent"),
    key("notifications.endpoints[].ignore.actions", ListOf(ACTIONS)).note("actions whose events are not sent"),
    own("notifications.endpoints[].quinistry", Section),
    own("notifications.endpoints[].quinistry.mediatype", OneOf(&["v1", "v2"]))
        .default("v2")
        .note("envelope of distribution 2.8 or of 3.x"),
    own("notifications.endpoints[].quinistry.format", OneOf(&["distribution"]))
        .silent("events have the form of distribution's; CloudEvents are not supported yet"),
    own("notifications.endpoints[].quinistry.repositories", Texts).note(
        "patterns of repositories whose events are sent: `*` within a component, `**` across components, `!` in \
         front takes away; all when absent",
    ),
    own("notifications.endpoints[].quinistry.ignoreactors", Texts)
        .note("users whose events are not sent; also `quinistry:retention`, `quinistry:collection` and `quinistry:upstream`"),
    own("notifications.endpoints[].quinistry.secret", Text)
        .secret()
        .note("signs each request as Standard Webhooks has it: `whsec_` and then 24 to 64 bytes in base64"),
    own("notifications.endpoints[].quinistry.formersecret", Text)
        .secret()
        .note("signs each request as well, while receivers take over a new `secret`"),
    own("notifications.endpoints[].quinistry.ca", Path)
        .note("PEM certificates to trust beside the public authorities and the machine's (`SSL_CERT_FILE`)"),
    own("notifications.endpoints[].quinistry.queue", Integer(0))
        .default("10000")
        .note("most events that wait, in 16 MiB; above it the oldest are dropped; 0 stands for 10000"),
    own("notifications.endpoints[].quinistry.giveup", Duration)
        .default("0")
        .note("age at which an event that cannot be sent is dropped; 0: never"),
    own("notifications.endpoints[].quinistry.spool", Boolean)
        .refuse("events that wait are kept in memory alone; remove it", Unless::Idle),
];

//! Keys of `auth` and `notifications`.

use super::Kind::{
    Anything, Boolean, Duration, Elements, Headers, Integer, ListOf, Path, Section, Text, Texts, Url, UrlPath,
};
use super::{ConfigKey, ReleaseLines, Unless, key};

/// Algorithms of distribution's token verification.
const ALGORITHMS: &[&str] = &[
    "EdDSA", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256",
    "PS384", "PS512",
];

pub(super) const AUTH: &[ConfigKey] = &[
    key("auth", Section).note("one controller, as a section or as its bare name"),
    key("auth.none", Anything).silent("no users; warned about when `http.addr` is not local"),
    key("auth.silly", Section)
        .refuse("it lets in every request with any Authorization header; use another controller", Unless::Never),
    key("auth.silly.realm", Text).within(),
    key("auth.silly.service", Text).within(),
    key("auth.htpasswd", Section).refuse(
        "users are not supported yet, and everyone could do everything; put a proxy that asks for passwords in front, \
         or keep distribution for this registry",
        Unless::Never,
    ),
    key("auth.htpasswd.realm", Text).within().required(),
    key("auth.htpasswd.path", Path).within().required(),
    key("auth.token", Section).refuse(
        "tokens are not verified yet, and everyone could do everything; keep distribution for this registry",
        Unless::Never,
    ),
    key("auth.token.realm", Text).within().required(),
    key("auth.token.service", Text).within().required(),
    key("auth.token.issuer", Text).within().required(),
    key("auth.token.rootcertbundle", Path).within(),
    key("auth.token.jwks", Path).within().lines(ReleaseLines::Three),
    key("auth.token.signingalgorithms", ListOf(ALGORITHMS)).within().lines(ReleaseLines::Three),
    key("auth.token.autoredirect", Boolean).within(),
    key("auth.token.autoredirectpath", UrlPath).within().lines(ReleaseLines::Three).default("/auth/token"),
];

pub(super) const NOTIFICATIONS: &[ConfigKey] = &[
    key("notifications", Section),
    key("notifications.events", Section).within(),
    key("notifications.events.includereferences", Boolean).within(),
    key("notifications.endpoints", Elements).refuse(
        "notifications are not sent yet; remove it, or add `disabled: true` to each endpoint",
        Unless::Disabled,
    ),
    key("notifications.endpoints[].name", Text).within().required(),
    key("notifications.endpoints[].disabled", Boolean).within(),
    key("notifications.endpoints[].url", Url).within().required().secret(),
    key("notifications.endpoints[].headers", Headers).within().secret(),
    key("notifications.endpoints[].timeout", Duration).within().default("1s"),
    key("notifications.endpoints[].threshold", Integer(0)).within().default("10"),
    key("notifications.endpoints[].backoff", Duration).within().default("1s"),
    key("notifications.endpoints[].ignoredmediatypes", Texts).within(),
    key("notifications.endpoints[].ignore", Section).within(),
    key("notifications.endpoints[].ignore.mediatypes", Texts).within(),
    key("notifications.endpoints[].ignore.actions", Texts).within(),
    key("notifications.endpoints[].quinistry", Anything).within().secret().lines(ReleaseLines::Own),
];

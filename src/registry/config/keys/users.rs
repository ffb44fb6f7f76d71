//! Keys of `auth` and of API keys.

use super::Kind::{Anything, Boolean, ListOf, Path, Section, Text, UrlPath};
use super::{ConfigKey, ReleaseLines, Unless, key};

/// Algorithms of distribution's token verification.
pub(in super::super) const ALGORITHMS: &[&str] = &[
    "EdDSA", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256",
    "PS384", "PS512",
];

pub(super) const AUTH: &[ConfigKey] = &[
    key("auth", Section).note("one controller, as a section or as its bare name"),
    key("auth.none", Anything).silent("no users; warned about when `http.addr` is not local"),
    key("auth.silly", Section).refuse(
        "it lets in every request with any Authorization header; use another controller",
        Unless::Never,
    ),
    key("auth.silly.realm", Text).within(),
    key("auth.silly.service", Text).within(),
    key("auth.htpasswd", Section),
    key("auth.htpasswd.realm", Text)
        .required()
        .note("name of the protected space, which some clients show; not sent where clients get tokens"),
    key("auth.htpasswd.path", Path).required().note(
        "bcrypt hashes alone; read again when it changes, and created with one user if it does not exist",
    ),
    key("auth.token", Section).note("tokens of another server"),
    key("auth.token.realm", Text)
        .required()
        .note("URL at which clients get tokens; not used with `autoredirect`"),
    key("auth.token.service", Text).required(),
    key("auth.token.issuer", Text).required(),
    key("auth.token.rootcertbundle", Path).note(
        "certificates in PEM; tokens name them by `x5c`, RFC 7638 thumbprint or libtrust id; this or `jwks` is needed",
    ),
    key("auth.token.jwks", Path).lines(ReleaseLines::Three).note("read again when it changes, as `rootcertbundle` is"),
    key("auth.token.signingalgorithms", ListOf(ALGORITHMS))
        .lines(ReleaseLines::Three)
        .note("without the key all but HS256, HS384, HS512; ES512 is not supported"),
    key("auth.token.autoredirect", Boolean)
        .default("false")
        .note("the realm is on this registry's own host; its scheme is that of the request"),
    key("auth.token.autoredirectpath", UrlPath).lines(ReleaseLines::Three).default("/auth/token"),
];

pub(super) const KEYS: &[ConfigKey] = &[
    key("quinistry.keys", Section).lines(ReleaseLines::Own),
    key("quinistry.keys.file", Path)
        .required()
        .lines(ReleaseLines::Own)
        .note("API keys, which `quinistry key` changes; read again when it changes"),
];

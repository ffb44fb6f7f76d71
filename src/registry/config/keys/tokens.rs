//! Keys of tokens that this registry issues.

use super::Kind::{Boolean, Duration, Path, Section, Texts};
use super::{ConfigKey, ReleaseLines, key};

pub(super) const TOKENS: &[ConfigKey] = &[
    key("quinistry.tokens", Section).lines(ReleaseLines::Own),
    key("quinistry.tokens.enabled", Boolean).default("false").lines(ReleaseLines::Own).note(
        "clients get tokens at `/v2/_token`; they do so anyhow where there are users and something is readable by all",
    ),
    key("quinistry.tokens.lifetime", Duration)
        .default("5m")
        .lines(ReleaseLines::Own)
        .note("from `1m` to `24h`; a removed user and a changed password end a token at once"),
    key("quinistry.tokens.key", Path).lines(ReleaseLines::Own).note(
        "private key on Ed25519 or P-256 in PKCS#8 that signs; public at `/v2/_token/jwks.json`; else `http.secret` signs",
    ),
    key("quinistry.tokens.services", Texts)
        .lines(ReleaseLines::Own)
        .note("other registries whose clients get tokens here"),
];

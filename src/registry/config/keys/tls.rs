//! Keys of `http.tls`, client certificates and the PROXY protocol.

use super::Kind::{Boolean, ListOf, OneOf, Path, Section, Text, Texts, Url};
use super::{ConfigKey, ReleaseLines, Unless, key};

/// Demands for client certificates, as distribution names them.
const CLIENT_AUTH: &[&str] = &[
    "request-client-cert",
    "require-any-client-cert",
    "verify-client-cert-if-given",
    "require-and-verify-client-cert",
];

/// Names in a certificate that can be a user's.
const NAMES: &[&str] = &["email", "uri", "dns", "commonname"];

pub(super) const TLS: &[ConfigKey] = &[
    key("http.tls", Section),
    key("http.tls.certificate", Path).note("PEM, leaf first; with the key read again when it changes"),
    key("http.tls.key", Path).note("PEM: PKCS#8, PKCS#1 or SEC1, not encrypted"),
    key("http.tls.clientcas", Texts).note("PEM files with the authorities that sign client certificates"),
    key("http.tls.clientauth", OneOf(CLIENT_AUTH))
        .lines(ReleaseLines::Three)
        .note("needs `http.tls.clientcas`, with which `require-and-verify-client-cert` is the default"),
    key("http.tls.minimumtls", OneOf(&["tls1.0", "tls1.1", "tls1.2", "tls1.3"]))
        .default("tls1.2")
        .note("`tls1.0` and `tls1.1` stand for `tls1.2`"),
    key("http.tls.ciphersuites", Texts).note("names of Go; those of TLS 1.3 cannot be chosen"),
    key("http.tls.letsencrypt", Section).refuse(
        "certificates are not requested by the registry itself; use one that certbot or cert-manager keeps: it is \
         read again when it changes",
        Unless::Idle,
    ),
    key("http.tls.letsencrypt.cachefile", Path).within(),
    key("http.tls.letsencrypt.email", Text).within(),
    key("http.tls.letsencrypt.hosts", Texts).within(),
    key("http.tls.letsencrypt.directoryurl", Url).within().lines(ReleaseLines::Three),
];

pub(super) const OWN: &[ConfigKey] = &[
    key("quinistry.http.proxyprotocol", Boolean).default("false").lines(ReleaseLines::Own).note(
        "each connection begins with the PROXY protocol, version 1 or 2, of one of `quinistry.http.trustedproxies`",
    ),
    key("quinistry.clientcerts", Section).lines(ReleaseLines::Own),
    key("quinistry.clientcerts.user", ListOf(NAMES)).lines(ReleaseLines::Own).note(
        "name in a verified client certificate that is the user's: the first kind that the certificate has",
    ),
];

//! Settings of TLS.

use std::path::PathBuf;

use rustls::{CipherSuite, SupportedCipherSuite};

/// Settings of TLS on a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// File with the certificate chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// File with the leaf's private key in PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
    /// Files with the certificates, in PEM, of the authorities that sign client certificates.
    pub client_cas: Vec<PathBuf>,
    /// Demand for client certificates.
    pub client_auth: ClientAuth,
    /// True if TLS 1.2 is refused.
    pub requires_tls13: bool,
    /// Cipher suites of TLS 1.2. Those of TLS 1.3 cannot be chosen, as in Go.
    pub cipher_suites: CipherSuites,
}

/// Demand for client certificates, as Go's `tls.ClientAuthType` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Clients are not asked.
    #[default]
    None,
    /// Clients are asked. Only possession of the key is verified, so that a certificate is no identity.
    Request,
    /// Clients must have a certificate. Only possession of the key is verified, so that it is no identity.
    RequireAny,
    /// A certificate is verified if the client has one.
    VerifyIfGiven,
    /// Clients must have a certificate that is verified.
    RequireAndVerify,
}

/// Choice of cipher suites.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CipherSuites(Option<Vec<CipherSuite>>);

/// Reason why a name in a list of cipher suites has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusableCipherSuite {
    /// Weak suite that Go has and this program does not: CBC, RC4, 3DES, or no forward secrecy.
    Weak,
    /// Name that Go does not have.
    Unknown,
}

/// Suites that rustls has, by Go's names (`crypto/tls`, `cipher_suites.go`).
const SUPPORTED: [(&str, CipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites that Go has beside those (`crypto/tls`, `cipher_suites.go`, also `InsecureCipherSuites`).
const WEAK: [&str; 13] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

// === impl TlsSettings ===

impl TlsSettings {
    /// Makes settings with the defaults beside a certificate and its key.
    #[must_use]
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self {
            certificate,
            key,
            client_cas: Vec::new(),
            client_auth: ClientAuth::default(),
            requires_tls13: false,
            cipher_suites: CipherSuites::default(),
        }
    }
}

// === impl ClientAuth ===

impl ClientAuth {
    /// Returns true if the chain of a client's certificate is verified, so that it can be an identity.
    #[must_use]
    pub const fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

// === impl CipherSuites ===

impl CipherSuites {
    /// Chooses suites by Go's names. Names of suites that cannot be used are left out.
    #[must_use]
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Some(names.into_iter().filter_map(|name| Self::find(name).ok()).collect()))
    }

    /// Finds the suite of a name.
    pub fn find(name: &str) -> Result<CipherSuite, UnusableCipherSuite> {
        match SUPPORTED.iter().find(|(known, _)| *known == name) {
            Some((_, suite)) => Ok(*suite),
            None if WEAK.contains(&name) => Err(UnusableCipherSuite::Weak),
            None => Err(UnusableCipherSuite::Unknown),
        }
    }

    /// Returns true if the choice has this suite. Suites of TLS 1.3 are always chosen.
    pub(super) fn has(&self, suite: SupportedCipherSuite) -> bool {
        suite.tls13().is_some() || self.0.as_ref().is_none_or(|chosen| chosen.contains(&suite.suite()))
    }

    /// Returns true if the choice has a suite of TLS 1.2.
    pub(super) fn allow_tls12(&self) -> bool {
        rustls::crypto::ring::ALL_CIPHER_SUITES
            .iter()
            .any(|suite| suite.tls13().is_none() && self.has(*suite))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_go_are_found_and_weak_ones_are_told_from_unknown_ones() {
        for suite in rustls::crypto::ring::ALL_CIPHER_SUITES {
            assert!(SUPPORTED.iter().any(|(_, known)| *known == suite.suite()), "{suite:?}");
        }
        for (name, suite) in SUPPORTED {
            assert_eq!(CipherSuites::find(name), Ok(suite));
        }
        assert_eq!(CipherSuites::find("TLS_RSA_WITH_AES_128_CBC_SHA"), Err(UnusableCipherSuite::Weak));
        assert_eq!(CipherSuites::find("ECDHE-RSA-AES128-GCM-SHA256"), Err(UnusableCipherSuite::Unknown));
    }

    #[test]
    fn a_choice_of_suites_of_tls_1_3_alone_switches_tls_1_2_off() {
        assert!(CipherSuites::default().allow_tls12());
        assert!(CipherSuites::of(["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).allow_tls12());
        assert!(!CipherSuites::of(["TLS_AES_128_GCM_SHA256"]).allow_tls12());
    }
}

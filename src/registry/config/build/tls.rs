//! TLS and client certificates from a checked tree.

use super::super::model::{CertificateField, CipherSuites, ClientAuth, TlsSettings};
use super::super::values;
use super::Section;

/// Returns the settings of TLS, if the section names a certificate.
pub(super) fn tls(root: Section<'_>) -> Option<TlsSettings> {
    let (certificate, key) = (root.text("http.tls.certificate"), root.text("http.tls.key"));
    if certificate.is_empty() || key.is_empty() {
        return None;
    }
    let texts = |key: &str| root.value(key).and_then(|node| values::texts(node).ok()).unwrap_or_default();
    let client_cas = texts("http.tls.clientcas");
    let suites = texts("http.tls.ciphersuites");
    Some(TlsSettings {
        certificate: certificate.into(),
        key: key.into(),
        client_auth: match root.word("http.tls.clientauth") {
            _ if client_cas.is_empty() => ClientAuth::None,
            Some("request-client-cert") => ClientAuth::Request,
            Some("require-any-client-cert") => ClientAuth::RequireAny,
            Some("verify-client-cert-if-given") => ClientAuth::VerifyIfGiven,
            _ => ClientAuth::RequireAndVerify,
        },
        client_cas: client_cas.into_iter().map(Into::into).collect(),
        requires_tls13: root.word("http.tls.minimumtls") == Some("tls1.3"),
        cipher_suites: if suites.is_empty() { CipherSuites::default() } else { CipherSuites::of(suites) },
    })
}

/// Returns the names in a client certificate that can be a user's.
pub(super) fn certificate_names(root: Section<'_>) -> Vec<CertificateField> {
    let names = root.value("quinistry.clientcerts.user").and_then(|node| values::texts(node).ok());
    names.unwrap_or_default().into_iter().filter_map(CertificateField::of_name).collect()
}

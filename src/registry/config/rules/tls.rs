//! Checks of TLS, client certificates and the PROXY protocol.

use quinistry_http::tls::{CipherSuites, UnusableCipherSuite};

use super::super::check::quote;
use super::super::findings::Findings;
use super::super::tree::ConfigNode;
use super::super::values;

/// Checks the keys of TLS, client certificates and the PROXY protocol.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    pair(tree, findings);
    versions(tree, findings);
    cipher_suites(tree, findings);
    client_auth(tree, findings);
    client_names(tree, findings);
    proxy_protocol(tree, findings);
}

/// Returns a value that asks for something.
fn value<'a>(tree: &'a ConfigNode, path: &str) -> Option<&'a ConfigNode> {
    tree.at(path).filter(|node| !node.is_idle())
}

/// Demands certificate and key together, and a certificate where a key has an effect only with TLS.
fn pair(tree: &ConfigNode, findings: &mut Findings) {
    let (certificate, key) = (value(tree, "http.tls.certificate"), value(tree, "http.tls.key"));
    match (certificate, key) {
        (Some(node), None) => {
            let message = "is missing, and the certificate cannot be used; name the file of its key";
            findings.error(&node.origin, "http.tls.key", message.into());
        }
        (None, Some(node)) => {
            let message = "is missing, and the key cannot be used; name the file of its certificate";
            findings.error(&node.origin, "http.tls.certificate", message.into());
        }
        (Some(_), Some(_)) => {}
        (None, None) => {
            for path in ["http.tls.clientcas", "http.tls.clientauth"] {
                if let Some(node) = value(tree, path) {
                    let message = "has no effect without TLS, and every client would be let in; add \
                                   http.tls.certificate and http.tls.key";
                    findings.error(&node.origin, path, message.into());
                }
            }
            for path in ["http.tls.minimumtls", "http.tls.ciphersuites"] {
                if let Some(node) = value(tree, path) {
                    let message = "has no effect without http.tls.certificate and http.tls.key";
                    findings.warn(&node.origin, path, message.into());
                }
            }
        }
    }
}

fn versions(tree: &ConfigNode, findings: &mut Findings) {
    let path = "http.tls.minimumtls";
    let Some(node) = value(tree, path) else { return };
    if let Some(text @ ("tls1.0" | "tls1.1")) = node.as_text() {
        findings.warn(
            &node.origin,
            path,
            format!("{text} is not supported, and TLS 1.2 is the oldest version"),
        );
    }
}

fn cipher_suites(tree: &ConfigNode, findings: &mut Findings) {
    let path = "http.tls.ciphersuites";
    let Some(node) = value(tree, path) else { return };
    let Ok(names) = values::texts(node) else { return };
    let items = node.as_list().unwrap_or_default().iter().map(|item| &item.origin);
    let mut usable = 0;
    let mut is_known = true;
    for (name, origin) in names.iter().zip(items.chain(std::iter::repeat(&node.origin))) {
        match CipherSuites::find(name) {
            Ok(_) => usable += 1,
            Err(UnusableCipherSuite::Weak) => {
                findings.warn(origin, path, format!("{name} is weak, and is left out"));
            }
            Err(UnusableCipherSuite::Unknown) => {
                is_known = false;
                let message = "is not a cipher suite of Go, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
                findings.error(origin, path, format!("\"{}\" {message}", quote(name)));
            }
        }
    }
    if usable == 0 && is_known {
        let message = "no cipher suite is left; remove the key, or name one that is not weak";
        findings.error(&node.origin, path, message.into());
    }
}

fn client_auth(tree: &ConfigNode, findings: &mut Findings) {
    let path = "http.tls.clientauth";
    let authorities = value(tree, "http.tls.clientcas");
    if let (Some(node), None) = (value(tree, path), authorities) {
        let message = "needs http.tls.clientcas, without which no client is asked for a certificate";
        findings.error(&node.origin, path, message.into());
    }
    if let Some(node) = authorities.filter(|_| value(tree, "http.tls.certificate").is_some()) {
        let message = "certificates of authorities, and those signed with SHA-1, are refused as client \
                       certificates, where distribution accepts them";
        findings.note(&node.origin, "http.tls.clientcas", message.into());
    }
}

fn client_names(tree: &ConfigNode, findings: &mut Findings) {
    let path = "quinistry.clientcerts.user";
    let Some(node) = value(tree, path) else { return };
    let demand = value(tree, "http.tls.clientauth").and_then(ConfigNode::as_text);
    let verifies = !matches!(demand, Some("request-client-cert" | "require-any-client-cert"));
    if value(tree, "http.tls.clientcas").is_none() || !verifies {
        let message = "needs http.tls.clientcas, and a clientauth that verifies certificates";
        findings.error(&node.origin, path, message.into());
    }
}

fn proxy_protocol(tree: &ConfigNode, findings: &mut Findings) {
    let path = "quinistry.http.proxyprotocol";
    let Some(node) = value(tree, path).filter(|node| values::boolean(node).is_ok_and(|is_on| is_on)) else {
        return;
    };
    if value(tree, "quinistry.http.trustedproxies").is_none() {
        let message = "needs quinistry.http.trustedproxies: connections of all other peers are closed";
        findings.error(&node.origin, path, message.into());
    }
}

//! TLS, client certificates and the PROXY protocol.

use super::{SMALLEST, lines, load_text, with};
use crate::config::{CertificateField, CipherSuites, ClientAuth};

fn found(tls: &str) -> Vec<String> {
    let text = format!("{SMALLEST}http: {{tls: {{{tls}}}}}\n");
    let without_place =
        |line: &String| line.split_once(": ").expect("a finding begins with its place").1.to_owned();
    lines(&load_text(&text, &[])).iter().map(without_place).collect()
}

/// Returns the only finding.
fn only(tls: &str) -> String {
    let found = found(tls);
    let [only] = found.as_slice() else { panic!("{tls}: {found:?}") };
    only.clone()
}

const PAIR: &str = "certificate: /c, key: /k";

#[test]
fn a_pair_is_both_or_neither() {
    assert!(only("certificate: /c").starts_with("error: http.tls.key: is missing"));
    assert!(only("key: /k").starts_with("error: http.tls.certificate: is missing"));
    assert_eq!(found("certificate: '', key: ''"), [""; 0]);
    assert_eq!(found(PAIR), [""; 0]);
    assert!(
        only("clientcas: [/a]").starts_with("error: http.tls.clientcas: has no effect without TLS"),
        "open door"
    );
    assert!(only("minimumtls: tls1.3").starts_with("warning: http.tls.minimumtls: has no effect"));
}

#[test]
fn client_authorities_decide_whether_clients_are_asked() {
    let auth = |more: &str| with(&format!("http: {{tls: {{{PAIR}{more}}}}}\n")).http.tls.unwrap().client_auth;
    assert_eq!(auth(""), ClientAuth::None);
    assert_eq!(auth(", clientcas: [/a]"), ClientAuth::RequireAndVerify);
    let modes = [
        ("request-client-cert", ClientAuth::Request),
        ("require-any-client-cert", ClientAuth::RequireAny),
        ("verify-client-cert-if-given", ClientAuth::VerifyIfGiven),
        ("require-and-verify-client-cert", ClientAuth::RequireAndVerify),
    ];
    for (name, mode) in modes {
        assert_eq!(auth(&format!(", clientcas: [/a], clientauth: {name}")), mode);
        let alone = only(&format!("{PAIR}, clientauth: {name}"));
        assert!(alone.starts_with("error: http.tls.clientauth: needs http.tls.clientcas"), "{alone}");
    }
    assert!(only(&format!("{PAIR}, clientcas: [/a]")).starts_with("note: http.tls.clientcas: "));
}

#[test]
fn old_versions_and_weak_suites_are_left_out_and_unknown_ones_refused() {
    for old in ["tls1.0", "tls1.1"] {
        assert!(only(&format!("{PAIR}, minimumtls: {old}")).contains("TLS 1.2 is the oldest version"));
    }
    let suites = |names: &str| found(&format!("{PAIR}, ciphersuites: [{names}]"));
    let strong = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    let weak = "TLS_RSA_WITH_AES_128_CBC_SHA";
    assert_eq!(suites(strong), [""; 0]);
    assert_eq!(
        suites(&format!("{strong}, {weak}")),
        [format!("warning: http.tls.ciphersuites: {weak} is weak, and is left out")]
    );
    let weak_alone = suites(weak);
    assert!(
        weak_alone.iter().any(|line| line.starts_with("error: ") && line.contains("no cipher suite is left"))
    );
    let unknown = suites(&format!("{strong}, AES128"));
    assert!(
        unknown[0].contains("error: http.tls.ciphersuites: \"AES128\" is not a cipher suite of Go"),
        "{unknown:?}"
    );
    let chosen = with(&format!("http: {{tls: {{{PAIR}, ciphersuites: [{strong}, {weak}]}}}}\n"));
    assert_eq!(chosen.http.tls.unwrap().cipher_suites, CipherSuites::of([strong]));
}

#[test]
fn certificates_are_not_requested_by_the_registry() {
    let refused = only("letsencrypt: {email: a@b.c, hosts: [r.example.com]}");
    assert!(refused.starts_with("error: http.tls.letsencrypt: certificates are not requested"), "{refused}");
    assert_eq!(found("letsencrypt: {email: '', hosts: []}"), [""; 0], "as the example of registry:2 has it");
}

#[test]
fn users_by_certificates_need_authorities_that_verify_them() {
    let text = |tls: &str| {
        format!(
            "{SMALLEST}http: {{tls: {{{PAIR}{tls}}}}}\nquinistry: {{clientcerts: {{user: [uri, CommonName]}}}}\n"
        )
    };
    for tls in [
        "",
        ", clientcas: [/a], clientauth: request-client-cert",
        ", clientcas: [/a], clientauth: require-any-client-cert",
    ] {
        let found = lines(&load_text(&text(tls), &[]));
        assert!(
            found.iter().any(|line| line.contains("error: quinistry.clientcerts.user: needs")),
            "{found:?}"
        );
    }
    let accepted = load_text(&text(", clientcas: [/a]"), &[]).config.unwrap();
    assert_eq!(accepted.http.certificate_names, [CertificateField::Uri, CertificateField::CommonName]);
}

#[test]
fn the_proxy_protocol_needs_trusted_proxies() {
    let loaded = load_text(&format!("{SMALLEST}quinistry: {{http: {{proxyprotocol: true}}}}\n"), &[]);
    let found = lines(&loaded);
    assert!(
        found[0].contains("error: quinistry.http.proxyprotocol: needs quinistry.http.trustedproxies"),
        "{found:?}"
    );
}

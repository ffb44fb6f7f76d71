//! Values that another part of the program reads again: it accepts what is accepted here.

use quinistry_http::client_address::TrustedProxies;

use super::{findings, with};
use crate::settings::{ExtraHeaders, UrlRules};

#[test]
fn headers_that_a_response_cannot_have_are_refused_with_their_place() {
    for name in
        ["Keep-Alive", "connection", "Content-Length", "TE", "Trailer", "Transfer-Encoding", "UPGRADE"]
    {
        assert_eq!(
            findings(&format!("http:\n  headers:\n    {name}: [a]\n")),
            [format!(
                "c.yml:5:{}: error: http.headers.{name}: must not be set: it frames the message",
                name.len() + 7
            )]
        );
    }
}

#[test]
fn values_of_headers_may_have_letters_beyond_ascii() {
    let config = with("http: {headers: {X-Team: ['café'], X-Empty: ['']}}\n");
    assert_eq!(config.http.headers["x-team"].as_bytes(), "café".as_bytes());
    let mut headers = ExtraHeaders::default();
    for (name, value) in &config.http.headers {
        headers.append(name.clone(), value.clone()).unwrap();
    }
}

#[test]
fn trusted_proxies_are_networks_addresses_and_unix() {
    let config = with("quinistry: {http: {trustedproxies: [10.0.0.0/8, unix, '::1']}}\n");
    let expected = TrustedProxies::parse(["10.0.0.0/8", "unix", "::1"]).unwrap();
    assert_eq!(config.http.trusted_proxies, expected);
    assert_eq!(
        findings("quinistry: {http: {trustedproxies: [unix, localhost]}}\n"),
        [
            "c.yml:3:43: error: quinistry.http.trustedproxies: \"localhost\" must be a network such as 10.0.0.0/8, an \
             address, or unix for unix sockets"
        ]
    );
}

#[test]
fn expressions_that_are_too_large_together_are_refused_with_their_place() {
    let patterns = |count: usize| vec!["'\\w{900}'"; count].join(", ");
    let allow = |list: &str| findings(&format!("validation: {{manifests: {{urls: {{allow: [{list}]}}}}}}\n"));
    assert!(allow(&patterns(1)).is_empty());
    assert_eq!(
        allow(&patterns(40)),
        [
            "c.yml:3:40: error: validation.manifests.urls.allow: needs too much memory as a whole; use fewer or shorter \
             expressions"
        ]
    );
    let found = allow("'a', '('");
    assert!(found[0].starts_with("c.yml:3:46: error: validation.manifests.urls.allow: \"(\" is not a valid"));
    assert!(UrlRules::new(["a"; 100], ["b"; 100]).is_ok());
}

//! Doors that a mistake must not open: deletion, access, and a registry that was not asked for.

use super::{SMALLEST, accepted, environment, lines, load_text, load_variables};
use crate::config::{Severity, sets_a_key};

#[test]
fn quoted_text_does_not_turn_deletion_on() {
    let message =
        "error: storage.delete.enabled: is text, and not a boolean; write true or false without quotes";
    for value in ["\"true\"", "'false'", "!!str yes"] {
        let text = format!("version: 0.1\nstorage: {{inmemory: , delete: {{enabled: {value}}}}}\n");
        let loaded = load_text(&text, &[]);
        assert!(loaded.config.is_none() && loaded.storage.is_none(), "{value}");
        assert!(lines(&loaded)[0].ends_with(message), "{:?}", lines(&loaded));
        let loaded = load_variables(&[("REGISTRY_STORAGE_DELETE_ENABLED", value)]);
        assert_eq!(lines(&loaded), [format!("REGISTRY_STORAGE_DELETE_ENABLED: {message}")]);
    }
    let text = "version: 0.1\nstorage: {inmemory: , maintenance: {readonly: \"true\"}}\n";
    assert!(accepted(&load_text(text, &[])).storage.is_read_only);
}

#[test]
fn variables_without_effect_configure_no_registry() {
    for (name, value, expected) in [
        ("REGISTRY_REDIS_ADDR", "x:1", false),
        ("REGISTRY_REPORTING_BUGSNAG_APIKEY", "x", false),
        ("REGISTRY_HTTP_SECRET", "x", false),
        ("REGISTRY_HTTP_SECRET_FILE", "/s", false),
        ("REGISTRY_STORAGE_FILESYSTEM_MAXTHREADS", "9", false),
        ("REGISTRY_VERSION", "2.8.3", false),
        ("REGISTRY_HTTP_ADDR", ":1", true),
        ("REGISTRY_HTTP_ADDR_FILE", "/a", true),
        ("REGISTRY_AUTH", "none", true),
        ("REGISTRY_STORAGE_S3_BUCKET", "a", true),
        ("REGISTRY_AUTH_HTPASWD", "x", true),
        ("REGISTRY_AUHT_HTPASSWD_PATH", "/x", false),
    ] {
        assert_eq!(sets_a_key(environment(&[(name, value)])), expected, "{name}");
    }
}

#[test]
fn an_unknown_controller_is_not_told_to_be_removed() {
    let found = lines(&load_text(&format!("{SMALLEST}auth: {{ldap: {{a: b}}}}\n"), &[]));
    assert_eq!(
        found,
        ["c.yml:3:8: error: auth.ldap: is not a known access controller; name htpasswd or token, or keep \
          distribution for this registry"]
    );
}

#[test]
fn a_key_that_resembles_a_lock_is_an_error() {
    for (text, expected) in [
        ("auht: {}", "auht: is not known; did you mean auth?"),
        ("Auth: {}", "Auth: is not known; did you mean auth?"),
        ("http: {tsl: {}}", "http.tsl: is not known; did you mean tls?"),
        ("prox: {}", "prox: is not known; did you mean proxy?"),
    ] {
        let loaded = load_text(&format!("{SMALLEST}{text}\n"), &[]);
        let found = &loaded.diagnostics[0];
        assert_eq!(found.severity, Severity::Error, "{text}");
        assert!(found.to_string().ends_with(expected), "{found}");
    }
}

#[test]
fn a_variable_that_resembles_a_lock_is_an_error_beside_a_configuration() {
    for (name, expected) in [
        ("REGISTRY_AUHT_HTPASSWD_PATH", "error: sets no key; did you mean REGISTRY_AUTH?"),
        ("REGISTRY_HTTP_TSL_KEY", "error: sets no key; did you mean REGISTRY_HTTP_TLS?"),
    ] {
        assert_eq!(lines(&load_text(SMALLEST, &[(name, "x")])), [format!("{name}: {expected}")]);
    }
}

#[test]
fn every_variable_that_removes_users_says_so() {
    let file =
        format!("{SMALLEST}http: {{addr: 'localhost:1'}}\nauth: {{htpasswd: {{realm: a, path: /b}}}}\n");
    for value in ["", "null", "none", "None", "{none: }", "\"\""] {
        let found = lines(&load_text(&file, &[("REGISTRY_AUTH", value)]));
        assert!(
            found[0].ends_with("auth.htpasswd at c.yml:4:8, and there are no users"),
            "{value}: {found:?}"
        );
    }
}

#[test]
fn elements_are_set_in_the_order_of_their_numbers() {
    let names: Vec<_> = (0..12).map(|index| format!("REGISTRY_HEALTH_FILE_{index}_FILE")).collect();
    let paths: Vec<_> = (0..12).map(|index| format!("/{index}")).collect();
    let variables: Vec<_> = names.iter().zip(&paths).map(|(name, path)| (&**name, &**path)).collect();
    let loaded = load_text(SMALLEST, &variables);
    let checks: Vec<_> = accepted(&loaded).health.iter().map(|check| check.name.clone()).collect();
    assert_eq!(checks, paths);
}

#[test]
fn a_version_of_the_program_is_not_one_of_the_format() {
    for value in ["2.8.3", "3", "", "[x"] {
        let loaded = load_text(SMALLEST, &[("REGISTRY_VERSION", value)]);
        assert!(loaded.config.is_some() && loaded.set_by_environment.is_empty(), "{value}");
        assert_eq!(
            lines(&loaded),
            [
                "REGISTRY_VERSION: warning: version: is not 0.1, the version of the file's format, and is ignored"
            ]
        );
    }
    assert!(lines(&load_text(SMALLEST, &[("REGISTRY_VERSION", "0.1")])).is_empty());
}

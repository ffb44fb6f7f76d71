//! Secrets: none of them reaches a finding or the text of the configuration in effect.

use super::{SMALLEST, lines, load_text, load_variables};
use crate::config::all_keys;

/// Text that no finding may hold.
const SECRET: &str = "hunter2-never-shown";

#[test]
fn no_finding_holds_the_value_of_a_secret() {
    let texts = [
        format!("{SMALLEST}http: {{secret: [{SECRET}]}}\n"),
        format!("{SMALLEST}http: {{secret: {{{SECRET}: {SECRET}}}}}\n"),
        format!("{SMALLEST}http: {{secret: *{SECRET}}}\n"),
        format!("{SMALLEST}http: {{secret: {SECRET}, tls: {SECRET}}}\n"),
        format!("{SMALLEST}http: {{host: 'ftp://user:{SECRET}@host'}}\n"),
        format!("{SMALLEST}http: {{host: 'user:{SECRET}@host'}}\n"),
        format!("{SMALLEST}proxy: {{remoteurl: 'https://user:{SECRET}@host', password: [{SECRET}]}}\n"),
        format!("{SMALLEST}proxy: {{remoteurl: '//user:{SECRET}@host', passwrd: {SECRET}}}\n"),
        format!("{SMALLEST}proxy: {{remoteurl: 'https://h', username: a, password: {SECRET}}}\n"),
        format!(
            "{SMALLEST}quinistry: {{upstreams: [{{prefix: a, remoteurl: 'https://u:{SECRET}@h', password: [{SECRET}]}}]}}\n"
        ),
        format!(
            "{SMALLEST}quinistry: {{upstreams: [{{prefix: a, remoteurl: 'https://h', username: b, password: {SECRET}}}]}}\n"
        ),
        format!("{SMALLEST}redis: {{password: {SECRET}}}\n"),
        format!("{SMALLEST}redis: {SECRET}\n"),
        format!("{SMALLEST}reporting: {{bugsnag: {{apikey: {SECRET}}}}}\n"),
        format!("{SMALLEST}log: {{hooks: [{{options: {{smtp: {{password: {SECRET}}}}}}}]}}\n"),
        format!("{SMALLEST}auth: {{htpasswd: {SECRET}, token: [{SECRET}]}}\n"),
        format!("{SMALLEST}auth: {{htpasswd: {{password: {SECRET}}}}}\n"),
        format!("{SMALLEST}health: {{http: [{{uri: 'http://x', headers: {{Authorization: {SECRET}}}}}]}}\n"),
        format!("{SMALLEST}health: {{http: [{{uri: 'http://x', headers: {{A: [\"{SECRET}\\n\"]}}}}]}}\n"),
        format!(
            "{SMALLEST}notifications: {{endpoints: [{{name: a, url: 'x://u:{SECRET}@h', headers: {{A: {SECRET}}}}}]}}\n"
        ),
        format!("{SMALLEST}middleware: {{storage: [{{name: a, options: {{privatekey: {SECRET}}}}}]}}\n"),
        format!("{SMALLEST}quinistry: {{keys: {SECRET}, tokens: {SECRET}}}\n"),
        format!(
            "version: 0.1\nstorage: {{s3: {{accesskey: [{SECRET}], secretkey: {{a: {SECRET}}}, secret_key: {SECRET}}}}}\n"
        ),
        format!(
            "version: 0.1\nstorage: {{azure: {{accountkey: [{SECRET}], credentials: {{secret: [{SECRET}]}}}}}}\n"
        ),
        format!("version: 0.1\nstorage: {{gcs: {{bucket: a, credentials: {{private_key: {SECRET}}}}}}}\n"),
        format!("version: 0.1\nstorage: {{swift: {{password: {SECRET}}}}}\n"),
        format!("version: 0.1\nstorage: [{SECRET}]\n"),
        format!("{SMALLEST}health: {{http: [{{uri: 'http://u:{SECRET}@x'}}]}}\n"),
        format!("{SMALLEST}health: {{http: [{{uri: 'https://{SECRET}@x'}}]}}\n"),
        format!("{SMALLEST}http: {{host: 'ftp://host/?token={SECRET}'}}\n"),
        format!("{SMALLEST}http: {{host: 'https://u:{SECRET}@host/?token={SECRET}#{SECRET}'}}\n"),
        format!(
            "{SMALLEST}notifications: {{endpoints: [{{name: a, disabled: true, url: 'https://h/{SECRET}'}}]}}\n"
        ),
        format!("{SMALLEST}notifications: {{endpoints: [{{name: a, url: 'x://h/{SECRET}'}}]}}\n"),
        format!(
            "{SMALLEST}notifications: {{endpoints: [{{name: a, url: 'http://u:{SECRET}@h/{SECRET}?{SECRET}'}}]}}\n"
        ),
        format!(
            "{SMALLEST}notifications: {{endpoints: [{{name: a, url: 'http://h', quinistry: {{secret: {SECRET}}}}}]}}\n"
        ),
        format!(
            "{SMALLEST}notifications: {{endpoints: [{{name: a, url: 'http://h', quinistry: {{formersecret: [{SECRET}]}}}}]}}\n"
        ),
    ];
    for text in texts {
        let loaded = load_text(&text, &[]);
        let found = lines(&loaded).join("\n");
        assert!(!found.contains(SECRET), "{text}{found}");
        assert!(!loaded.show().unwrap_or_default().contains(SECRET), "{text}");
    }
}

/// Beginnings and ends of values that have a meaning in YAML.
const FORMS: &[(&str, &str)] = &[
    ("!", ""),
    ("!", " x"),
    ("!!", ""),
    ("!!", " x"),
    ("!<", ">"),
    ("!a!", ""),
    ("&", ""),
    ("&", " x"),
    ("&a !", ""),
    ("*", ""),
    ("@", ""),
    ("`", ""),
    ("%", ""),
    ("|", ""),
    ("|\n  ", ""),
    (">\n  ", ""),
    ("|9", "\n x"),
    ("{", ""),
    ("{", "}"),
    ("{a: ", ""),
    ("[", ""),
    ("[", "]"),
    ("- ", ""),
    ("? ", ""),
    ("a: ", ""),
    (": ", ""),
    ("'", ""),
    ("\"", ""),
    ("\"\\z", "\""),
    ("\t", ""),
    ("#", ""),
    ("---\n", ""),
    ("%TAG !a! ", "\n---\nx"),
];

#[test]
fn no_finding_holds_a_secret_in_any_form_of_yaml() {
    for (before, after) in FORMS {
        let value = format!("{before}{SECRET}{after}");
        for text in [
            format!("{SMALLEST}http:\n  secret: {value}\n"),
            format!("{SMALLEST}http: {{secret: {value}}}\n"),
            format!("{SMALLEST}redis:\n  password: {value}\n"),
            format!("{SMALLEST}health:\n  http: [{{uri: 'http://x', headers: {{A: [{value}]}}}}]\n"),
        ] {
            let loaded = load_text(&text, &[]);
            let found = lines(&loaded).join("\n");
            assert!(!found.contains(SECRET), "{text}{found}");
            assert!(!loaded.show().unwrap_or_default().contains(SECRET), "{text}");
        }
        for name in ["REGISTRY_HTTP_SECRET", "REGISTRY_REDIS_PASSWORD", "REGISTRY_HEALTH_HTTP_0_HEADERS_A"] {
            let found = lines(&load_variables(&[(name, &value)])).join("\n");
            assert!(!found.contains(SECRET), "{name}={value}: {found}");
        }
    }
}

#[test]
fn no_finding_holds_the_value_of_a_secret_variable() {
    let values = [
        SECRET.to_owned(),
        format!("[{SECRET}]"),
        format!("{{a: {SECRET}}}"),
        format!("*{SECRET}"),
        format!("'{SECRET}"),
        format!("{SECRET} #x"),
        format!("{SECRET}\u{0}"),
    ];
    for key in all_keys().filter(|key| key.is_secret) {
        let name = format!("REGISTRY_{}", key.path.replace("[]", "_0").replace('.', "_").to_uppercase());
        for value in &values {
            let loaded = load_variables(&[(&name, value)]);
            let found = lines(&loaded).join("\n");
            assert!(!found.contains(SECRET), "{name}={value}: {found}");
            assert!(!loaded.show().unwrap_or_default().contains(SECRET), "{name}={value}");
        }
    }
    for name in ["REGISTRY_AUTH_HTPASSWD_PASSWORD", "REGISTRY_STORAGE_S3_SECRET", "REGISTRY_PASSWORD"] {
        let found = lines(&load_variables(&[(name, SECRET)])).join("\n");
        assert!(!found.contains(SECRET), "{found}");
    }
}

#[test]
fn no_finding_holds_a_bare_value_that_is_no_driver() {
    let users = ("REGISTRY_AUTH_HTPASSWD_PATH", "/b");
    for value in [SECRET.to_owned(), format!("s3 {SECRET}"), format!("{{{SECRET}: x}}")] {
        for name in ["REGISTRY_AUTH", "REGISTRY_STORAGE"] {
            for variables in [&[(name, &*value)][..], &[(name, &*value), users]] {
                let found = lines(&load_variables(variables)).join("\n");
                assert!(!found.contains(SECRET), "{name}={value}: {found}");
            }
        }
    }
    for text in [format!("{SMALLEST}auth: {SECRET}\n"), format!("version: 0.1\nstorage: {SECRET}\n")] {
        for variables in [&[][..], &[("REGISTRY_AUTH", "none"), ("REGISTRY_STORAGE", "inmemory")], &[users]] {
            let found = lines(&load_text(&text, variables)).join("\n");
            assert!(!found.contains(SECRET), "{text}{found}");
        }
    }
    let found = lines(&load_variables(&[("REGISTRY_AUTH", SECRET)]));
    assert!(
        found[0].contains("auth: the value is not a known access controller; name htpasswd"),
        "{found:?}"
    );
}

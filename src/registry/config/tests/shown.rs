//! Text of the configuration in effect.

use super::{SMALLEST, accepted, load_text, load_variables};

/// Returns a text without the places of its values.
fn without_places(text: &str) -> String {
    text.lines().map(|line| line.split(" # from ").next().unwrap_or(line).to_owned() + "\n").collect()
}

#[test]
fn the_text_has_every_default_and_every_place() {
    let loaded = load_text(
        "version: 0.1\nstorage: inmemory\nhttp:\n  addr: localhost:5000\n",
        &[("REGISTRY_LOG_LEVEL", "warn"), ("REGISTRY_HTTP_SECRET", "x")],
    );
    let shown = loaded.show().unwrap();
    for line in [
        "version: 0.1 # from c.yml:1:10",
        "  addr: localhost:5000 # from c.yml:4:9",
        "  inmemory: null # from c.yml:2:10",
        "  level: warn # from REGISTRY_LOG_LEVEL",
        "  secret: \"***\" # from REGISTRY_HTTP_SECRET",
        "    enabled: false # from default",
        "      age: 168h # from default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(!shown.contains("rootdirectory"), "{shown}");
}

#[test]
fn the_text_gives_the_same_configuration_again() {
    let texts = [
        SMALLEST.to_owned(),
        include_str!("samples/registry-2.yml").to_owned(),
        include_str!("samples/registry-3.yml").to_owned(),
        "version: 0.1\nstorage: {s3: {bucket: a, region: b}}\nquinistry: {redirect: {minsize: 1MiB}}\n"
            .to_owned(),
        format!(
            "{SMALLEST}log: {{fields: {{a: 'true', \"b\\n\": \"c: # d\", \"-\": '', x: ~, 'y z': 010, e: \"\\uffff\\x85\"}}}}\n\
             health: {{file: [{{file: /a, interval: 90s}}, {{file: '- b'}}], tcp: [], http: [{{uri: 'http://h/'}}]}}\n\
             auth: {{none: {{}}}}\nredis: {{addrs: [a, {{b: [c]}}], password: d}}\n\
             validation: {{manifests: {{urls: {{allow: ['^https?://\\w+'], deny: []}}}}}}\n\
             http: {{headers: {{X-A: [a, 'b: c', '#']}}, addr: '[::1]:5000', net: tcp}}\nunknown: {{a: b}}\n"
        ),
        "version: 0.1\nstorage: {filesystem: , cache: {blobdescriptor: inmemory}}\n".to_owned(),
        format!(
            "{SMALLEST}notifications: {{endpoints: [{{name: a, disabled: true, url: 'http://u:p@h/secret', \
             headers: {{Authorization: [Bearer x]}}}}]}}\n"
        ),
    ];
    for text in texts {
        let first = load_text(&text, &[]);
        let config = accepted(&first);
        let shown = first.show().unwrap();
        let again = load_text(&shown, &[]);
        assert_eq!(accepted(&again).http, config.http, "{shown}");
        assert_eq!(accepted(&again).log, config.log, "{shown}");
        assert_eq!(accepted(&again).storage, config.storage, "{shown}");
        assert_eq!(accepted(&again).validation, config.validation, "{shown}");
        assert_eq!(without_places(&again.show().unwrap()), without_places(&shown));
    }
    let loaded = load_variables(&[("REGISTRY_STORAGE_DELETE_ENABLED", "true")]);
    let again = load_text(&loaded.show().unwrap(), &[]);
    assert_eq!(accepted(&again), accepted(&loaded));
}

//! Tokens of another server and of this registry, with the files that hold their keys.

use std::path::PathBuf;
use std::time::Duration;

use super::{Files, SMALLEST, accepted, environment, lines};
use crate::config::{AllowedAlgorithms, KeyFiles, Loaded, Source, load};

const BUNDLE: &str = include_str!("../../auth/token/tests/root.pem");
const SIGNING_KEY: &str = include_str!("../../auth/token/tests/leaf.key");
const JWKS: &str =
    r#"{"keys":[{"kid":"a","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Required keys of `auth.token`, to which a test adds others.
const SERVER: &str = "realm: https://auth.example.com/token, service: r, issuer: i";

/// Files that the tests name.
pub(super) fn files() -> Files {
    Files(
        [
            ("/bundle.pem", (0o644, BUNDLE)),
            ("/jwks.json", (0o644, JWKS)),
            ("/withdrawn.json", (0o644, r#"{"keys":[]}"#)),
            ("/twice.json", (0o644, r#"{"keys":[{"kid":"a","kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},{"kid":"a","kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#)),
            ("/token.pem", (0o600, SIGNING_KEY)),
            ("/set.pem", (0o600, JWKS)),
            ("/readable.pem", (0o644, SIGNING_KEY)),
            ("/writable.pem", (0o666, SIGNING_KEY)),
            // Files of the examples in the documentation.
            ("/etc/quinistry/auth.pem", (0o644, BUNDLE)),
            ("/etc/quinistry/auth.json", (0o644, JWKS)),
            ("/etc/quinistry/token.pem", (0o600, SIGNING_KEY)),
            ("/etc/distribution/quinistry.json", (0o644, JWKS)),
            ("/users", (0o600, "alice:$2y$10$0KWXOrKKQWlG0o9qxNvV4eQrYbSW5Yl/1n2oT5wLdmMGbq0QyT6G2\n")),
        ]
        .map(|(name, (mode, text))| (name, (mode, text.as_bytes().to_vec())))
        .into(),
    )
}

fn load_with(more: &str) -> Loaded {
    let text = format!("{SMALLEST}{more}");
    load(Some(Source { name: "c.yml", bytes: text.as_bytes() }), environment(&[]), &files())
}

/// Findings about the keys of tokens.
fn found(more: &str) -> Vec<String> {
    let about = |line: &String| line.contains("token") && !line.contains("http.addr");
    lines(&load_with(more)).into_iter().filter(about).collect()
}

fn server(more: &str) -> Vec<String> {
    found(&format!("auth: {{token: {{{SERVER}, {more}}}}}\n"))
}

fn own(more: &str) -> Vec<String> {
    let secret = "s".repeat(32);
    found(&format!(
        "auth: {{htpasswd: {{realm: r, path: /users}}}}\nhttp: {{secret: {secret}}}\n\
         quinistry: {{tokens: {{{more}}}}}\n"
    ))
}

#[test]
fn a_short_secret_is_told_where_it_signs_tokens() {
    let users = "auth: {htpasswd: {realm: r, path: /users}}\n";
    let found = |length: usize, users: &str, own: &str| {
        found(&format!("{users}http: {{secret: '{}'}}\nquinistry: {{{own}}}\n", "x".repeat(length)))
    };
    let public = "access: [{repositories: ['**'], who: [anonymous], can: [pull]}]";
    let private = "access: [{repositories: ['**'], who: [authenticated], can: [pull]}]";
    for own in ["tokens: {enabled: true}", public] {
        let told = found(31, users, own);
        let expected = "warning: http.secret: has fewer than 32 characters and signs tokens, and a client that \
                        guesses it can forge them; set a longer one";
        assert!(told.len() == 1 && told[0].ends_with(expected), "{told:?}");
        assert_eq!(found(32, users, own), [""; 0]);
    }
    for own in [private, "tokens: {enabled: true, key: /token.pem}", "tokens: {enabled: false}"] {
        assert_eq!(found(31, users, own), [""; 0], "{own}: the secret signs nothing");
    }
    assert_eq!(found(31, "", public), [""; 0], "there are no users");
}

#[test]
fn every_value_of_tokens_reaches_the_typed_configuration() {
    let text = format!(
        "auth:\n  token: {{{SERVER}, rootcertbundle: /bundle.pem, jwks: /jwks.json, \
         signingalgorithms: [es256, HS256], autoredirect: true, autoredirectpath: /jwt/auth}}\n\
         http: {{host: 'https://r.example.com', secret: s3cret}}\n\
         quinistry: {{tokens: {{enabled: true, lifetime: 10m, key: /token.pem, services: [other]}}}}\n"
    );
    let loaded = load_with(&text);
    let config = accepted(&loaded);
    let server = config.token_server.as_ref().unwrap();
    assert_eq!((server.realm.as_str(), server.service.as_str()), ("https://auth.example.com/token", "r"));
    assert_eq!((server.issuer.as_str(), server.own_path.as_deref()), ("i", Some("/jwt/auth")));
    let keys = KeyFiles { root_bundle: Some("/bundle.pem".into()), jwks: Some("/jwks.json".into()) };
    assert_eq!(server.keys, keys);
    assert_eq!(Some(&server.algorithms), AllowedAlgorithms::of_names(["ES256", "HS256"]).as_ref());
    assert_eq!(config.tokens.lifetime, Duration::from_mins(10));
    assert_eq!((config.tokens.is_enabled, &config.tokens.key), (true, &Some(PathBuf::from("/token.pem"))));
    assert_eq!(config.tokens.services, ["other"]);
    assert_eq!(config.http.host.as_ref().unwrap().to_string(), "https://r.example.com/");
    let shown = format!("{:?}", config.http);
    assert!(config.http.secret.is_some() && !shown.contains("s3cret"), "{shown}");
    let default =
        load_with(&format!("auth: {{token: {{{SERVER}, jwks: /jwks.json, autoredirect: true}}}}\n"));
    assert_eq!(accepted(&default).token_server.as_ref().unwrap().own_path.as_deref(), Some("/auth/token"));
    assert_eq!(accepted(&default).tokens.lifetime, Duration::from_mins(5));
}

#[test]
fn a_token_server_needs_keys_that_can_be_read() {
    assert_eq!(server("jwks: /jwks.json"), [""; 0]);
    assert_eq!(server("rootcertbundle: /bundle.pem"), [""; 0]);
    for (more, expected) in [
        ("autoredirect: false", "needs the keys of the token server; name a file in rootcertbundle or jwks"),
        ("jwks: ''", "needs the keys of the token server"),
        (
            "jwks: /absent.json",
            "auth.token.jwks: failed to read /absent.json: entity not found; name a readable file",
        ),
        ("jwks: /bundle.pem", "auth.token.jwks: /bundle.pem is not a JWK set"),
        (
            "rootcertbundle: /jwks.json",
            "auth.token.rootcertbundle: /jwks.json has no PEM section CERTIFICATE",
        ),
        ("jwks: /twice.json", "/twice.json has two keys with the kid \"a\"; give each its own"),
    ] {
        let found = server(more);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("error") && found[0].contains(expected), "{}", found[0]);
    }
    let missing = found("auth: {token: {realm: '', service: r, jwks: /jwks.json}}\n");
    assert!(missing.iter().any(|line| line.contains("auth.token.issuer: is missing")), "{missing:?}");
    assert!(missing.iter().any(|line| line.contains("auth.token.realm: is empty")), "{missing:?}");
}

#[test]
fn the_realm_of_a_token_server_is_a_url() {
    let of = |realm: &str, more: &str| {
        found(&format!(
            "auth: {{token: {{realm: '{realm}', service: r, issuer: i, jwks: /jwks.json{more}}}}}\n"
        ))
    };
    assert!(of("/token", "")[0].contains("error: auth.token.realm: must be a URL"), "{:?}", of("/token", ""));
    assert!(of("http://auth.example.com/token", "")[0].contains("warning: auth.token.realm: is not https"));
    assert_eq!(of("http://localhost:5001/token", ""), [""; 0]);
    assert_eq!(of("unused", ", autoredirect: true"), [""; 0]);
}

#[test]
fn es512_is_warned_about_and_refused_alone() {
    let of = |list: &str| server(&format!("jwks: /jwks.json, signingalgorithms: [{list}]"));
    assert_eq!(of("RS256, HS256, EdDSA"), [""; 0]);
    assert!(of("ES512, ES256")[0].contains("warning"), "{:?}", of("ES512, ES256"));
    assert!(of("ES512")[0].contains("error: auth.token.signingalgorithms: lists ES512 alone"));
    assert!(of("none")[0].contains("error"), "{:?}", of("none"));
}

#[test]
fn settings_of_own_tokens_are_checked() {
    assert_eq!(own("enabled: true, key: /token.pem, services: [other], lifetime: 1m"), [""; 0]);
    assert_eq!(own("enabled: false"), [""; 0]);
    for (more, expected) in [
        ("lifetime: 59s", "error: quinistry.tokens.lifetime: must be from 1m to 24h"),
        ("lifetime: 25h", "error: quinistry.tokens.lifetime: must be from 1m to 24h"),
        ("services: [other]", "error: quinistry.tokens.services: other registries cannot verify tokens"),
        ("key: /set.pem", "error: quinistry.tokens.key: /set.pem is not a private key on Ed25519 or P-256"),
        ("key: /absent.pem", "error: quinistry.tokens.key: failed to read /absent.pem"),
        ("key: /writable.pem", "error: quinistry.tokens.key: every user can write /writable.pem"),
        ("key: /readable.pem", "warning: quinistry.tokens.key: every user can read /readable.pem"),
    ] {
        let found = own(more);
        assert_eq!(found.len(), 1, "{more}: {found:?}");
        assert!(found[0].contains(expected), "{}", found[0]);
    }
    let users = "auth: {htpasswd: {realm: r, path: /users}}\n";
    let random = found(&format!("{users}quinistry: {{tokens: {{enabled: true}}}}\n"));
    assert!(
        random[0].contains("warning: quinistry.tokens: tokens are signed with a key of each start"),
        "{random:?}"
    );
    let without = found("http: {secret: s}\nquinistry: {tokens: {enabled: true}}\n");
    assert!(without[0].contains("warning: quinistry.tokens: has no effect without users"), "{without:?}");
}

#[test]
fn the_host_of_the_registry_has_no_user() {
    let found = lines(&load_with("http: {host: 'https://me:hunter2@r.example.com'}\n"));
    assert!(
        found.iter().any(|line| line.contains("http.host: must not hold a user or password")),
        "{found:?}"
    );
    assert!(!found.join("\n").contains("hunter2"));
}

#[test]
fn the_examples_of_the_documentation_are_accepted_as_written() {
    let page = include_str!("../../../../docs/tokens.md");
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 4);
    for text in &examples {
        let source = Source { name: "c.yml", bytes: text.as_bytes() };
        let loaded = load(Some(source), environment(&[]), &files());
        accepted(&loaded);
        let warnings: Vec<String> =
            lines(&loaded).into_iter().filter(|line| line.contains(" warning: ")).collect();
        assert_eq!(warnings, [""; 0], "{text}");
    }
    let [own, others, verifier, external] = examples[..] else { unreachable!("their number was checked") };
    let config = |text: &str| {
        let source = Source { name: "c.yml", bytes: text.as_bytes() };
        accepted(&load(Some(source), environment(&[]), &files())).clone()
    };
    assert!(config(own).tokens.is_enabled && config(own).http.secret.is_some());
    let verifier = config(verifier).token_server.unwrap();
    assert_eq!(config(others).tokens.services, [verifier.service]);
    assert_eq!(verifier.issuer, crate::auth::issue::ISSUER);
    assert!(config(external).token_server.unwrap().keys.root_bundle.is_some());
}

#[test]
fn a_set_whose_keys_are_withdrawn_is_warned_about() {
    let found = server("jwks: /withdrawn.json");
    assert!(
        matches!(&*found, [line] if line.contains("warning") && line.contains("has no key that verifies")),
        "{found:?}"
    );
}

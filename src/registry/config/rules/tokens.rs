//! Checks of tokens, and of the files that hold their keys.

use std::path::Path;
use std::time::Duration;

use http::uri::Scheme;

use super::super::ReadFile;
use super::super::findings::Findings;
use super::super::tree::ConfigNode;
use super::super::values;
use crate::auth::issue::{MIN_LIFETIME, SigningKey};
use crate::auth::regular_file::{READABLE_BY_ALL, WRITABLE_BY_ALL};
use crate::auth::token::algorithm::AllowedAlgorithms;
use crate::auth::token::keys::{KeyFileError, MAX_KEY_FILE_BYTES, NO_KEYS, TokenKeys};

/// Longest lifetime of a token. The rules of access are asked at each use, but not so in other registries.
const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// Shortest secret that is not warned about, in bytes: hexadecimal digits of 128 bits.
const MIN_SECRET_BYTES: usize = 32;

/// Reader of one kind of key file.
type AddKeys = fn(&mut TokenKeys, &[u8]) -> Result<bool, KeyFileError>;

/// Checks the settings of tokens.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    server(tree, findings);
    own(tree, findings);
    secret(tree, findings);
    if let Some(node) = given(tree, "http.host")
        && let Ok(uri) = values::url(node)
        && uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
    {
        findings.error(&node.origin, "http.host", "must not hold a user or password; remove them".into());
    }
}

/// Returns a value that is neither absent nor empty.
fn given<'a>(tree: &'a ConfigNode, path: &str) -> Option<&'a ConfigNode> {
    tree.at(path).filter(|node| !node.is_null() && !super::is_empty(node))
}

fn is_on(tree: &ConfigNode, path: &str) -> bool {
    tree.at(path).is_some_and(|node| values::boolean(node).is_ok_and(|is_on| is_on))
}

fn server(tree: &ConfigNode, findings: &mut Findings) {
    let Some(token) = tree.at("auth").and_then(|auth| auth.entry("token")) else { return };
    for key in ["realm", "service", "issuer"] {
        let path = format!("auth.token.{key}");
        if let Some(node) = tree.at(&path).filter(|node| super::is_empty(node)) {
            findings.error(&node.origin, &path, "is empty".into());
        }
    }
    if given(tree, "auth.token.rootcertbundle").is_none() && given(tree, "auth.token.jwks").is_none() {
        let message = "needs the keys of the token server; name a file in rootcertbundle or jwks";
        findings.error(&token.origin, "auth.token", message.into());
    }
    // With autoredirect, distribution demands a realm and does not use it.
    if let Some(node) = given(tree, "auth.token.realm").filter(|_| !is_on(tree, "auth.token.autoredirect")) {
        realm(node, findings);
    }
    algorithms(tree, findings);
}

fn realm(node: &ConfigNode, findings: &mut Findings) {
    let path = "auth.token.realm";
    match values::url(node) {
        Err(problem) => findings.error(&node.origin, path, problem.message),
        Ok(uri) if uri.scheme() == Some(&Scheme::HTTP) => {
            let is_local = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
            if !is_local {
                let message = "is not https, and clients send passwords there in clear";
                findings.warn(&node.origin, path, message.into());
            }
        }
        Ok(_) => {}
    }
}

fn algorithms(tree: &ConfigNode, findings: &mut Findings) {
    let path = "auth.token.signingalgorithms";
    let Some(node) = tree.at(path) else { return };
    let Ok(names) = values::texts(node) else { return };
    let names: Vec<&str> = names.into_iter().map(values::algorithm).collect();
    if !names.contains(&AllowedAlgorithms::UNSUPPORTED) {
        return;
    }
    if AllowedAlgorithms::of_names(names).is_none() {
        findings.error(&node.origin, path, "lists ES512 alone, which is not supported; use ES384".into());
    } else {
        let message = "lists ES512, which is not supported; tokens that are signed so are refused";
        findings.warn(&node.origin, path, message.into());
    }
}

fn own(tree: &ConfigNode, findings: &mut Findings) {
    let Some(tokens) = tree.at("quinistry.tokens").filter(|node| !node.is_idle()) else { return };
    let has_key = given(tree, "quinistry.tokens.key").is_some();
    let is_enabled = is_on(tree, "quinistry.tokens.enabled");
    if (is_enabled || has_key) && tree.at("auth.htpasswd").is_none() {
        let message = "has no effect without users; configure auth.htpasswd";
        findings.warn(&tokens.origin, "quinistry.tokens", message.into());
    }
    let path = "quinistry.tokens.lifetime";
    if let Some(node) = tree.at(path)
        && let Ok(written) = values::duration(node)
        && !written.duration.is_zero()
        && !(MIN_LIFETIME..=MAX_LIFETIME).contains(&written.duration)
    {
        findings.error(&node.origin, path, "must be from 1m to 24h".into());
    }
    if is_enabled && !has_key && given(tree, "http.secret").is_none() {
        let message = "tokens are signed with a key of each start, so that replicas refuse each other's tokens; set \
                       http.secret or quinistry.tokens.key";
        findings.warn(&tokens.origin, "quinistry.tokens", message.into());
    }
    let path = "quinistry.tokens.services";
    if let Some(node) = tree.at(path).filter(|node| !node.is_idle() && !has_key) {
        let message = "other registries cannot verify tokens that a secret signs; set quinistry.tokens.key";
        findings.error(&node.origin, path, message.into());
    }
}

/// Warns about a secret that signs tokens and can be guessed by trying, with one token to compare.
fn secret(tree: &ConfigNode, findings: &mut Findings) {
    let path = "http.secret";
    let Some(node) = given(tree, path) else { return };
    let issues_tokens = is_on(tree, "quinistry.tokens.enabled") || super::access::grants_to_anonymous(tree);
    let has_users = tree.at("auth").is_some_and(|auth| auth.entry("htpasswd").is_some());
    if has_users
        && issues_tokens
        && given(tree, "quinistry.tokens.key").is_none()
        && node.as_text().is_some_and(|secret| secret.len() < MIN_SECRET_BYTES)
    {
        let message = format!(
            "has fewer than {MIN_SECRET_BYTES} characters and signs tokens, and a client that guesses it can forge \
             them; set a longer one"
        );
        findings.warn(&node.origin, path, message);
    }
}

/// Reads and checks the files that hold keys of tokens.
pub(in super::super) fn check_files(tree: &ConfigNode, files: &dyn ReadFile, findings: &mut Findings) {
    let add_bundle: AddKeys = TokenKeys::add_bundle;
    // Both together, since an id must not name a key in each of them.
    let mut keys = TokenKeys::default();
    for (path, add) in
        [("auth.token.rootcertbundle", add_bundle), ("auth.token.jwks", TokenKeys::add_jwk_set)]
    {
        file(tree, path, false, files, findings, |bytes| {
            let has_keys = add(&mut keys, bytes).map_err(|error| error.to_string())?;
            Ok((!has_keys).then_some(NO_KEYS))
        });
    }
    file(tree, "quinistry.tokens.key", true, files, findings, |bytes| {
        SigningKey::of_pem(bytes).map(|_| None).map_err(|error| error.to_string())
    });
}

fn file(
    tree: &ConfigNode,
    path: &str,
    is_secret: bool,
    files: &dyn ReadFile,
    findings: &mut Findings,
    parse: impl FnOnce(&[u8]) -> Result<Option<&'static str>, String>,
) {
    let Some((node, name)) = given(tree, path).and_then(|node| Some((node, node.as_text()?))) else { return };
    let file = match files.read(Path::new(name), MAX_KEY_FILE_BYTES) {
        Ok(file) => file,
        Err(error) => {
            let message = format!("failed to read {name}: {error}; name a readable file");
            return findings.error(&node.origin, path, message);
        }
    };
    match file.mode.filter(|_| is_secret) {
        Some(mode) if mode & WRITABLE_BY_ALL != 0 => {
            let message =
                format!("every user can write {name}; run `chmod 600` on it, for its content is a secret");
            findings.error(&node.origin, path, message);
        }
        Some(mode) if mode & READABLE_BY_ALL != 0 => {
            let message = format!("every user can read {name}, and its content is a secret");
            findings.warn(&node.origin, path, message);
        }
        _ => {}
    }
    match parse(&file.bytes) {
        Ok(None) => {}
        Ok(Some(warning)) => findings.warn(&node.origin, path, format!("{name} {warning}")),
        Err(problem) => findings.error(&node.origin, path, format!("{name} {problem}")),
    }
}

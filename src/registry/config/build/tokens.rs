//! Tokens from a checked tree.

use std::path::PathBuf;

use super::super::model::{AllowedAlgorithms, KeyFiles, OwnTokens, SecretText, TokenServer};
use super::super::tree::ConfigNode;
use super::super::values;
use super::Section;

/// Name of the algorithm list.
const ALGORITHMS: &str = "auth.token.signingalgorithms";

pub(super) fn server(root: Section<'_>) -> Option<TokenServer> {
    root.node.at("auth")?.entry("token")?;
    let names = root.value(ALGORITHMS).and_then(|node| values::texts(node).ok()).unwrap_or_default();
    let algorithms = AllowedAlgorithms::of_names(names.iter().map(|name| values::algorithm(name)));
    let redirects = root.boolean("auth.token.autoredirect");
    let path = root.value("auth.token.autoredirectpath").and_then(|node| values::url_path(node).ok());
    let path =
        path.map_or_else(|| root.default("auth.token.autoredirectpath").into(), |path| path.to_string());
    Some(TokenServer {
        realm: root.text("auth.token.realm"),
        service: root.text("auth.token.service"),
        issuer: root.text("auth.token.issuer"),
        keys: KeyFiles {
            root_bundle: file(root, "auth.token.rootcertbundle"),
            jwks: file(root, "auth.token.jwks"),
        },
        algorithms: algorithms.unwrap_or_default(),
        own_path: redirects.then_some(path),
    })
}

pub(super) fn own(root: Section<'_>) -> OwnTokens {
    let services = root.value("quinistry.tokens.services").and_then(|node| values::texts(node).ok());
    OwnTokens {
        is_enabled: root.boolean("quinistry.tokens.enabled"),
        lifetime: root.positive_duration("quinistry.tokens.lifetime"),
        key: file(root, "quinistry.tokens.key"),
        services: services.unwrap_or_default().into_iter().map(str::to_owned).collect(),
    }
}

pub(super) fn secret(root: Section<'_>) -> Option<SecretText> {
    let text = root.value("http.secret").and_then(ConfigNode::as_text)?;
    (!text.is_empty()).then(|| SecretText(text.to_owned()))
}

fn file(root: Section<'_>, key: &str) -> Option<PathBuf> {
    let text = root.text(key);
    (!text.is_empty()).then(|| PathBuf::from(text))
}

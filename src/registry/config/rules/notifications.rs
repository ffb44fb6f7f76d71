//! Checks of the endpoints of events.

use super::super::findings::Findings;
use super::super::model::{EndpointUrl, SigningSecret};
use super::super::tree::ConfigNode;
use super::super::values;
use super::access;

const ENDPOINTS: &str = "notifications.endpoints";

/// Checks that names differ, and that secrets, URLs and patterns are what they must be.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    let endpoints = tree.at(ENDPOINTS).and_then(ConfigNode::as_list).unwrap_or_default();
    let mut names: Vec<&str> = Vec::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = format!("{ENDPOINTS}[{index}]");
        if let Some((node, name)) = endpoint.at("name").and_then(|node| Some((node, node.as_text()?))) {
            if name.is_empty() {
                let message = "is empty; give each endpoint a name, which logs and metrics show";
                findings.error(&node.origin, &format!("{path}.name"), message.into());
            } else if names.contains(&name) {
                let message =
                    "is the name of another endpoint, too; metrics and reloads tell endpoints apart by it";
                findings.error(&node.origin, &format!("{path}.name"), message.into());
            }
            names.push(name);
        }
        if let Some(node) = endpoint.at("url").filter(|node| !node.is_null())
            && let Ok(url) = values::url(node)
            && EndpointUrl::new(&url).is_none()
        {
            findings.error(&node.origin, &format!("{path}.url"), "the value has no valid host".into());
        }
        for key in ["secret", "formersecret"] {
            if let Some(node) = endpoint.at(&format!("quinistry.{key}")).filter(|node| !node.is_null())
                && let Some(Err(error)) = node.as_text().map(str::parse::<SigningSecret>)
            {
                findings.error(
                    &node.origin,
                    &format!("{path}.quinistry.{key}"),
                    format!("the value {error}"),
                );
            }
        }
        if let Some(own) = endpoint.at("quinistry").filter(|own| own.entry("repositories").is_some()) {
            access::repositories(own, &format!("{path}.quinistry.repositories"), findings);
        }
    }
}

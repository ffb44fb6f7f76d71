//! `quinistry policy`: prints the admission policy by which the pods of a namespace pull all images from one registry.

use std::str::FromStr;

use clap::ValueHint;
use serde_json::{Value, json};

use super::kubernetes_name::{is_bounded, is_dns_subdomain};
use super::output::{self, OutputFormatArgs};
use crate::oci::is_host;

/// Policy and binding, with `<HOST>`, `<NAME>`, `<KEY>` and `<VALUE>` in the places of the arguments.
const TEMPLATE: &str = include_str!("policy/policy.yaml");

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Registry that has the images, as nodes reach it: HOST or HOST:PORT
    #[arg(value_name = "HOST", value_hint = ValueHint::Hostname, default_value = "localhost:5000")]
    host: ImageHost,

    /// Label of the namespaces whose pods are changed
    #[arg(long, value_name = "KEY=VALUE", default_value = "quinistry.dev/images=local")]
    label: Label,

    /// Name of the policy and of its binding
    #[arg(long, default_value = "quinistry-images", value_parser = object_name)]
    name: String,

    #[command(flatten)]
    output: OutputFormatArgs,
}

/// Host with which image references can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ImageHost(String);

/// Label of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    key: String,
    value: String,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = policy(&self.host, &self.label, &self.name);
        if !self.output.is_json() {
            return output::print(text);
        }
        let items: Vec<Value> = quinistry_yaml::documents(&text)?;
        output::print(output::document(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?)
    }
}

/// Returns the policy and its binding as YAML. No argument can have a quote, a line's end or an angle bracket.
fn policy(host: &ImageHost, label: &Label, name: &str) -> String {
    let pairs = [("<HOST>", &*host.0), ("<NAME>", name), ("<KEY>", &*label.key), ("<VALUE>", &*label.value)];
    pairs.iter().fold(TEMPLATE.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// Checks the name of an object.
fn object_name(text: &str) -> Result<String, String> {
    if is_dns_subdomain(text) {
        Ok(text.to_owned())
    } else {
        Err("want the name of a Kubernetes object: lower-case letters, digits, '-' and '.'".into())
    }
}

// === impl ImageHost ===

impl FromStr for ImageHost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Otherwise the first part of a reference is taken for a folder of Docker Hub.
        let is_like_a_host = text.contains(['.', ':']) || text == "localhost";
        if is_host(text) && is_like_a_host && !text.contains(['_', '[']) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(
                "want HOST or HOST:PORT as image references begin with it: with a domain, with a port, or localhost",
            )
        }
    }
}

// === impl Label ===

impl FromStr for Label {
    type Err = &'static str;

    /// Parses `KEY=VALUE`, with the rules of Kubernetes for both.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |text: &str| {
            text.len() <= 63
                && is_bounded(
                    text,
                    |byte| byte.is_ascii_alphanumeric(),
                    |byte| matches!(byte, b'-' | b'_' | b'.'),
                )
        };
        let is_key = |key: &str| match key.split_once('/') {
            Some((prefix, name)) => is_dns_subdomain(prefix) && is_word(name),
            None => is_word(key),
        };
        match text.split_once('=') {
            Some((key, value)) if is_key(key) && (value.is_empty() || is_word(value)) => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err("want the label of a namespace, as KEY=VALUE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_has_the_arguments_in_all_places() {
        let label = "example.com/images=here".parse().unwrap();
        let text = policy(&"registry.lan:5000".parse().unwrap(), &label, "shop-images");
        let [policy, binding]: [Value; 2] =
            quinistry_yaml::documents::<Value>(&text).unwrap().try_into().unwrap();
        assert_eq!(policy["metadata"]["name"], "shop-images");
        let change = policy["spec"]["mutations"][0]["jsonPatch"]["expression"].as_str().unwrap();
        assert_eq!(change.matches("'registry.lan:5000/'").count(), 2);
        assert_eq!(binding["metadata"]["name"], "shop-images");
        assert_eq!(binding["spec"]["policyName"], "shop-images");
        let labels = &binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"];
        assert_eq!(*labels, json!({"example.com/images": "here"}));
        let title = "# Rewrites the images of new pods, in namespaces with the label example.com/images=here, to \
                     registry.lan:5000/REGISTRY/NAME.";
        assert_eq!(text.lines().next().unwrap(), title);
        assert!(!text.contains('<'), "a place is left: {text}");
    }

    #[test]
    fn arguments_that_kubernetes_or_references_do_not_allow_are_refused() {
        for host in ["localhost", "localhost:5000", "REGISTRY.lan", "10.0.0.5:5000"] {
            assert!(host.parse::<ImageHost>().is_ok(), "{host}");
        }
        for host in
            ["", "registry", "a b.c", "registry.lan/x", "http://registry.lan", "[::1]:5000", "it's.lan"]
        {
            assert!(host.parse::<ImageHost>().is_err(), "{host}");
        }
        for label in ["a=b", "a/b=c", "example.com/a_b=", "A=b.c"] {
            assert!(label.parse::<Label>().is_ok(), "{label}");
        }
        for label in ["", "a", "=b", "a=b c", "a=\"", "/a=b", "a/b/c=d", "-a=b", "a=b\nc"] {
            assert!(label.parse::<Label>().is_err(), "{label}");
        }
        for (name, is_valid) in
            [("a", true), ("a.b-c", true), ("", false), ("A", false), ("a..b", false), ("-a", false)]
        {
            assert_eq!(object_name(name).is_ok(), is_valid, "{name}");
        }
    }
}

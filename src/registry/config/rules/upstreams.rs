//! Checks of upstreams, and of distribution's `proxy`.

use std::collections::HashMap;
use std::time::Duration;

use http::uri::Scheme;
use quinistry_oci::{PlatformPattern, RepositoryName};

use super::super::check::quote;
use super::super::findings::Findings;
use super::super::tree::ConfigNode;
use super::super::values;
use super::access;
use crate::auth::rules::check_pattern;
use crate::upstreams::Namespace;

const UPSTREAMS: &str = "quinistry.upstreams";

/// Shortest time between two looks at the tags that are fetched in advance.
const MIN_PREFETCH_INTERVAL: Duration = Duration::from_mins(1);

/// Checks all upstreams.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    let mut prefixes = HashMap::new();
    if let Some(proxy) = tree.at("proxy").filter(|proxy| given(proxy, "remoteurl").is_some()) {
        remote_url(proxy, "proxy", true, findings);
        credentials(tree, proxy, "proxy", findings);
        prefixes.insert("", "proxy".to_owned());
    } else if let Some(proxy) = tree.entry("proxy").filter(|proxy| !proxy.value.is_idle()) {
        let message = "has no effect without remoteurl; name the registry to ask";
        findings.warn(&proxy.origin, "proxy", message.into());
    }
    let mut namespaces = HashMap::new();
    let upstreams = tree.at(UPSTREAMS).and_then(ConfigNode::as_list).unwrap_or_default();
    for (index, upstream) in upstreams.iter().enumerate() {
        let path = format!("{UPSTREAMS}[{index}]");
        prefix(upstream, &path, &mut prefixes, findings);
        for (node, text) in access::texts(upstream, "ns").unwrap_or_default() {
            namespace(node, text, &path, &mut namespaces, findings);
        }
        remote_url(upstream, &path, false, findings);
        credentials(tree, upstream, &path, findings);
        for key in ["allow", "deny"] {
            patterns(upstream, key, &path, findings);
        }
        prefetch(upstream, &path, findings);
        for (node, text) in access::texts(upstream, "realm").unwrap_or_default() {
            if text.parse::<Namespace>().is_err() {
                let message = format!("\"{}\" must be a host with an optional port", quote(text));
                findings.error(&node.origin, &format!("{path}.realm"), message);
            }
        }
    }
}

/// Returns a value that is neither absent nor empty.
fn given<'a>(section: &'a ConfigNode, key: &str) -> Option<&'a ConfigNode> {
    section.at(key).filter(|node| !node.is_null() && !super::is_empty(node))
}

fn prefix<'a>(
    upstream: &'a ConfigNode,
    path: &str,
    prefixes: &mut HashMap<&'a str, String>,
    findings: &mut Findings,
) {
    let Some((node, text)) = upstream.at("prefix").and_then(|node| Some((node, node.as_text()?))) else {
        return;
    };
    let place = format!("{path}.prefix");
    if text.is_empty() {
        if access::texts(upstream, "allow").is_none_or(|patterns| patterns.is_empty()) {
            let message = "is empty, and needs allow: names of this registry would be asked for elsewhere, and could \
                           come back as images of a stranger";
            findings.error(&node.origin, &place, message.into());
        }
    } else if let Err(error) = text.parse::<RepositoryName>() {
        let message = format!("\"{}\" {error}", quote(text));
        return findings.error(&node.origin, &place, message);
    }
    if let Some(other) = prefixes.get(text) {
        let message =
            format!("\"{}\" is the prefix of {other}, too; each upstream needs its own", quote(text));
        findings.error(&node.origin, &place, message);
    }
    prefixes.entry(text).or_insert_with(|| path.to_owned());
}

fn namespace(
    node: &ConfigNode,
    text: &str,
    path: &str,
    namespaces: &mut HashMap<Namespace, String>,
    findings: &mut Findings,
) {
    let place = format!("{path}.ns");
    match text.parse::<Namespace>() {
        Err(error) => findings.error(&node.origin, &place, format!("\"{}\" {error}", quote(text))),
        Ok(namespace) => {
            if let Some(other) = namespaces.get(&namespace).filter(|other| *other != path) {
                let message = format!("{namespace} is a namespace of {other}, too; remove one of them");
                findings.error(&node.origin, &place, message);
            }
            namespaces.entry(namespace).or_insert_with(|| path.to_owned());
        }
    }
}

/// Checks what is fetched in advance.
fn prefetch(upstream: &ConfigNode, path: &str, findings: &mut Findings) {
    let rules = upstream.at("prefetch").and_then(ConfigNode::as_list).unwrap_or_default();
    for (node, text) in access::texts(upstream, "platforms").unwrap_or_default() {
        if let Err(error) = text.parse::<PlatformPattern>() {
            findings.error(
                &node.origin,
                &format!("{path}.platforms"),
                format!("\"{}\" {error}", quote(text)),
            );
        } else if rules.is_empty() {
            let message = "has no effect without prefetch: clients choose the platforms that they pull";
            return findings.warn(&node.origin, &format!("{path}.platforms"), message.into());
        }
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path}.prefetch[{index}]");
        if let Some((node, text)) = given(rule, "repository").and_then(|node| Some((node, node.as_text()?)))
            && let Err(error) = text.parse::<RepositoryName>()
        {
            let message = format!("\"{}\" {error}", quote(text));
            findings.error(&node.origin, &format!("{path}.repository"), message);
        }
        for (node, text) in access::texts(rule, "tags").unwrap_or_default() {
            if let Err(problem) = check_pattern(text, false) {
                let message = format!("\"{}\" {problem}", quote(text));
                findings.error(&node.origin, &format!("{path}.tags"), message);
            }
        }
        if let Some(node) = given(rule, "interval")
            && values::duration(node).is_ok_and(|written| written.duration < MIN_PREFETCH_INTERVAL)
        {
            let message = "is less than a minute; each look costs a request for each tag";
            findings.error(&node.origin, &format!("{path}.interval"), message.into());
        }
    }
}

fn remote_url(section: &ConfigNode, path: &str, is_proxy: bool, findings: &mut Findings) {
    let place = format!("{path}.remoteurl");
    let Some((node, url)) =
        given(section, "remoteurl").and_then(|node| Some((node, values::url(node).ok()?)))
    else {
        return;
    };
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        let message = "must not hold a user or password; write them in username and password";
        findings.error(&node.origin, &place, message.into());
    }
    let has_path = url.path_and_query().is_some_and(|path| path.as_str() != "/");
    if has_path {
        let message = "must not have a path; repositories of one project can be selected by allow";
        findings.error(&node.origin, &place, message.into());
    }
    if url.scheme() != Some(&Scheme::HTTP) {
        return;
    }
    let permits = given(section, "insecure").and_then(ConfigNode::as_text);
    if is_proxy {
        let message = "is not https: what is pulled, and credentials, can be read and changed on the way";
        findings.warn(&node.origin, &place, message.into());
    } else if !permits.is_some_and(|word| matches!(&*word.to_ascii_lowercase(), "true" | "public")) {
        let message = "is not https; write https, or insecure: true for a private address";
        findings.error(&node.origin, &place, message.into());
    }
}

fn credentials(tree: &ConfigNode, section: &ConfigNode, path: &str, findings: &mut Findings) {
    let user = given(section, "username");
    let passwords: Vec<&str> =
        ["password", "passwordfile"].into_iter().filter(|key| given(section, key).is_some()).collect();
    let helper = given(section, "exec.command");
    if let [_, second] = passwords[..]
        && let Some(node) = section.at(second)
    {
        let message = "is given beside password; remove one of them";
        findings.error(&node.origin, &format!("{path}.{second}"), message.into());
    }
    match (user, &passwords[..], helper) {
        (_, [key, ..], Some(_)) => {
            let origin = section.at(key).map_or(&section.origin, |node| &node.origin);
            let message = "is given beside exec; remove one of them";
            findings.error(origin, &format!("{path}.{key}"), message.into());
        }
        (Some(node), [], None) => {
            let message = "needs a password; add password, or remove it";
            findings.error(&node.origin, &format!("{path}.username"), message.into());
        }
        (None, [key, ..], None) => {
            let origin = section.at(key).map_or(&section.origin, |node| &node.origin);
            findings.error(origin, &format!("{path}.{key}"), "needs a username; add it".into());
        }
        _ => {}
    }
    let node = user.or(helper);
    if let Some(node) = node.filter(|_| !has_users(tree)) {
        let key = if user.is_some() { "username" } else { "exec.command" };
        let message = "there are no users, and every client that reaches the registry reads what this user may read; \
                       add auth.htpasswd or auth.token";
        findings.warn(&node.origin, &format!("{path}.{key}"), message.into());
    }
}

/// Returns true if clients must be users.
fn has_users(tree: &ConfigNode) -> bool {
    let sources = ["auth.htpasswd", "auth.token", "quinistry.clientcerts.user", "quinistry.access"];
    sources.iter().any(|path| tree.at(path).is_some_and(|node| !node.is_idle()))
}

fn patterns(upstream: &ConfigNode, key: &str, path: &str, findings: &mut Findings) {
    for (node, text) in access::texts(upstream, key).unwrap_or_default() {
        let problem = if text.starts_with('!') {
            Some("takes nothing away; patterns of names to leave out belong in deny".to_owned())
        } else {
            check_pattern(text, true).err().map(|problem| problem.to_string())
        };
        if let Some(problem) = problem {
            findings.error(&node.origin, &format!("{path}.{key}"), format!("\"{}\" {problem}", quote(text)));
        }
    }
}

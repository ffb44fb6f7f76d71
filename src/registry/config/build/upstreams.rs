//! Upstreams from a checked tree.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

use super::super::model::{
    InsecureUpstream, MissingPolicy, PrefetchRule, SecretText, UpstreamCredentials, UpstreamSettings,
};
use super::super::values;
use super::Section;

/// Path of an upstream, in the table of keys.
const UPSTREAM: &str = "quinistry.upstreams[].";

/// Path of a rule of prefetch, in the table of keys.
const PREFETCH: &str = "quinistry.upstreams[].prefetch[].";

pub(super) fn upstreams(root: Section<'_>) -> Vec<UpstreamSettings> {
    proxy(root)
        .into_iter()
        .chain(root.elements("quinistry.upstreams", UPSTREAM).filter_map(upstream))
        .collect()
}

/// Makes the upstream of distribution's section, which holds every name.
fn proxy(root: Section<'_>) -> Option<UpstreamSettings> {
    let remote_url = root.url("proxy.remoteurl")?;
    let insecure = if is_http(&remote_url) { InsecureUpstream::Public } else { InsecureUpstream::No };
    Some(UpstreamSettings {
        credentials: credentials(root, "proxy."),
        insecure,
        ttl: Duration::ZERO,
        allow: vec!["**".to_owned()],
        keep: unless_zero(root.duration("proxy.ttl")),
        ..UpstreamSettings::new(None, remote_url)
    })
}

fn upstream(section: Section<'_>) -> Option<UpstreamSettings> {
    let namespaces = texts(section, "ns").iter().filter_map(|text| text.parse().ok()).collect();
    let prefix = section.text("prefix").parse().ok();
    Some(UpstreamSettings {
        namespaces,
        credentials: credentials(section, ""),
        ca: path(section, "ca"),
        insecure: match section.word("insecure") {
            Some("true") => InsecureUpstream::Private,
            Some("public") => InsecureUpstream::Public,
            _ => InsecureUpstream::No,
        },
        token_hosts: texts(section, "realm"),
        max_connections: usize::try_from(section.integer("maxconnections")).unwrap_or(usize::MAX),
        ttl: section.duration("ttl"),
        negative_ttl: section.duration("negative"),
        allow: texts(section, "allow"),
        deny: texts(section, "deny"),
        max_blob_bytes: section.value("maxblob").and_then(|node| values::size(node).ok()),
        missing: match section.word("missing") {
            Some("drop") => MissingPolicy::Drop,
            _ => MissingPolicy::Keep,
        },
        keep: unless_zero(section.duration("keep")),
        max_bytes: section.value("size").and_then(|node| values::size(node).ok()),
        platforms: texts(section, "platforms").iter().filter_map(|text| text.parse().ok()).collect(),
        prefetch: section.elements("prefetch", PREFETCH).filter_map(prefetch).collect(),
        ..UpstreamSettings::new(prefix, section.url("remoteurl")?)
    })
}

fn prefetch(section: Section<'_>) -> Option<PrefetchRule> {
    Some(PrefetchRule {
        repository: section.text("repository").parse().ok()?,
        tags: texts(section, "tags"),
        interval: section.duration("interval"),
    })
}

fn credentials(section: Section<'_>, prefix: &str) -> Option<UpstreamCredentials> {
    let key = |name: &str| format!("{prefix}{name}");
    let given = |name: &str| {
        let text = section.value(&key(name)).and_then(|node| node.as_text());
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if let Some(command) = given("exec.command") {
        let lifetime = section.value(&key("exec.lifetime")).and_then(|node| values::duration(node).ok());
        let lifetime = lifetime.map(|written| written.duration);
        return Some(UpstreamCredentials::Helper { command, lifetime });
    }
    let user = given("username")?;
    if let Some(path) = given("passwordfile") {
        return Some(UpstreamCredentials::PasswordFile { user, path: path.into() });
    }
    let password = SecretText(given("password").unwrap_or_default());
    Some(UpstreamCredentials::Password { user, password })
}

/// Returns a time for which copies are kept; `None` for 0, which is for ever.
fn unless_zero(keep: Duration) -> Option<Duration> {
    (!keep.is_zero()).then_some(keep)
}

fn is_http(url: &Uri) -> bool {
    url.scheme() == Some(&Scheme::HTTP)
}

fn path(section: Section<'_>, key: &str) -> Option<PathBuf> {
    Some(section.text(key)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn texts(section: Section<'_>, key: &str) -> Vec<String> {
    let texts = section.value(key).and_then(|node| values::texts(node).ok()).unwrap_or_default();
    texts.into_iter().map(str::to_owned).collect()
}

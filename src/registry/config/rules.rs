//! Rules over several keys, and findings that depend on a value.

pub(super) mod access;
mod audit;
pub(super) mod bucket;
pub(super) mod gc;
mod limits;
mod notifications;
pub(super) mod retention;
pub(super) mod scrub;
mod tls;
pub(super) mod tokens;
mod upstreams;
mod users;

use std::time::Duration;

use super::findings::Findings;
use super::scalar;
use super::schema::schema;
use super::tree::{ConfigNode, NodeKind, TreeEntry};
use super::values;

/// Shortest time between two health checks. A number without a unit means nanoseconds, and a check that never
/// pauses keeps a processor busy.
pub(super) const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Keys of `storage` beside the driver. Distribution, `configuration.go`, `Storage.Type`.
const STORAGE_SWITCHES: [&str; 5] = ["cache", "delete", "maintenance", "redirect", "tag"];

/// Returns the drivers of `storage`, or the controllers of `auth`.
pub(super) fn drivers_of<'a>(section: &'a ConfigNode, name: &str) -> Vec<&'a TreeEntry> {
    let is_driver = |entry: &&TreeEntry| name != "storage" || !STORAGE_SWITCHES.contains(&&*entry.key);
    section.entries().iter().filter(is_driver).collect()
}

/// Returns the name of a driver or controller that the table has. Any other text may be a secret in the wrong place.
pub(super) fn known_driver<'a>(section: &str, entry: &'a TreeEntry) -> Option<&'a str> {
    let place = schema().child(section)?;
    place.child(&entry.key).map(|_| &*entry.key)
}

/// Removes the driver of the built-in configuration, if the environment names another one.
pub(super) fn drop_default_driver(tree: &mut ConfigNode) {
    let Some(storage) = tree.entry_mut("storage").map(|entry| &mut entry.value) else { return };
    let drivers = drivers_of(storage, "storage");
    let is_default = |entry: &TreeEntry| entry.origin == super::Origin::Default;
    if drivers.iter().any(|entry| !is_default(entry)) {
        let defaults: Vec<_> =
            drivers.iter().filter(|entry| is_default(entry)).map(|entry| entry.key.clone()).collect();
        storage.retain(|entry| !defaults.contains(&entry.key));
    }
}

/// Checks a whole tree.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    one_driver(tree, "storage", "driver, such as `filesystem`", findings);
    one_driver(tree, "auth", "controller, such as `htpasswd`", findings);
    cache(tree, findings);
    addresses(tree, findings);
    paths(tree, findings);
    health(tree, findings);
    deletion(tree, findings);
    purging(tree, findings);
    bucket::check(tree, findings);
    gc::check(tree, findings);
    indexes(tree, findings);
    users::check(tree, findings);
    access::check(tree, findings);
    audit::check(tree, findings);
    limits::check(tree, findings);
    notifications::check(tree, findings);
    tokens::check(tree, findings);
    tls::check(tree, findings);
    scrub::check(tree, findings);
    retention::check(tree, findings);
    upstreams::check(tree, findings);
    if tree.at("http.draintimeout").is_some_and(is_zero) {
        note(tree, "http.draintimeout", "0 stands for 10 seconds, and not for an end at once", findings);
    }
}

fn note(tree: &ConfigNode, path: &str, message: &str, findings: &mut Findings) {
    if let Some(node) = tree.at(path) {
        findings.note(&node.origin, path, message.to_owned());
    }
}

/// Demands exactly one driver of a section that is there.
fn one_driver(tree: &ConfigNode, section: &str, example: &str, findings: &mut Findings) {
    let is_section = |entry: &&TreeEntry| matches!(entry.value.kind, NodeKind::Map(_));
    let Some(entry) = tree.entry(section).filter(is_section) else { return };
    let drivers = drivers_of(&entry.value, section);
    match drivers.as_slice() {
        [] => findings.error(&entry.origin, section, format!("needs a {example}")),
        [_] => {}
        [first, rest @ ..] => {
            for other in rest {
                let named = known_driver(section, first).unwrap_or("another one");
                let message = format!(
                    "only one is possible, and {named} is given at {}; remove one of them",
                    first.origin
                );
                let path = match known_driver(section, other) {
                    Some(name) => format!("{section}.{name}"),
                    None => section.to_owned(),
                };
                findings.error(&other.origin, &path, message);
            }
        }
    }
}

fn cache(tree: &ConfigNode, findings: &mut Findings) {
    for key in ["blobdescriptor", "layerinfo"] {
        let path = format!("storage.cache.{key}");
        let Some(node) = tree.at(&path) else { continue };
        match node.as_text() {
            Some("redis") => {
                findings.warn(
                    &node.origin,
                    &path,
                    "nothing is cached in Redis, and the key has no effect".into(),
                );
            }
            Some("" | "inmemory") | None => {}
            Some(_) => findings.warn(&node.origin, &path, "is not a known cache, and has no effect".into()),
        }
    }
}

fn addresses(tree: &ConfigNode, findings: &mut Findings) {
    let is_unix = is_unix(tree);
    let address = tree.at("http.addr").filter(|node| !is_empty(node));
    match address {
        None if is_unix => {
            let origin = tree.at("http.net").map_or(&tree.origin, |node| &node.origin);
            findings.error(origin, "http.addr", "is missing; write the path of the socket".into());
        }
        None => {}
        Some(node) => {
            if let Err(problem) = values::address(node, is_unix) {
                let text = super::check::quote(node.as_text().unwrap_or_default());
                findings.error(&node.origin, "http.addr", format!("\"{text}\" {}", problem.message));
            }
        }
    }
    let is_open = address.is_none_or(|node| values::address(node, is_unix).is_ok_and(|is| !is.is_local()));
    if let Some(auth) = tree.at("auth").and_then(|auth| auth.entry("none"))
        && is_open
        && tree.at("quinistry.access").is_none()
    {
        let message = "there are no users, and every client that reaches the registry can do everything; \
                       restrict access in front of it";
        findings.warn(&auth.origin, "auth.none", message.into());
    }
    let debug = tree.at("http.debug.addr").filter(|node| !is_empty(node));
    if let Some(node) = debug {
        match values::address(node, false) {
            Ok(address) if address.is_local() => {}
            Ok(_) => {
                let message = "the debug listener has no users, and this address is open to the network; listen on \
                               localhost, or restrict access";
                findings.warn(&node.origin, "http.debug.addr", message.into());
            }
            Err(problem) => {
                let text = super::check::quote(node.as_text().unwrap_or_default());
                findings.error(&node.origin, "http.debug.addr", format!("\"{text}\" {}", problem.message));
            }
        }
    } else if let Some(node) = tree.at("http.debug.prometheus.enabled")
        && values::boolean(node).is_ok_and(|is_enabled| is_enabled)
    {
        let message = "has no effect without http.debug.addr";
        findings.warn(&node.origin, "http.debug.prometheus.enabled", message.into());
    }
}

/// Returns true if the public listener is a unix socket.
pub(super) fn is_unix(tree: &ConfigNode) -> bool {
    tree.at("http.net").and_then(ConfigNode::as_text).is_some_and(|net| net.eq_ignore_ascii_case("unix"))
}

pub(super) fn is_empty(node: &ConfigNode) -> bool {
    node.as_text().is_some_and(str::is_empty)
}

fn is_zero(node: &ConfigNode) -> bool {
    node.as_text().is_some_and(|text| scalar::duration(text).is_ok_and(|written| written.duration.is_zero()))
}

fn paths(tree: &ConfigNode, findings: &mut Findings) {
    for (path, needs_end) in [("http.prefix", true), ("http.debug.prometheus.path", false)] {
        let Some(node) = tree.at(path).filter(|node| !is_empty(node)) else { continue };
        let Some(text) = node.as_text().filter(|_| values::url_path(node).is_ok()) else { continue };
        if !text.starts_with('/') || needs_end && !text.ends_with('/') {
            let form = if needs_end { "begin and end" } else { "begin" };
            findings.warn(&node.origin, path, format!("must {form} with /, which is added"));
        }
    }
    let Some(node) = tree.at("http.host").filter(|node| !is_empty(node)) else { return };
    if values::url(node).is_ok() {
        let message = "`Location` headers are paths, and do not hold it".to_owned();
        findings.note(&node.origin, "http.host", message);
    }
}

fn health(tree: &ConfigNode, findings: &mut Findings) {
    if let Some(node) = tree.at("health.storagedriver.interval") {
        interval(node, "health.storagedriver.interval", findings);
    }
    for kind in ["file", "tcp", "http"] {
        let checks = tree.at(&format!("health.{kind}")).and_then(ConfigNode::as_list);
        for (index, check) in checks.unwrap_or_default().iter().enumerate() {
            if let Some(node) = check.at("interval") {
                interval(node, &format!("health.{kind}[{index}].interval"), findings);
            }
        }
    }
    let checks = tree.at("health.http").and_then(ConfigNode::as_list).unwrap_or_default();
    for (index, check) in checks.iter().enumerate() {
        if let Some(node) = check.at("uri") {
            checked_url(node, &format!("health.http[{index}].uri"), findings);
        }
        let Some(node) = check.at("statuscode").filter(|node| !node.is_null()) else { continue };
        if values::integer(node, 0).is_ok_and(|status| status != 0 && !(100..=599).contains(&status)) {
            let path = format!("health.http[{index}].statuscode");
            findings.error(&node.origin, &path, "must be a status from 100 to 599".into());
        }
    }
}

/// Warns about an interval that is too short to be used.
fn interval(node: &ConfigNode, path: &str, findings: &mut Findings) {
    let read = values::duration(node).ok().map(|written| written.duration);
    if read.is_some_and(|interval| !interval.is_zero() && interval < MIN_CHECK_INTERVAL) {
        let message = "is shorter than 100ms, the shortest interval, which is used instead";
        findings.warn(&node.origin, path, message.into());
    }
}

/// Refuses URLs that a health check cannot ask. Their text may hold a password, and is not told.
fn checked_url(node: &ConfigNode, path: &str, findings: &mut Findings) {
    let Ok(uri) = values::url(node) else { return };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        let message =
            "must not hold a user or password; remove them, and send an Authorization header by `headers`";
        findings.error(&node.origin, path, message.into());
    }
}

/// Refuses quoted text, which distribution takes as off: deletion must not be on by mistake.
fn deletion(tree: &ConfigNode, findings: &mut Findings) {
    let path = "storage.delete.enabled";
    let Some(node) = tree.at(path).filter(|node| values::boolean(node).is_ok()) else { return };
    if matches!(node.kind, NodeKind::Scalar { is_plain: false, .. }) {
        let message = "is text, and not a boolean; write true or false without quotes";
        findings.error(&node.origin, path, message.into());
    }
}

fn purging(tree: &ConfigNode, findings: &mut Findings) {
    let Some(purging) = tree.at("storage.maintenance.uploadpurging") else { return };
    for key in ["age", "interval"] {
        let Some(node) = purging.at(key).filter(|node| !node.is_null() && is_zero(node)) else { continue };
        let path = format!("storage.maintenance.uploadpurging.{key}");
        findings.error(&node.origin, &path, "must be longer than 0; write for example 168h".into());
    }
}

fn indexes(tree: &ConfigNode, findings: &mut Findings) {
    let path = "validation.manifests.indexes";
    let Some(indexes) = tree.at(path) else { return };
    let is_list = indexes.at("platforms").and_then(ConfigNode::as_text) == Some("list");
    let list = indexes.at("platformlist").filter(|node| !node.is_idle());
    match (is_list, list) {
        (true, None) => {
            let node = indexes.at("platforms").expect("the platforms were read above");
            let message = "no platform is listed, and every child may be missing; add platformlist";
            findings.warn(&node.origin, &format!("{path}.platforms"), message.into());
        }
        (true, Some(_)) => {
            let message = "children of other platforms may be missing; distribution demands every child";
            note(tree, &format!("{path}.platforms"), message, findings);
        }
        (false, Some(list)) => {
            let message = "has no effect unless platforms is list";
            findings.warn(&list.origin, &format!("{path}.platformlist"), message.into());
        }
        (false, None) => {}
    }
}

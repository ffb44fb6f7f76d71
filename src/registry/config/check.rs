//! Walk of a tree along the table of keys: types, unknown keys, and the treatment of each key.

use quinistry_oci::escape::without_userinfo;

use super::diagnostic::Origin;
use super::findings::Findings;
use super::nearest::nearest;
use super::schema::{KeyTreatment, Kind, Schema, Unless, schema};
use super::tree::{ConfigNode, NodeKind, TreeEntry};
use super::values::{self, Problem};
use super::yaml::name;

/// Sections below which an unknown key is an error: a mistyped lock is an open door, and mistyped maintenance
/// loses data, and a mistyped key of a bucket changes where bytes go.
const LOCKED: [&str; 10] = [
    "auth",
    "http.tls",
    "proxy",
    "validation",
    "storage.delete",
    "storage.maintenance",
    "storage.s3",
    "storage.gcs",
    "storage.azure",
    "quinistry",
];

/// Remedy for an access controller that is not known: a file without it would be open.
const CONTROLLERS: &str = "name htpasswd or token, or keep distribution for this registry";

/// Longest value that a finding quotes, in characters.
const MAX_QUOTED_CHARACTERS: usize = 60;

/// Returns true if an unknown key in this section is an error.
pub(super) fn is_locked(section: &str) -> bool {
    // Own keys of an endpoint, whose section is one of distribution's.
    let is_own = section.starts_with("notifications.") && section.ends_with("].quinistry");
    is_own
        || LOCKED.iter().any(|locked| {
            section.strip_prefix(locked).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
}

/// Checks a whole tree.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    Checker { findings }.section(tree, &tree.origin, schema(), "");
}

struct Checker<'a> {
    findings: &'a mut Findings,
}

// === impl Checker ===

impl Checker<'_> {
    /// Checks a value whose key stands at `origin`.
    fn value(&mut self, node: &ConfigNode, origin: &Origin, place: &Schema, path: &str) {
        if let Some(key) = place.key {
            match key.outcome {
                KeyTreatment::Refuse(message, unless) if !is_exempt(node, unless) => {
                    self.findings.error(origin, path, message.to_owned());
                }
                KeyTreatment::Warn(message) if !node.is_idle() => {
                    self.findings.warn(origin, path, message.to_owned());
                }
                _ => {}
            }
        }
        match place.kind() {
            Kind::Section => self.section(node, origin, place, path),
            Kind::Elements => self.elements(node, place, path),
            _ if node.is_null() => {}
            kind => self.leaf(node, kind, place, path),
        }
    }

    fn section(&mut self, node: &ConfigNode, origin: &Origin, place: &Schema, path: &str) {
        if !matches!(node.kind, NodeKind::Map(_)) && !node.is_null() {
            return self.findings.error(&node.origin, path, "must be a section with keys of its own".into());
        }
        for entry in node.entries() {
            let separator = if path.is_empty() { "" } else { "." };
            let inner = format!("{path}{separator}{}", name(&entry.key));
            match place.child(&entry.key) {
                Some(child) => self.value(&entry.value, &entry.origin, child, &inner),
                None => self.unknown(entry, place, path, &inner),
            }
        }
        let required = place.children.values().filter_map(|child| child.key).filter(|key| key.is_required);
        for key in required {
            if node.entry(key.name()).is_none_or(|entry| entry.value.is_null()) {
                let separator = if path.is_empty() { "" } else { "." };
                let message = match key.kind {
                    Kind::Version => "is missing; write `version: 0.1`",
                    _ => "is missing",
                };
                self.findings.error(origin, &format!("{path}{separator}{}", key.name()), message.into());
            }
        }
    }

    fn elements(&mut self, node: &ConfigNode, place: &Schema, path: &str) {
        if node.is_null() {
            return;
        }
        let Some(items) = node.as_list() else {
            return self.findings.error(&node.origin, path, "must be a list of sections".into());
        };
        let element = place.element.as_deref().expect("the table names the elements of each such list");
        for (index, item) in items.iter().enumerate() {
            self.section(item, &item.origin, element, &format!("{path}[{index}]"));
        }
    }

    fn leaf(&mut self, node: &ConfigNode, kind: Kind, place: &Schema, path: &str) {
        let is_secret = place.key.is_some_and(|key| key.is_secret);
        // Distribution takes an empty URL, as templates write it, for none.
        let is_required = place.key.is_some_and(|key| key.is_required);
        if kind == Kind::Url && !is_required && node.as_text().is_some_and(str::is_empty) {
            return;
        }
        match values::check(kind, node) {
            Ok(()) => {}
            Err(problem) => return self.problem(&problem, path, kind, is_secret),
        }
        if kind == Kind::Duration
            && let Ok(written) = values::duration(node)
            && written.lacks_unit
        {
            let text = node.as_text().unwrap_or_default();
            let message = format!("{text} means {text} nanoseconds; did you mean {text}s?");
            self.findings.warn(&node.origin, path, message);
        }
    }

    fn problem(&mut self, problem: &Problem<'_>, path: &str, kind: Kind, is_secret: bool) {
        let path = problem.name.map_or_else(|| path.to_owned(), |inner| format!("{path}.{}", name(inner)));
        let message = match problem.node.as_text() {
            _ if is_secret => format!("the value {}", problem.message),
            Some(text) if !text.is_empty() && kind == Kind::Url => {
                format!("\"{}\" {}", quote(&public_url(text)), problem.message)
            }
            Some(text) if !text.is_empty() => format!("\"{}\" {}", quote(text), problem.message),
            _ => problem.message.clone(),
        };
        self.findings.error(&problem.node.origin, &path, message);
    }

    /// Tells a key that `section` does not have. The key may hold dots, so its section cannot be read off `path`.
    fn unknown(&mut self, entry: &TreeEntry, place: &Schema, section: &str, path: &str) {
        let candidates = place.children.keys().copied();
        let meant = if self.findings.is_full() { None } else { nearest(&entry.key, candidates) };
        let separator = if section.is_empty() { "" } else { "." };
        let is_near_lock = meant.is_some_and(|meant| is_locked(&format!("{section}{separator}{meant}")));
        let is_error = section == "storage" || is_locked(section) || is_near_lock;
        // A bare value has the place of the key that was made of it. It may be a secret in the wrong place.
        let is_bare = matches!(section, "storage" | "auth") && entry.origin == entry.value.origin;
        let (subject, path) = if is_bare { ("the value ", section) } else { ("", path) };
        let problem = match section {
            "storage" if is_bare => "is not a known storage driver",
            "storage" => "is not a known storage driver or switch",
            "auth" => "is not a known access controller",
            _ => "is not known",
        };
        let problem = format!("{subject}{problem}");
        let message = match meant {
            Some(meant) => format!("{problem}; did you mean {meant}?"),
            None if section == "auth" => format!("{problem}; {CONTROLLERS}"),
            None if is_error => format!("{problem}; remove it"),
            None => format!("{problem}, and has no effect"),
        };
        if is_error {
            self.findings.error(&entry.origin, path, message);
        } else {
            self.findings.warn(&entry.origin, path, message);
        }
    }
}

fn is_exempt(node: &ConfigNode, unless: Unless) -> bool {
    match unless {
        Unless::Never => false,
        Unless::Idle => node.is_idle(),
        Unless::Disabled => {
            let is_disabled = |item: &ConfigNode| {
                item.entry("disabled").is_some_and(|entry| values::boolean(&entry.value).is_ok_and(|is| is))
            };
            node.is_null() || node.as_list().is_some_and(|items| items.iter().all(is_disabled))
        }
    }
}

/// Returns a URL without its password, query and fragment, any of which may be a secret.
pub(super) fn public_url(text: &str) -> String {
    // A password may hold a question mark, so it is masked first.
    let mut text = without_userinfo(text);
    text.truncate(text.find(['?', '#']).unwrap_or(text.len()));
    text
}

/// Shortens a value for a finding, and masks a password in a URL.
pub(super) fn quote(text: &str) -> String {
    let text = without_userinfo(text);
    match text.char_indices().nth(MAX_QUOTED_CHARACTERS) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text,
    }
}

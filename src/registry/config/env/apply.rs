//! Variables into the tree, in the order of their names, of which numbers count as numbers.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::resolve::{KeyEffect, KeyTarget};
use super::{FILE_SUFFIX, Meaning, meaning, setting};
use crate::auth::regular_file::{READABLE_BY_ALL, WRITABLE_BY_ALL};
use crate::config::diagnostic::Origin;
use crate::config::findings::Findings;
use crate::config::normalise::normalise;
use crate::config::rules::known_driver;
use crate::config::schema::Kind;
use crate::config::tree::{ConfigNode, NodeKind, Step, TreeEntry};
use crate::config::yaml::{self, Place, YamlBudget};
use crate::config::{ReadFile, drivers_of};

/// Longest file with a value, in bytes.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// Most variables that a finding names for setting no key. More are counted.
const MAX_UNKNOWN: usize = 50;

/// Variables that were used, and those that were not.
#[derive(Debug, Default)]
pub(in crate::config) struct AppliedVariables {
    /// Names of the variables that set a key, sorted.
    pub(in crate::config) set: Vec<String>,
    /// Names of the variables that Services made, sorted.
    pub(in crate::config) service_links: Vec<String>,
}

struct Application<'a> {
    tree: &'a mut ConfigNode,
    budget: &'a mut YamlBudget,
    findings: &'a mut Findings,
    files: &'a dyn ReadFile,
    applied: AppliedVariables,
    /// Paths that a variable set, to find a second one with `_FILE`.
    paths: HashSet<String>,
    unknown: usize,
}

/// Applies variables to a tree.
pub(in crate::config) fn apply(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    tree: &mut ConfigNode,
    budget: &mut YamlBudget,
    findings: &mut Findings,
    files: &dyn ReadFile,
) -> AppliedVariables {
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            setting(&name).is_some().then_some((name, value))
        })
        .collect();
    // A name comes before those that it begins, so that a section is set before its keys.
    variables.sort_by_cached_key(|(name, value)| (order(name), name.clone(), value.clone()));
    let mut application = Application {
        tree,
        budget,
        findings,
        files,
        applied: AppliedVariables::default(),
        paths: HashSet::new(),
        unknown: 0,
    };
    for (name, value) in variables {
        application.apply(&name, &value);
    }
    application.finish()
}

/// Returns a text by which names sort: the numbers of elements in their order, and all else by its bytes.
fn order(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts =
        name.split('_').map(|part| if is_number(part) { format!("{part:0>20}") } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("_")
}

// === impl Application ===

impl Application<'_> {
    fn apply(&mut self, name: &str, value: &OsStr) {
        let Some(rest) = setting(name) else { return };
        let origin = Origin::Variable(name.into());
        match meaning(rest, value) {
            Meaning::ServiceLink => self.applied.service_links.push(name.to_owned()),
            Meaning::Unknown(unresolved) if unresolved.is_error() => {
                self.findings.error(&origin, "", unresolved.message());
            }
            Meaning::Unknown(unresolved) => {
                self.unknown += 1;
                if self.unknown <= MAX_UNKNOWN {
                    self.findings.warn(&origin, "", unresolved.message());
                }
            }
            Meaning::Key(target) => {
                let Some(text) = value.to_str() else {
                    return self.findings.error(&origin, &target.path, "is not valid UTF-8".into());
                };
                let node = self.parse(text, name, &target);
                // Images and their users call the version of the program so.
                let is_format = |node: &ConfigNode| node.as_text() == Some("0.1");
                if target.kind == Kind::Version && !node.as_ref().is_ok_and(is_format) {
                    let message = "is not 0.1, the version of the file's format, and is ignored";
                    return self.findings.warn(&origin, &target.path, message.into());
                }
                self.set(name, &origin, &target, node);
            }
            Meaning::KeyOfFile(target) => {
                if self.paths.contains(&place(&target)) {
                    let other = name.strip_suffix(FILE_SUFFIX).unwrap_or(name);
                    let message = format!("{other} is set as well; remove one of them");
                    return self.findings.error(&origin, &target.path, message);
                }
                let node = self.read(value, &origin, &target);
                self.set(name, &origin, &target, node);
            }
        }
    }

    fn finish(mut self) -> AppliedVariables {
        if self.unknown > MAX_UNKNOWN {
            let origin = Origin::Variable("REGISTRY_*".into());
            let message = format!("{} more variables set no key", self.unknown - MAX_UNKNOWN);
            self.findings.warn(&origin, "", message);
        }
        // Variables are applied in another order, that of the numbers in their names.
        self.applied.set.sort_unstable();
        self.applied.service_links.sort_unstable();
        self.applied
    }

    /// Parses a value as YAML; text that is none is taken as it is, where the key is text or has no effect.
    fn parse(&mut self, text: &str, name: &str, target: &KeyTarget) -> Result<ConfigNode, String> {
        let origin = Origin::Variable(name.into());
        let place = Place::Variable(name.into());
        if !target.kind.is_text() {
            let parsed = yaml::parse(text, &place, self.budget, self.findings);
            return match parsed {
                Ok(node) => Ok(node.unwrap_or_else(|| ConfigNode::null(origin))),
                Err(_) if target.effect == KeyEffect::Warned && text.len() <= yaml::MAX_BYTES => {
                    Ok(ConfigNode::text(text, origin))
                }
                Err(error) => Err(error.message),
            };
        }
        let parsed = yaml::parse(text, &place, self.budget, &mut Findings::default());
        let is_absent = matches!(text.trim(), "" | "~" | "null" | "Null" | "NULL");
        match parsed {
            Ok(Some(node)) if node.as_text().is_some() && (is_absent || !node.is_null()) => {
                let is_cut = node.as_text().is_some_and(|read| read.len() < text.trim().len());
                if is_cut && text.contains(" #") {
                    let message = "the text from # on is a comment; put the value in quotes to keep it";
                    self.findings.warn(&origin, &target.path, message.into());
                }
                Ok(node)
            }
            Ok(None) if is_absent => Ok(ConfigNode::null(origin)),
            _ if text.len() > yaml::MAX_BYTES => Err("is longer than 1 MiB".into()),
            _ => Ok(ConfigNode::text(text, origin)),
        }
    }

    /// Reads a value from the file that a variable names.
    fn read(&mut self, value: &OsStr, origin: &Origin, target: &KeyTarget) -> Result<ConfigNode, String> {
        let path = Path::new(value);
        let file = self
            .files
            .read(path, MAX_VALUE_BYTES)
            .map_err(|error| format!("failed to read {}: {error}; name a readable file", path.display()))?;
        if let Some(mode) = file.mode.filter(|_| target.is_secret) {
            if mode & WRITABLE_BY_ALL != 0 {
                return Err(format!(
                    "every user can write {}; run `chmod 600` on it, for its content is a secret",
                    path.display()
                ));
            }
            if mode & READABLE_BY_ALL != 0 {
                let message = format!("every user can read {}, and its content is a secret", path.display());
                self.findings.warn(origin, &target.path, message);
            }
        }
        let text = std::str::from_utf8(&file.bytes)
            .map_err(|_| format!("the content of {} is not UTF-8", path.display()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Ok(ConfigNode::text(text.strip_suffix('\r').unwrap_or(text), origin.clone()))
    }

    fn set(&mut self, name: &str, origin: &Origin, target: &KeyTarget, node: Result<ConfigNode, String>) {
        let result = node.and_then(|node| {
            self.tell_replacement(origin, target, &node);
            set(self.tree, target, node, origin)
        });
        match result {
            Ok(()) => {
                self.applied.set.push(name.to_owned());
                self.paths.insert(place(target));
                if matches!(target.steps.first(), Some(Step::Key(key)) if matches!(&**key, "storage" | "auth"))
                {
                    normalise(self.tree);
                }
            }
            Err(message) => self.findings.error(origin, &target.path, message),
        }
    }

    /// Warns if a variable replaces a controller or a driver of the file, as in distribution.
    fn tell_replacement(&mut self, origin: &Origin, target: &KeyTarget, new: &ConfigNode) {
        if !matches!(target.path.as_str(), "auth" | "storage") {
            return;
        }
        let Some(entry) = self.tree.entry(&target.path) else { return };
        let kinds = drivers_of(&entry.value, &target.path);
        let former = kinds.into_iter().find(|former| matches!(former.origin, Origin::File { .. }));
        let Some(former) = former else { return };
        let is_name_of_none = |text: &str| text.is_empty() || text.eq_ignore_ascii_case("none");
        let is_none = target.path == "auth"
            && (new.as_text().is_some_and(is_name_of_none) || new.entry("none").is_some());
        let effect = if is_none { ", and there are no users" } else { "" };
        let name = known_driver(&target.path, former).map(|name| format!(".{name}")).unwrap_or_default();
        let message = format!(
            "replaces the whole section of the file, {}{name} at {}{effect}",
            target.path, former.origin
        );
        self.findings.warn(origin, &target.path, message);
    }
}

/// Returns the place of a target, with indexes.
fn place(target: &KeyTarget) -> String {
    format!("{:?}", target.steps)
}

/// Puts a value at the place of a target in the tree.
fn set(tree: &mut ConfigNode, target: &KeyTarget, value: ConfigNode, origin: &Origin) -> Result<(), String> {
    let mut node = tree;
    for (index, step) in target.steps.iter().enumerate() {
        let is_any_name = target.is_free && index + 1 == target.steps.len();
        node = match step {
            Step::Key(key) => {
                // A variable's name has lost the case of a name inside a map of any names. Keys of the table are
                // in lower case: `AUTH` in a file is another key, which the reader of `auth` does not see.
                let is_same = |entry: &&TreeEntry| is_any_name && entry.key.eq_ignore_ascii_case(key);
                let known = node.entries().iter().find(is_same).map(|entry| entry.key.clone());
                &mut node.entry_or_null(known.as_ref().unwrap_or(key), origin.clone()).value
            }
            Step::Index(index) => element(node, *index, origin)?,
        };
    }
    *node = value;
    Ok(())
}

/// Returns an element of a list, or a new one behind the last.
fn element<'a>(
    node: &'a mut ConfigNode,
    index: usize,
    origin: &Origin,
) -> Result<&'a mut ConfigNode, String> {
    if !matches!(node.kind, NodeKind::List(_)) {
        *node = ConfigNode { kind: NodeKind::List(Vec::new()), origin: origin.clone() };
    }
    let NodeKind::List(items) = &mut node.kind else { unreachable!("made a list above") };
    if index > items.len() {
        return Err(format!("the list has no element {index}; the next free one is {}", items.len()));
    }
    if index == items.len() {
        items.push(ConfigNode::null(origin.clone()));
    }
    Ok(&mut items[index])
}

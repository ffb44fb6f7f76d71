//! Tree to YAML, with the place of each value and without secrets.

use std::fmt::Write as _;

use quinistry_oci::escape;

use super::check::public_url;
use super::diagnostic::Origin;
use super::keys;
use super::schema::{KeyTreatment, Kind, Schema, schema};
use super::tree::{ConfigNode, NodeKind};

/// Text in place of a secret.
const MASK: &str = "***";

/// Text in place of a URL that is a secret, in the form of a URL so that the written text is accepted again.
const URL_MASK: &str = "https://***";

/// Longest key before a colon on one line, in bytes: YAML 1.2.2, section 7.4, allows 1024 characters.
const MAX_SIMPLE_KEY_BYTES: usize = 1000;

/// Writes a checked tree with the defaults of implemented keys. Keys that are not known are left out.
pub(super) fn show(tree: &ConfigNode) -> String {
    let mut tree = tree.clone();
    add_defaults(&mut tree);
    let mut writer = YamlWriter { text: String::new() };
    writer.map(&tree, schema(), 0);
    writer.text
}

fn add_defaults(tree: &mut ConfigNode) {
    // Sections whose presence asks for something.
    let absent = [
        "storage.filesystem.",
        "storage.s3.",
        "storage.gcs.",
        "storage.azure.",
        "auth.token.",
        "quinistry.retention.",
    ]
    .map(|section| (section, tree.at(section.trim_end_matches('.')).is_none()));
    let implemented =
        keys::all().filter(|key| key.outcome == KeyTreatment::Implement && !key.default.is_empty());
    for key in implemented {
        let is_absent = absent.iter().any(|(section, is_absent)| *is_absent && key.path.starts_with(section));
        if key.path.contains("[]") || is_absent || tree.at(key.path).is_some_and(|node| !node.is_null()) {
            continue;
        }
        let mut node = &mut *tree;
        for name in key.path.split('.') {
            node = &mut node.entry_or_null(&name.into(), Origin::Default).value;
        }
        *node = ConfigNode {
            kind: NodeKind::Scalar { text: key.default.into(), is_plain: true },
            origin: Origin::Default,
        };
    }
}

struct YamlWriter {
    text: String,
}

// === impl Writer ===

impl YamlWriter {
    fn map(&mut self, node: &ConfigNode, place: &Schema, depth: usize) {
        for entry in node.entries() {
            let Some(child) = place.child(&entry.key) else { continue };
            self.key(&entry.key, depth);
            self.value(&entry.value, child, depth);
        }
    }

    fn value(&mut self, node: &ConfigNode, place: &Schema, depth: usize) {
        let is_secret = place.key.is_some_and(|key| key.is_secret);
        match place.kind() {
            Kind::Section if !node.entries().is_empty() => {
                self.text.push('\n');
                let before = self.text.len();
                self.map(node, place, depth + 1);
                if self.text.len() == before {
                    self.text.pop();
                    self.text += " {}\n";
                }
            }
            Kind::Elements if node.as_list().is_some_and(|items| !items.is_empty()) => {
                self.text.push('\n');
                let element =
                    place.element.as_deref().expect("the table names the elements of each such list");
                for item in node.as_list().unwrap_or_default() {
                    self.indent(depth + 1);
                    self.text += "-\n";
                    self.map(item, element, depth + 2);
                }
            }
            kind => self.free(node, is_secret, kind == Kind::Url, depth),
        }
    }

    /// Writes a value of any form.
    fn free(&mut self, node: &ConfigNode, is_secret: bool, is_url: bool, depth: usize) {
        match &node.kind {
            NodeKind::Map(entries) if !entries.is_empty() => {
                self.text.push('\n');
                for entry in entries {
                    self.key(&entry.key, depth + 1);
                    if is_secret && !entry.value.entries().is_empty() {
                        // A password in braces is a map, and a key of it.
                        self.leaf(&scalar(MASK, false), &entry.value.origin);
                    } else {
                        self.free(&entry.value, is_secret, is_url, depth + 1);
                    }
                }
            }
            NodeKind::List(items) if !items.is_empty() => {
                self.text.push('\n');
                for item in items {
                    self.indent(depth + 1);
                    self.text.push('-');
                    self.free(item, is_secret, is_url, depth + 1);
                }
            }
            NodeKind::Map(_) => self.leaf("{}", &node.origin),
            NodeKind::List(_) => self.leaf("[]", &node.origin),
            NodeKind::Scalar { .. } if node.is_null() => self.leaf("null", &node.origin),
            NodeKind::Scalar { .. } if is_secret => {
                let mask = if is_url { URL_MASK } else { MASK };
                self.leaf(&scalar(mask, false), &node.origin);
            }
            NodeKind::Scalar { text, is_plain } if is_url => {
                self.leaf(&scalar(&public_url(text), *is_plain), &node.origin);
            }
            NodeKind::Scalar { text, is_plain } => self.leaf(&scalar(text, *is_plain), &node.origin),
        }
    }

    fn leaf(&mut self, text: &str, origin: &Origin) {
        let place = printable(&origin.to_string());
        writeln!(self.text, " {text} # from {place}").expect("writing to a string does not fail");
    }

    fn key(&mut self, key: &str, depth: usize) {
        let key = scalar(key, true);
        self.indent(depth);
        if key.len() > MAX_SIMPLE_KEY_BYTES {
            self.text += "? ";
            self.text += &key;
            self.text.push('\n');
            self.indent(depth);
        } else {
            self.text += &key;
        }
        self.text.push(':');
    }

    fn indent(&mut self, depth: usize) {
        self.text.extend(std::iter::repeat_n("  ", depth));
    }
}

/// Writes a scalar: in quotes, unless it was plain and has no character with a meaning in YAML.
fn scalar(text: &str, is_plain: bool) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"/._:+-".contains(&byte);
    let begins =
        text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"/._:".contains(&byte));
    let is_number = text.strip_prefix('-').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    if is_plain
        && text.bytes().all(is_safe)
        && (begins || is_number && text.len() > 1)
        && !text.ends_with(':')
        && text != "..."
    {
        return text.to_owned();
    }
    printable(&escape::json(&serde_json::Value::from(text).to_string()))
}

/// Escapes the two characters that YAML does not print (1.2.2, section 5.1), and JSON and terminals do.
fn printable(text: &str) -> String {
    text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
}

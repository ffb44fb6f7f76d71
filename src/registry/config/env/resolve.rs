//! Name of a variable to the place of its key. Pure.

use crate::config::check::is_locked;
use crate::config::nearest::nearest;
use crate::config::schema::{KeyTreatment, Kind, Schema, schema};
use crate::config::tree::Step;

/// Names that distribution's variables have, after its program's fields, where its file has others.
const OTHER_NAMES: [(&str, &str, &str); 6] = [
    ("storage", "S3AWS", "s3"),
    ("notifications", "EVENTCONFIG", "events"),
    ("health", "FILECHECKERS", "file"),
    ("health", "HTTPCHECKERS", "http"),
    ("health", "TCPCHECKERS", "tcp"),
    ("compatibility.schema1", "TRUSTKEY", "signingkeyfile"),
];

/// Most digits of an index: no list is longer.
const MAX_INDEX_DIGITS: usize = 6;

/// Place that a variable sets.
#[derive(Debug)]
pub(super) struct KeyTarget {
    pub(super) steps: Vec<Step>,
    /// Path in the table of keys.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) is_secret: bool,
    /// True if a name inside a map of any names is set.
    pub(super) is_free: bool,
    pub(super) effect: KeyEffect,
}

/// Effect of setting a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyEffect {
    /// The key is implemented or refused, so that it asks for a configured registry.
    Configures,
    /// Nothing depends on the key.
    Silent,
    /// The key, or a section around it, is only warned about.
    Warned,
}

/// Name that leads to no key.
#[derive(Debug)]
pub(super) struct Unresolved {
    /// Path of the deepest section that was found; empty for the top.
    path: String,
    /// Beginning of the name that led there, with a final `_` if there is one.
    consumed: String,
    /// Nearest name of a key there, in upper case.
    nearest: Option<String>,
    /// Problem with an index.
    index: Option<BadIndex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadIndex {
    NoNumber,
    TooLarge,
}

pub(super) enum Resolved {
    Target(KeyTarget),
    Unresolved(Unresolved),
}

/// Resolves the name of a variable without its prefix, in any case.
pub(super) fn resolve(name: &str) -> Resolved {
    let upper = name.to_ascii_uppercase();
    let mut place = schema();
    let (mut steps, mut path) = (Vec::new(), String::new());
    let (mut is_secret, mut effect) = (false, KeyEffect::Configures);
    let mut rest = upper.as_str();
    loop {
        if let Some(key) = place.key {
            is_secret |= key.is_secret;
            effect = match key.outcome {
                _ if effect == KeyEffect::Warned => effect,
                KeyTreatment::Warn(_) => KeyEffect::Warned,
                KeyTreatment::Implement | KeyTreatment::Refuse(..) if key.kind != Kind::Version => {
                    KeyEffect::Configures
                }
                KeyTreatment::Implement | KeyTreatment::Refuse(..) | KeyTreatment::Silent => {
                    KeyEffect::Silent
                }
                KeyTreatment::Within => effect,
            };
        }
        let kind = place.kind();
        let done = |steps, path, kind, is_free| {
            Resolved::Target(KeyTarget { steps, path, kind, is_secret, is_free, effect })
        };
        if rest.is_empty() && !steps.is_empty() {
            return done(steps, path, kind, false);
        }
        let consumed = &upper[..upper.len() - rest.len()];
        let fail = |nearest, index, path| {
            Resolved::Unresolved(Unresolved { path, consumed: consumed.to_owned(), nearest, index })
        };
        match kind {
            Kind::Section => {
                let Some((child, after)) = child(place, &path, rest) else {
                    return fail(nearest_child(place, rest), None, path);
                };
                steps.push(Step::Key(child.into()));
                path = if path.is_empty() { child.to_owned() } else { format!("{path}.{child}") };
                place = &place.children[child];
                rest = after;
            }
            Kind::Elements | Kind::Texts | Kind::ListOf(_) | Kind::Patterns | Kind::Networks => {
                let (index, after) = rest.split_once('_').unwrap_or((rest, ""));
                let is_number = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
                let index = index.parse().ok().filter(|_| is_number && index.len() <= MAX_INDEX_DIGITS);
                let Some(index) = index else {
                    return fail(
                        None,
                        Some(if is_number { BadIndex::TooLarge } else { BadIndex::NoNumber }),
                        path,
                    );
                };
                steps.push(Step::Index(index));
                path += "[]";
                match &place.element {
                    Some(element) => place = element,
                    None if after.is_empty() => return done(steps, path, Kind::Text, false),
                    None => return fail(None, None, path),
                }
                rest = after;
            }
            Kind::Headers | Kind::TextMap | Kind::Anything => {
                steps.push(Step::Key(rest.to_ascii_lowercase().into()));
                let kind = match kind {
                    Kind::Headers => Kind::Texts,
                    Kind::TextMap => Kind::Text,
                    kind => kind,
                };
                return done(steps, path, kind, true);
            }
            _ => return fail(None, None, path),
        }
    }
}

/// Returns the child with the longest name that begins the rest, and the rest after that name.
fn child<'a>(place: &Schema, path: &str, rest: &'a str) -> Option<(&'static str, &'a str)> {
    let other_names = OTHER_NAMES.iter().filter(|(section, ..)| *section == path);
    let names = place.children.keys().map(|name| (name.to_ascii_uppercase(), *name));
    let names = names.chain(other_names.map(|(_, upper, name)| ((*upper).to_owned(), *name)));
    names
        .filter_map(|(upper, name)| {
            let after = rest.strip_prefix(upper.as_str())?;
            let after = if after.is_empty() { after } else { after.strip_prefix('_')? };
            Some((name, after, upper.len()))
        })
        .max_by_key(|(_, _, length)| *length)
        .map(|(name, after, _)| (name, after))
}

/// Returns the name of the child that was probably meant, in upper case.
fn nearest_child(place: &Schema, rest: &str) -> Option<String> {
    let typed = rest.split('_').next().unwrap_or(rest);
    let found = nearest(typed, place.children.keys().copied().filter(|name| !name.contains('_')));
    let found = found.or_else(|| nearest(rest, place.children.keys().copied()));
    found.map(str::to_ascii_uppercase)
}

// === impl Unresolved ===

impl Unresolved {
    /// Returns true if the name is one of a locked section, or has an index that no list has.
    pub(super) fn is_locked(&self) -> bool {
        is_locked(&self.path) || self.index == Some(BadIndex::TooLarge)
    }

    /// Returns true if the name sets no key and may have been meant for a locked section.
    pub(super) fn is_error(&self) -> bool {
        let separator = if self.path.is_empty() { "" } else { "." };
        let is_near_lock = self.nearest.as_ref().is_some_and(|nearest| {
            is_locked(&format!("{}{separator}{}", self.path, nearest.to_ascii_lowercase()))
        });
        self.is_locked() || is_near_lock
    }

    /// Says what is wrong, and what was probably meant.
    pub(super) fn message(&self) -> String {
        match self.index {
            Some(BadIndex::TooLarge) => return format!("{} has no element of this number", self.path),
            Some(BadIndex::NoNumber) => {
                return format!(
                    "sets no key: {} is a list; write the number of an element after REGISTRY_{}",
                    self.path, self.consumed
                );
            }
            None => {}
        }
        match &self.nearest {
            Some(nearest) => format!("sets no key; did you mean REGISTRY_{}{nearest}?", self.consumed),
            None if self.path.is_empty() => "sets no key; `quinistry config keys` lists them".into(),
            None => format!("sets no key of {}; `quinistry config keys` lists them", self.path),
        }
    }
}

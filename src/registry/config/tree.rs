//! Untyped configuration in which every value keeps its place.

use std::sync::Arc;

use super::diagnostic::Origin;

/// Value of a configuration, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigNode {
    pub(super) kind: NodeKind,
    pub(super) origin: Origin,
}

/// Forms of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    /// Text as it stands in the file. `is_plain` is false if quotes or a tag make it a string.
    Scalar {
        text: Arc<str>,
        is_plain: bool,
    },
    List(Vec<ConfigNode>),
    /// Entries with different keys, in the order of the file.
    Map(Vec<TreeEntry>),
}

/// Entry of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TreeEntry {
    pub(super) key: Arc<str>,
    /// Place of the key.
    pub(super) origin: Origin,
    pub(super) value: ConfigNode,
}

/// Step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(Arc<str>),
    Index(usize),
}

// === impl Node ===

impl ConfigNode {
    pub(super) fn text(text: &str, origin: Origin) -> Self {
        Self { kind: NodeKind::Scalar { text: text.into(), is_plain: false }, origin }
    }

    pub(super) fn null(origin: Origin) -> Self {
        Self { kind: NodeKind::Scalar { text: "".into(), is_plain: true }, origin }
    }

    pub(super) fn map(origin: Origin) -> Self {
        Self { kind: NodeKind::Map(Vec::new()), origin }
    }

    /// Returns true for an absent value, in any spelling of YAML 1.1.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar { text, is_plain: true }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Returns the text of a scalar.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar { .. } if self.is_null() => Some(""),
            NodeKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[ConfigNode]> {
        match &self.kind {
            NodeKind::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the entries of a map; none of any other value.
    pub(super) fn entries(&self) -> &[TreeEntry] {
        match &self.kind {
            NodeKind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the entry of this key.
    pub(super) fn entry(&self, key: &str) -> Option<&TreeEntry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    pub(super) fn entry_mut(&mut self, key: &str) -> Option<&mut TreeEntry> {
        match &mut self.kind {
            NodeKind::Map(entries) => entries.iter_mut().find(|entry| &*entry.key == key),
            _ => None,
        }
    }

    /// Returns the value at a path of keys that dots separate.
    pub(super) fn at(&self, path: &str) -> Option<&ConfigNode> {
        path.split('.').try_fold(self, |node, key| node.entry(key).map(|entry| &entry.value))
    }

    /// Returns true if the value asks for nothing: null, empty, false, or made of such values alone.
    pub(super) fn is_idle(&self) -> bool {
        match &self.kind {
            NodeKind::Scalar { text, is_plain } => {
                self.is_null()
                    || text.is_empty()
                    || *is_plain && matches!(super::scalar::boolean(text), Some(false))
            }
            NodeKind::List(items) => items.is_empty(),
            NodeKind::Map(entries) => entries.iter().all(|entry| entry.value.is_idle()),
        }
    }

    /// Returns the number of values that are no maps, without those of the built-in configuration.
    pub(super) fn count_leaves(&self) -> usize {
        match &self.kind {
            NodeKind::Map(entries) => entries.iter().map(|entry| entry.value.count_leaves()).sum(),
            _ => usize::from(self.origin != Origin::Default),
        }
    }

    /// Puts a value under a key of a map, in place of the former value. A value that is no map becomes one.
    pub(super) fn insert(&mut self, key: &Arc<str>, value: ConfigNode) {
        let origin = value.origin.clone();
        let entry = self.entry_or_null(key, origin.clone());
        entry.origin = origin;
        entry.value = value;
    }

    /// Returns the entry of a key, which is made if there is none.
    pub(super) fn entry_or_null(&mut self, key: &Arc<str>, origin: Origin) -> &mut TreeEntry {
        if !matches!(self.kind, NodeKind::Map(_)) {
            *self = Self::map(origin.clone());
        }
        let NodeKind::Map(entries) = &mut self.kind else { unreachable!("made a map above") };
        let at = entries.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
            entries.push(TreeEntry { key: key.clone(), origin: origin.clone(), value: Self::null(origin) });
            entries.len() - 1
        });
        &mut entries[at]
    }

    /// Removes the entries for which `keep` is false.
    pub(super) fn retain(&mut self, keep: impl FnMut(&TreeEntry) -> bool) {
        if let NodeKind::Map(entries) = &mut self.kind {
            entries.retain(keep);
        }
    }
}

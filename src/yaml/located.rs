//! Documents whose values know their places in the text.

use std::ops::Range;

use serde::de::DeserializeOwned;

use crate::document::{self, Node, NodeKind, YamlError};

/// Document or value of a text, with its place.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a>(&'a Node);

/// All documents of a text, which [`located_documents`] reads.
#[derive(Debug)]
pub struct LocatedDocuments(Vec<Node>);

/// Reads all documents of a text. Empty ones are left out.
pub fn located_documents(text: &str) -> Result<LocatedDocuments, YamlError> {
    document::load(text).map(LocatedDocuments)
}

// === impl LocatedDocuments ===

impl LocatedDocuments {
    /// Returns the documents, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = Located<'_>> {
        self.0.iter().map(Located)
    }
}

// === impl Located ===

impl Located<'_> {
    /// Returns the value in another form.
    pub fn to<T: DeserializeOwned>(self) -> Result<T, YamlError> {
        T::deserialize(self.0)
    }

    /// Returns the value of a map under a key; that of the last entry, if several have the key.
    #[must_use]
    pub fn entry(self, key: &str) -> Option<Self> {
        let NodeKind::Map(entries) = &self.0.kind else { return None };
        let has_key = |node: &Node| matches!(&node.kind, NodeKind::Scalar { text, .. } if text == key);
        entries.iter().rfind(|(node, _)| has_key(node)).map(|(_, value)| Self(value))
    }

    /// Returns an item of a list.
    #[must_use]
    pub fn item(self, number: usize) -> Option<Self> {
        let NodeKind::List(items) = &self.0.kind else { return None };
        items.get(number).map(Self)
    }

    /// Returns the bytes of the text that are the scalar, with its quotes: those of an alias, where that stands for the
    /// scalar. `None` for lists and maps.
    #[must_use]
    pub fn scalar_bytes(self) -> Option<Range<usize>> {
        matches!(self.0.kind, NodeKind::Scalar { .. }).then(|| self.0.bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the part of a text that is the scalar at a path of keys.
    fn part<'t>(text: &'t str, path: &[&str]) -> Option<&'t str> {
        let documents = located_documents(text).unwrap();
        let mut value = documents.iter().last().unwrap();
        for step in path {
            value = step.parse().map_or_else(|_| value.entry(step), |number| value.item(number))?;
        }
        value.scalar_bytes().map(|bytes| &text[bytes])
    }

    #[test]
    fn scalars_have_their_bytes() {
        let text = "\u{feff}# ä\n--- # x\nö: [ü, 'it''s', \"\\x41 b\"] # y\r\nc:   plain  # z\nd: &a !!str one\ne: *a\n";
        for (path, bytes) in [
            (&["ö", "0"][..], "ü"),
            (&["ö", "1"], "'it''s'"),
            (&["ö", "2"], "\"\\x41 b\""),
            (&["c"], "plain"),
            (&["d"], "one"),
            (&["e"], "*a"),
        ] {
            assert_eq!(part(text, path), Some(bytes), "{path:?}");
        }
        assert_eq!(part(text, &["ö"]), None);
        assert_eq!(part(text, &["absent"]), None);
    }

    #[test]
    fn values_that_an_alias_repeats_have_the_bytes_of_the_anchor() {
        let text = "a: &a {x: one}\nb: *a\nc: {<<: *a, y: two}\n";
        for path in [["a", "x"], ["b", "x"], ["c", "x"]] {
            assert_eq!(part(text, &path), Some("one"), "{path:?}");
        }
    }

    #[test]
    fn of_several_entries_with_one_key_the_last_counts() {
        let text = "a: one\na: two\n";
        assert_eq!(part(text, &["a"]), Some("two"));
        let documents = located_documents(text).unwrap();
        let value: serde_json::Value = documents.iter().next().unwrap().to().unwrap();
        assert_eq!(value["a"], "two");
    }
}

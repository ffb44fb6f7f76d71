//! Documents of a text as trees, with the aliases and merge keys carried out, and limits that hostile texts
//! meet.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use granit_parser::{Event, Marker, ScalarStyle, Span, Tag};

use crate::Events;

/// Deepest nesting of lists and maps.
const MAX_DEPTH: usize = 64;

/// Most values in a text, with those that aliases repeat.
const MAX_NODES: usize = 200_000;

/// Most bytes that aliases repeat.
const MAX_REPEATED_BYTES: usize = 16 << 20;

/// Failure to read a text, with its place. Never has words of the text, which may be keys and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct YamlError {
    /// Line, from 1; 0 if it is not known.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// True if the text is longer than is read, and perhaps well formed.
    pub exceeds_limit: bool,
}

/// Value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    line: usize,
    column: usize,
    /// Bytes of the text that are the value; those of an alias, if that stands for a scalar.
    pub(crate) bytes: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    /// Text. Without quotes and tags it may be a number, a boolean or null.
    Scalar {
        text: String,
        is_plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// List or map that is not complete.
struct Open {
    node: Node,
    anchor: usize,
    /// Key that waits for its value.
    key: Option<Node>,
    /// Nesting below.
    height: usize,
}

#[derive(Default)]
struct Loader {
    /// Number of bytes in front of the text that the parser reads.
    skipped: usize,
    open: Vec<Open>,
    /// Values that aliases can repeat, with the nesting in them.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    repeated_bytes: usize,
    /// True after the limit of values or of repeated bytes.
    exceeds_limit: bool,
    documents: Vec<Node>,
}

/// Reads all documents of a text that are not empty.
pub(crate) fn load(text: &str) -> Result<Vec<Node>, YamlError> {
    let content = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut loader = Loader { skipped: text.len() - content.len(), ..Loader::default() };
    // One more than the loader's limit, which counts lists and maps of both notations.
    for next in Events::new(content, MAX_DEPTH + 1) {
        let (event, span) = next.map_err(|error| YamlError::at(*error.marker()))?;
        if loader.accept(event, span).is_none() {
            return Err(YamlError { exceeds_limit: loader.exceeds_limit, ..YamlError::at(span.start) });
        }
    }
    Ok(loader.documents)
}

// === impl YamlError ===

impl YamlError {
    fn at(marker: Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1, exceeds_limit: false }
    }

    /// Adds the place of a node unless the error has one.
    pub(crate) fn or_at(self, node: &Node) -> Self {
        if self.line == 0 { Self { line: node.line, column: node.column, ..self } } else { self }
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.exceeds_limit {
            let mebibytes = MAX_REPEATED_BYTES >> 20;
            write!(f, "more than {MAX_NODES} values, or {mebibytes} MiB by aliases, at ")?;
        } else {
            f.write_str("malformed at ")?;
        }
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl std::error::Error for YamlError {}

// === impl Node ===

impl Node {
    fn new(kind: NodeKind, span: Span, bytes: Range<usize>) -> Self {
        let YamlError { line, column, .. } = YamlError::at(span.start);
        Self { kind, line, column, bytes }
    }

    /// Returns the text of a scalar without quotes.
    pub(crate) fn plain(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar { text, is_plain: true } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.plain().is_some_and(|text| matches!(text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Returns the number of values, and the bytes of their text. Recursion is bounded by [`MAX_DEPTH`].
    fn size(&self) -> (usize, usize) {
        let add = |(nodes, bytes): (usize, usize), (more, text): (usize, usize)| (nodes + more, bytes + text);
        match &self.kind {
            NodeKind::Scalar { text, .. } => (1, text.len()),
            NodeKind::List(items) => items.iter().map(Self::size).fold((1, 0), add),
            NodeKind::Map(entries) => {
                entries.iter().map(|(key, value)| add(key.size(), value.size())).fold((1, 0), add)
            }
        }
    }
}

// === impl Loader ===

impl Loader {
    /// Takes the next event. Returns `None` if the text is not valid, or exceeds a limit.
    fn accept(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let bytes = self.bytes_of(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = takes_tag(tag.as_deref(), &["str", "bool", "int", "float", "null"])?;
                let is_plain = style == ScalarStyle::Plain && !is_text;
                let kind = NodeKind::Scalar { text: text.into_owned(), is_plain };
                self.complete(Node::new(kind, span, bytes), anchor, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                takes_tag(tag.as_deref(), &["seq"])?;
                self.begin(Node::new(NodeKind::List(Vec::new()), span, bytes), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                takes_tag(tag.as_deref(), &["map"])?;
                self.begin(Node::new(NodeKind::Map(Vec::new()), span, bytes), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { mut node, anchor, height, .. } =
                    self.open.pop().expect("an end follows its start");
                if let NodeKind::Map(entries) = &mut node.kind {
                    *entries = merge(std::mem::take(entries))?;
                }
                self.complete(node, anchor, height + 1)
            }
            Event::Alias(anchor) => {
                let (node, height) = self.anchors.get(&anchor)?;
                let (mut node, height) = (node.clone(), *height);
                let (nodes, repeated_bytes) = node.size();
                self.nodes += nodes;
                self.repeated_bytes += repeated_bytes;
                self.check_size()?;
                if matches!(node.kind, NodeKind::Scalar { .. }) {
                    node.bytes = bytes;
                }
                (self.open.len() + height <= MAX_DEPTH).then_some(())?;
                self.complete(node, 0, height)
            }
            Event::UnresolvedAlias(_) => None,
            _ => Some(()),
        }
    }

    /// Returns the bytes of an event in the whole text.
    fn bytes_of(&self, span: Span) -> Range<usize> {
        let bytes = span.byte_range().unwrap_or_default();
        bytes.start + self.skipped..bytes.end + self.skipped
    }

    /// Returns `None` if the text has more values than are read, or aliases repeat more bytes.
    fn check_size(&mut self) -> Option<()> {
        self.exceeds_limit = self.nodes > MAX_NODES || self.repeated_bytes > MAX_REPEATED_BYTES;
        (!self.exceeds_limit).then_some(())
    }

    fn begin(&mut self, node: Node, anchor: usize) -> Option<()> {
        self.open.push(Open { node, anchor, key: None, height: 0 });
        (self.open.len() <= MAX_DEPTH).then_some(())
    }

    /// Adds a complete value to the list or map that is open, or to the documents.
    fn complete(&mut self, node: Node, anchor: usize, height: usize) -> Option<()> {
        self.nodes += 1;
        if anchor != 0 {
            let (nodes, bytes) = node.size();
            self.nodes += nodes;
            self.repeated_bytes += bytes;
            self.anchors.insert(anchor, (node.clone(), height));
        }
        self.check_size()?;
        let Some(open) = self.open.last_mut() else {
            if !node.is_null() {
                self.documents.push(node);
            }
            return Some(());
        };
        open.height = open.height.max(height);
        match (&mut open.node.kind, open.key.take()) {
            (NodeKind::List(items), _) => items.push(node),
            (NodeKind::Map(entries), Some(key)) => entries.push((key, node)),
            (NodeKind::Map(_), None) => {
                matches!(node.kind, NodeKind::Scalar { .. }).then_some(())?;
                open.key = Some(node);
            }
            (NodeKind::Scalar { .. }, _) => unreachable!("only lists and maps are open"),
        }
        Some(())
    }
}

/// Replaces merge keys, `<<`, by the entries that they bring. Entries of the map's own win. Returns `None` if
/// a merge key has another value than a map or a list of maps.
fn merge(entries: Vec<(Node, Node)>) -> Option<Vec<(Node, Node)>> {
    let (merged, mut entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(key, _)| key.plain() == Some("<<"));
    for (_, value) in merged {
        let maps = match value.kind {
            NodeKind::List(maps) => maps,
            _ => vec![value],
        };
        for map in maps {
            let NodeKind::Map(more) = map.kind else { return None };
            for (key, value) in more {
                if !entries.iter().any(|(own, _)| has_same_text(own, &key)) {
                    entries.push((key, value));
                }
            }
        }
    }
    Some(entries)
}

fn has_same_text(one: &Node, other: &Node) -> bool {
    match (&one.kind, &other.kind) {
        (NodeKind::Scalar { text, .. }, NodeKind::Scalar { text: other, .. }) => text == other,
        _ => false,
    }
}

/// Returns `None` unless a tag is absent, `!` or one of these of YAML's core schema; else true if it demands
/// text.
fn takes_tag(tag: Option<&Tag>, accepted: &[&str]) -> Option<bool> {
    let Some(tag) = tag else { return Some(false) };
    if tag.original() == "!" {
        return Some(true);
    }
    tag.core_suffix().filter(|suffix| accepted.contains(suffix)).map(|suffix| suffix == "str")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
        }
        assert!(load(&text).is_err());
    }

    #[test]
    fn a_limit_has_its_own_error() {
        let error = load(&"- x\n".repeat(MAX_NODES + 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "more than 200000 values, or 16 MiB by aliases, at line 200001, column 3"
        );
    }

    #[test]
    fn deep_texts_are_refused() {
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            assert!(load(&text).is_err());
        }
        assert!(load(&("[".repeat(64) + &"]".repeat(64))).is_ok());
    }

    #[test]
    fn an_error_has_its_place_and_no_text() {
        let error = load("a: b\nc: !!binary hunter2\n").unwrap_err();
        assert!(error.to_string().starts_with("malformed at line 2, column "));
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

//! YAML into the untyped tree, with limits that hostile documents meet early.
//!
//! Reads the events of granit-parser, the parser below serde-saphyr, because serde's data model has neither
//! tags nor the style of a scalar: `!!binary` would pass, and the text `"yes"` would be the boolean `yes`.

use std::collections::HashMap;
use std::sync::Arc;

use quinistry_yaml::{Event, Events, Marker, ScalarStyle, Span, Tag};

use super::diagnostic::Origin;
use super::findings::Findings;
use super::tree::{ConfigNode, NodeKind, TreeEntry};

/// Longest file, in bytes. The longest configurations seen have some ten kilobytes.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Deepest nesting of lists and maps. Distribution's keys need ten.
const MAX_DEPTH: usize = 64;

/// Most values of a configuration, with those that aliases repeat.
const MAX_NODES: usize = 100_000;

/// Most bytes of text in a configuration, with those that aliases repeat.
const MAX_TEXT_BYTES: usize = 4 * MAX_BYTES;

/// Longest key that a finding names, in characters.
const MAX_NAMED_CHARACTERS: usize = 60;

/// Tags of YAML 1.1 that findings name (yaml.org/type). Other text behind `!` may be a password.
const NAMED_TAGS: [&str; 14] = [
    "!!binary",
    "!!bool",
    "!!float",
    "!!int",
    "!!map",
    "!!merge",
    "!!null",
    "!!omap",
    "!!pairs",
    "!!seq",
    "!!set",
    "!!str",
    "!!timestamp",
    "!!value",
];

/// Room that is left for values, shared by a file and the variables over it.
#[derive(Debug)]
pub(super) struct YamlBudget {
    nodes: usize,
    bytes: usize,
}

/// Source of a text, from which places are made.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(Arc<str>),
    Variable(Arc<str>),
    Default,
}

/// Failure with its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) origin: Origin,
    pub(super) message: String,
}

/// List or map that is not complete.
struct Open {
    node: ConfigNode,
    anchor: usize,
    /// Key that waits for its value.
    key: Option<YamlKey>,
    /// Positions of the keys of a map.
    keys: HashMap<Arc<str>, usize>,
    /// Values of merge keys, `<<`.
    merged: Vec<ConfigNode>,
    /// Deepest nesting below, for the depth of aliases.
    height: usize,
}

/// Key of a map's entry.
struct YamlKey {
    text: Arc<str>,
    origin: Origin,
    /// True for `<<` without quotes.
    is_merge: bool,
}

/// Complete value, with the height of its nesting.
struct Anchored {
    node: ConfigNode,
    height: usize,
}

struct Loader<'a> {
    place: &'a Place,
    budget: &'a mut YamlBudget,
    findings: &'a mut Findings,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    root: Option<ConfigNode>,
}

/// Parses the first document of a file.
pub(super) fn parse_file(
    name: &str,
    bytes: &[u8],
    budget: &mut YamlBudget,
    findings: &mut Findings,
) -> Result<ConfigNode, YamlError> {
    let file: Arc<str> = name.into();
    let fail = |line: usize, message: &str| YamlError {
        origin: Origin::File { file: file.clone(), line: to_u32(line), column: 1 },
        message: message.into(),
    };
    if bytes.len() > MAX_BYTES {
        return Err(fail(1, "is longer than 1 MiB"));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(fail(1, "is UTF-16; save it as UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        fail(line, "is not UTF-8 here; save it as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    parse(text, &Place::File(file.clone()), budget, findings)?
        .ok_or_else(|| fail(1, "is empty; begin with `version: 0.1`"))
}

/// Parses the first document of a text, which may have none.
pub(super) fn parse(
    text: &str,
    place: &Place,
    budget: &mut YamlBudget,
    findings: &mut Findings,
) -> Result<Option<ConfigNode>, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError {
            origin: place.at(Marker::default()),
            message: "is longer than 1 MiB".into(),
        });
    }
    let loader = Loader { place, budget, findings, open: Vec::new(), anchors: HashMap::new(), root: None };
    // One more than the loader's limit, which counts lists and maps of both notations.
    loader.run(Events::new(text, MAX_DEPTH + 1))
}

// === impl Budget ===

impl Default for YamlBudget {
    fn default() -> Self {
        Self { nodes: MAX_NODES, bytes: MAX_TEXT_BYTES }
    }
}

impl YamlBudget {
    /// Takes the room of a value; fails if there is too little.
    fn take(&mut self, nodes: usize, bytes: usize) -> Result<(), &'static str> {
        self.nodes = self.nodes.checked_sub(nodes).ok_or("holds more than 100,000 values")?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or("holds more than 4 MiB of text")?;
        Ok(())
    }
}

// === impl Place ===

impl Place {
    fn at(&self, marker: Marker) -> Origin {
        match self {
            Self::File(file) => Origin::File {
                file: file.clone(),
                line: to_u32(marker.line().max(1)),
                column: to_u32(marker.col() + 1),
            },
            Self::Variable(name) => Origin::Variable(name.clone()),
            Self::Default => Origin::Default,
        }
    }
}

// === impl Loader ===

impl Loader<'_> {
    fn run(mut self, events: Events<'_>) -> Result<Option<ConfigNode>, YamlError> {
        let mut documents = 0;
        for next in events {
            let (event, span) = next.map_err(|error| YamlError {
                origin: self.place.at(*error.marker()),
                message: format!("is not valid YAML: {}", error.info()),
            })?;
            if matches!(event, Event::DocumentStart(..)) {
                documents += 1;
                if documents > 1 {
                    // Distribution's parser stops after the first document as well.
                    let origin = self.place.at(span.start);
                    self.findings.warn(&origin, "", "a second document begins here, and is not read".into());
                    break;
                }
            }
            self.accept(event, span).map_err(|message| YamlError {
                origin: self.place.at(span.start),
                message: message.into(),
            })?;
        }
        Ok(self.root)
    }

    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlRefusal> {
        let origin = self.place.at(span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = check_tag(tag.as_deref(), &["str", "bool", "int", "float", "null"])?;
                let is_plain = style == ScalarStyle::Plain && !is_string;
                self.budget.take(1, text.len())?;
                let kind = NodeKind::Scalar { text: text.as_ref().into(), is_plain };
                self.complete(ConfigNode { kind, origin }, anchor, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), &["seq"])?;
                self.begin(ConfigNode { kind: NodeKind::List(Vec::new()), origin }, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), &["map"])?;
                self.begin(ConfigNode::map(origin), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("an end follows its start");
                let (anchor, height) = (open.anchor, open.height + 1);
                let node = open.complete()?;
                self.complete(node, anchor, height)
            }
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    return Err("an alias stands inside the value that it repeats".into());
                };
                if self.open.len() + target.height > MAX_DEPTH {
                    return Err("nests deeper than 64 levels through aliases".into());
                }
                let (nodes, bytes) = size(&target.node);
                self.budget.take(nodes, bytes)?;
                let (node, height) = (target.node.clone(), target.height);
                self.complete(node, 0, height)
            }
            // The name is not told: it may be the beginning of a password such as `*secret`.
            Event::UnresolvedAlias(_) => {
                Err("an alias has no anchor; a value that begins with * must stand in quotes".into())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, node: ConfigNode, anchor: usize) -> Result<(), YamlRefusal> {
        self.budget.take(1, 0)?;
        if self.open.len() >= MAX_DEPTH {
            return Err("nests deeper than 64 levels".into());
        }
        self.open.push(Open { node, anchor, key: None, keys: HashMap::new(), merged: Vec::new(), height: 0 });
        Ok(())
    }

    /// Adds a complete value to the list or map that is open.
    fn complete(&mut self, node: ConfigNode, anchor: usize, height: usize) -> Result<(), YamlRefusal> {
        if anchor != 0 {
            let (nodes, bytes) = size(&node);
            self.budget.take(nodes, bytes)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), height });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.height = open.height.max(height);
        let entries = match &mut open.node.kind {
            NodeKind::List(items) => {
                items.push(node);
                return Ok(());
            }
            NodeKind::Map(entries) => entries,
            NodeKind::Scalar { .. } => unreachable!("only lists and maps are open"),
        };
        let Some(YamlKey { text: key, origin, is_merge }) = open.key.take() else {
            let NodeKind::Scalar { text, is_plain } = node.kind else {
                return Err("a key must be text, and not a list or a map".into());
            };
            open.key = Some(YamlKey { is_merge: is_plain && &*text == "<<", text, origin: node.origin });
            return Ok(());
        };
        if is_merge {
            open.merged.push(node);
            return Ok(());
        }
        match open.keys.get(&key) {
            None => {
                open.keys.insert(key.clone(), entries.len());
                entries.push(TreeEntry { key, origin, value: node });
            }
            Some(at) => {
                let former = &mut entries[*at];
                let message =
                    format!("{} is given twice, first at {}; the last one holds", name(&key), former.origin);
                self.findings.warn(&origin, "", message);
                *former = TreeEntry { key, origin, value: node };
            }
        }
        Ok(())
    }
}

// === impl Open ===

impl Open {
    /// Returns a complete list or map, with the entries of its merge keys. Entries of its own win.
    fn complete(mut self) -> Result<ConfigNode, YamlRefusal> {
        let NodeKind::Map(entries) = &mut self.node.kind else { return Ok(self.node) };
        for merged in std::mem::take(&mut self.merged) {
            let maps = match merged.kind {
                NodeKind::List(maps) => maps,
                _ => vec![merged],
            };
            for map in maps {
                let NodeKind::Map(more) = map.kind else {
                    return Err("the merge key << takes a map or a list of maps".into());
                };
                for entry in more {
                    if !self.keys.contains_key(&entry.key) {
                        self.keys.insert(entry.key.clone(), entries.len());
                        entries.push(entry);
                    }
                }
            }
        }
        Ok(self.node)
    }
}

/// Reason why a document is refused.
struct YamlRefusal(std::borrow::Cow<'static, str>);

impl From<&'static str> for YamlRefusal {
    fn from(reason: &'static str) -> Self {
        Self(reason.into())
    }
}

impl From<YamlRefusal> for String {
    fn from(refusal: YamlRefusal) -> Self {
        refusal.0.into_owned()
    }
}

/// Fails unless a tag is absent, `!` or one of these of YAML's core schema; returns true if it demands text.
fn check_tag(tag: Option<&Tag>, accepted: &[&str]) -> Result<bool, YamlRefusal> {
    let Some(tag) = tag else { return Ok(false) };
    let original = tag.original();
    if original == "!" {
        return Ok(true);
    }
    match tag.core_suffix() {
        Some(suffix) if accepted.contains(&suffix) => Ok(suffix == "str"),
        _ if NAMED_TAGS.contains(&&*original) => {
            Err(YamlRefusal(format!("the tag {original} is not supported here; remove it").into()))
        }
        _ => Err("a value that begins with ! must stand in quotes; tags are not supported".into()),
    }
}

/// Shortens a name of the file for a finding.
pub(super) fn name(text: &str) -> String {
    match text.char_indices().nth(MAX_NAMED_CHARACTERS) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the number of values, and the bytes of their text. Recursion is bounded by [`MAX_DEPTH`].
fn size(node: &ConfigNode) -> (usize, usize) {
    let add = |(nodes, bytes): (usize, usize), (more, text): (usize, usize)| (nodes + more, bytes + text);
    match &node.kind {
        NodeKind::Scalar { text, .. } => (1, text.len()),
        NodeKind::List(items) => items.iter().map(size).fold((1, 0), add),
        NodeKind::Map(entries) => {
            entries.iter().map(|entry| add((1, entry.key.len()), size(&entry.value))).fold((1, 0), add)
        }
    }
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

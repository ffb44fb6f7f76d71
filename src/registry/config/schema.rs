//! Description of the configuration's keys, and the tree that finds one by its path.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::keys;

/// Key of the configuration: a row of the table that types, prints and documents it.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    /// Path, such as `http.tls.clientcas`; `[]` stands for the elements of a list.
    pub path: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Value when the key is absent; empty if there is none.
    pub default: &'static str,
    /// Treatment of the key.
    pub outcome: KeyTreatment,
    /// Lines of distribution that have the key.
    pub lines: ReleaseLines,
    /// True if the value must never be shown.
    pub is_secret: bool,
    /// True if the section around it needs the key.
    pub is_required: bool,
    /// Meaning, or difference from distribution, in one clause.
    pub note: &'static str,
}

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Map of the keys that the table names.
    Section,
    /// List of such maps.
    Elements,
    /// Boolean of YAML 1.1.
    Boolean,
    /// Whole number that is not smaller than this.
    Integer(i64),
    /// Duration in Go's grammar.
    Duration,
    /// Number of bytes, such as `64KiB`.
    Size,
    /// Text.
    Text,
    /// Path of a file or folder.
    Path,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Address to listen on.
    Address,
    /// Host and port to connect to.
    Endpoint,
    /// Absolute URL with the scheme `http` or `https`.
    Url,
    /// Path of a URL.
    UrlPath,
    /// List of texts.
    Texts,
    /// List of these words.
    ListOf(&'static [&'static str]),
    /// List of regular expressions.
    Patterns,
    /// List of networks such as `10.0.0.0/8`, addresses, and the word `unix` for unix sockets.
    Networks,
    /// Map from a header's name to its values.
    Headers,
    /// Map from any name to a text.
    TextMap,
    /// Map from any name to a list of texts.
    TextsMap,
    /// The only version of the format.
    Version,
    /// Value that is not examined.
    Anything,
}

/// Treatment of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTreatment {
    /// Does the same as in distribution, but for the note.
    Implement,
    /// Accepted without a word, because nothing depends on it.
    Silent,
    /// Accepted, and one line says what does not happen.
    Warn(&'static str),
    /// Refused with what is missing.
    Refuse(&'static str, Unless),
    /// Treated as the section around it.
    Within,
}

/// Exception from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unless {
    /// No exception: the presence of the key asks for it.
    Never,
    /// Value that asks for nothing: empty, false, or a section of such values.
    Idle,
    /// List whose elements are all `disabled: true`.
    Disabled,
}

/// Lines of distribution that have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseLines {
    /// 2.8 and 3.x.
    Both,
    /// 2.8 only.
    Two,
    /// 3.x only.
    Three,
    /// Neither: a key of this program.
    Own,
}

/// Place in the tree of keys.
#[derive(Debug, Default)]
pub(super) struct Schema {
    /// Row of the table; sections that only group others may have none.
    pub(super) key: Option<&'static ConfigKey>,
    pub(super) children: BTreeMap<&'static str, Schema>,
    /// Elements of a list of maps.
    pub(super) element: Option<Box<Schema>>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut root = Schema::default();
    for key in keys::all() {
        root.place(key.path).key = Some(key);
    }
    root
});

/// Returns the tree of all keys.
pub(super) fn schema() -> &'static Schema {
    &SCHEMA
}

/// Returns the row of a path.
pub(super) fn find(path: &str) -> Option<&'static ConfigKey> {
    let mut place = schema();
    for segment in path.split('.') {
        let name = segment.strip_suffix("[]");
        place = place.children.get(name.unwrap_or(segment))?;
        if name.is_some() {
            place = place.element.as_deref()?;
        }
    }
    place.key
}

// === impl Key ===

impl ConfigKey {
    pub(super) const fn new(path: &'static str, kind: Kind) -> Self {
        Self {
            path,
            kind,
            default: "",
            outcome: KeyTreatment::Implement,
            lines: ReleaseLines::Both,
            is_secret: false,
            is_required: false,
            note: "",
        }
    }

    pub(super) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    pub(super) const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    pub(super) const fn silent(self, note: &'static str) -> Self {
        Self { outcome: KeyTreatment::Silent, note, ..self }
    }

    pub(super) const fn warn(self, message: &'static str) -> Self {
        Self { outcome: KeyTreatment::Warn(message), ..self }
    }

    pub(super) const fn refuse(self, message: &'static str, unless: Unless) -> Self {
        Self { outcome: KeyTreatment::Refuse(message, unless), ..self }
    }

    pub(super) const fn within(self) -> Self {
        Self { outcome: KeyTreatment::Within, ..self }
    }

    pub(super) const fn lines(self, lines: ReleaseLines) -> Self {
        Self { lines, ..self }
    }

    pub(super) const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    pub(super) const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// Returns the last name of the path.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit('.').next().expect("a split text has a part")
    }
}

// === impl Kind ===

impl Kind {
    /// Returns the name of the type for readers.
    #[must_use]
    pub fn describe(self) -> String {
        let words = |words: &[&str]| words.join(", ");
        match self {
            Self::Section => "section".into(),
            Self::Elements => "list of sections".into(),
            Self::Boolean => "boolean".into(),
            Self::Integer(_) => "integer".into(),
            Self::Duration => "duration".into(),
            Self::Size => "size".into(),
            Self::Text => "text".into(),
            Self::Path => "path".into(),
            Self::OneOf(options) => format!("one of {}", words(options)),
            Self::Address => "address to listen on".into(),
            Self::Endpoint => "host:port".into(),
            Self::Url => "URL".into(),
            Self::UrlPath => "path of a URL".into(),
            Self::Texts => "list of texts".into(),
            Self::ListOf(options) => format!("list of {}", words(options)),
            Self::Patterns => "list of regular expressions".into(),
            Self::Networks => "list of networks, addresses and `unix`".into(),
            Self::Headers => "map from header to list of values".into(),
            Self::TextMap => "map from name to text".into(),
            Self::TextsMap => "map from name to list of texts".into(),
            Self::Version => "version".into(),
            Self::Anything => "any".into(),
        }
    }

    /// Returns true if every text fits the type's form, so that a variable's value may be taken literally.
    pub(super) fn is_text(self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::Path
                | Self::OneOf(_)
                | Self::Address
                | Self::Endpoint
                | Self::Url
                | Self::UrlPath
        )
    }
}

// === impl Outcome ===

impl KeyTreatment {
    /// Returns the name for readers and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Implement => "implemented",
            Self::Silent => "accepted",
            Self::Warn(_) => "warned about",
            Self::Refuse(..) => "refused",
            Self::Within => "as its section",
        }
    }
}

// === impl Lines ===

impl ReleaseLines {
    /// Returns the name for readers and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "2.8, 3.x",
            Self::Two => "2.8",
            Self::Three => "3.x",
            Self::Own => "own",
        }
    }
}

// === impl Schema ===

impl Schema {
    /// Returns the place of a path, which is made if there is none.
    fn place(&mut self, path: &'static str) -> &mut Self {
        path.split('.').fold(self, |place, segment| match segment.strip_suffix("[]") {
            None => place.children.entry(segment).or_default(),
            Some(name) => place.children.entry(name).or_default().element.get_or_insert_default(),
        })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.key {
            Some(key) => key.kind,
            None => Kind::Section,
        }
    }

    /// Returns the place of a key, by its name or an old name of it.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        // The storage driver has two names in distribution.
        self.children.get(if name == "s3aws" { "s3" } else { name })
    }
}

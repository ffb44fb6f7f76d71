//! YAML texts in memory, by granit-parser: their events, and their documents as values of any type.
//!
//! A crate of its own because generic code takes the optimisation level of the crate that names its types.
//! Here that is the smallest; in a crate that is optimised for speed the parser adds 145 kB to the
//! executable. Configurations are read once.

mod de;
mod document;
mod located;

use serde::de::DeserializeOwned;

pub use document::YamlError;
pub use located::{Located, LocatedDocuments, located_documents};

use granit_parser::{Options, Parser, StrInput};

pub use granit_parser::{Event, Marker, ScalarStyle, ScanError, Span, Tag};

/// Events of a YAML text, in its order.
pub struct Events<'text>(Parser<'text, StrInput<'text>>);

impl<'text> Events<'text> {
    /// Begins to read a text whose lists and maps nest at most `max_depth` deep. Comments give no events, and
    /// aliases of unknown anchors give [`Event::UnresolvedAlias`].
    #[must_use]
    pub fn new(text: &'text str, max_depth: usize) -> Self {
        let options: Options = granit_parser::options! {
            emit_comments: false,
            emit_unresolved_aliases: true,
            flow_nesting_limit: max_depth,
            block_nesting_limit: max_depth,
        };
        Self(Parser::new_from_str_with_options(text, options))
    }
}

impl<'text> Iterator for Events<'text> {
    type Item = Result<(Event<'text>, Span), ScanError>;

    #[inline(never)]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_event()
    }
}

/// Reads all documents of a text. Empty ones are left out.
pub fn documents<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, YamlError> {
    document::load(text)?.iter().map(|node| T::deserialize(node)).collect()
}

/// Reads a text of one document.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let mut documents = documents(text)?;
    match documents.pop() {
        Some(document) if documents.is_empty() => Ok(document),
        _ => Err(YamlError::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_nests_too_deep_is_refused() {
        let fails = |text: &str| Events::new(text, 2).any(|event| event.is_err());
        assert!(!fails("{a: [1]}"));
        assert!(fails("{a: [[1]]}"));
    }

    #[test]
    fn an_alias_without_an_anchor_is_an_event() {
        let mut events = Events::new("a: *unknown", 2);
        assert!(events.any(|event| matches!(event, Ok((Event::UnresolvedAlias(_), _)))));
    }
}

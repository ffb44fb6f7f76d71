//! The two documents in a `ConfigMap` of names, and their sizes. Pure.
//!
//! `names.json` is for stores and generations (see `docs/peers.md`). `history.json` is the operator's own
//! memory: the former images of each bundle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parse::Image;

/// Key of the document that the operator reads.
pub(super) const HISTORY_KEY: &str = "history.json";

/// Size of both documents at most. A `ConfigMap` has 1 MiB, of which keys take a little; etcd takes 1.5 MiB
/// with all metadata.
pub(super) const MAX_DOCUMENT_BYTES: usize = 1_000_000;

/// Size of both documents without content.
pub(super) const EMPTY_BYTES: usize = 64;

/// Names for stores and generations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamesDocument {
    /// Names that are answered by tag.
    pub names: Vec<NamedDigest>,
    /// Further images that stores keep.
    pub keep: Vec<Image>,
    /// True if bundles have images that are not listed here: then stores remove nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// A name with its digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct NamedDigest {
    /// Full name with its tag.
    pub name: String,
    /// Digest that it means.
    pub digest: String,
}

/// Images of each bundle, by the bundle's UID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct HistoryDocument(pub BTreeMap<String, BundleHistory>);

/// Present and former images of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BundleHistory {
    /// Images of the present specification, sorted.
    pub current: Vec<Image>,
    /// Images of former specifications, the last one first.
    pub former: Vec<Vec<Image>>,
}

// === impl NamesDocument ===

impl NamesDocument {
    /// Reads the document; an unreadable one counts as empty.
    pub(super) fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names are JSON")
    }
}

// === impl NamedDigest ===

impl NamedDigest {
    /// Returns the number of bytes that the entry takes, its comma included.
    pub(super) fn bytes(&self) -> usize {
        r#"{"name":"","digest":""},"#.len() + self.name.len() + self.digest.len()
    }
}

// === impl HistoryDocument ===

impl HistoryDocument {
    /// Reads the document; an unreadable one counts as empty, since it is lost either way.
    pub(super) fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a history is JSON")
    }
}

// === impl BundleHistory ===

impl BundleHistory {
    /// Returns the history after a bundle has these images, with at most `limit` former lists. Images that
    /// are current again are no longer a former list.
    pub(super) fn advance(&self, images: Vec<Image>, limit: usize) -> Self {
        let mut former = self.former.clone();
        if self.current != images && !self.current.is_empty() {
            former.insert(0, self.current.clone());
        }
        former.retain(|list| *list != images);
        former.truncate(limit);
        Self { current: images, former }
    }

    /// Returns the number of bytes that the entry takes without its former lists.
    pub(super) fn bytes(&self, uid: &str) -> usize {
        r#""":{"current":[],"former":[]},"#.len() + uid.len() + list_bytes(&self.current)
    }
}

/// Returns the number of bytes that a former list takes, with its images in the list to keep.
pub(super) fn former_bytes(list: &[Image]) -> usize {
    "[],".len() + 2 * list_bytes(list)
}

fn list_bytes(list: &[Image]) -> usize {
    list.iter().map(image_bytes).sum()
}

fn image_bytes(image: &Image) -> usize {
    r#"{"repository":"","digest":""},"#.len() + image.repository.as_str().len() + image.digest.as_str().len()
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Digest;

    use super::*;

    fn images(numbers: &[u8]) -> Vec<Image> {
        let image = |number: &u8| Image {
            repository: "ghcr.io/acme/shop".parse().unwrap(),
            digest: Digest::sha256(&[*number]),
        };
        numbers.iter().map(image).collect()
    }

    #[test]
    fn a_new_list_makes_the_last_one_a_former_one_and_the_same_list_changes_nothing() {
        let first = BundleHistory::default().advance(images(&[1]), 2);
        assert_eq!(first, BundleHistory { current: images(&[1]), former: Vec::new() });
        assert_eq!(first.advance(images(&[1]), 2), first);
        let third = first.advance(images(&[2]), 2).advance(images(&[3]), 2);
        assert_eq!(third.former, [images(&[2]), images(&[1])]);
        assert_eq!(third.advance(images(&[4]), 2).former, [images(&[3]), images(&[2])]);
    }

    #[test]
    fn rolling_back_swaps_the_present_list_and_the_former_one() {
        let second = BundleHistory::default().advance(images(&[1]), 1).advance(images(&[2]), 1);
        let back = second.advance(images(&[1]), 1);
        assert_eq!(back, BundleHistory { current: images(&[1]), former: vec![images(&[2])] });
        assert_eq!(back.advance(images(&[2]), 1), second);
    }

    #[test]
    fn the_sizes_are_those_of_the_documents() {
        let list = images(&[1, 2, 3]);
        let name = NamedDigest { name: "ghcr.io/a:1".into(), digest: list[0].digest.to_string() };
        let names = NamesDocument { names: vec![name.clone()], keep: list.clone(), partial: true };
        let one = BundleHistory { current: list.clone(), former: vec![list.clone()] };
        let history = HistoryDocument([("u".to_owned(), one.clone())].into());
        let told = EMPTY_BYTES + name.bytes() + one.bytes("u") + former_bytes(&list);
        let real = names.to_json().len() + history.to_json().len();
        assert!((real..real + 64).contains(&told), "{told} for {real}");
        assert!(
            NamesDocument { partial: true, ..NamesDocument::default() }.to_json().len()
                + HistoryDocument::default().to_json().len()
                <= EMPTY_BYTES
        );
        assert_eq!(NamesDocument::default().to_json(), r#"{"names":[],"keep":[]}"#);
    }

    #[test]
    fn an_unreadable_history_is_empty() {
        for text in [None, Some(""), Some("[]"), Some(r#"{"u":5}"#)] {
            assert_eq!(HistoryDocument::read(text), HistoryDocument::default(), "{text:?}");
        }
        let history = HistoryDocument([("u".to_owned(), BundleHistory::default())].into());
        assert_eq!(HistoryDocument::read(Some(&history.to_json())), history);
    }
}

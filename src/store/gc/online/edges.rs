//! Edges of a repository: the content that each of its manifests refers to.
//!
//! The bytes under a digest never change, so that each manifest is read and hashed once in its life. The rest
//! of a mark is lists. A file of edges that is lost or torn costs the reading of the manifests that it does
//! not name.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName, media_type};

use super::mark::Context;
use super::subject::ContentId;
use crate::gc::needs::{Needs, needs_of};
use crate::layout::collection::{all_edges, edges};
use crate::layout::{Key, blob};
use crate::manifests::MAX_STORED_MANIFEST_BYTES;
use crate::storage::StorageError;
use crate::{Store, StoreError};

/// First line of a file of edges.
const HEAD: &str = "edges 1";

/// Longest file of edges that is read, in bytes: of a million manifests with several parts each.
const MAX_EDGES_BYTES: u64 = 1024 * 1024 * 1024;

/// Number of manifests that are read at once. Each has 16 MiB at most, and few have more than some kilobytes.
const READ_AT_ONCE: usize = 8;

/// Name of a part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Content(ContentId),
    /// Digest by another hash, whose link tells the content.
    Named(Box<Digest>),
}

/// References of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// Media type beside the link, which the bytes do not tell.
    pub(super) noted: Option<&'static str>,
    /// False if the manifest is not understood. All that it mentions are then children.
    pub(super) is_understood: bool,
    pub(super) subject: Option<Part>,
    /// Content that may be manifests.
    pub(super) children: Vec<Part>,
    pub(super) blobs: Vec<Part>,
}

/// Edges of a repository's manifests.
pub(super) type Edges = HashMap<ContentId, Edge>;

/// Outcome of reading a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadEdge {
    Known(Edge),
    /// There are no bytes.
    Absent,
    Damaged,
}

// === impl Part ===

impl Part {
    fn of(digest: &Digest) -> Self {
        ContentId::of(digest).map_or_else(|| Self::Named(Box::new(digest.clone())), Self::Content)
    }

    fn text(&self) -> String {
        match self {
            Self::Content(content) => content.hex(),
            Self::Named(digest) => digest.to_string(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.contains(':') {
            let digest: Digest = text.parse().ok()?;
            return (digest.algorithm() != Algorithm::Sha256).then(|| Self::Named(Box::new(digest)));
        }
        ContentId::of_hex(text).map(Self::Content)
    }
}

// === impl Edge ===

impl Edge {
    /// Reads the references of a manifest's bytes.
    pub(super) fn of(bytes: &[u8], noted: Option<&'static str>) -> Self {
        let needs = needs_of(bytes, noted);
        let children = needs.children().map(Part::of).collect();
        let (subject, blobs) = match &needs {
            Needs::Known(Manifest { subject, blobs, foreign, .. }) => {
                let blobs = blobs.iter().chain(foreign).map(|part| Part::of(&part.digest));
                (subject.as_ref().map(Part::of), blobs.collect())
            }
            Needs::Mentioned(_) => (None, Vec::new()),
        };
        Self { noted, is_understood: needs.is_understood(), subject, children, blobs }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.children.iter().chain(&self.blobs)
    }

    fn line(&self, of: ContentId) -> String {
        let list = |parts: &[Part]| parts.iter().map(Part::text).collect::<Vec<_>>().join(",");
        format!(
            "{} {} {} {} {} {} .\n",
            of.hex(),
            if self.is_understood { "known" } else { "mentions" },
            self.noted.unwrap_or("-"),
            self.subject.as_ref().map_or_else(|| "-".to_owned(), Part::text),
            list(&self.children),
            list(&self.blobs),
        )
    }

    /// Reads a line; `None` if it was torn. The last field shows that it is whole.
    fn parse(line: &str) -> Option<(ContentId, Self)> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [of, understood, noted, subject, children, blobs, "."] = fields[..] else { return None };
        let list = |text: &str| -> Option<Vec<Part>> {
            text.split(',').filter(|part| !part.is_empty()).map(Part::parse).collect()
        };
        let noted = match noted {
            "-" => None,
            noted => Some(media_type::known(noted)?),
        };
        let subject = match subject {
            "-" => None,
            subject => Some(Part::parse(subject)?),
        };
        let is_understood = match understood {
            "known" => true,
            "mentions" => false,
            _ => return None,
        };
        let edge = Self { noted, is_understood, subject, children: list(children)?, blobs: list(blobs)? };
        Some((ContentId::of_hex(of)?, edge))
    }
}

impl Store {
    /// Reads the known edges of a repository.
    pub(super) fn saved_edges(&self, name: &RepositoryName) -> Result<Edges, StoreError> {
        let bytes = match self.storage().read(&edges(name), MAX_EDGES_BYTES) {
            Err(StorageError::TooLong { .. }) => None,
            read => read?,
        };
        let bytes = bytes.unwrap_or_default();
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let Some(lines) = text.strip_prefix(HEAD) else { return Ok(Edges::new()) };
        Ok(lines.lines().filter_map(Edge::parse).collect())
    }

    /// Saves the edges of a repository. If they are lost, the next mark reads the manifests again.
    pub(super) fn save_edges(&self, name: &RepositoryName, known: &Edges) -> Result<(), StoreError> {
        let key = edges(name);
        if known.is_empty() {
            self.storage().remove(&key)?;
            return Ok(());
        }
        let mut lines: Vec<String> = known.iter().map(|(of, edge)| edge.line(*of)).collect();
        lines.sort_unstable();
        let text = format!("{HEAD}\n{}", lines.concat());
        match self.storage().write_lazily(&key, text.as_bytes()) {
            Err(StorageError::Full) => Ok(()),
            written => Ok(written?),
        }
    }

    /// Removes the edges of all repositories but these. Those of a repository that has just come back cost the reading of
    /// its manifests.
    pub(super) fn remove_edges_except(
        &self,
        context: &Context<'_>,
        repositories: &[RepositoryName],
    ) -> Result<(), StoreError> {
        let known: HashSet<Key> = repositories.iter().map(edges).collect();
        let mut gone = Vec::new();
        self.scan_slowly(context, &all_edges(), |key, _| {
            gone.extend(Some(key).filter(|key| !known.contains(key)));
            Ok(())
        })?;
        for key in &gone {
            context.take(1);
            self.storage().remove(key)?;
        }
        Ok(())
    }

    /// Reads manifests, each with the media type beside its link, and returns their edges in the same order.
    pub(super) fn read_edges(
        &self,
        manifests: &[(ContentId, Option<&'static str>)],
        take: &dyn Fn(usize),
    ) -> Result<Vec<ReadEdge>, StoreError> {
        let mut found = Vec::with_capacity(manifests.len());
        for batch in manifests.chunks(READ_AT_ONCE) {
            take(batch.len());
            let digests: Vec<Digest> = batch.iter().map(|(content, _)| content.digest()).collect();
            let keys: Vec<_> = digests.iter().map(blob).collect();
            // Bytes that cannot be read are looked at one by one.
            let read = match self.storage().read_all(&keys, MAX_STORED_MANIFEST_BYTES) {
                Err(StorageError::Io { .. }) => vec![None; keys.len()],
                read => read?,
            };
            for ((digest, (_, noted)), bytes) in digests.iter().zip(batch).zip(read) {
                found.push(self.read_edge(digest, *noted, bytes)?);
            }
        }
        Ok(found)
    }

    fn read_edge(
        &self,
        digest: &Digest,
        noted: Option<&'static str>,
        bytes: Option<Bytes>,
    ) -> Result<ReadEdge, StoreError> {
        if let Some(bytes) = bytes.filter(|bytes| digest.matches(bytes)) {
            return Ok(ReadEdge::Known(Edge::of(&bytes, noted)));
        }
        match self.content(digest) {
            Ok(known) => Ok(ReadEdge::Known(Edge::of(&known.bytes, noted))),
            Err(StoreError::ManifestUnknown) => Ok(ReadEdge::Absent),
            Err(StoreError::Damaged(_)) => Ok(ReadEdge::Damaged),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_read_as_they_were_written_and_torn_lines_are_left_out() {
        let [one, other] = [b"1", b"2"].map(|bytes| Digest::sha256(bytes));
        let long = Digest::of(Algorithm::Sha512, b"3");
        let edge = Edge {
            noted: Some(media_type::OCI_MANIFEST),
            is_understood: true,
            subject: Some(Part::of(&long)),
            children: vec![],
            blobs: vec![Part::of(&one), Part::of(&long), Part::of(&other)],
        };
        let plain = Edge { noted: None, is_understood: false, subject: None, ..edge.clone() };
        let of = ContentId::of(&one).unwrap();
        for edge in [edge, plain] {
            let line = edge.line(of);
            assert_eq!(Edge::parse(line.trim_end()), Some((of, edge)));
            for length in 0..line.len() - 1 {
                assert_eq!(Edge::parse(&line[..length]), None, "{length}");
            }
        }
    }
}

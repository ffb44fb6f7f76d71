//! References of copies, remembered from one eviction to the next: a manifest never changes, and each may be long.

use std::collections::HashMap;
use std::sync::Arc;

use super::plan::Lengths;
use crate::gc::online::subject::ContentId;

/// Most content that is remembered by its identifier, of 32 bytes: 8 MiB for references, and as much for lengths. What is
/// beyond is read by each eviction.
const MAX_REMEMBERED: usize = 256 * 1024;

/// Content that a manifest names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CopyReferences {
    pub(super) blobs: Box<[ContentId]>,
    pub(super) children: Box<[ContentId]>,
    pub(super) subject: Option<ContentId>,
    /// False if the repository decides what a name means, as for digests other than SHA-256, or if the manifest is not
    /// there.
    pub(super) is_final: bool,
}

/// References and lengths that evictions have read. What an eviction does not look at is forgotten after it.
#[derive(Debug, Default)]
pub(crate) struct CopyMemory {
    former: HashMap<ContentId, Arc<CopyReferences>>,
    current: HashMap<ContentId, Arc<CopyReferences>>,
    /// Number of identifiers in the current references.
    weight: usize,
    lengths: Lengths,
}

// === impl CopyReferences ===

impl CopyReferences {
    fn weight(&self) -> usize {
        1 + self.blobs.len() + self.children.len() + usize::from(self.subject.is_some())
    }
}

// === impl CopyMemory ===

impl CopyMemory {
    /// Begins an eviction.
    pub(super) fn begin(&mut self) {
        self.former = std::mem::take(&mut self.current);
        self.weight = 0;
    }

    /// Ends an eviction, which has read lengths.
    pub(super) fn end(&mut self, lengths: Lengths) {
        self.former = HashMap::new();
        self.lengths = lengths;
        // Content that was not found may be there later.
        self.lengths.retain(|_, length| *length > 0);
        if self.lengths.len() > MAX_REMEMBERED {
            self.lengths = Lengths::new();
        }
    }

    pub(super) fn knows(&self, manifest: ContentId) -> bool {
        self.current.contains_key(&manifest) || self.former.contains_key(&manifest)
    }

    pub(super) fn get(&mut self, manifest: ContentId) -> Option<Arc<CopyReferences>> {
        if let Some(known) = self.current.get(&manifest) {
            return Some(known.clone());
        }
        let known = self.former.remove(&manifest)?;
        self.remember(manifest, &known);
        Some(known)
    }

    pub(super) fn remember(&mut self, manifest: ContentId, references: &Arc<CopyReferences>) {
        let weight = references.weight();
        if references.is_final && self.weight + weight <= MAX_REMEMBERED {
            self.weight += weight;
            self.current.insert(manifest, references.clone());
        }
    }

    /// Returns the length of content that the last eviction has found.
    pub(super) fn length(&self, content: ContentId) -> Option<u64> {
        self.lengths.get(&content).copied()
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Digest;

    use super::*;

    fn id(number: usize) -> ContentId {
        ContentId::of(&Digest::sha256(&number.to_be_bytes())).unwrap()
    }

    #[test]
    fn references_stay_as_long_as_evictions_look_at_them() {
        let mut memory = CopyMemory::default();
        memory.begin();
        let one = Arc::new(CopyReferences { is_final: true, ..CopyReferences::default() });
        memory.remember(id(1), &one);
        memory.remember(id(2), &one);
        memory.remember(id(3), &Arc::default());
        memory.end([(id(1), 7), (id(2), 0)].into());
        memory.begin();
        assert_eq!([1, 2, 3].map(|number| memory.knows(id(number))), [true, true, false]);
        assert_eq!(memory.get(id(1)), Some(one));
        assert_eq!([1, 2].map(|number| memory.length(id(number))), [Some(7), None]);
        memory.end(Lengths::new());
        memory.begin();
        assert_eq!([1, 2].map(|number| memory.knows(id(number))), [true, false]);
    }

    #[test]
    fn no_more_is_remembered_than_the_bound() {
        let mut memory = CopyMemory::default();
        let long = Arc::new(CopyReferences {
            blobs: (0..1023).map(id).collect(),
            is_final: true,
            ..CopyReferences::default()
        });
        (0..1000).for_each(|number| memory.remember(id(number), &long));
        assert_eq!(memory.current.len(), MAX_REMEMBERED / 1024);
        memory.end((0..=MAX_REMEMBERED).map(|number| (id(number), 1)).collect());
        assert!(memory.lengths.is_empty());
    }
}

//! Parts of a pushed manifest that may be absent. Pure.

use quinistry_oci::Digest;

use super::changes::MAX_MISSING_PARTS;

/// Parts of a pushed manifest that may be absent from its repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AbsentParts {
    /// No part. A manifest that is accepted can be served with all that it names.
    #[default]
    Refused,
    /// Children of an index, but one. An archive of the images of some platforms lacks those of the others.
    OtherChildren,
    /// Any blob and any child.
    Any,
}

/// Parts that were looked for in vain, as far as they must not be absent.
#[derive(Debug)]
pub(crate) struct MissingParts {
    absent: AbsentParts,
    missing: Vec<Digest>,
    /// Children that are absent, and may be so if another one is there.
    other_children: Vec<Digest>,
    has_child: bool,
}

impl MissingParts {
    pub(crate) fn new(absent: AbsentParts) -> Self {
        Self { absent, missing: Vec::new(), other_children: Vec::new(), has_child: false }
    }

    /// Notes that a part is there.
    pub(crate) fn found(&mut self, is_child: bool) {
        self.has_child |= is_child;
    }

    /// Notes that a part is absent. Returns false if nothing more needs to be looked for.
    pub(crate) fn note(&mut self, part: &Digest, is_child: bool) -> bool {
        let may_be_absent = is_child && self.absent == AbsentParts::OtherChildren;
        let list = if may_be_absent { &mut self.other_children } else { &mut self.missing };
        if list.len() < MAX_MISSING_PARTS && !list.contains(part) {
            list.push(part.clone());
        }
        self.missing.len() < MAX_MISSING_PARTS
    }

    /// Returns the parts for which the manifest is refused, at most [`MAX_MISSING_PARTS`].
    pub(crate) fn into_refused(mut self) -> Vec<Digest> {
        if !self.has_child {
            self.missing.append(&mut self.other_children);
            self.missing.truncate(MAX_MISSING_PARTS);
        }
        self.missing
    }
}

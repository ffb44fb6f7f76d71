//! Collection by names: what the files of names of a registry have said lately, and the removal of tags that
//! nothing names.
//!
//! The registry knows which images are named. The store keeps the registry's record of that over restarts,
//! and removes tags as retention does: each only if it still is what was judged, so that a push in between
//! wins.

use std::time::SystemTime;

use quinistry_oci::{Digest, RepositoryName, Tag};

use crate::layout::named_images;
use crate::retention::{NoPulls, RetentionInputs};
use crate::{DeletedSubject, Deletion, DeletionActor, Lead, Page, Store, StoreError};

/// Longest record that is read, in bytes.
const MAX_RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// Number of repositories whose names are read at once.
const REPOSITORIES_AT_ONCE: usize = 1000;

/// Tag of a repository, as it is judged.
#[derive(Clone, Copy, Debug)]
pub struct TaggedManifest<'a> {
    /// Repository of the tag.
    pub repository: &'a RepositoryName,
    /// Digest that the tag refers to.
    pub digest: &'a Digest,
    /// Time at which the tag was written, by the clock of the storage.
    pub pushed: SystemTime,
}

impl Store {
    /// Returns the registry's record of named images, if there is one.
    pub fn named_images_record(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read_note(&named_images(), MAX_RECORD_BYTES)?.map(|bytes| bytes.to_vec()))
    }

    /// Writes the registry's record of named images in place of the former one.
    pub fn keep_named_images_record(&self, record: &[u8]) -> Result<(), StoreError> {
        Ok(self.storage().write(&[&[(named_images(), record)]])?)
    }

    /// Removes the tags that `stays` does not want, but for those that the rules about tags protect. Returns
    /// their number.
    pub fn remove_tags_unless(
        &self,
        lead: &Lead,
        stays: &dyn Fn(TaggedManifest<'_>) -> bool,
    ) -> Result<usize, StoreError> {
        let inputs = RetentionInputs { pulls: &NoPulls, is_protected: &|_, _| false };
        let (mut last, mut removed) = (String::new(), 0);
        loop {
            let page = Page { size: REPOSITORIES_AT_ONCE, last };
            let (names, next) = self.listed_repositories(&page, usize::MAX, &|_| true)?;
            for name in &names {
                for (facts, link) in self.retention_facts(name, &inputs)?.tags {
                    if !lead.still() {
                        return Ok(removed);
                    }
                    let judged =
                        TaggedManifest { repository: name, digest: &facts.digest, pushed: facts.pushed };
                    if facts.is_protected
                        || stays(judged)
                        || !self.remove_judged_tag(name, &facts.tag, &link)?
                    {
                        continue;
                    }
                    self.record_deletion(deletion(name, &facts.tag, &facts.digest));
                    removed += 1;
                }
            }
            let Some(next) = next else { return Ok(removed) };
            last = next;
        }
    }
}

fn deletion(name: &RepositoryName, tag: &Tag, digest: &Digest) -> Deletion {
    Deletion {
        actor: DeletionActor::Retention,
        subject: DeletedSubject::Tag { repository: name.clone(), tag: tag.clone(), digest: digest.clone() },
        policy: None,
        reason: "no name needs its image".to_owned(),
    }
}

//! Lists of a repository: its manifests with their edges, its tags, and its links to blobs.

use std::collections::HashSet;
use std::time::SystemTime;

use quinistry_oci::{Digest, Tag};

use super::{RepositoryMark, Revision, Revisions};
use crate::gc::online::edges::ReadEdge;
use crate::gc::online::report::UnknownNeeds;
use crate::gc::online::subject::{ContentId, Subject, SubjectKind};
use crate::layout::{Key, TAG_LINK};
use crate::{MAX_LINK_BYTES, StoreError};

/// Number of links that are read at once.
const LINKS_AT_ONCE: usize = 32;

impl RepositoryMark<'_> {
    /// Lists the manifests.
    pub(super) fn revisions(&self) -> Result<Revisions, StoreError> {
        let folder = self.keys.all_revisions();
        let mut revisions = Revisions::default();
        let mut others = Vec::new();
        self.store.scan_slowly(self.context, &folder, |key, meta| {
            let Some((digest, file)) = split_digest(&key, &folder) else { return Ok(()) };
            match (ContentId::of(&digest), file) {
                // A torn link names its content by its place, and keeps it.
                (Some(content), "link") => {
                    let revision = Revision { modified: meta.modified, keys: Vec::new(), is_noted: false };
                    revisions.found.insert(content, revision);
                }
                // Behind the link, in the order of keys.
                (Some(content), "mediatype") => {
                    if let Some(revision) = revisions.found.get_mut(&content) {
                        revision.is_noted = true;
                        revision.keys.push(key);
                    }
                }
                (None, "link" | "mediatype") => others.push((digest, key, meta.modified)),
                _ => {}
            }
            Ok(())
        })?;
        for (digest, key, modified) in others {
            let content = if let Some(content) = revisions.others.get(&digest) {
                Some(*content)
            } else {
                self.context.take(1);
                self.store.revision(self.name, &digest)?.as_ref().and_then(ContentId::of)
            };
            let Some(content) = content else {
                revisions.torn.push(key);
                continue;
            };
            revisions.others.insert(digest, content);
            let new = || Revision { modified, keys: Vec::new(), is_noted: false };
            revisions.found.entry(content).or_insert_with(new).keys.push(key);
        }
        Ok(revisions)
    }

    /// Reads the manifests whose edges are not known, and saves the edges.
    pub(super) fn read_new(&mut self, revisions: &mut Revisions) -> Result<(), StoreError> {
        self.context.take(1);
        let mut saved = self.store.saved_edges(self.name)?;
        let before = saved.len();
        let mut new: Vec<(ContentId, Option<&'static str>)> = Vec::new();
        for (content, revision) in &revisions.found {
            let noted = if revision.is_noted {
                self.context.take(1);
                self.store.pushed_as(self.name, &content.digest())?
            } else {
                None
            };
            match saved.remove(content) {
                Some(edge) if edge.noted == noted => drop(revisions.edges.insert(*content, edge)),
                _ => new.push((*content, noted)),
            }
        }
        let read = self.store.read_edges(&new, &|requests| self.context.take(requests))?;
        let has_new = !new.is_empty();
        for ((content, _), read) in new.into_iter().zip(read) {
            match read {
                ReadEdge::Known(edge) => drop(revisions.edges.insert(content, edge)),
                // Its parts cannot be needed any more.
                ReadEdge::Absent => {}
                ReadEdge::Damaged => self.note_damaged(content, revisions)?,
            }
        }
        for (content, _) in revisions.edges.iter().filter(|(_, edge)| !edge.is_understood) {
            self.unknown.push(UnknownNeeds {
                repository: self.name.clone(),
                digest: content.digest(),
                tags: Vec::new(),
                is_damaged: false,
            });
        }
        if !self.context.options.dry_run && (has_new || before != revisions.edges.len()) {
            self.context.take(1);
            self.store.save_edges(self.name, &revisions.edges)?;
        }
        Ok(())
    }

    fn note_damaged(&mut self, content: ContentId, revisions: &mut Revisions) -> Result<(), StoreError> {
        let (repository, digest) = (self.name.clone(), content.digest());
        let tags = self.store.tags_of(self.name, &digest)?;
        let names = tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.context.damaged(StoreError::DamagedIn {
            repository: repository.clone(),
            digest: digest.clone(),
            tags: if names.is_empty() { "no tag".to_owned() } else { names },
        })?;
        self.unknown.push(UnknownNeeds { repository, digest, tags, is_damaged: true });
        revisions.is_damaged = true;
        Ok(())
    }

    /// Lists the links of tags, and notes the index entries that go with condemned manifests.
    pub(super) fn tag_links(&self, revisions: &mut Revisions) -> Result<Vec<Key>, StoreError> {
        let folder = self.keys.tags();
        let mut links = Vec::new();
        let mut index = Vec::new();
        self.store.scan_slowly(self.context, &folder, |key, _| {
            let Some((tag, rest)) = key.beneath(&folder) else { return Ok(()) };
            if rest == TAG_LINK && tag.parse::<Tag>().is_ok() {
                links.push(key);
            } else if let Some(path) = rest.strip_prefix("index/")
                && let Some(digest) = digest_of_path(path.strip_suffix("/link").unwrap_or_default())
            {
                let content = ContentId::of(&digest).or_else(|| revisions.others.get(&digest).copied());
                index.extend(content.map(|content| (content, key)));
            }
            Ok(())
        })?;
        for (content, key) in index {
            if self.prior_revision(content).is_some()
                && let Some(revision) = revisions.found.get_mut(&content)
            {
                revision.keys.push(key);
            }
        }
        Ok(links)
    }

    /// Returns the manifests that tags refer to, and notes the index entries that go with condemned
    /// manifests.
    pub(super) fn tagged(&self, revisions: &mut Revisions) -> Result<HashSet<ContentId>, StoreError> {
        let links = self.tag_links(revisions)?;
        let mut tagged = HashSet::new();
        for batch in links.chunks(LINKS_AT_ONCE) {
            self.context.take(batch.len());
            let read = self.store.storage().read_all(batch, MAX_LINK_BYTES)?;
            for (key, link) in batch.iter().zip(read) {
                let text = link.as_ref().map(|link| std::str::from_utf8(link).unwrap_or_default().trim());
                let digest = match text.and_then(|text| text.parse().ok()) {
                    Some(digest) => Some(digest),
                    // Absent, too long or torn: removed since it was listed, and perhaps pushed again since.
                    None => match self.store.sound_link(key) {
                        Err(error @ StoreError::Torn(_)) => {
                            self.context.damaged(error)?;
                            revisions.is_damaged = true;
                            None
                        }
                        read => read?,
                    },
                };
                let Some(digest) = digest else { continue };
                let content = ContentId::of(&digest).or_else(|| revisions.others.get(&digest).copied());
                tagged.extend(content);
            }
        }
        Ok(tagged)
    }

    /// Calls `visit` with each link to a blob. Links by other hashes belong to those by the SHA-256.
    pub(super) fn visit_links(&self, mut visit: impl FnMut(ContentId, SystemTime)) -> Result<(), StoreError> {
        let folder = self.keys.all_layers();
        let mut others = Vec::new();
        self.store.scan_slowly(self.context, &folder, |key, meta| {
            let Some((digest, "link")) = split_digest(&key, &folder) else { return Ok(()) };
            match ContentId::of(&digest) {
                Some(content) => visit(content, meta.modified),
                None => others.push((digest, key, meta.modified)),
            }
            Ok(())
        })?;
        for (digest, key, modified) in others {
            self.context.take(2);
            let Some(canonical) = self.store.linked(self.name, &digest)? else { continue };
            let Some(content) = ContentId::of(&canonical) else { continue };
            // A blob with other names is also linked by its SHA-256, unless a push was cut off.
            if self.store.storage().head(&self.keys.layer_link(&canonical))?.is_none() {
                visit(content, modified);
            }
            let Some(prior) = &self.context.prior else { continue };
            let hash = Subject::link(self.name, &canonical).hash();
            if prior.position(SubjectKind::Link, hash).is_some() {
                prior.add_extras(hash, [key]);
            }
        }
        Ok(())
    }
}

/// Splits a key `<algorithm>/<hex>/<file>` beneath a folder.
fn split_digest<'a>(key: &'a Key, folder: &Key) -> Option<(Digest, &'a str)> {
    let (algorithm, rest) = key.beneath(folder)?;
    let (hex, file) = rest.split_once('/')?;
    Some((format!("{algorithm}:{hex}").parse().ok()?, file))
}

pub(super) fn digest_of_path(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

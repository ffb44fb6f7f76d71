//! Changes of manifests and tags: committing in order, and deleting with all that belongs to them.

use bytes::Bytes;
use quinistry_oci::{Descriptor, Digest, Manifest, RepositoryName, Tag, to_json};

use super::absent_parts::{AbsentParts, MissingParts};
use crate::blobs::link_to;
use crate::gc::online::touch::Cause;
use crate::intents::Intent;
use crate::layout::{Key, RepositoryKeys, blob};
use crate::shared::{LinkKind, nested};
use crate::storage::Entry;
use crate::{Inner, Store, StoreError, Usage};

/// Greatest number of missing parts that an error names; the search for others ends there.
pub(crate) const MAX_MISSING_PARTS: usize = 64;

/// Digest and tags under which a manifest is pushed.
#[derive(Clone, Copy, Debug)]
pub struct Tagged<'a> {
    /// Digest of the manifest's bytes.
    pub digest: &'a Digest,
    /// Tags that shall refer to the manifest.
    pub tags: &'a [Tag],
}

/// Permissions of the commit of a manifest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitRules {
    /// Tags may move, and the manifest may change its media type.
    pub(crate) may_overwrite: bool,
    /// Parts of the manifest that may be absent.
    pub(crate) absent: AbsentParts,
    /// A client pushes the manifest, which is no copy of an upstream from then on.
    pub(crate) is_push: bool,
}

impl Store {
    /// Commits a manifest. Everything that it refers to must exist, but for the parts that the store accepts
    /// manifests without.
    pub fn put_manifest(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
    ) -> Result<(), StoreError> {
        let absent = self.0.absent_parts;
        let rules = CommitRules { may_overwrite: true, absent, is_push: true };
        self.put_manifest_with(name, bytes, manifest, tagged, rules)
    }

    /// Commits a manifest as [`Self::put_manifest`] does, but changes nothing that is served: fails if one of
    /// the tags refers to another manifest, or if the manifest exists with another media type.
    pub fn put_manifest_without_overwrite(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
    ) -> Result<(), StoreError> {
        let absent = self.0.absent_parts;
        let rules = CommitRules { may_overwrite: false, absent, is_push: true };
        self.put_manifest_with(name, bytes, manifest, tagged, rules)
    }

    /// Commits a manifest by rules. Parts that may be absent, and are there, are protected from collection
    /// like the parts of any manifest.
    pub(crate) fn put_manifest_with(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
        rules: CommitRules,
    ) -> Result<(), StoreError> {
        let canonical = Digest::sha256(bytes);
        let parts = self.parts_to_touch(name, manifest, rules.absent)?;
        let nested_blobs = self.nested_blobs(name, manifest, rules.absent)?;
        let mut needed = Self::needed_by(name, &canonical, &parts, rules.absent);
        nested::need(&mut needed, name, &nested_blobs);
        // Outside of the repository's lock, which a collector takes to remove what a push may wait for.
        self.touching(&needed, Cause::Manifest, || {
            self.check_nested_blobs(name, &nested_blobs)?;
            self.put_held_manifest(name, bytes, manifest, tagged, rules)
        })
    }

    fn put_held_manifest(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
        CommitRules { may_overwrite, absent, is_push }: CommitRules,
    ) -> Result<(), StoreError> {
        let canonical = Digest::sha256(bytes);
        let begun = self.begin_link();
        let immutable = self.immutable_tags(name, tagged.tags);
        self.check_room()?;
        self.changing_manifests(name, || {
            let mut tags = tagged.tags.to_vec();
            if !immutable.is_empty() {
                let checked = Tagged { digest: tagged.digest, tags: &immutable };
                let existing = self.check_immutable(name, bytes, checked)?;
                if !self.is_shared() {
                    // A tag of the same bytes keeps the digest that the tag was pushed with.
                    tags.retain(|tag| !existing.contains(tag));
                }
            }
            let tagged = Tagged { digest: tagged.digest, tags: &tags };
            if !may_overwrite {
                self.check_unmoved(name, bytes, tagged)?;
                self.check_same_type(name, bytes, manifest, tagged)?;
            }
            if absent != AbsentParts::Any {
                self.check_parts(name, manifest, absent)?;
            }
            let place = RepositoryKeys(name);
            let before = self.descriptor_state(name)?;
            // Existing bytes are replaced: they may be torn, or not be flushed yet.
            let mut targets: Vec<Entry<'_>> = vec![(blob(&canonical), bytes)];
            let mut links: Vec<Entry<'_>> = Vec::new();
            let other = (*tagged.digest != canonical).then_some(tagged.digest);
            for digest in [&canonical].into_iter().chain(other) {
                let key = place.revision_type(digest);
                if !manifest.typed {
                    targets.push((key, manifest.media_type.as_bytes()));
                } else if !manifest.declares_type && self.storage().exists(&key)? {
                    // These bytes were pushed as another type before.
                    self.storage().remove(&key)?;
                }
                links.push(link_to(place.revision_link(digest), &canonical));
            }
            let descriptor = || to_json(&manifest.descriptor(tagged.digest, bytes.len() as u64));
            let referrer = manifest.subject.as_ref().map(|subject| (subject, descriptor()));
            if let Some((subject, descriptor)) = &referrer {
                // Where descriptors are not rebuilt, none may be missing after a crash.
                let stage = if self.is_shared() { &mut targets } else { &mut links };
                stage.push((place.referrer(subject, tagged.digest), descriptor));
            }
            targets.extend(self.missing_register(name));
            // Several tags are moved by an intent: all of them, or none.
            let is_single_tag = tagged.tags.len() == 1;
            let index: Vec<_> = tag_indexes(name, tagged.tags, tagged.digest).collect();
            let with_links = if is_single_tag { &index[..] } else { &[] };
            let cost = || self.manifest_cost(name, (&canonical, bytes.len()), tagged.tags);
            self.within_quota(name, None, cost, || {
                self.add_links(&canonical, || Ok(self.storage().write(&[&targets, &links, with_links])?))?;
                self.note_registered(name);
                self.update_descriptor_version(name, before)?;
                // The bytes stay without a link.
                let keep = || self.keep_revision(&targets[1..], &links, &index);
                let Tagged { digest, tags } = tagged;
                // Another replica may have created a tag since the check.
                let must_be_absent = !may_overwrite && self.is_shared();
                let is_created = must_be_absent || self.is_shared() && !immutable.is_empty();
                let tagged = match tags {
                    [] => Ok(()),
                    _ if is_single_tag && is_created => {
                        self.create_shared_tags(name, digest, tags).and_then(|()| keep())
                    }
                    _ if is_single_tag => self.put_tags(name, tags, digest).and_then(|()| keep()),
                    _ => {
                        let (repository, digest, tags) = (name.clone(), digest.clone(), tags.to_vec());
                        let wanted = if must_be_absent {
                            Intent::Create { repository, digest, tags }
                        } else {
                            Intent::Tag { repository, digest, tags, immutable: immutable.clone() }
                        };
                        self.carry_out(&wanted, keep)
                    }
                };
                tagged.map_err(|error| self.explain_existing(name, &immutable, error))?;
                if is_push {
                    self.forget_copy(name, &canonical)?;
                }
                Ok(((), true))
            })
        })?;
        self.note_linked(begun, LinkKind::Manifest, name, (&canonical, bytes.len() as u64));
        Ok(())
    }

    /// Fails if one of the tags refers to another manifest than that with these bytes.
    fn check_unmoved(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        tagged: Tagged<'_>,
    ) -> Result<(), StoreError> {
        for tag in tagged.tags {
            let Some(target) = self.link(&RepositoryKeys(name).tag_link(tag))? else { continue };
            // A manifest may have been pushed by another hash before.
            if target != *tagged.digest && !target.matches(bytes) {
                return Err(StoreError::TagExists(tag.clone()));
            }
        }
        Ok(())
    }

    /// Fails if the repository has the manifest with another media type. Only bytes that do not tell their
    /// type can be pushed with two.
    fn check_same_type(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
    ) -> Result<(), StoreError> {
        for digest in [&Digest::sha256(bytes), tagged.digest] {
            if self.revision(name, digest)?.is_none() {
                continue;
            }
            let former = self.pushed_as(name, digest)?.or_else(|| Manifest::type_of(bytes));
            if let Some(former) = former.filter(|former| *former != manifest.media_type) {
                return Err(StoreError::TypeExists(former));
            }
        }
        Ok(())
    }

    /// Removes a tag from a repository; its manifest stays.
    pub fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        self.changing_manifests(name, || {
            self.check_deletable(name, std::slice::from_ref(tag))?;
            self.freeing_quota(name, || {
                let was_there = if self.is_shared() {
                    self.remove_shared_tag(name, tag)?
                } else {
                    let was_there = self.link(&RepositoryKeys(name).tag_link(tag))?.is_some();
                    if was_there {
                        self.remove_tag(name, tag)?;
                    }
                    was_there
                };
                if was_there {
                    Ok(((), Usage { bytes: 0, tags: 1 }))
                } else {
                    Err(StoreError::ManifestUnknown)
                }
            })
        })
    }

    /// Removes a manifest from a repository, with all of its tags. Returns these tags.
    pub fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Vec<Tag>, StoreError> {
        Ok(self.delete_manifest_if(name, digest, &|| Ok(true))?.unwrap_or_default())
    }

    /// Removes a manifest as [`Self::delete_manifest`] does, if `is_wanted` still says so under the lock of the
    /// repository. Returns `None` if not.
    pub(crate) fn delete_manifest_if(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        is_wanted: &dyn Fn() -> Result<bool, StoreError>,
    ) -> Result<Option<Vec<Tag>>, StoreError> {
        let mut removed = None;
        self.changing_manifests(name, || {
            if !is_wanted()? {
                return Ok(());
            }
            self.freeing_quota(name, || {
                let (freed, tags) = if self.is_shared() {
                    self.forget_linked_during(name, || self.delete_shared_manifest(name, digest))?
                } else {
                    self.delete_own_manifest(name, digest)?
                };
                removed = Some(tags);
                Ok(((), freed))
            })
        })?;
        Ok(removed)
    }

    /// Removes a manifest with all of its tags from a storage of this process alone. Returns the usage that
    /// this freed, and the tags.
    fn delete_own_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<(Usage, Vec<Tag>), StoreError> {
        let digests = self.names_of(name, digest)?;
        let mut tags = Vec::new();
        for tag in self.storage().list(&RepositoryKeys(name).tags())?.unwrap_or_default() {
            let Ok(tag) = tag.parse::<Tag>() else { continue };
            if self
                .link(&RepositoryKeys(name).tag_link(&tag))?
                .is_some_and(|target| digests.contains(&target))
            {
                tags.push(tag);
            }
        }
        self.check_deletable(name, &tags)?;
        let canonical = digests[0].clone();
        let freed = Usage { bytes: self.quota_bytes(name, &canonical)?, tags: tags.len() as u64 };
        let all = Intent::Delete { repository: name.clone(), digests, tags: tags.clone() };
        self.remove_links(&canonical, || self.carry_out(&all, || Ok(())))?;
        Ok((freed, tags))
    }

    /// Runs a change of a repository's manifests or tags, under the repository's lock.
    pub(crate) fn changing_manifests(
        &self,
        name: &RepositoryName,
        change: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // An interrupted change that is finished later would undo this one.
        self.finish_pending_intents()?;
        self.changing_manifests_at_once(name, || {
            self.remove_obsolete_intents(name)?;
            change()
        })
    }

    /// Runs a change as [`Self::changing_manifests`] does, but does not finish interrupted changes first: for
    /// changes that must succeed on a full storage.
    pub(crate) fn changing_manifests_at_once<T>(
        &self,
        name: &RepositoryName,
        change: impl FnOnce() -> T,
    ) -> T {
        let Inner {
            locks,
            resolved_references,
            tag_list_cache,
            referrers_cache,
            unsaved_referrers,
            artifact_types,
            ..
        } = &*self.0;
        locks.with(name, || {
            artifact_types.invalidate(name);
            let change = || referrers_cache.invalidate_during(name, change);
            let result = unsaved_referrers.invalidate_during(name, || {
                resolved_references.invalidate_during(name, || tag_list_cache.invalidate_during(name, change))
            });
            artifact_types.invalidate(name);
            result
        })
    }

    /// Adds a manifest to the indexes of tags, by which distribution finds the manifests of a tag that it
    /// deletes.
    pub(crate) fn index_tags(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let entries: Vec<_> = tag_indexes(name, tags, digest).collect();
        Ok(self.storage().write(&[&entries])?)
    }

    /// Moves tags to a manifest that exists and that their indexes name already.
    pub(crate) fn put_tags(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let links = tags.iter().map(|tag| link_to(RepositoryKeys(name).tag_link(tag), digest));
        Ok(self.storage().write(&[&links.collect::<Vec<_>>()])?)
    }

    /// Removes a tag with its index.
    pub(crate) fn remove_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        let place = RepositoryKeys(name);
        let cleared = self.clear(&place.tag_link(tag), &place.tag(tag));
        // After a failure as well, which may have removed the link.
        self.0.tag_lists.note_removal(name, tag);
        cleared?;
        Ok(())
    }

    /// Checks that everything a manifest refers to is in the repository, but for what may be absent, in the
    /// declared size, and durable.
    fn check_parts(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        absent: AbsentParts,
    ) -> Result<(), StoreError> {
        if self.is_shared() {
            return self.check_shared_parts(name, manifest, absent);
        }
        let mut missing = MissingParts::new(absent);
        let mut seen = Vec::new();
        let place = RepositoryKeys(name);
        let blobs = manifest.blobs.iter().map(|part| (part, false));
        let parts = blobs.chain(manifest.manifests.iter().map(|part| (part, true)));
        for (Descriptor { digest, size, .. }, is_child) in parts {
            let find = if is_child { Self::part } else { Self::linked };
            match self.stored(name, digest, find)? {
                Some((_, stored)) if stored != *size => {
                    return Err(StoreError::Size { digest: digest.clone(), declared: *size, stored });
                }
                Some((bytes, _)) => {
                    missing.found(is_child);
                    seen.extend([bytes, place.layer_link(digest), place.revision_link(digest)]);
                }
                None if missing.note(digest, is_child) => {}
                None => break,
            }
        }
        let missing = missing.into_refused();
        if !missing.is_empty() {
            return Err(StoreError::Missing(missing));
        }
        // Another request may have made a part visible and not flushed it yet.
        Ok(self.storage().sync_parents(&seen)?)
    }

    /// Returns the key and the length of a part's bytes; `None` if they are absent or damaged.
    fn stored(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        find: impl FnOnce(&Self, &RepositoryName, &Digest) -> Result<Option<Digest>, StoreError>,
    ) -> Result<Option<(Key, u64)>, StoreError> {
        let Some(canonical) = find(self, name, digest)? else { return Ok(None) };
        Ok(self.sound(&canonical, digest)?.map(|length| (blob(&canonical), length)))
    }
}

/// Returns the entries by which the indexes of tags name a manifest.
pub(crate) fn tag_indexes<'a>(
    name: &RepositoryName,
    tags: &[Tag],
    digest: &'a Digest,
) -> impl Iterator<Item = Entry<'a>> {
    tags.iter().map(move |tag| link_to(RepositoryKeys(name).tag_index(tag, digest), digest))
}

//! Garbage collection: removes content that no manifest needs, while no registry runs on the storage.
//!
//! Everything that a repository's manifests refer to stays, and so does content that is younger than the time
//! of grace, which may belong to an unfinished push. Links are removed before bytes, so that an interrupted
//! run leaves unreferenced bytes for the next one. A manifest whose form is not understood stays, with every
//! digest in its text: other programs accept more forms than this one. A damaged manifest stops the run, as
//! the content that it needs is unknown.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName, Tag, WithCauses};

use super::needs::{Needs, needs_of};
use super::online::DamagedManifests;
use crate::layout::{Key, RepositoryKeys, aliases, blob, blobs};
use crate::{DeletedSubject, Deletion, DeletionActor, Meta, Store, StoreError};

/// Options of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Age below which content stays.
    pub grace: Duration,
    /// Also remove manifests that neither a tag nor an index refers to, and that are no referrers of content
    /// that stays.
    pub untagged: bool,
    /// Report only, and remove nothing.
    pub dry_run: bool,
    /// Treatment of manifests whose needs are unknown, since their bytes are damaged.
    pub damaged: DamagedManifests,
}

/// Content that was collected, or would be in a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests that were removed.
    pub manifests: Vec<(RepositoryName, Digest)>,
    /// Blobs that were removed from repositories.
    pub links: Vec<(RepositoryName, Digest)>,
    /// Unreferenced blobs, and the length of each in bytes.
    pub blobs: Vec<(Digest, u64)>,
    /// Number of blobs and manifests that stay.
    pub kept: usize,
    /// Manifests that are not understood, and stay with every digest in their text.
    pub not_understood: Vec<NotUnderstood>,
    /// Damaged manifests, whose repositories stay as they are, and with them all bytes.
    pub damaged: Vec<DamagedManifest>,
}

/// Manifest whose form is not understood, though its bytes have its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// Repository of the manifest.
    pub repository: RepositoryName,
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// Tags of the manifest.
    pub tags: Vec<Tag>,
}

/// Manifest whose bytes do not have its digest, so that the content that it needs is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedManifest {
    /// Repository of the manifest.
    pub repository: RepositoryName,
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// Tags of the manifest.
    pub tags: Vec<Tag>,
}

impl From<DamagedManifest> for StoreError {
    fn from(DamagedManifest { repository, digest, tags }: DamagedManifest) -> Self {
        let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
        let tags = if tags.is_empty() { "no tag".into() } else { tags.join(", ") };
        Self::DamagedIn { repository, digest, tags }
    }
}

/// A repository's manifests by their SHA-256.
type Manifests = BTreeMap<Digest, Needs>;

impl Store {
    /// Collects garbage. No other process may use the storage during the run.
    pub fn collect(&self, wanted: &Collection) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let mut needed: HashSet<Digest> = HashSet::new();
        let mut names: Vec<RepositoryName> = Vec::new();
        for name in self.folders_with(&["_manifests", "_layers"])? {
            names.push(name.parse().map_err(|_| StoreError::Foreign(name))?);
        }
        // Everything is read before anything is removed.
        let mut links = Vec::new();
        for name in &names {
            let (manifests, damaged) = self.manifests_of(name, wanted.damaged)?;
            if !damaged.is_empty() {
                collected.damaged.extend(damaged);
                continue;
            }
            let kept = if wanted.untagged {
                self.reached(name, &manifests, wanted)?
            } else {
                manifests.keys().cloned().collect()
            };
            for (digest, _) in manifests.iter().filter(|(_, needs)| !needs.is_understood()) {
                let (repository, digest) = (name.clone(), digest.clone());
                let tags = self.tags_of(name, &digest)?;
                collected.not_understood.push(NotUnderstood { repository, digest, tags });
            }
            let gone = manifests.keys().filter(|digest| !kept.contains(*digest));
            collected.manifests.extend(gone.map(|digest| (name.clone(), digest.clone())));
            let mut here = kept.clone();
            for manifest in kept.iter().filter_map(|digest| manifests.get(digest)) {
                for part in manifest.parts() {
                    // A blob beside a manifest of the same bytes needs its link, too.
                    here.extend(self.linked(name, part)?);
                    here.insert(self.part(name, part)?.unwrap_or_else(|| part.clone()));
                }
            }
            for (digest, canonical) in self.links_of(name)? {
                if here.contains(&canonical)
                    || self.is_young(&RepositoryKeys(name).layer_link(&digest), wanted)?
                {
                    needed.insert(canonical);
                } else {
                    links.push((name.clone(), digest));
                }
            }
            needed.extend(here);
        }
        collected.links = links;
        for digest in self.all_blobs()? {
            // A damaged manifest may need any of them.
            let stays = needed.contains(&digest) || !collected.damaged.is_empty();
            let found = if stays { None } else { Some(self.storage().head(&blob(&digest))?) };
            match found {
                Some(found) if !is_young(found.as_ref(), wanted) => {
                    collected.blobs.push((digest, found.map_or(0, |found| found.length)));
                }
                _ => collected.kept += 1,
            }
        }
        if !wanted.dry_run {
            let removed = self.remove_collected(&collected);
            // The removals before a failure have records, too.
            if let Err(error) = self.flush_deletions() {
                tracing::warn!(error = %WithCauses(&error), "cannot write records of deletions, they are lost");
            }
            removed?;
        }
        Ok(collected)
    }

    fn remove_collected(&self, collected: &Collected) -> Result<(), StoreError> {
        for (name, digest) in &collected.manifests {
            self.collect_manifest(name, digest)?;
            let (repository, digest) = (name.clone(), digest.clone());
            self.note_collected(DeletedSubject::Manifest { repository, digest });
        }
        for (name, digest) in &collected.links {
            let place = RepositoryKeys(name);
            self.0
                .blob_cache
                .invalidate_during(name, || self.clear(&place.layer_link(digest), &place.layer(digest)))?;
            let (repository, digest) = (name.clone(), digest.clone());
            self.note_collected(DeletedSubject::Blob { repository, digest });
        }
        for (digest, length) in &collected.blobs {
            self.clear(&blob(digest), &blob_folder(digest))?;
            self.note_collected(DeletedSubject::Bytes { digest: digest.clone(), length: *length });
        }
        self.remove_aliases(&collected.blobs.iter().map(|(digest, _)| digest).collect())
    }

    /// Keeps the record of a removal. The caller of the collection has all of them in the result, and logs none.
    fn note_collected(&self, subject: DeletedSubject) {
        let reason = "not needed when the storage was collected offline".to_owned();
        self.note_deletion(Deletion { actor: DeletionActor::Collection, subject, policy: None, reason });
    }

    /// Removes the aliases of content that was removed.
    pub(crate) fn remove_aliases(&self, removed: &HashSet<&Digest>) -> Result<(), StoreError> {
        self.scan(&aliases(Algorithm::Sha512), |key, _| {
            if self.link(&key)?.is_some_and(|canonical| removed.contains(&canonical)) {
                self.storage().remove(&key)?;
            }
            Ok(())
        })
    }

    /// Reads all manifests of a repository; returns them, and those that are damaged unless these are an
    /// error. A manifest without bytes is skipped: its parts cannot be needed any more.
    fn manifests_of(
        &self,
        name: &RepositoryName,
        on_damage: DamagedManifests,
    ) -> Result<(Manifests, Vec<DamagedManifest>), StoreError> {
        let (mut manifests, mut damaged) = (BTreeMap::new(), Vec::new());
        for (_, canonical) in self.all_revisions(name, true)? {
            let known = match self.content(&canonical) {
                Err(StoreError::ManifestUnknown) => continue,
                Err(StoreError::Damaged(digest)) => {
                    let tags = self.tags_of(name, &digest)?;
                    let manifest = DamagedManifest { repository: name.clone(), digest, tags };
                    if on_damage == DamagedManifests::Stop {
                        return Err(manifest.into());
                    }
                    damaged.push(manifest);
                    continue;
                }
                known => known?,
            };
            let pushed = self.pushed_as(name, &canonical)?;
            let needs = needs_of(&known.bytes, pushed);
            manifests.insert(canonical, needs);
        }
        Ok((manifests, damaged))
    }

    /// Returns the tags that refer to a manifest, by any of its digests.
    pub(in crate::gc) fn tags_of(
        &self,
        name: &RepositoryName,
        canonical: &Digest,
    ) -> Result<Vec<Tag>, StoreError> {
        let place = RepositoryKeys(name);
        let mut tags = Vec::new();
        for tag in self.storage().list(&place.tags())?.unwrap_or_default() {
            let Ok(tag) = tag.parse::<Tag>() else { continue };
            let Some(digest) = self.link(&place.tag_link(&tag))? else { continue };
            if self.revision(name, &digest)?.as_ref() == Some(canonical) {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    /// Returns the manifests of tags, their children, and the referrers of these. Each is visited once.
    fn reached(
        &self,
        name: &RepositoryName,
        manifests: &Manifests,
        wanted: &Collection,
    ) -> Result<HashSet<Digest>, StoreError> {
        let place = RepositoryKeys(name);
        let mut open = Vec::new();
        for tag in self.storage().list(&place.tags())?.unwrap_or_default() {
            let Ok(tag) = tag.parse::<Tag>() else { continue };
            if let Some(digest) = self.sound_link(&place.tag_link(&tag))? {
                open.extend(self.revision(name, &digest)?);
            }
        }
        let mut referrers: BTreeMap<Digest, Vec<&Digest>> = BTreeMap::new();
        for (digest, manifest) in manifests {
            if !manifest.is_understood() || self.is_young(&place.revision_link(digest), wanted)? {
                open.push(digest.clone());
            }
            if let Needs::Known(Manifest { subject: Some(subject), .. }) = manifest {
                let subject = self.revision(name, subject)?.unwrap_or_else(|| subject.clone());
                referrers.entry(subject).or_default().push(digest);
            }
        }
        let mut reached = HashSet::new();
        while let Some(digest) = open.pop() {
            let Some(manifest) = manifests.get(&digest).filter(|_| !reached.contains(&digest)) else {
                continue;
            };
            for child in manifest.children() {
                open.extend(self.revision(name, child)?);
            }
            open.extend(referrers.get(&digest).into_iter().flatten().map(|digest| (*digest).clone()));
            reached.insert(digest);
        }
        Ok(reached)
    }

    /// Returns all blobs of a repository: the digest of each link, and the SHA-256 of the bytes.
    fn links_of(&self, name: &RepositoryName) -> Result<Vec<(Digest, Digest)>, StoreError> {
        let mut all = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for digest in self.digests_in(&RepositoryKeys(name).layers(algorithm), algorithm)? {
                if let Some(canonical) = self.linked(name, &digest)? {
                    all.push((digest, canonical));
                }
            }
        }
        Ok(all)
    }

    fn all_blobs(&self) -> Result<Vec<Digest>, StoreError> {
        let mut all = Vec::new();
        for prefix in self.storage().list(&blobs())?.unwrap_or_default() {
            all.extend(self.digests_in(&blobs().child(&prefix), Algorithm::Sha256)?);
        }
        Ok(all)
    }

    fn is_young(&self, key: &Key, wanted: &Collection) -> Result<bool, StoreError> {
        Ok(is_young(self.storage().head(key)?.as_ref(), wanted))
    }
}

/// Returns true if there are bytes that are younger than the time of grace.
fn is_young(found: Option<&Meta>, wanted: &Collection) -> bool {
    // A modification time in the future counts as young, too.
    found.is_some_and(|found| {
        SystemTime::now().duration_since(found.modified).unwrap_or_default() < wanted.grace
    })
}

/// Returns the folder of a blob.
pub(in crate::gc) fn blob_folder(canonical: &Digest) -> Key {
    blobs().child(&canonical.hex()[..2]).child(canonical.hex())
}

//! Collection: removes what no manifest needs, while no registry runs on the storage.
//!
//! Garbage collection. It keeps everything that a repository's manifests refer to, and content that is
//! younger than the time of grace, which may belong to a push that goes on later. Links go before bytes, so
//! that an interrupted run leaves unreferenced bytes for the next one. A manifest whose form is not
//! understood stays, with every digest that stands in it: other programs take more forms than this one does.
//! A damaged manifest stops the run, as the content that it needs is unknown.

pub(super) mod link_guard;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName, Tag, media_type};

use super::layout::{Key, Place, aliases, blob, blobs};
use super::{Store, StoreError};

/// What shall be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection {
    /// What is younger stays.
    pub grace: Duration,
    /// Remove manifests, too, that no tag means, nor an index, nor as referrers of what stays.
    pub untagged: bool,
    /// Remove nothing.
    pub dry_run: bool,
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests.
    pub manifests: Vec<(RepositoryName, Digest)>,
    /// Blobs that were taken out of repositories.
    pub links: Vec<(RepositoryName, Digest)>,
    /// Bytes that nobody needs, and how many of them.
    pub blobs: Vec<(Digest, u64)>,
    /// How many blobs and manifests stay.
    pub kept: usize,
    /// Manifests that are not understood, and stay with all that they mention.
    pub not_understood: Vec<NotUnderstood>,
}

/// A manifest whose form is not understood, though its bytes are those that were pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// Repository of the manifest.
    pub repository: RepositoryName,
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// The tags that mean it.
    pub tags: Vec<Tag>,
}

/// A repository's manifests by their SHA-256.
type Manifests = BTreeMap<Digest, Needs>;

/// Digests that a manifest needs.
enum Needs {
    /// The members of a manifest that is understood.
    Known(Manifest),
    /// Every digest that stands in it, perhaps.
    Mentioned(BTreeSet<Digest>),
}

impl Needs {
    /// Blobs and manifests without which it is not whole.
    fn parts(&self) -> Box<dyn Iterator<Item = &Digest> + '_> {
        match self {
            Self::Known(manifest) => {
                let parts = manifest.blobs.iter().chain(&manifest.foreign).chain(&manifest.manifests);
                Box::new(parts.map(|part| &part.digest))
            }
            Self::Mentioned(digests) => Box::new(digests.iter()),
        }
    }

    /// Returns the digests that may be manifests.
    fn children(&self) -> Box<dyn Iterator<Item = &Digest> + '_> {
        match self {
            Self::Known(manifest) => Box::new(manifest.manifests.iter().map(|part| &part.digest)),
            Self::Mentioned(digests) => Box::new(digests.iter()),
        }
    }

    fn is_understood(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

impl Store {
    /// Collects. Nobody else may use the storage meanwhile.
    pub fn collect(&self, wanted: &Collection) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let mut needed: HashSet<Digest> = HashSet::new();
        let mut names: Vec<RepositoryName> = Vec::new();
        for name in self.folders_with(&["_manifests", "_layers"])? {
            names.push(name.parse().map_err(|_| StoreError::Foreign(name))?);
        }
        // All is looked at before anything is removed.
        let mut links = Vec::new();
        for name in &names {
            let manifests = self.manifests_of(name)?;
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
                if here.contains(&canonical) || self.is_young(&Place(name).layer_link(&digest), wanted)? {
                    needed.insert(canonical);
                } else {
                    links.push((name.clone(), digest));
                }
            }
            needed.extend(here);
        }
        collected.links = links;
        for digest in self.all_blobs()? {
            let key = blob(&digest);
            if needed.contains(&digest) || self.is_young(&key, wanted)? {
                collected.kept += 1;
            } else {
                let length = self.storage().length(&key)?.unwrap_or_default();
                collected.blobs.push((digest, length));
            }
        }
        if !wanted.dry_run {
            self.sweep_out(&collected)?;
        }
        Ok(collected)
    }

    fn sweep_out(&self, collected: &Collected) -> Result<(), StoreError> {
        for (name, digest) in &collected.manifests {
            self.collect_manifest(name, digest)?;
        }
        for (name, digest) in &collected.links {
            self.0
                .blob_cache
                .invalidate_during(name, || self.storage().remove(&Place(name).layer(digest)))?;
        }
        for (digest, _) in &collected.blobs {
            self.storage().remove(&blob_folder(digest))?;
        }
        self.sweep_aliases(&collected.blobs.iter().map(|(digest, _)| digest).collect())
    }

    /// Other names of what is gone.
    pub(super) fn sweep_aliases(&self, gone: &HashSet<&Digest>) -> Result<(), StoreError> {
        let folder = aliases(Algorithm::Sha512);
        for prefix in self.storage().list(&folder)?.unwrap_or_default() {
            let folder = folder.child(&prefix);
            for hex in self.storage().list(&folder)?.unwrap_or_default() {
                let key = folder.child(&hex);
                if self.link(&key)?.is_some_and(|canonical| gone.contains(&canonical)) {
                    self.storage().remove(&key)?;
                }
            }
        }
        Ok(())
    }

    /// All manifests of a repository, read. One without bytes needs nothing any more.
    fn manifests_of(&self, name: &RepositoryName) -> Result<Manifests, StoreError> {
        let mut manifests = BTreeMap::new();
        for (_, canonical) in self.all_revisions(name, true)? {
            let known = match self.content(&canonical) {
                Err(StoreError::ManifestUnknown) => continue,
                Err(StoreError::Damaged(digest)) => {
                    let tags =
                        self.tags_of(name, &digest)?.iter().map(ToString::to_string).collect::<Vec<_>>();
                    let tags = if tags.is_empty() { "no tag".into() } else { tags.join(", ") };
                    return Err(StoreError::DamagedIn { repository: name.clone(), digest, tags });
                }
                known => known?,
            };
            let pushed = self.pushed_as(name, &canonical)?;
            let media_type = pushed.unwrap_or(known.media_type);
            let manifest = if media_type == media_type::DOCKER_SCHEMA_1 {
                Manifest::of_schema_1(&known.bytes)
            } else {
                Manifest::parse(&known.bytes, Some(media_type))
            };
            let needs = match manifest {
                Ok(manifest) if !Manifest::has_other_spelling(&known.bytes) => Needs::Known(manifest),
                _ => Needs::Mentioned(Manifest::mentions(&known.bytes)),
            };
            manifests.insert(canonical, needs);
        }
        Ok(manifests)
    }

    /// Returns the tags that refer to a manifest, by any of its digests.
    fn tags_of(&self, name: &RepositoryName, canonical: &Digest) -> Result<Vec<Tag>, StoreError> {
        let place = Place(name);
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

    /// What tags mean, what that consists of, and what refers to any of it. Each is visited once.
    fn reached(
        &self,
        name: &RepositoryName,
        manifests: &Manifests,
        wanted: &Collection,
    ) -> Result<HashSet<Digest>, StoreError> {
        let place = Place(name);
        let mut open = Vec::new();
        for tag in self.storage().list(&place.tags())?.unwrap_or_default() {
            let Ok(tag) = tag.parse::<Tag>() else { continue };
            self.check_not_torn(&place.tag_link(&tag))?;
            if let Some(digest) = self.link(&place.tag_link(&tag))? {
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

    /// All blobs of a repository: by which digest, and where their bytes lie.
    fn links_of(&self, name: &RepositoryName) -> Result<Vec<(Digest, Digest)>, StoreError> {
        let mut all = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for digest in self.digests_in(&Place(name).layers(algorithm), algorithm)? {
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
        let Some(modified) = self.storage().modified(key)? else { return Ok(false) };
        // What comes from the future is young, too.
        let age = SystemTime::now().duration_since(modified).unwrap_or_default();
        Ok(age < wanted.grace)
    }
}

/// All that lies under a digest.
pub(super) fn blob_folder(canonical: &Digest) -> Key {
    blobs().child(&canonical.hex()[..2]).child(canonical.hex())
}

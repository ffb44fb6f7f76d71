//! What refers to a manifest: one descriptor each, beside the repository's manifests.
//!
//! distribution knows nothing of these, and may write to the same volume. So they carry a stamp of the folders that all
//! manifests are listed in: when that is another one, somebody else has been there, and they are made anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::layout::{Place, blob};
use super::{Page, Store, StoreError};
use crate::oci::{Algorithm, Descriptor, Digest, Manifest, RepositoryName, to_json};

/// The longest descriptor is one with all annotations of a manifest.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What a remembered page, or a text in it, takes beside its bytes.
const OVERHEAD: usize = 512;

/// So many descriptors are written at once; each is a file that is open meanwhile.
const AT_ONCE: usize = 64;

/// A subject, and what refers to it.
type Row = (Digest, Descriptor);

/// A page of descriptors, and whether there are more.
pub type Referrers = (Arc<[Descriptor]>, bool);

/// What is asked of a repository's referrers: the subject, artifact types, the page, and its length in bytes.
pub(super) type Asked = (Digest, Vec<String>, Page, usize);

/// Descriptors that could only be made, and not kept, with the stamp that they are for: a few repositories' worth.
#[derive(Debug, Default)]
pub(super) struct Made(Mutex<HashMap<RepositoryName, Stamped>>);

/// A stamp, and what was made of what it stands for.
type Stamped = (String, Arc<Vec<Row>>);

impl Made {
    /// So many repositories are remembered.
    const MOST: usize = 64;

    fn get(&self, name: &RepositoryName, stamp: &str) -> Option<Arc<Vec<Row>>> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.get(name).filter(|(of, _)| of == stamp).map(|(_, rows)| rows.clone())
    }

    fn put(&self, name: &RepositoryName, stamp: String, rows: &Arc<Vec<Row>>) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= Self::MOST {
            made.clear();
        }
        made.insert(name.clone(), (stamp, rows.clone()));
    }
}

impl Made {
    /// The repository is about to change: a storage need not tell so by its stamp.
    pub(super) fn forget(&self, name: &RepositoryName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Whether the descriptors were those of all manifests before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// They were.
    Right,
    /// They were not, or nobody ever asked.
    Unknown,
}

impl Store {
    /// Manifests that name this one as their subject, by digest, and whether there are more. A page holds at most
    /// `bytes` of descriptors, and one at least. `wanted` are artifact types; none of them means any.
    pub fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        wanted: &[String],
        page: &Page,
        bytes: usize,
    ) -> Result<Referrers, StoreError> {
        // Remembered for a moment: whoever admits images asks for the same again and again, and each row is three files.
        let asked = (subject.clone(), wanted.to_vec(), page.clone(), bytes);
        // What was asked weighs, too: whoever reads may ask for anything, and nothing be found.
        let weight =
            OVERHEAD + page.last.len() + wanted.iter().map(|one| OVERHEAD + one.len()).sum::<usize>();
        if let Some(known) = self.0.referrers.get(name, &asked) {
            return Ok(known);
        }
        let begun = self.0.referrers.begin();
        let (found, used) = self.look_for_referrers(name, &asked)?;
        self.0.referrers.found(begun, name, asked, found.clone(), used + weight);
        Ok(found)
    }

    /// The same, with how many bytes of descriptors there are.
    fn look_for_referrers(
        &self,
        name: &RepositoryName,
        (subject, wanted, page, bytes): &Asked,
    ) -> Result<(Referrers, usize), StoreError> {
        let rows = self.rows(name, subject)?;
        let digests: Vec<String> = rows.keys().map(ToString::to_string).collect();
        let mut used = 0;
        let mut full = false;
        let (all, more) = page.of(digests.into_iter(), |digest| {
            let Ok(digest) = digest.parse::<Digest>() else { return Ok(None) };
            let canonical = if full { None } else { self.revision(name, &digest)? };
            // A power failure may leave the link alone of what was never acknowledged.
            let Some(canonical) = canonical else { return Ok(None) };
            if !self.storage().exists(&blob(&canonical))? {
                return Ok(None);
            }
            let Some(row) = self.row(name, subject, &digest, &rows)? else { return Ok(None) };
            let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&row) else { return Ok(None) };
            let is_wanted = wanted.is_empty()
                || descriptor.artifact_type.as_ref().is_some_and(|own| wanted.contains(own));
            if !is_wanted {
                return Ok(None);
            }
            if used > 0 && used + row.len() > *bytes {
                full = true;
                return Ok(None);
            }
            used += row.len();
            Ok::<_, StoreError>(Some(descriptor))
        })?;
        Ok(((all.into(), more || full), used))
    }

    /// To be asked before the manifests of a repository change.
    pub(super) fn referrers_before(&self, name: &RepositoryName) -> Result<Before, StoreError> {
        let known = self.note(&Place(name).referrers_stamp(), super::LINK)?;
        let is = self.stamp(name)?;
        Ok(if known.is_some_and(|known| known == is.as_bytes()) { Before::Right } else { Before::Unknown })
    }

    /// To be told after the manifests of a repository have changed, and the descriptors with them.
    pub(super) fn referrers_after(&self, name: &RepositoryName, before: Before) -> Result<(), StoreError> {
        if before == Before::Right {
            let written =
                self.storage().write_lazily(&Place(name).referrers_stamp(), self.stamp(name)?.as_bytes());
            if let Err(error) = written {
                // Then they are made anew when somebody asks.
                tracing::debug!(%error, "what refers to manifests is not known to be up to date");
            }
        }
        Ok(())
    }

    /// Removes the descriptor of a manifest that is about to go.
    pub(super) fn remove_referrer(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let Some(canonical) = self.revision(name, digest)? else { return Ok(()) };
        // What is damaged refers to nothing that could be told.
        let Ok(known) = self.content(&canonical) else { return Ok(()) };
        if let Some(subject) =
            Manifest::parse(&known.bytes, Some(known.media_type)).ok().and_then(|it| it.subject)
        {
            self.storage().remove(&Place(name).referrer(&subject, digest))?;
        }
        Ok(())
    }

    /// The digests of what refers to a subject, in order; with the descriptors where they could only be made, and not
    /// kept.
    fn rows(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<BTreeMap<Digest, Option<Bytes>>, StoreError> {
        if let Some(made) = self.0.locks.with(name, || self.bring_up_to_date(name))? {
            let of_subject = made.iter().filter(|(about, _)| about == subject);
            return Ok(of_subject.map(|(_, row)| (row.digest.clone(), Some(to_json(row).into()))).collect());
        }
        let folder = Place(name).referrers(subject);
        let mut rows = BTreeMap::new();
        for algorithm in self.storage().list(&folder)?.unwrap_or_default() {
            for hex in self.storage().list(&folder.child(&algorithm))?.unwrap_or_default() {
                rows.extend(format!("{algorithm}:{hex}").parse().map(|digest| (digest, None)));
            }
        }
        Ok(rows)
    }

    fn row(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        digest: &Digest,
        rows: &BTreeMap<Digest, Option<Bytes>>,
    ) -> Result<Option<Bytes>, StoreError> {
        if let Some(Some(made)) = rows.get(digest) {
            return Ok(Some(made.clone()));
        }
        self.note(&Place(name).referrer(subject, digest), LONGEST)
    }

    /// Makes the descriptors anew if somebody else has been there; gives them to who asks where they cannot be kept.
    fn bring_up_to_date(&self, name: &RepositoryName) -> Result<Option<Arc<Vec<Row>>>, StoreError> {
        if self.referrers_before(name)? == Before::Right {
            return Ok(None);
        }
        let stamp = self.stamp(name)?;
        if let Some(made) = self.0.made.get(name, &stamp) {
            return Ok(Some(made));
        }
        let mut rows = Vec::new();
        for (digest, canonical) in self.all_revisions(name, false)? {
            // What cannot be read is not listed; whoever pulls it is told why.
            let Ok(known) = self.content(&canonical) else { continue };
            let media_type = self.pushed_as(name, &digest)?.unwrap_or(known.media_type);
            let Ok(manifest) = Manifest::parse(&known.bytes, Some(media_type)) else { continue };
            if let Some(subject) = &manifest.subject {
                rows.push((subject.clone(), manifest.descriptor(&digest, known.bytes.len() as u64)));
            }
        }
        if rows.is_empty() && !self.is_repository(name)? {
            return Ok(None);
        }
        match self.keep(name, &rows, &stamp) {
            // Whatever the disk says, the answer is known.
            Err(StoreError::Storage(_)) => {
                let made = Arc::new(rows);
                self.0.made.put(name, stamp, &made);
                Ok(Some(made))
            }
            kept => kept.map(|()| None),
        }
    }

    fn keep(&self, name: &RepositoryName, rows: &[Row], stamp: &str) -> Result<(), StoreError> {
        for rows in rows.chunks(AT_ONCE) {
            let bytes: Vec<Vec<u8>> = rows.iter().map(|(_, descriptor)| to_json(descriptor)).collect();
            let keys =
                rows.iter().map(|(subject, descriptor)| Place(name).referrer(subject, &descriptor.digest));
            self.storage().write(&keys.zip(bytes.iter().map(Vec::as_slice)).collect::<Vec<_>>())?;
        }
        // The stamp of before: if somebody came meanwhile, it is wrong already.
        Ok(self.storage().write_lazily(&Place(name).referrers_stamp(), stamp.as_bytes())?)
    }

    fn stamp(&self, name: &RepositoryName) -> Result<String, StoreError> {
        let mut stamp = String::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            stamp.push_str(&self.storage().stamp(&Place(name).revisions(algorithm))?);
            stamp.push('\n');
        }
        Ok(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[test]
    fn what_is_asked_in_vain_again_and_again_does_not_fill_memory() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let (name, subject) = ("a/b".parse().unwrap(), Digest::sha256(b"nothing"));
        for i in 0..5_000 {
            let page = Page { size: 1, last: format!("{i:0>2000}") };
            store.referrers(&name, &subject, &[], &page, 1).unwrap();
        }
        assert!(store.0.referrers.count() < 2_000, "{}", store.0.referrers.count());
    }
}

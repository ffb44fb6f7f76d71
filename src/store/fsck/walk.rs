//! Walk over all keys in their order, and the checks of keys that belong to no repository.

use std::path::Path;

use quinistry_oci::Digest;

use super::reading::{Read, of_one_file};
use super::{Finding, FindingKind, Fsck};
use crate::StoreError;
use crate::layout::kinds::{KeyKind, OwnPart, RepositoryPart, kind};
use crate::layout::{self, Key};
use crate::storage::{Meta, SCAN_PAGE_SIZE, ScanPage, StorageError};

/// Number of keys in a page of a folder. Each page lists the folders on its way again, of which one may have
/// a million names.
const FOLDER_PAGE_KEYS: usize = 20_000;

/// Number of keys between two reports of progress.
const PROGRESS_KEYS: u64 = 256;

/// Key that a scan found.
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) meta: Meta,
    /// Bytes of a short file that must be read.
    pub(super) read: Read,
}

impl Fsck<'_> {
    /// Visits all keys, and reports the bytes that no link leads to.
    pub(super) fn pass(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.page(&layout::top(), after.as_ref())?;
            after = page.next;
            self.visit_page(page.entries)?;
            if after.is_none() {
                break;
            }
        }
        self.leave_repository()?;
        self.report_unlinked()
    }

    /// Returns a page of keys. Folders that cannot be read are reported and left out.
    fn page(&mut self, folder: &Key, after: Option<&Key>) -> Result<ScanPage, StoreError> {
        let mut after = after.cloned();
        let limit = if self.options.folder.is_some() { FOLDER_PAGE_KEYS } else { SCAN_PAGE_SIZE };
        loop {
            let error = match self.storage.scan(folder, after.as_ref(), limit) {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            let unreadable = self.unreadable_path(&error);
            let behind = unreadable.as_ref().and_then(|(path, _)| {
                // `0` follows `/`, so that the keys beneath the folder are left out, and no others.
                let is_folder = self.options.folder.as_ref().is_some_and(|root| root.join(path).is_dir());
                Key::of_path(if is_folder { format!("{path}0") } else { path.clone() })
            });
            match (unreadable, behind) {
                (Some((path, cause)), Some(behind)) if after.as_ref().is_none_or(|after| *after < behind) => {
                    self.report_unreadable(&path, &cause);
                    after = Some(behind);
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Returns the path and the cause of an error of a scan, if it is that of one file or folder.
    fn unreadable_path(&self, error: &StorageError) -> Option<(String, String)> {
        let cause = of_one_file(error)?.to_string();
        let StorageError::Io { key, .. } = error else { return None };
        let root = self.options.folder.as_ref()?.canonicalize().ok()?;
        let path = Path::new(key).strip_prefix(root).ok()?.to_str()?;
        Some((path.to_owned(), cause))
    }

    fn visit_page(&mut self, entries: Vec<(Key, Meta)>) -> Result<(), StoreError> {
        let kinds: Vec<KeyKind> = entries.iter().map(|(key, _)| kind(key.as_str())).collect();
        let short: Vec<_> = entries
            .iter()
            .zip(&kinds)
            .map(|((key, meta), kind)| is_read(kind).then(|| (key.clone(), meta.length)))
            .collect();
        let read = self.read_short(&short)?;
        let mut added: Vec<Digest> = Vec::new();
        for (((key, meta), kind), read) in entries.into_iter().zip(kinds).zip(read) {
            self.progress.keys += 1;
            if self.progress.keys.is_multiple_of(PROGRESS_KEYS) {
                self.observer.progressed(&self.progress);
            }
            if !matches!(kind, KeyKind::Content(_)) {
                // Links come behind the bytes, and must find them judged.
                self.hash_contents(&std::mem::take(&mut added))?;
            }
            self.visit(kind, &Found { key, meta, read }, &mut added)?;
        }
        self.hash_contents(&added)?;
        self.observer.progressed(&self.progress);
        Ok(())
    }

    fn visit(&mut self, kind: KeyKind, found: &Found, added: &mut Vec<Digest>) -> Result<(), StoreError> {
        let (name, part) = match kind {
            KeyKind::Repository(name, part) => (name, part),
            kind => {
                self.leave_repository()?;
                return self.visit_other(kind, found, added);
            }
        };
        if part == RepositoryPart::Foreign || part == RepositoryPart::Folder {
            self.report_foreign(&found.key, part == RepositoryPart::Folder);
            return Ok(());
        }
        self.visit_repository(&name, part, found)
    }

    fn visit_other(
        &mut self,
        kind: KeyKind,
        found: &Found,
        added: &mut Vec<Digest>,
    ) -> Result<(), StoreError> {
        let Found { key, meta, .. } = found;
        match kind {
            KeyKind::Content(digest) => {
                if self.is_first_pass {
                    self.summary.contents += 1;
                    self.summary.content_bytes += meta.length;
                }
                if self.contents.add(&digest, meta.length) {
                    if meta.length == 0 && !digest.matches(b"") {
                        self.report_damaged(&digest, "is empty");
                    } else {
                        added.push(digest);
                    }
                }
            }
            KeyKind::MisplacedContent(digest) => {
                self.report(&Finding::at(FindingKind::ContentMisplaced, key).digest(&digest));
            }
            KeyKind::OtherAlgorithm => {
                self.report(&Finding::at(FindingKind::ContentOtherAlgorithm, key));
            }
            KeyKind::InvalidRepository(name, linked) => {
                if let Some(digest) = linked {
                    self.contents.mark_linked_by_name(&digest);
                }
                if self.invalid_repository.as_ref() != Some(&name) {
                    self.report(&Finding::at(FindingKind::RepositoryNameInvalid, key).of(&name));
                    self.invalid_repository = Some(name);
                }
            }
            KeyKind::Own(part) => self.visit_own(part, found)?,
            KeyKind::Folder => self.report_foreign(key, true),
            KeyKind::Foreign => self.report_foreign(key, false),
            KeyKind::Repository(..) => unreachable!("visited with its repository"),
        }
        Ok(())
    }

    /// Reports a file that is not one of the layout. An object store has no folders that it could keep from
    /// being.
    pub(super) fn report_foreign(&mut self, key: &Key, is_folder: bool) {
        let kind = if is_folder && self.options.folder.is_some() {
            FindingKind::FileForFolder
        } else {
            FindingKind::ForeignKey
        };
        self.report(&Finding::at(kind, key));
    }

    fn report_unlinked(&mut self) -> Result<(), StoreError> {
        if !self.contents.has_unlinked() {
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = self.page(&layout::blobs(), after.as_ref())?;
            for (key, meta) in &page.entries {
                let KeyKind::Content(digest) = kind(key.as_str()) else { continue };
                if self.contents.is_unlinked(&digest) {
                    let finding = Finding::at(FindingKind::ContentUnlinked, key).digest(&digest);
                    self.report_of_bytes(&finding.detail(format_args!("{} bytes", meta.length)));
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Returns true for keys whose bytes are short and must be read.
fn is_read(kind: &KeyKind) -> bool {
    match kind {
        KeyKind::Own(part) => matches!(part, OwnPart::Alias(_)),
        KeyKind::Repository(_, part) => matches!(
            part,
            RepositoryPart::BlobLink(_)
                | RepositoryPart::RevisionLink(_)
                | RepositoryPart::MediaType(_)
                | RepositoryPart::TagLink(_)
                | RepositoryPart::TagIndex(..)
        ),
        _ => false,
    }
}

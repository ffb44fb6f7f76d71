//! Scans of all files beneath a folder, in the order of their keys, a page at a time.
//!
//! A page reads the folders on the way to its first key and those of its keys, and no others. A symbolic link
//! to a file counts as that file; a link to a folder is not followed, so that no scan runs in circles.

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};

use super::root::RootFolder;
use super::{failed, lookup_result, meta};
use crate::layout::Key;
use crate::storage::{ScanPage, StorageError};

/// Returns a page of at most `limit` keys.
pub(super) fn page(
    root: &RootFolder,
    folder: &Key,
    after: Option<&Key>,
    limit: usize,
) -> Result<ScanPage, StorageError> {
    let mut scan = Scan { root, after: after.map_or("", Key::as_str), limit, page: ScanPage::default() };
    scan.visit(folder.as_str())?;
    Ok(scan.page)
}

struct Scan<'a> {
    root: &'a RootFolder,
    after: &'a str,
    limit: usize,
    page: ScanPage,
}

impl Scan<'_> {
    /// Adds what lies beneath a folder, until the page is full.
    fn visit(&mut self, folder: &str) -> Result<(), StorageError> {
        let path = self.root.path().join(folder);
        let unreadable = |error: rustix::io::Errno| failed("list", &path, error.into());
        let Some(opened) = lookup_result(self.root.folder(folder), "list", &path)? else { return Ok(()) };
        let mut paths = Vec::new();
        let mut dir = Dir::new(opened).map_err(unreadable)?;
        while let Some(entry) = dir.read() {
            let entry = entry.map_err(unreadable)?;
            // Neither this program nor distribution writes names that are not UTF-8.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let mut path = format!("{folder}/{name}");
            // Not every file system tells the type along with the name.
            let is_folder = match entry.file_type() {
                FileType::Unknown => self.stat(&dir, &path)?.is_some_and(|stat| is_folder(&stat)),
                kind => kind == FileType::Directory,
            };
            if is_folder {
                // Keys sort as whole paths: `a-b` stands before what lies in `a`.
                path.push('/');
            }
            paths.push(path);
        }
        paths.sort_unstable();
        for path in paths {
            let folder = path.strip_suffix('/');
            let is_around = folder.is_some() && self.after.starts_with(&path);
            if path.as_str() <= self.after && !is_around {
                continue;
            }
            match folder {
                Some(folder) => self.visit(folder)?,
                None => self.add(&dir, path)?,
            }
            if self.page.next.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Adds a file, or ends the page before it.
    fn add(&mut self, dir: &Dir, path: String) -> Result<(), StorageError> {
        if self.page.entries.len() >= self.limit {
            self.page.next = self.page.entries.last().map(|(key, _)| key.clone());
            return Ok(());
        }
        let Some(stat) = self.stat(dir, &path)? else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode).is_file()
            && let Some(key) = Key::of_path(path)
        {
            self.page.entries.push((key, meta(&stat)));
        }
        Ok(())
    }

    fn stat(&self, dir: &Dir, path: &str) -> Result<Option<Stat>, StorageError> {
        let whole = self.root.path().join(path);
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let found = dir.fd().and_then(|folder| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW));
        let found = lookup_result(found.map_err(Into::into), "look at", &whole)?;
        if found.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink()) {
            let target = lookup_result(self.root.stat(path), "look at", &whole)?;
            return Ok(target.filter(|stat| !is_folder(stat)));
        }
        Ok(found)
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

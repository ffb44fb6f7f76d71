//! Lists of the names in a folder.

use std::mem::MaybeUninit;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, RawDir, statat};

use super::objects::listing_version;
use super::root::RootFolder;
use super::{failed, lookup_result};
use crate::layout::Key;
use crate::storage::{ListingVersion, StorageError};

/// Length of the buffer that the kernel writes entries into, in bytes: some hundred entries a system call.
/// Longer ones are not faster.
const BUFFER_BYTES: usize = 8 * 1024;

/// Returns all names, sorted by their bytes; `None` if the folder does not exist.
pub(super) fn names(root: &RootFolder, key: &Key) -> Result<Option<Vec<String>>, StorageError> {
    let path = root.path().join(key.as_str());
    let Some(folder) = lookup_result(root.folder(key.as_str()), "list", &path)? else { return Ok(None) };
    let unreadable = |error: rustix::io::Errno| failed("list", &path, error.into());
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(unreadable)?;
        // Neither this program nor distribution writes names that are not UTF-8.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !matches!(name, "." | "..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// Returns the names that satisfy `wanted` and have a file at `beneath`.
pub(super) fn names_with(
    root: &RootFolder,
    key: &Key,
    beneath: &str,
    wanted: fn(&str) -> bool,
) -> Result<Option<Vec<String>>, StorageError> {
    let Some(mut names) = names(root, key)? else { return Ok(None) };
    // The process may lack the right to look at other programs' files.
    names.retain(|name| wanted(name));
    let mut have_files = have_beneath(root, key, &names, beneath)?.into_iter();
    names.retain(|_| have_files.next() == Some(true));
    Ok(Some(names))
}

/// Returns for each of some names in a folder whether there is a file at `beneath`. Each file is looked up from the
/// folder itself: resolving the whole path for each of a hundred thousand would take twice as long.
pub(super) fn have_beneath(
    root: &RootFolder,
    key: &Key,
    names: &[String],
    beneath: &str,
) -> Result<Vec<bool>, StorageError> {
    let path = root.path().join(key.as_str());
    let Some(folder) = lookup_result(root.folder(key.as_str()), "list", &path)? else {
        return Ok(vec![false; names.len()]);
    };
    let mut relative = String::new();
    let mut has_file = |name: &String| {
        relative.clear();
        relative.extend([name, "/", beneath]);
        let meta = statat(&folder, &relative, AtFlags::empty()).map_err(Into::into);
        let meta = lookup_result(meta, "look at", &path)?;
        Ok(meta.is_some_and(|meta| FileType::from_raw_mode(meta.st_mode).is_file()))
    };
    names.iter().map(&mut has_file).collect()
}

/// Returns the listing versions of some folders in a folder; `None` for each that is absent or a symbolic link, which may
/// lead out of the root.
pub(super) fn versions(
    root: &RootFolder,
    key: &Key,
    names: &[&str],
) -> Result<Vec<Option<ListingVersion>>, StorageError> {
    let path = root.path().join(key.as_str());
    let Some(folder) = lookup_result(root.folder(key.as_str()), "list", &path)? else {
        return Ok(vec![None; names.len()]);
    };
    let now = SystemTime::now();
    let version = |name: &&str| {
        let stat = statat(&folder, *name, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into);
        let stat = lookup_result(stat, "look at", &path)?;
        let folder = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
        Ok(folder.as_ref().map(|stat| listing_version(stat, now)))
    };
    names.iter().map(version).collect()
}

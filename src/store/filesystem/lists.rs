//! The names in a folder.

use rustix::fs::{AtFlags, Dir, FileType, statat};

use super::root::Root;
use super::{failed, looked_up};
use crate::layout::Key;
use crate::storage::StorageError;

/// All names, sorted by their bytes; `None` if the folder is not there.
pub(super) fn names(root: &Root, key: &Key) -> Result<Option<Vec<String>>, StorageError> {
    let path = root.path().join(key.as_str());
    let Some(folder) = looked_up(root.folder(key.as_str()), "list", &path)? else { return Ok(None) };
    let unreadable = |error: rustix::io::Errno| failed("list", &path, error.into());
    let mut names = Vec::new();
    for entry in Dir::new(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // What is no text is none of ours, nor of distribution's.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !matches!(name, "." | "..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// Those that are wanted, and under which there is a file at `beneath`. Each is looked for from the folder itself: to walk
/// the whole path for each of a hundred thousand would take twice as long.
pub(super) fn names_with(
    root: &Root,
    key: &Key,
    beneath: &str,
    wanted: fn(&str) -> bool,
) -> Result<Option<Vec<String>>, StorageError> {
    let Some(mut names) = names(root, key)? else { return Ok(None) };
    let path = root.path().join(key.as_str());
    let Some(folder) = looked_up(root.folder(key.as_str()), "list", &path)? else { return Ok(None) };
    let path = &path;
    let mut relative = String::new();
    let mut unreadable = None;
    names.retain(|name| {
        // What is none of ours need not be ours to look at.
        if !wanted(name) {
            return false;
        }
        relative.clear();
        relative.extend([name, "/", beneath]);
        let meta = statat(&folder, &relative, AtFlags::empty()).map_err(Into::into);
        match looked_up(meta, "look at", path) {
            Ok(meta) => meta.is_some_and(|meta| FileType::from_raw_mode(meta.st_mode).is_file()),
            Err(error) => {
                unreadable = Some(error);
                false
            }
        }
    });
    unreadable.map_or(Ok(Some(names)), Err)
}

//! Files that only their owner can read, such as those of passwords and keys, and the folders that they are in.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::output;
use crate::registry::auth::regular_file::{ReadFile, Rewrite};

/// Makes a folder and those above it that are missing, which only their owner can enter. Returns those made,
/// the outermost one first.
pub(super) fn make_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let mut missing: Vec<PathBuf> =
        folder.ancestors().take_while(is_missing).map(Path::to_path_buf).collect();
    missing.reverse();
    if !missing.is_empty() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    Ok(missing)
}

/// Makes the folder of a file, as [`make_folder`] does.
pub(super) fn make_folder_of(file: &Path) -> io::Result<Vec<PathBuf>> {
    file.parent().map_or(Ok(Vec::new()), make_folder)
}

/// Replaces the text of a file with what `edit` makes of it; `None` if there is no file yet, which is then made with its
/// folder. `failed` describes the change, for errors of reading and writing.
pub(super) fn change(
    file: &Path,
    max_bytes: usize,
    failed: impl Fn() -> String + Copy,
    edit: impl FnOnce(Option<ReadFile>) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<()> {
    let folders = make_folder_of(file).map_err(with_remedy).with_context(failed)?;
    let rewrite = Rewrite::begin(file).map_err(with_remedy).with_context(failed)?;
    let former = rewrite.read(max_bytes).map_err(with_remedy).with_context(failed)?;
    let is_new = former.is_none();
    let text = edit(former)?;
    rewrite.write(&text).map_err(with_remedy).with_context(failed)?;
    if is_new {
        output::complain(&super::sanitize(&describe_owner(file, &folders)?));
    }
    Ok(())
}

/// Says which user can read a file that was just made, and what a registry of another user needs.
fn describe_owner(file: &Path, folders: &[PathBuf]) -> io::Result<String> {
    let uid = file.metadata()?.uid();
    let made: Vec<String> =
        folders.iter().map(PathBuf::as_path).chain([file]).map(|path| path.display().to_string()).collect();
    Ok(format!(
        "made {}, which only uid {uid} can read; if the registry runs as another user: chown USER {}",
        made.join(" and "),
        made.join(" ")
    ))
}

/// Adds to an error what to do.
pub(super) fn with_remedy(error: io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run the command as root, or as the owner of the file and its folder"
        }
        io::ErrorKind::NotADirectory => "a part of the path is a file and not a folder; choose another path",
        io::ErrorKind::ReadOnlyFilesystem => "choose a path on a file system that can be written to",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn missing_folders_are_made_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = (folder.path().join("a"), folder.path().join("a/b"));
        let file = inner.join("file");
        assert_eq!(make_folder_of(&file).unwrap(), [outer.clone(), inner.clone()]);
        for made in [&outer, &inner] {
            assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(make_folder_of(&file).unwrap().is_empty());
        assert!(make_folder_of(Path::new("file")).unwrap().is_empty());
        fs::write(&file, "").unwrap();
        let text = describe_owner(&file, std::slice::from_ref(&inner)).unwrap();
        let end = format!("chown USER {} {}", inner.display(), file.display());
        assert!(text.ends_with(&end), "{text}");
        let error = with_remedy(make_folder_of(&file.join("below/file")).unwrap_err());
        assert!(error.to_string().ends_with("choose another path"), "{error}");
        let error = with_remedy(io::ErrorKind::PermissionDenied.into());
        assert!(error.to_string().contains("; run the command as root"), "{error}");
    }
}

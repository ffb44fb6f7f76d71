//! Advice for folders to which this process has no access.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access as Permission, AtFlags, CWD, accessat};

use crate::store::Access;

/// Adds advice to an error of permissions about a folder; other errors stay as they are.
pub(super) fn advise(folder: &Path, access: Access, error: anyhow::Error) -> anyhow::Error {
    let kind = error.chain().find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let advice = match (kind, access) {
        (Some(io::ErrorKind::PermissionDenied), Access::Write) => {
            format!("this process is user {user}, group {group}: run `{}`", command(folder, user, group))
        }
        (Some(io::ErrorKind::PermissionDenied), Access::Read) => {
            format!("this process is user {user}, group {group}, which must be able to read it")
        }
        (Some(io::ErrorKind::ReadOnlyFilesystem), _) => {
            "it is mounted read-only: mount it writable; `serve --read-only` serves it as it is".into()
        }
        _ => return error,
    };
    // The cause belongs before the advice, in one line.
    anyhow::anyhow!("{error:#}; {advice}")
}

/// Returns the shell command that makes this user the owner of a folder.
fn command(folder: &Path, user: u32, group: u32) -> String {
    let quoted = quote(&folder.display().to_string());
    let mut command = String::new();
    if !folder.exists() {
        write!(command, "mkdir -p {quoted} && ").expect("writing to a string does not fail");
    }
    let may_write =
        accessat(CWD, folder, Permission::WRITE_OK | Permission::EXEC_OK, AtFlags::EACCESS).is_ok();
    // A folder that this user may write failed for its content.
    let recursive = if may_write || has_foreign_content(folder, user) { "-R " } else { "" };
    write!(command, "chown {recursive}{user}:{group} {quoted}").expect("writing to a string does not fail");
    command
}

/// Returns true if anything in a folder belongs to another user, or if the folder cannot be listed.
/// Registries keep all content below `docker`, which may be listed and still hold content of another user.
fn has_foreign_content(folder: &Path, user: u32) -> bool {
    if !folder.exists() {
        return false;
    }
    let Ok(mut entries) = std::fs::read_dir(folder) else { return true };
    let is_foreign = |entry: io::Result<std::fs::DirEntry>| {
        entry.and_then(|entry| entry.metadata()).is_ok_and(|metadata| metadata.uid() != user)
    };
    folder.join("docker").exists() || entries.any(is_foreign)
}

/// Quotes a path for a shell.
fn quote(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !path.is_empty() && !path.starts_with('-') && path.chars().all(is_plain) {
        path.into()
    } else {
        format!("'{}'", super::sanitize(path).replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_is_made_and_an_old_one_changed_with_all_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let missing = path.join("a b");
        assert_eq!(command(&missing, 65532, 65532), {
            let shown = missing.display();
            format!("mkdir -p '{shown}' && chown 65532:65532 '{shown}'")
        });
        std::fs::create_dir(path.join("docker")).unwrap();
        assert_eq!(command(path, 1, 2), format!("chown -R 1:2 {}", path.display()));
    }

    #[test]
    fn content_of_another_user_is_recognized_in_any_layout() {
        let folder = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert!(!has_foreign_content(&folder.path().join("missing"), user));
        assert!(!has_foreign_content(folder.path(), user + 1), "an empty folder");
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        assert!(!has_foreign_content(folder.path(), user));
        assert!(has_foreign_content(folder.path(), user + 1));
    }

    #[test]
    fn other_failures_get_no_advice() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull));
        let before = format!("{error:#}");
        assert_eq!(format!("{:#}", advise(Path::new("/x"), Access::Write, error)), before);
    }

    #[test]
    fn paths_are_quoted_as_a_shell_takes_them() {
        assert_eq!(quote("/srv/r"), "/srv/r");
        assert_eq!(quote("/it's"), r"'/it'\''s'");
        assert_eq!(quote("$(reboot)"), "'$(reboot)'");
        assert_eq!(quote(""), "''");
    }
}

//! `quinistry prepare-storage`: gives a storage folder to the user that serves it.
//!
//! A folder of a node belongs to root, and the registry does not run as root: an init container of the same image runs
//! this before. Of root's capabilities it has `CAP_CHOWN` alone, so that it can change the owner of any folder, and the
//! mode, or the list of what is in it, only while it owns the folder itself.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;

use super::exit::UsageError;
use super::print;

/// Permissions of the folder: its owner alone reads and writes it.
const MODE: u32 = 0o700;

/// Folder that file systems make at their root, and that belongs to root.
const LOST_AND_FOUND: &str = "lost+found";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder to prepare; made if it does not exist
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::DirPath)]
    storage: PathBuf,

    /// User and group that serve the folder, as numbers
    #[arg(long, value_name = "UID:GID")]
    owner: Owner,
}

/// User and group of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

impl FromStr for Owner {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok().filter(|number| *number != u32::MAX);
        let parts = text.split_once(':').and_then(|(user, group)| Some((number(user)?, number(group)?)));
        let (user, group) = parts.ok_or("is not UID:GID in numbers, such as 65532:65532")?;
        Ok(Self { user, group })
    }
}

impl Owner {
    fn of(metadata: &Metadata) -> Self {
        Self { user: metadata.uid(), group: metadata.gid() }
    }
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { storage, owner: wanted } = self;
        let (path, Owner { user, group }) = (storage.display(), wanted);
        let is_changed = prepare(&storage, wanted)
            .with_context(|| format!("failed to give storage {path} to {user}:{group}"))?;
        if is_changed {
            print(format!("storage {path} belongs to {user}:{group} now\n"))
        } else {
            print(format!("storage {path} belongs to {user}:{group} already\n"))
        }
    }
}

/// Gives a folder to its owner. Returns false if nothing had to be changed.
fn prepare(folder: &Path, wanted: Owner) -> anyhow::Result<bool> {
    let found = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().mode(MODE).create(folder);
            made.context("the folder cannot be made; is its parent folder there, and writable?")?;
            fs::metadata(folder)?
        }
        found => found?,
    };
    anyhow::ensure!(found.is_dir(), UsageError("it is not a folder; choose another path".into()));
    let (owner, mode) = (Owner::of(&found), found.mode() & 0o7777);
    if (owner, mode) == (wanted, MODE) {
        return Ok(false);
    }
    if owner.user != wanted.user {
        check_content(folder, owner, wanted)?;
    }
    if mode != MODE {
        let process =
            Owner { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() };
        // Only the owner may change the mode, unless it has CAP_FOWNER.
        if owner.user != process.user {
            give(folder, process)?;
        }
        fs::set_permissions(folder, Permissions::from_mode(MODE)).context("its mode cannot be changed")?;
    }
    // Last: from now on, this process has no right to the folder.
    give(folder, wanted)?;
    Ok(true)
}

fn give(folder: &Path, owner: Owner) -> anyhow::Result<()> {
    let given = chown(folder, Some(owner.user), Some(owner.group));
    given.context(
        "its owner cannot be changed; run this as root with CAP_CHOWN, on a file system that is writable",
    )
}

/// Fails if a folder has content of another user: it is not a storage that an earlier start has prepared, and may be one
/// that the machine needs, such as `/etc`.
fn check_content(folder: &Path, owner: Owner, wanted: Owner) -> anyhow::Result<()> {
    let Owner { user, group } = wanted;
    let listed = fs::read_dir(folder).with_context(|| {
        format!(
            "it belongs to user {} and cannot be listed; choose an empty folder, or run `chown -R {user}:{group}` on it",
            owner.user
        )
    })?;
    for entry in listed {
        let entry = entry?;
        // The metadata of a symbolic link are its own.
        let found = entry.metadata()?.uid();
        let is_own = found == user || entry.file_name() == OsStr::new(LOST_AND_FOUND);
        anyhow::ensure!(
            is_own,
            "it has content of user {found}, such as {}; choose an empty folder, or run `chown -R {user}:{group}` on it",
            entry.file_name().display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Owner that any process can give its own folders to.
    fn me() -> Owner {
        Owner { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn an_owner_is_two_numbers() {
        assert_eq!("65532:65533".parse(), Ok(Owner { user: 65532, group: 65533 }));
        for text in ["", "65532", "65532:", ":0", "a:b", "-1:0", "4294967295:0", "1:2:3"] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_folder_is_made_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("storage");
        assert!(!prepare(&folder, me()).unwrap(), "it is made as it must be");
        assert_eq!(mode(&folder), MODE);
        assert!(!prepare(&folder, me()).unwrap());
        let error = prepare(&place.path().join("no/where"), me()).unwrap_err();
        assert!(format!("{error:#}").contains("parent folder"), "{error:#}");
    }

    #[test]
    fn a_folder_that_others_may_read_is_closed_and_its_content_stays() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(place.path().join("blob"), "bytes").unwrap();
        assert!(prepare(place.path(), me()).unwrap());
        assert_eq!(mode(place.path()), MODE);
        assert_eq!(fs::read(place.path().join("blob")).unwrap(), b"bytes");
    }

    #[test]
    fn content_of_another_user_and_files_are_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("passwd"), "").unwrap();
        let other = Owner { user: me().user + 1, group: me().group };
        let before = mode(place.path());
        let error = format!("{:#}", prepare(place.path(), other).unwrap_err());
        assert!(error.contains("such as passwd; choose an empty folder, or run `chown -R"), "{error}");
        assert_eq!(mode(place.path()), before);
        let error = prepare(&place.path().join("passwd"), me()).unwrap_err();
        assert!(error.to_string().contains("is not a folder"), "{error}");
    }
}

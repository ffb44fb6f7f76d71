//! Folders on network file systems, whose locks may not keep writers on other machines out.

use std::path::Path;

use crate::store::{Access, FilesystemKind, Locking};

/// Refusal of a folder that another machine may write to.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is on {name}, whose locks do not reliably keep writers on other machines out; if no other process writes to \
     it, set --exclusive or quinistry.exclusive: true, else put a gateway with the interface of S3 before it"
)]
pub(super) struct NotExclusive {
    name: &'static str,
}

/// Checks that a folder may be opened, and returns what its owner should know. Pure.
pub(super) fn check(
    kind: FilesystemKind,
    access: Access,
    is_exclusive: bool,
) -> Result<Option<&'static str>, NotExclusive> {
    let FilesystemKind { name, locking } = kind;
    Ok(match (locking, access) {
        (Locking::Sound, _) => None,
        (Locking::Unsound | Locking::Unknown, Access::Read) => {
            Some("tags that another machine writes may be seen a minute late")
        }
        (_, Access::Write) if is_exclusive => None,
        (Locking::Unsound, Access::Write) => return Err(NotExclusive { name }),
        (Locking::Unknown, Access::Write) => Some(
            "the lock of the folder may hold on this machine alone: let no other machine write to it, and say so by \
             --exclusive or quinistry.exclusive: true",
        ),
    })
}

/// Question for the kind of the file system of a folder.
pub(super) type KindOf<'a> = &'a dyn Fn(&Path) -> Option<FilesystemKind>;

/// Asks the operating system. A folder that cannot be asked about is opened, which says what is wrong.
pub(super) fn kind_of(folder: &Path) -> Option<FilesystemKind> {
    FilesystemKind::of_folder(folder).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(number: u32, access: Access, is_exclusive: bool) -> String {
        match check(FilesystemKind::of_number(number), access, is_exclusive) {
            Ok(None) => "open".into(),
            Ok(Some(warning)) => format!("warn: {warning}"),
            Err(refused) => format!("refuse: {refused}"),
        }
    }

    #[test]
    fn a_network_file_system_is_written_to_only_by_a_single_writer() {
        const EXT4: u32 = 0xef53;
        const NFS: u32 = 0x6969;
        const FUSE: u32 = 0x6573_5546;
        const CEPH: u32 = 0x00c3_6400;
        for (number, access, is_exclusive, expected) in [
            (EXT4, Access::Write, false, "open"),
            (EXT4, Access::Read, false, "open"),
            (CEPH, Access::Write, false, "open"),
            (NFS, Access::Write, false, "refuse: it is on NFS, whose locks"),
            (NFS, Access::Write, true, "open"),
            (NFS, Access::Read, false, "warn: tags that another machine writes"),
            (FUSE, Access::Write, false, "warn: the lock of the folder may hold on this machine alone"),
            (FUSE, Access::Write, true, "open"),
            (FUSE, Access::Read, false, "warn: tags"),
        ] {
            let checked = checked(number, access, is_exclusive);
            assert!(checked.starts_with(expected), "{number:x} {access:?} {is_exclusive}: {checked}");
            assert_eq!(checked.lines().count(), 1);
        }
    }
}

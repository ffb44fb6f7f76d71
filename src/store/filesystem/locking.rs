//! Locks of file systems: some keep out the writers of all machines, and some only those of their own.

use std::io;
use std::path::Path;

use rustix::fs::statfs;

/// Kind of the file system that a folder is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilesystemKind {
    /// Name for messages.
    pub name: &'static str,
    /// Locks on it.
    pub locking: Locking,
}

/// Locks of a file system, towards processes on other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// No other machine has the file system, or a lock holds for all machines.
    Sound,
    /// The program behind the file system decides, and the kernel cannot tell.
    Unknown,
    /// Options of the mount decide, and may leave a lock to one machine. Machines also see each other's files and lists
    /// late.
    Unsound,
}

/// Network file systems by their numbers in `statfs`(2), but for those whose locks hold for all machines: Ceph, GFS2,
/// OCFS2, Lustre and GPFS.
const KINDS: [(u32, &str, Locking); 11] = [
    // `nolock` and `local_lock` (nfs(5)); Amazon EFS is NFS.
    (0x6969, "NFS", Locking::Unsound),
    // `nobrl` (mount.cifs(8)).
    (0xff53_4d42, "CIFS", Locking::Unsound),
    (0xfe53_4d42, "SMB", Locking::Unsound),
    (0x517b, "SMB", Locking::Unsound),
    (0x564c, "NCP", Locking::Unsound),
    // Locks of byte ranges stay on the machine.
    (0x5346_414f, "AFS", Locking::Unsound),
    (0x6b41_4653, "AFS", Locking::Unsound),
    (0x7375_7245, "Coda", Locking::Unsound),
    // Folders of virtual machines and of desktops, but also sshfs, s3fs and rclone.
    (0x6573_5546, "FUSE", Locking::Unknown),
    (0x0102_1997, "9P", Locking::Unknown),
    (0x786f_4256, "VirtualBox", Locking::Unknown),
];

// === impl FilesystemKind ===

impl FilesystemKind {
    /// Returns the kind by the number in `statfs`(2).
    #[must_use]
    pub fn of_number(number: u32) -> Self {
        let known = KINDS.iter().find(|(known, ..)| *known == number);
        let (_, name, locking) = known.copied().unwrap_or((number, "another file system", Locking::Sound));
        Self { name, locking }
    }

    /// Returns the kind of the file system that has a folder. One that does not exist yet is where its parent is.
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        let mut above = folder.ancestors();
        loop {
            let folder = above.next().filter(|folder| !folder.as_os_str().is_empty());
            match statfs(folder.unwrap_or(Path::new("."))) {
                Err(rustix::io::Errno::NOENT) if folder.is_some() => {}
                Err(error) => return Err(error.into()),
                // The number has 32 bits, and is extended by its sign on some machines.
                Ok(found) => return Ok(Self::of_number(number(i128::from(found.f_type)))),
            }
        }
    }
}

fn number(f_type: i128) -> u32 {
    u32::try_from(f_type & i128::from(u32::MAX)).expect("the other bits are zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_network_file_systems_are_not_relied_on() {
        for (f_type, name, locking) in [
            // ext4, xfs, btrfs, tmpfs, overlayfs, zfs.
            (0xef53, "another file system", Locking::Sound),
            (0x5846_5342, "another file system", Locking::Sound),
            (0x9123_683e, "another file system", Locking::Sound),
            (0x0102_1994, "another file system", Locking::Sound),
            (0x794c_7630, "another file system", Locking::Sound),
            (0x2fc1_2fc1, "another file system", Locking::Sound),
            // Ceph.
            (0x00c3_6400, "another file system", Locking::Sound),
            (0x6969, "NFS", Locking::Unsound),
            (0xff53_4d42, "CIFS", Locking::Unsound),
            (-0x00ac_b2be, "CIFS", Locking::Unsound),
            (0xfe53_4d42, "SMB", Locking::Unsound),
            (0x6573_5546, "FUSE", Locking::Unknown),
            (0x0102_1997, "9P", Locking::Unknown),
        ] {
            assert_eq!(
                FilesystemKind::of_number(number(f_type)),
                FilesystemKind { name, locking },
                "{f_type:x}"
            );
        }
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_where_its_parent_is() {
        let folder = tempfile::tempdir().unwrap();
        let expected = FilesystemKind::of_folder(folder.path()).unwrap();
        assert_eq!(FilesystemKind::of_folder(&folder.path().join("a/b")).unwrap(), expected);
        FilesystemKind::of_folder(Path::new("no-such-folder/a")).unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        FilesystemKind::of_folder(&file.join("a")).unwrap_err();
    }
}

//! As much of a pod as the stub sees: itself, a folder of pieces, a scratch folder, and a user.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use quinistry::oci::Digest;
use quinistry::seed::STUB;
use tempfile::TempDir;

use crate::support::process::{command, no_forks, output};

/// Size of a seed part: a `ConfigMap` holds 1 MiB, and its other fields need some of that.
pub(crate) const PART_BYTES: usize = 768 * 1024;

/// The user that pods of the registry have.
const USER: u32 = 65532;

pub(crate) struct Pod {
    folder: TempDir,
    digest: String,
}

impl Pod {
    /// With the pieces of some content, each of at most so many bytes.
    pub(crate) fn of(content: &[u8], piece: usize) -> Self {
        let pod = Self { folder: TempDir::new().unwrap(), digest: Digest::sha256(content).to_string() };
        fs::set_permissions(pod.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        {
            let _guard = no_forks();
            fs::write(pod.stub(), STUB).unwrap();
        }
        fs::set_permissions(pod.stub(), fs::Permissions::from_mode(0o555)).unwrap();
        fs::create_dir(pod.pieces()).unwrap();
        for (number, piece) in content.chunks(piece).enumerate() {
            fs::write(pod.piece(number), piece).unwrap();
        }
        fs::create_dir(pod.scratch()).unwrap();
        if is_root() {
            chown(pod.scratch(), Some(USER), Some(USER)).unwrap();
        }
        pod
    }

    /// With a program that every machine has, whose arguments and environment can be seen: it prints files.
    pub(crate) fn of_cat() -> Self {
        Self::of(&fs::read("/bin/cat").unwrap(), 10_001)
    }

    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) fn stub(&self) -> PathBuf {
        self.folder.path().join("stub")
    }

    pub(crate) fn pieces(&self) -> PathBuf {
        self.folder.path().join("pieces")
    }

    pub(crate) fn piece(&self, number: usize) -> PathBuf {
        self.pieces().join(format!("{number:03}"))
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    /// The stub with its own arguments.
    pub(crate) fn stubbed(&self) -> Command {
        let mut command = self.bare();
        command.arg(self.digest()).args([self.pieces(), self.scratch()]);
        command
    }

    /// The stub without arguments.
    pub(crate) fn bare(&self) -> Command {
        let mut command = command(self.stub());
        command.current_dir("/");
        if is_root() {
            command.uid(USER).gid(USER);
        }
        command
    }

    /// The stub with its own arguments, in namespaces in which root has made something of its own first:
    /// shell commands, for which `$1` is the scratch folder. `None` if that cannot be done here.
    pub(crate) fn after(&self, setup: &str) -> Option<Command> {
        const NEW: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];
        let tried =
            is_root() && output(command("unshare").args(NEW).arg("true")).is_ok_and(|o| o.status.success());
        if !tried {
            return None;
        }
        let user = format!("exec setpriv --reuid={USER} --regid={USER} --clear-groups -- \"$@\"");
        let mut command = command("unshare");
        command.args(NEW).args(["sh", "-ec", &format!("{setup}\nshift\n{user}"), "sh"]).arg(self.scratch());
        command.arg(self.stub()).arg(self.digest()).args([self.pieces(), self.scratch()]).current_dir("/");
        Some(command)
    }

    /// Asserts that a command ends with a code, one line that contains all these words, and nothing left
    /// behind.
    #[track_caller]
    pub(crate) fn assert_fails(&self, command: &mut Command, code: i32, words: &[&str]) {
        let before = self.left();
        let output = output(command).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.starts_with("quinistry stub: ") && error.ends_with('\n'), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        for word in words {
            assert!(error.contains(word), "{word:?} in {error}");
        }
        assert_eq!(output.stdout, b"");
        assert_eq!(self.left(), before);
    }

    /// Returns the entries of the scratch folder; none if there is no folder.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.scratch()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a command to its end, which must be a good and silent one; gives what it printed.
#[track_caller]
pub(crate) fn stdout(command: &mut Command) -> Vec<u8> {
    let output = output(command).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{}: {error}", output.status);
    output.stdout
}

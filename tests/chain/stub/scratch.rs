//! Where memory must not be executed, the scratch folder is used, and only there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use quinistry::seed::exit;

use crate::stub::pod::{PART_BYTES, Pod, stdout};
use crate::stub::seccomp::{Refused, without_memfd};
use crate::support::process::command;
use crate::support::server::PROGRAM;
use crate::support::skip::missing;

/// The program under test, which prints from where it runs.
const EXE: [&str; 2] = ["--", "/proc/self/maps"];

/// Asserts that what `/bin/cat` prints of itself is that it runs from a file that has had this name.
#[track_caller]
fn assert_runs_from(command: &mut Command, path: &Path) {
    let maps = String::from_utf8(stdout(command.args(EXE))).unwrap();
    let first = maps.lines().next().unwrap();
    assert!(first.ends_with(&format!("{} (deleted)", path.display())), "{first}");
}

const MEMORY: &str = "/memfd:quinistry";

/// The pod with this `vm.memfd_noexec`, and after further commands, or the reason why that cannot be.
fn restricted(pod: &Pod, level: u8, setup: &str) -> Option<Command> {
    const SYSCTL: &str = "/proc/sys/vm/memfd_noexec";
    if !Path::new(SYSCTL).exists() {
        missing("Linux 6.3's vm.memfd_noexec");
        return None;
    }
    let command = pod.after(&format!("echo {level} >{SYSCTL}\n{setup}"));
    if command.is_none() {
        missing("root, unshare, and namespaces of its own");
    }
    command
}

#[test]
fn a_kernel_that_does_not_know_the_flag_is_asked_without_it() {
    let pod = Pod::of_cat();
    assert_runs_from(without_memfd(&mut pod.stubbed(), Refused::NewFlag), Path::new(MEMORY));
}

#[test]
fn no_memory_at_all() {
    let pod = Pod::of(&fs::read(PROGRAM).unwrap(), PART_BYTES);
    let mut filtered = pod.stubbed();
    let ours = stdout(without_memfd(&mut filtered, Refused::All).args(["image", "digest"]));
    assert_eq!(ours, stdout(command(PROGRAM).args(["image", "digest"])));
    assert!(pod.left().is_empty());
}

#[test]
fn a_leftover_is_replaced_and_not_followed() {
    let pod = Pod::of_cat();
    let (place, other) = (pod.scratch().join("quinistry"), pod.scratch().join("other"));
    fs::write(&other, "other").unwrap();
    for leftover in ["file", "link"] {
        if leftover == "file" {
            fs::write(&place, "leftover").unwrap();
        } else {
            symlink(&other, &place).unwrap();
        }
        assert_runs_from(without_memfd(&mut pod.stubbed(), Refused::All), &place);
        assert_eq!(pod.left(), [other.as_path()]);
        assert_eq!(fs::read(&other).unwrap(), b"other");
    }
    fs::create_dir(&place).unwrap();
    let mut command = pod.stubbed();
    let words = ["quinistry cannot be removed: errno 21 (EISDIR)"];
    pod.assert_fails(without_memfd(&mut command, Refused::All), exit::REMOVE, &words);
}

#[test]
fn a_scratch_folder_that_is_none() {
    let pod = Pod::of_cat();
    fs::remove_dir(pod.scratch()).unwrap();
    let words =
        ["a file in memory is refused (errno 1 (EPERM))", "scratch/quinistry cannot be created: errno 2"];
    pod.assert_fails(without_memfd(&mut pod.stubbed(), Refused::All), exit::CREATE, &words);
    fs::write(pod.scratch(), "").unwrap();
    let words = ["cannot be created: errno 20 (ENOTDIR)", "mount a memory-backed emptyDir there"];
    pod.assert_fails(without_memfd(&mut pod.stubbed(), Refused::All), exit::CREATE, &words);
}

#[test]
fn a_file_that_cannot_be_opened_again() {
    let pod = Pod::of_cat();
    // Then the file's mode is none at all.
    let Some(mut command) = pod.after("umask 777") else {
        return missing("root, unshare, and namespaces of its own");
    };
    let words = ["quinistry cannot be read again: errno 13 (EACCES)"];
    pod.assert_fails(without_memfd(&mut command, Refused::All), exit::REOPEN, &words);
}

#[test]
fn pieces_are_refused_there_too() {
    let pod = Pod::of(b"abc", 1);
    let mut command = pod.stubbed();
    pod.assert_fails(
        without_memfd(&mut command, Refused::All),
        exit::EXECUTE,
        &["scratch: errno 8 (ENOEXEC)"],
    );
    fs::write(pod.piece(2), "C").unwrap();
    let mut command = pod.stubbed();
    pod.assert_fails(without_memfd(&mut command, Refused::All), exit::WRONG_DIGEST, &["in 3 pieces"]);
}

#[test]
fn memory_is_executed_where_the_system_wants_that_said() {
    let pod = Pod::of_cat();
    for level in [0, 1] {
        let Some(mut command) = restricted(&pod, level, "") else { return };
        assert_runs_from(&mut command, Path::new(MEMORY));
    }
}

#[test]
fn memory_is_not_executed_where_the_system_forbids_it() {
    let pod = Pod::of(&fs::read(PROGRAM).unwrap(), PART_BYTES);
    let Some(mut command) = restricted(&pod, 2, "") else { return };
    let ours = stdout(command.args(["image", "digest"]));
    assert_eq!(ours, stdout(crate::support::process::command(PROGRAM).args(["image", "digest"])));

    let pod = Pod::of_cat();
    let Some(mut command) = restricted(&pod, 2, "") else { return };
    assert_runs_from(&mut command, &pod.scratch().join("quinistry"));
    assert!(pod.left().is_empty());
}

/// A kernel that makes memory not executable without being asked, and cannot be asked for the contrary.
#[test]
fn memory_that_turns_out_not_to_be_executable() {
    let pod = Pod::of_cat();
    let Some(mut command) = restricted(&pod, 1, "") else { return };
    let place = pod.scratch().join("quinistry");
    assert_runs_from(without_memfd(&mut command, Refused::NewFlag), &place);
    fs::remove_dir(pod.scratch()).unwrap();
    let Some(mut command) = restricted(&pod, 1, "") else { return };
    let words = ["a file in memory is refused (errno 13 (EACCES))"];
    pod.assert_fails(without_memfd(&mut command, Refused::NewFlag), exit::CREATE, &words);
}

#[test]
fn a_scratch_folder_of_no_use() {
    let pod = Pod::of_cat();
    let mount = |options: &str| format!("mount -t tmpfs -o {options} scratch \"$1\"");
    for (options, code, words) in [
        ("mode=755", exit::CREATE, "quinistry cannot be created: errno 13 (EACCES)"),
        ("mode=777,ro", exit::CREATE, "quinistry cannot be created: errno 30 (EROFS)"),
        ("mode=777,size=16k", exit::WRITE, "errno 28 (ENOSPC); the pod's memory limit or its scratch volume"),
        ("mode=777,noexec", exit::EXECUTE, "scratch: errno 13 (EACCES); nothing may be executed from there"),
    ] {
        let Some(mut command) = restricted(&pod, 2, &mount(options)) else { return };
        pod.assert_fails(&mut command, code, &[words]);
    }
}

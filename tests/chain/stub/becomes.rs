//! The process after the stub has executed the seed: all of the executable, and nothing of the stub.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use quinistry::oci::Digest;

use crate::stub::pod::{PART_BYTES, Pod, stdout};
use crate::support::process::{command, output};
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::support::skip::{Need, lacks};

#[test]
fn the_executable_finds_all_of_itself() {
    let content = fs::read(PROGRAM).unwrap();
    let pod = Pod::of(&content, PART_BYTES);
    let ours = stdout(pod.stubbed().args(["image", "digest"]));
    assert_eq!(ours, stdout(command(PROGRAM).args(["image", "digest"])));

    let server = Server::launch(pod.stubbed().args(SERVE));
    let process = |name: &str| format!("/proc/{}/{name}", server.pid().as_raw_nonzero());
    assert!(Digest::sha256(&content).matches(&fs::read(process("exe")).unwrap()));
    let link = |path: &str| fs::read_link(path).unwrap().into_os_string().into_string().unwrap();
    assert_eq!(link(&process("exe")), "/memfd:quinistry (deleted)");
    for entry in fs::read_dir(process("fd")).unwrap() {
        let number = entry.unwrap().file_name().into_string().unwrap();
        let opened = link(&process(&format!("fd/{number}")));
        assert!(!opened.starts_with(pod.pieces().to_str().unwrap()), "still open: {opened}");
        if opened.starts_with("/memfd:") {
            let info = fs::read_to_string(process(&format!("fdinfo/{number}"))).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            assert!(
                flags.ends_with('0'),
                "the registry reads itself; the stub's descriptor is closed: {flags}"
            );
        }
    }
    assert!(pod.left().is_empty());
}

/// As in a carrier image, of which nothing is known.
#[test]
fn an_empty_root_is_enough() {
    if lacks(&[Need::Root, Need::Tool("chroot")]) {
        return;
    }
    let pod = Pod::of(&fs::read(PROGRAM).unwrap(), PART_BYTES);
    let mut inside = command("chroot");
    inside.arg("--userspec=65532:65532").arg(pod.stub().parent().unwrap());
    inside.args(["/stub", pod.digest(), "/pieces", "/scratch", "--version"]);
    assert_eq!(stdout(&mut inside), stdout(command(PROGRAM).arg("--version")));
}

#[test]
fn arguments_arrive_as_they_are() {
    let pod = Pod::of_cat();
    let odd = [OsStr::new("--"), OsStr::new("/proc/self/cmdline")];
    assert_eq!(stdout(pod.stubbed().args(odd)), b"quinistry\0--\0/proc/self/cmdline\0");
    let (empty, bytes) = (OsStr::new(""), OsStr::from_bytes(b"\xff\n \xc3"));
    let output = output(pod.stubbed().args([odd[1], empty, bytes])).unwrap();
    assert_eq!(output.stdout, b"quinistry\0/proc/self/cmdline\0\0\xff\n \xc3\0");
    // Without any it would read what it is given, which is nothing.
    assert_eq!(stdout(&mut pod.stubbed()), b"");
}

#[test]
fn the_environment_arrives_as_it_is() {
    let pod = Pod::of_cat();
    let mut command = pod.stubbed();
    command.arg("/proc/self/environ").env_clear();
    assert_eq!(stdout(&mut command), b"");
    command.env("ONE", OsStr::from_bytes(b"\xff\n=")).env("TWO", "");
    assert_eq!(stdout(&mut command), b"ONE=\xff\n=\0TWO=\0");
}

#[test]
fn it_does_not_matter_where_it_was_cut() {
    let cat = fs::read("/bin/cat").unwrap();
    for piece in [63, 64, 65_536, 65_537, cat.len()] {
        let pod = Pod::of(&cat, piece);
        assert!(cat.len() / piece < 1000);
        assert_eq!(stdout(pod.stubbed().arg("/proc/self/comm")).last(), Some(&b'\n'), "pieces of {piece}");
    }
}

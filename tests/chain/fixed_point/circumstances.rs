//! Nothing but the program's bytes has a say in the image.

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{MemfdFlags, memfd_create};
use tempfile::TempDir;

use crate::fixed_point::{assert_serves, first_generation};
use crate::support::process::{command, no_forks};
use crate::support::server::{PROGRAM, SERVE, Server};
use crate::support::skip::{Need, lacks};

/// The program's own file as an open descriptor that children do not keep.
fn by_descriptor(file: &File) -> Command {
    // Resolved by the child, before its descriptors are closed.
    command(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A copy of the program in a folder that everybody may enter.
fn copy(name: &str) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join(name);
    let _guard = no_forks();
    fs::copy(PROGRAM, &path).unwrap();
    (folder, path)
}

#[test]
fn path_name_and_arguments_have_no_say() {
    let (_folder, path) = copy("an other näme.exe");
    let server = Server::launch(command(path).arg0("/bin/sh").args(["--listen", "127.0.0.1:0"]));
    assert_serves(&server, &first_generation());
}

#[test]
fn a_symbolic_link_has_no_say() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    assert_serves(&Server::launch(command(link).args(SERVE)), &first_generation());
}

#[test]
fn the_environment_has_no_say() {
    let image = first_generation();
    assert_serves(&Server::launch(command(PROGRAM).args(SERVE).env_clear()), &image);
    let odd = [
        ("TZ", ":/etc/passwd"),
        ("LANG", "tr_TR.UTF-8"),
        ("LC_ALL", "ar_SA"),
        ("HOSTNAME", "elsewhere"),
        ("HOME", "/nonexistent"),
        ("TMPDIR", "/nonexistent"),
        ("PATH", ""),
        ("SOURCE_DATE_EPOCH", "1"),
        ("QUINISTRY_REVISION", "forged"),
        ("RUST_BACKTRACE", "full"),
        ("TOKIO_WORKER_THREADS", "1"),
        ("GZIP", "-9"),
    ];
    assert_serves(&Server::launch(command(PROGRAM).args(SERVE).env_clear().envs(odd)), &image);
}

#[test]
fn the_working_directory_has_no_say_even_if_it_is_gone() {
    let image = first_generation();
    let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
    let mut command = command("/bin/sh");
    command.args(["-c", script, "sh", PROGRAM]).args(SERVE);
    assert_serves(&Server::launch(&mut command), &image);
}

#[test]
fn the_user_has_no_say() {
    if lacks(&[Need::Root]) {
        return;
    }
    let (_folder, path) = copy("quinistry");
    let server = Server::launch(command(path).args(SERVE).uid(65532).gid(65532).current_dir("/"));
    assert_serves(&server, &first_generation());
}

#[test]
fn the_date_of_the_file_and_its_mode_have_no_say() {
    let (_folder, path) = copy("quinistry");
    File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_hours(1)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    assert_serves(&Server::launch(command(path).args(SERVE)), &first_generation());
}

/// The clocks that a namespace can set. The wall clock belongs to the whole machine, so a test cannot; the
/// other tests differ in it by the moments at which they run.
#[test]
fn the_clock_has_no_say() {
    if lacks(&[Need::Root, Need::Tool("unshare")]) {
        return;
    }
    let mut command = command("unshare");
    command.args(["--time", "--boottime", "987654321", "--monotonic", "987654321"]);
    command.args(["--fork", "--kill-child", "--", PROGRAM]).args(SERVE);
    assert_serves(&Server::launch(&mut command), &first_generation());
}

#[test]
fn a_program_that_never_was_a_file_serves_itself() {
    let mut memory = File::from(memfd_create("no file", MemfdFlags::CLOEXEC).unwrap());
    memory.write_all(&fs::read(PROGRAM).unwrap()).unwrap();
    memory.rewind().unwrap();
    assert_serves(&Server::launch(by_descriptor(&memory).args(SERVE)), &first_generation());
}

#[test]
fn a_program_whose_file_is_gone_serves_itself() {
    let (folder, path) = copy("quinistry");
    let file = File::open(&path).unwrap();
    drop(folder);
    assert!(!path.exists());
    assert_serves(&Server::launch(by_descriptor(&file).args(SERVE)), &first_generation());
}

#[test]
fn a_program_whose_file_is_replaced_under_it_goes_on_serving_itself() {
    let (_folder, path) = copy("quinistry");
    let server = Server::launch(command(&path).args(SERVE));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another program").unwrap();
    assert_serves(&server, &first_generation());
}

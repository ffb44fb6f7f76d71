//! The install script, with a web server that serves good releases and bad ones.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::scripts::{TAG, architecture, good, quinistry, refusal, root, script};
use crate::support::process::{command, no_forks};
use crate::support::scripted_registry::{Answer, ScriptedRegistry};
use crate::support::server::PROGRAM;
use crate::support::skip::{Need, lacks};

/// The programs that the script may use, beside a shell and one of [`DOWNLOADERS`].
const TOOLS: &[&str] = &["chmod", "cp", "mkdir", "mktemp", "mv", "rm", "sed", "sha256sum", "uname"];

const DOWNLOADERS: [&str; 2] = ["curl", "wget"];

/// A stand-in for the binary: small, and runs wherever there is a shell.
const BINARY: &[u8] = b"#!/bin/sh\necho quinistry 99.0.0\n";

/// Returns the name of the release's file for this machine.
fn binary_name() -> String {
    format!("quinistry-linux-{}", architecture())
}

/// Returns the line of SHA256SUMS for the binary.
fn checksum_line(bytes: &[u8]) -> String {
    let mut line = String::new();
    for byte in Sha256::digest(bytes) {
        write!(line, "{byte:02x}").unwrap();
    }
    line + "  " + &binary_name() + "\n"
}

/// A machine without quinistry, and the server of a release.
struct Machine {
    folder: TempDir,
    release: ScriptedRegistry,
}

impl Machine {
    /// Serves the answers to requests for SHA256SUMS and the binary, and 404 for all else.
    fn new(checksums: Answer, binary: Answer, downloader: &str) -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["bin", "temporary"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let path = std::env::var_os("PATH").unwrap();
        for tool in TOOLS.iter().chain([&downloader]) {
            let found =
                std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.is_file());
            let found = found.unwrap_or_else(|| panic!("{tool} is not in PATH"));
            symlink(found, folder.path().join("bin").join(tool)).unwrap();
        }
        let name = format!("/release/{}", binary_name());
        let release = ScriptedRegistry::start(move |request| match request.path() {
            "/release/SHA256SUMS" => checksums.clone(),
            path if path == name => binary.clone(),
            _ => Answer::new(404),
        });
        Self { folder, release }
    }

    /// A release that is in order.
    fn with_good_release(downloader: &str) -> Self {
        let others = format!("{}  {}.cdx.json\n", "0".repeat(64), binary_name());
        Self::new(Answer::ok(others + &checksum_line(BINARY)), Answer::ok(BINARY), downloader)
    }

    fn prefix(&self) -> PathBuf {
        self.folder.path().join("prefix")
    }

    fn installed(&self) -> PathBuf {
        self.prefix().join("bin/quinistry")
    }

    /// Returns the script, from a shell that finds nothing but what the script may use.
    fn install_with(&self, script: &Path) -> Command {
        let mut install = command("/bin/sh");
        install.arg(script).env_clear().env("PATH", self.folder.path().join("bin"));
        install.env("HOME", self.folder.path().join("home"));
        install.env("TMPDIR", self.folder.path().join("temporary"));
        install.env("PREFIX", self.prefix());
        install.env("QUINISTRY_BASE_URL", format!("http://{}/release/", self.release.host));
        install
    }

    fn install(&self) -> Command {
        self.install_with(&root().join(".ci/release/install.sh"))
    }

    /// Asserts that no temporary file is left, nor anything beside the installed binary.
    #[track_caller]
    fn assert_clean(&self) {
        assert_eq!(self.folder.path().join("temporary").read_dir().unwrap().count(), 0);
        if let Ok(folder) = self.prefix().join("bin").read_dir() {
            let names: Vec<_> = folder.map(|entry| entry.unwrap().file_name()).collect();
            assert!(names.iter().all(|name| name == "quinistry"), "{names:?}");
        }
    }

    /// Asserts that the script fails with one line, and leaves what was installed before.
    #[track_caller]
    fn assert_refused(&self, reason: &str) {
        let error = refusal(&mut self.install());
        assert!(error.starts_with("error: quinistry is not installed: "), "{error}");
        assert!(error.contains(reason), "{error}");
        assert!(!self.installed().exists(), "something was installed");
        self.assert_clean();

        fs::create_dir_all(self.prefix().join("bin")).unwrap();
        fs::write(self.installed(), "the version before").unwrap();
        refusal(&mut self.install());
        assert_eq!(fs::read(self.installed()).unwrap(), b"the version before");
        self.assert_clean();
    }
}

#[test]
fn the_binary_is_installed_with_curl_and_with_wget() {
    for downloader in DOWNLOADERS {
        if lacks(&[Need::Tool(downloader)]) {
            continue;
        }
        let machine = Machine::with_good_release(downloader);
        let printed = good(&mut machine.install());
        let (installed, bin) = (machine.installed(), machine.prefix().join("bin"));
        assert_eq!(
            printed,
            format!(
                "installed quinistry 99.0.0 as {}\nnote: {} is not in PATH\n",
                installed.display(),
                bin.display()
            )
        );
        assert_eq!(fs::read(&installed).unwrap(), BINARY);
        assert_eq!(fs::metadata(&installed).unwrap().permissions().mode() & 0o777, 0o755);
        machine.assert_clean();
        let name = format!("GET /release/{}", binary_name());
        assert_eq!(machine.release.asked(), ["GET /release/SHA256SUMS", &name]);
    }
}

#[test]
fn an_older_binary_is_replaced() {
    if lacks(&[Need::Tool("curl")]) {
        return;
    }
    let machine = Machine::with_good_release("curl");
    fs::create_dir_all(machine.prefix().join("bin")).unwrap();
    fs::write(machine.installed(), "the version before").unwrap();
    // A process that runs the old one keeps it: the name leads to another file.
    let running = fs::File::open(machine.installed()).unwrap();
    good(&mut machine.install());
    assert_eq!(fs::read(machine.installed()).unwrap(), BINARY);
    assert_eq!(std::io::read_to_string(running).unwrap(), "the version before");
    machine.assert_clean();
}

#[test]
fn a_tampered_binary_is_refused() {
    for downloader in DOWNLOADERS {
        if lacks(&[Need::Tool(downloader)]) {
            continue;
        }
        let mut tampered = BINARY.to_vec();
        *tampered.last_mut().unwrap() ^= 1;
        let machine =
            Machine::new(Answer::ok(checksum_line(BINARY)), Answer::ok(tampered.clone()), downloader);
        let actual = checksum_line(&tampered);
        let (actual, _) = actual.split_once(' ').unwrap();
        machine.assert_refused(&format!("has the checksum {actual}, expected "));
    }
}

#[test]
fn checksums_that_do_not_name_the_binary_once_are_refused() {
    if lacks(&[Need::Tool("curl")]) {
        return;
    }
    let line = checksum_line(BINARY);
    for checksums in [
        String::new(),
        line.replace("quinistry-", "other-"),
        line.replace('\n', ".cdx.json\n"),
        // The name is not a pattern, and the checksum is whole.
        line[1..].to_owned(),
        line.to_uppercase(),
        line.repeat(2),
    ] {
        let machine = Machine::new(Answer::ok(checksums), Answer::ok(BINARY), "curl");
        machine.assert_refused(&format!("has no checksum of {}, or several", binary_name()));
    }
}

#[test]
fn downloads_that_fail_or_break_off_are_refused() {
    if lacks(&[Need::Tool("curl")]) {
        return;
    }
    let (checksums, binary) = (Answer::ok(checksum_line(BINARY)), Answer::ok(BINARY));
    let cases = [
        (Answer::new(404), binary.clone(), "SHA256SUMS"),
        (checksums.clone().cut_after(70), binary.clone(), "SHA256SUMS"),
        (checksums.clone(), Answer::new(404), "quinistry-linux-"),
        (checksums.clone(), Answer::new(500).body(BINARY), "quinistry-linux-"),
        (checksums.clone(), binary.clone().cut_after(BINARY.len() / 2), "quinistry-linux-"),
    ];
    for (checksums, binary, file) in cases {
        let machine = Machine::new(checksums, binary, "curl");
        machine.assert_refused(&format!("cannot download http://{}/release/{file}", machine.release.host));
    }
}

#[test]
fn other_machines_are_refused_before_anything_is_downloaded() {
    for (system, hardware, reason) in [
        ("Linux", "riscv64", "there is no binary for riscv64, only for x86_64 and aarch64"),
        ("Linux", "armv7l", "there is no binary for armv7l"),
        ("Darwin", "arm64", "there is no binary for Darwin, only for Linux"),
    ] {
        if lacks(&[Need::Tool("curl")]) {
            return;
        }
        let machine = Machine::with_good_release("curl");
        let uname = machine.folder.path().join("bin/uname");
        fs::remove_file(&uname).unwrap();
        {
            let _guard = no_forks();
            let text = format!("#!/bin/sh\n[ $1 = -s ] && echo {system} || echo {hardware}\n");
            fs::write(&uname, text).unwrap();
        }
        fs::set_permissions(&uname, fs::Permissions::from_mode(0o755)).unwrap();
        machine.assert_refused(reason);
        assert_eq!(machine.release.asked(), Vec::<String>::new());
    }
}

#[test]
fn a_machine_that_lacks_a_tool_is_told_which() {
    if lacks(&[Need::Tool("curl")]) {
        return;
    }
    for (tool, reason) in [
        ("curl", "neither curl nor wget is found"),
        ("sha256sum", "sha256sum is not found; install coreutils"),
    ] {
        let machine = Machine::with_good_release("curl");
        fs::remove_file(machine.folder.path().join("bin").join(tool)).unwrap();
        machine.assert_refused(reason);
    }
}

#[test]
fn a_script_that_arrives_in_part_does_nothing() {
    if lacks(&[Need::Tool("curl")]) {
        return;
    }
    let whole = fs::read_to_string(root().join(".ci/release/install.sh")).unwrap();
    assert!(whole.ends_with("\n}\n\nmain\n"), "the call of `main` is the last line");
    let machine = Machine::with_good_release("curl");
    let part = machine.folder.path().join("part.sh");
    let ends = whole.match_indices('\n').map(|(at, _)| at + 1).filter(|end| *end < whole.len());
    for end in ends.chain([whole.len() - 2]) {
        fs::write(&part, &whole[..end]).unwrap();
        crate::scripts::outcome(&mut machine.install_with(&part));
        assert_eq!(machine.release.asked(), Vec::<String>::new(), "the first {end} bytes do something");
        assert!(!machine.prefix().exists());
    }
}

#[test]
fn a_user_without_rights_installs_below_the_home_folder() {
    if lacks(&[Need::Tool("curl")]) {
        return;
    }
    let machine = Machine::with_good_release("curl");
    let script = machine.folder.path().join("install.sh");
    fs::copy(root().join(".ci/release/install.sh"), &script).unwrap();
    fs::create_dir(machine.folder.path().join("home")).unwrap();
    for name in ["", "home", "temporary"] {
        fs::set_permissions(machine.folder.path().join(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut install = machine.install_with(&script);
    if rustix::process::geteuid().is_root() {
        // An account that may not write to /usr/local/bin.
        install.uid(65534).gid(65534).current_dir("/");
    }
    good(install.env_remove("PREFIX"));
    assert_eq!(fs::read(machine.folder.path().join("home/.local/bin/quinistry")).unwrap(), BINARY);
    machine.assert_clean();
}

#[test]
fn a_release_made_by_the_scripts_can_be_installed() {
    if lacks(&[Need::Tool("curl")]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (dist, notes) = (folder.path().join("dist"), folder.path().join("notes.md"));
    good(&mut script("build", &[dist.to_str().unwrap(), TAG, PROGRAM]));
    good(&mut script("checksums", &[dist.to_str().unwrap(), notes.to_str().unwrap()]));
    let [checksums, binary] =
        ["SHA256SUMS".to_owned(), binary_name()].map(|name| fs::read(dist.join(name)).unwrap());
    let machine = Machine::new(Answer::ok(checksums), Answer::ok(binary), "curl");
    // The script as it lies in the release.
    good(&mut machine.install_with(&dist.join("install.sh")));
    let version = good(command(machine.installed()).arg("--version"));
    assert_eq!(version, quinistry(&["--version"]));
    machine.assert_clean();
}

//! The image as what it is for: the root of a container in which nothing else is.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixed_point::{assert_serves, first_generation};
use crate::support::image::Unpacked;
use crate::support::process::{command, spawn};
use crate::support::server::{Server, run};
use crate::support::skip::{Need, lacks};

/// A container of runc's, deleted when dropped.
struct Container {
    folder: TempDir,
    id: String,
}

impl Container {
    /// Not yet run. It has the host's network, to be talked to, and nothing else of the host's.
    fn new(image: &Unpacked) -> Self {
        let folder = TempDir::new().unwrap();
        let id = format!("quinistry-test-{}", std::process::id());
        std::fs::write(folder.path().join("config.json"), specification(image).to_string()).unwrap();
        Self { folder, id }
    }

    fn runc(&self, arguments: &[&str]) -> Command {
        let mut command = command("runc");
        command.arg("--root").arg(self.folder.path().join("state")).args(arguments).arg(&self.id);
        command
    }

    fn run(&self) -> Command {
        self.runc(&["run", "--bundle", self.folder.path().to_str().unwrap()])
    }

    /// Returns a field of `/proc/<pid>/status` of the container's process, as the host sees it.
    fn process(&self, line: &str) -> String {
        let state = spawn(self.runc(&["state"]).stdout(Stdio::piped())).wait_with_output().unwrap();
        let state: Value = serde_json::from_slice(&state.stdout).unwrap();
        let path: PathBuf = ["/proc", &state["pid"].to_string(), "status"].iter().collect();
        let status = std::fs::read_to_string(path).unwrap();
        let value = status.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':'));
        value.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = spawn(self.runc(&["delete", "--force"]).stderr(Stdio::null())).wait();
    }
}

fn specification(image: &Unpacked) -> Value {
    let text = |name: &str| image.config[name].as_str().unwrap();
    let (uid, gid) = text("User").split_once(':').unwrap();
    let id = |text: &str| text.parse::<u32>().unwrap();
    let process: Vec<&str> =
        image.process.iter().map(String::as_str).chain(["--listen", "127.0.0.1:0"]).collect();
    let none = json!([]);
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": image.root(), "readonly": true },
        "process": {
            "args": process,
            "env": image.config["Env"],
            "cwd": text("WorkingDir"),
            "user": { "uid": id(uid), "gid": id(gid) },
            "capabilities": {
                "bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none,
            },
            "noNewPrivileges": true,
        },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }],
        },
    })
}

#[test]
fn process_1_of_an_empty_container_serves_the_container() {
    if lacks(&[Need::Root, Need::Tool("runc")]) {
        return;
    }
    let image = first_generation();
    let container = Container::new(&image);
    let server = Server::launch(&mut container.run());
    assert_eq!(container.process("NSpid").rsplit(' ').next(), Some("1"));
    assert_eq!(container.process("Uid"), "65532 65532 65532 65532");
    for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
        assert_eq!(container.process(set), "0000000000000000", "{set}");
    }
    assert_serves(&server, &image);
    // runc hands the signal on, and the exit code back.
    server.signal(Signal::TERM);
    let (status, said) = server.wait();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn without_proc_the_program_says_what_it_lacks() {
    if lacks(&[Need::Root, Need::Tool("chroot")]) {
        return;
    }
    let image = first_generation();
    let (status, said) = run(command("chroot").arg(image.root()).args(&image.process));
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("/proc must be mounted"), "{said}");
}

//! Damage of files: no request is answered as if the content were whole, and the program mends it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quinistry::oci::Digest;
use tempfile::TempDir;

use crate::support::http::Peer;
use crate::support::process::command;
use crate::support::server::{PROGRAM, Server};

/// Time in which a round finds the damage of a small folder.
const PATIENCE: Duration = Duration::from_mins(1);

/// Registry on a folder, by a configuration.
struct Registry {
    server: Server,
    root: TempDir,
    _config: TempDir,
}

impl Registry {
    fn start(scrub: &str) -> Self {
        let [root, config] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let file = config.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             quinistry: {{scrub: {scrub}}}\n",
            root.path().display()
        );
        fs::write(&file, text).unwrap();
        let server = Server::launch(command(PROGRAM).arg("serve").arg(&file));
        Self { server, root, _config: config }
    }

    fn peer(&self) -> Peer {
        self.server.peer
    }

    fn push(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self.peer().ask("POST", &target, &[("Content-Type", "application/octet-stream")], bytes);
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    fn data(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.path().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    fn quarantine(&self) -> PathBuf {
        self.root.path().join("docker/registry/v2/_quinistry/quarantine")
    }
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 1;
    flipped
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn no_request_is_answered_with_damaged_bytes_and_the_next_push_mends_them() {
    let registry = Registry::start("{interval: 0}");
    for length in [1000, 3_000_000] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        for damaged in [flipped(&bytes), bytes[..bytes.len() / 2].to_vec(), Vec::new()] {
            let digest = registry.push("a", &bytes);
            let path = format!("/v2/a/blobs/{digest}");
            assert_eq!(registry.peer().get(&path).body, bytes);
            // The file keeps its inode, and may be open.
            fs::write(registry.data(&digest), &damaged).unwrap();
            for _ in 0..2 {
                let mut connection = registry.peer().connect();
                let request = format!("GET {path} HTTP/1.1\r\nHost: registry.test\r\n\r\n");
                connection.send(request.as_bytes()).unwrap();
                // Bytes that were read a moment ago may still be in memory.
                if let Ok(answer) = connection.answer(false) {
                    assert!(answer.status == 404 || answer.body == bytes, "{} of {length}", answer.status);
                }
            }
            until("the blob is absent", || registry.peer().head(&path).status == 404);
            let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
            let mounted = registry.peer().ask("POST", &mount, &[("Content-Length", "0")], b"");
            assert_eq!(mounted.status, 202, "{mounted:?}");
            let range = registry.peer().ask("GET", &path, &[("Range", "bytes=0-9")], b"");
            assert_eq!(range.status, 404, "{range:?}");
            registry.push("a", &bytes);
            assert_eq!(registry.peer().get(&path).body, bytes);
        }
    }
}

#[test]
fn the_scrub_finds_what_no_client_asks_for_and_heals_it_from_another_registry() {
    let source = Registry::start("{interval: 0}");
    let bytes = b"bytes that no client asks for";
    let digest = source.push("team/app", bytes);
    let address = source.peer().0;
    let registry = Registry::start(&format!("{{interval: 1s, healfrom: ['docker://{address}']}}"));
    registry.push("team/app", bytes);
    fs::write(registry.data(&digest), flipped(bytes)).unwrap();
    let line = registry.server.log_line("damaged content replaced");
    assert!(line.contains(digest.as_str()) && line.contains(&address.to_string()), "{line}");
    assert_eq!(fs::read(registry.data(&digest)).unwrap(), bytes);
    assert_eq!(registry.peer().get(&format!("/v2/team/app/blobs/{digest}")).body, bytes);
    assert_eq!(entries(&registry.quarantine()), 1);
}

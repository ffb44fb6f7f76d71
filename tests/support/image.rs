//! A client that pulls the image over HTTP, checks every digest, and unpacks it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use flate2::read::GzDecoder;
use quinistry::oci::Digest;
use serde_json::Value;
use tempfile::TempDir;

use super::http::Peer;
use super::process::{command, no_forks};

/// An image's root file system, in a folder of its own.
#[derive(Debug)]
pub struct Unpacked {
    root: TempDir,
    /// The digest of the manifest.
    pub manifest: String,
    /// The layer's media type.
    pub media_type: String,
    /// Entry point and arguments.
    pub process: Vec<String>,
    /// The image's `config.config`.
    pub config: Value,
}

impl Unpacked {
    /// Pulls `quinistry:latest`.
    pub fn pull(peer: Peer) -> Self {
        let (manifest, digest) = get_json(peer, "manifests", "latest");
        let by_digest = get_json(peer, "manifests", &digest);
        assert_eq!(by_digest, (manifest.clone(), digest.clone()));
        let (config, _) = get_json(peer, "blobs", manifest["config"]["digest"].as_str().unwrap());
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 1);
        let media_type = layers[0]["mediaType"].as_str().unwrap().to_owned();
        let (layer, _) = get(peer, "blobs", layers[0]["digest"].as_str().unwrap());
        assert_eq!(layers[0]["size"], layer.len());
        let tar = if media_type.ends_with("+gzip") { unzip(&layer) } else { layer };
        assert_eq!(config["rootfs"]["diff_ids"][0], Digest::sha256(&tar).as_str());

        let root = TempDir::new().unwrap();
        // Temporary folders are private, but other users run what is in this one.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        archive.set_preserve_permissions(true);
        {
            let _guard = no_forks();
            archive.unpack(root.path()).unwrap();
        }
        let config = config["config"].clone();
        let process = ["Entrypoint", "Cmd"].iter().flat_map(|part| strings(&config[part])).collect();
        Self { root, manifest: digest, media_type, process, config }
    }

    /// The folder.
    pub fn root(&self) -> PathBuf {
        self.root.path().to_owned()
    }

    /// The program in it.
    pub fn program(&self) -> PathBuf {
        self.root.path().join(self.process[0].trim_start_matches('/'))
    }

    /// Returns the command that a container engine would run, outside any container and on a free port.
    pub fn command(&self) -> Command {
        let mut command = command(self.program());
        command.args(&self.process[1..]).args(["--listen", "127.0.0.1:0"]);
        command
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// Content that is what its header and, by digest, its name say.
fn get(peer: Peer, kind: &str, reference: &str) -> (Vec<u8>, String) {
    let answer = peer.get(&format!("/v2/quinistry/{kind}/{reference}"));
    assert_eq!(answer.status, 200);
    let digest = Digest::sha256(&answer.body).to_string();
    assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
    if reference.contains(':') {
        assert_eq!(reference, digest);
    }
    (answer.body, digest)
}

fn get_json(peer: Peer, kind: &str, reference: &str) -> (Value, String) {
    let (bytes, digest) = get(peer, kind, reference);
    (serde_json::from_slice(&bytes).unwrap(), digest)
}

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

//! versitygw, an S3 server over a folder, which checks signatures and conditions: the store of the tests.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::ports::reserved_address;
use super::process::{Process, isolated_command};
use super::skip::missing;
use super::tools;

/// Folder in which `.ci/tools` builds the program.
const TOOL: &str = "versitygw-1.8.0";
/// Name of the bucket.
pub const BUCKET: &str = "registry";
pub const ACCESS_KEY: &str = "AKIDVERSITY";
pub const SECRET_KEY: &str = "versity-secret-key";

/// A store on a fresh folder; ended and removed when dropped.
#[derive(Debug)]
pub struct Versitygw {
    process: Process,
    pub address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Versitygw {
    /// Starts a store with an empty bucket. `None`, and a line that says so, if the program is not there.
    pub fn start() -> Option<Self> {
        let program = Self::program()?;
        // In memory, where that is possible: the store flushes each object.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Some(Self::in_folder(&program, folder))
    }

    /// Starts a store with an empty bucket on a disk, for more than memory holds. `None` as above.
    pub fn on_disk() -> Option<Self> {
        let program = Self::program()?;
        Some(Self::in_folder(&program, tempfile::tempdir().unwrap()))
    }

    fn program() -> Option<PathBuf> {
        let program = tools::find("versitygw", TOOL);
        if program.is_none() {
            missing("versitygw");
        }
        program
    }

    fn in_folder(program: &Path, folder: tempfile::TempDir) -> Self {
        let [root, sidecar] = ["root", "sidecar"].map(|name| folder.path().join(name));
        // Folders below the root are buckets.
        fs::create_dir_all(root.join(BUCKET)).unwrap();
        fs::create_dir(&sidecar).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let address = reserved_address();
        let mut start = isolated_command(program);
        start.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
        start
            .args(["--region", "us-east-1", "--port", &address.to_string(), "posix", "--sidecar"])
            .arg(sidecar)
            .arg(root);
        start.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = Process::start(&mut start).unwrap();
        let said = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        tools::until_listening(&mut process, address, said);
        Self { process, address, folder }
    }

    /// Returns the folder whose files are the objects of the bucket.
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join("root").join(BUCKET)
    }

    /// Returns the keys of the bucket that begin with a prefix, in order; uploads in parts are left out.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let root = self.objects();
        let (mut keys, mut open) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = open.pop() {
            let entries = match fs::read_dir(folder) {
                // The server removes folders that are empty.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.unwrap(),
            };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { keys.push(path) }
            }
        }
        let key = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let mut keys: Vec<String> = keys.into_iter().map(key).collect();
        keys.retain(|key| key.starts_with(prefix) && !key.starts_with(".sgwtmp"));
        keys.sort();
        keys
    }

    /// Returns all that the server has logged, with a line for each request: time, status, method, path and query.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Returns true if the server still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

/// Returns the section of a configuration file that names the bucket at `address`, which may be that of a proxy.
/// Distribution and this program read it alike.
pub fn section(address: SocketAddr, root: &str) -> String {
    format!(
        "s3: {{accesskey: {ACCESS_KEY}, secretkey: {SECRET_KEY}, region: us-east-1, bucket: {BUCKET}, \
         regionendpoint: 'http://{address}', forcepathstyle: true, secure: false, rootdirectory: '{root}'}}"
    )
}

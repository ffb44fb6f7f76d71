//! A registry on the store, and the operations that are measured.

use std::cell::RefCell;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quinistry::oci::media_type;

use super::content::Blob;
use super::store::process::isolated_command;
use super::store::versitygw::section;
use super::support::connection::{Answer, Connection};
use super::support::process::{Process, free_address};

/// Program that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Quinistry,
    Distribution,
}

/// Way in which a client gets the bytes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulls {
    Redirected,
    Proxied,
}

/// A running registry, and a connection to it.
pub(crate) struct Registry {
    pub(crate) program: Program,
    process: Process,
    connection: RefCell<Connection>,
    _folder: tempfile::TempDir,
}

impl Program {
    fn path(self) -> PathBuf {
        match self {
            Self::Quinistry => std::env::var_os("QUINISTRY")
                .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_quinistry")), PathBuf::from),
            Self::Distribution => PathBuf::from("registry"),
        }
    }
}

impl Registry {
    /// Starts a registry that redirects pulls to the store, or sends all bytes itself.
    pub(crate) fn start(program: Program, store: SocketAddr, root: &str, pulls: Pulls) -> Self {
        let redirect = if pulls == Pulls::Proxied { ", redirect: {disable: true}" } else { "" };
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let address = free_address();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{{}{redirect}}}\nhttp: {{addr: '{address}'}}\n",
            section(store, root)
        );
        fs::write(&config, text).unwrap();
        let mut command = isolated_command(program.path());
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        let process = Process::start(command, address);
        let connection = RefCell::new(process.connect());
        Self { program, process, connection, _folder: folder }
    }

    fn ask(&self, method: &str, target: &str, fields: &str, body: &[&[u8]]) -> Answer {
        self.connection.borrow_mut().ask(method, target, fields, body, |_| ())
    }

    /// Waits until the registry answers.
    pub(crate) fn ping(&self) {
        assert_eq!(self.ask("GET", "/v2/", "", &[]).status, 200);
    }

    fn begin(&self) -> String {
        let answer = self.ask("POST", "/v2/app/blobs/uploads/", "", &[]);
        assert_eq!(answer.status, 202, "POST: {answer:?}");
        answer.location.unwrap()
    }

    fn finish(&self, at: &str, blob: &Blob, body: &[&[u8]]) {
        let joint = if at.contains('?') { '&' } else { '?' };
        let target = format!("{at}{joint}digest={}", blob.descriptor.digest);
        let answer = self.ask("PUT", &target, "content-type: application/octet-stream\r\n", body);
        assert_eq!(answer.status, 201, "PUT: {answer:?}");
    }

    /// Pushes a blob as containerd does.
    pub(crate) fn push_put(&self, blob: &Blob) -> Duration {
        let begin = Instant::now();
        let at = self.begin();
        self.finish(&at, blob, &[&blob.bytes]);
        begin.elapsed()
    }

    /// Pushes a blob as Docker does.
    pub(crate) fn push_patched(&self, blob: &Blob) -> Duration {
        let begin = Instant::now();
        let at = self.begin();
        let answer = self.ask("PATCH", &at, "content-type: application/octet-stream\r\n", &[&blob.bytes]);
        assert_eq!(answer.status, 202, "PATCH: {answer:?}");
        self.finish(&answer.location.unwrap(), blob, &[]);
        begin.elapsed()
    }

    pub(crate) fn put_manifest(&self, bytes: &[u8]) -> Duration {
        let begin = Instant::now();
        let fields = format!("content-type: {}\r\n", media_type::OCI_MANIFEST);
        let answer = self.ask("PUT", "/v2/app/manifests/latest", &fields, &[bytes]);
        assert_eq!(answer.status, 201, "PUT: {answer:?}");
        begin.elapsed()
    }

    pub(crate) fn get_manifest(&self) -> Duration {
        let begin = Instant::now();
        let answer = self.ask("GET", "/v2/app/manifests/latest", "", &[]);
        assert_eq!(answer.status, 200, "GET: {answer:?}");
        begin.elapsed()
    }

    /// Asks for the metadata of a blob. Distribution redirects, where quinistry answers.
    pub(crate) fn head(&self, blob: &Blob) -> Duration {
        let begin = Instant::now();
        let answer = self.ask("HEAD", &format!("/v2/app/blobs/{}", blob.descriptor.digest), "", &[]);
        assert!(matches!(answer.status, 200 | 307), "HEAD: {answer:?}");
        begin.elapsed()
    }

    pub(crate) fn redirected(&self, blob: &Blob) -> Duration {
        let begin = Instant::now();
        self.location(blob);
        begin.elapsed()
    }

    /// Returns the target of a redirect at the store.
    pub(crate) fn location(&self, blob: &Blob) -> String {
        let answer = self.ask("GET", &format!("/v2/app/blobs/{}", blob.descriptor.digest), "", &[]);
        assert_eq!(answer.status, 307, "GET: {answer:?}");
        answer.location.unwrap()
    }

    /// Pulls a blob that the registry sends itself.
    pub(crate) fn pull(&self, blob: &Blob) -> Duration {
        let begin = Instant::now();
        let target = format!("/v2/app/blobs/{}", blob.descriptor.digest);
        let length = self.connection.borrow_mut().get(&target, |_| ());
        assert_eq!(length, blob.bytes.len());
        begin.elapsed()
    }

    /// Lists a page of tags, and returns their number beside the time.
    pub(crate) fn list_tags(&self, n: usize) -> (Duration, usize) {
        let begin = Instant::now();
        let body = self.connection.borrow_mut().body(&format!("/v2/app/tags/list?n={n}"));
        let taken = begin.elapsed();
        let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
        (taken, list["tags"].as_array().unwrap().len())
    }

    /// Returns the resident memory in megabytes.
    pub(crate) fn resident(&self) -> f64 {
        self.process.resident()
    }

    /// Returns the high-water mark of resident memory in megabytes.
    pub(crate) fn high_water(&self) -> f64 {
        self.process.high_water()
    }
}

/// Pulls a blob from the store itself.
pub(crate) fn pull_directly(store: SocketAddr, url: &str) -> Duration {
    let host = store.to_string();
    let target = url.split_once(&host).map_or(url, |(_, target)| target);
    let mut connection = Connection::new(TcpStream::connect(store).unwrap()).for_host(&host);
    let begin = Instant::now();
    connection.get(target, |_| ());
    begin.elapsed()
}

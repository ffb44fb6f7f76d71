//! Azurite, Microsoft's emulator of Azure Blob Storage.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;

use super::http::{Peer, request};
use super::ports::reserved_address;
use super::process::{Process, isolated_command};
use super::skip::missing;
use super::tools;

/// Folder in which `.ci/tools` installs the program.
const TOOL: &str = "azurite-3.35.0/node_modules/.bin";
/// Account that every Azurite has.
pub const ACCOUNT: &str = "devstoreaccount1";
/// Key of that account, which Azurite documents.
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Name of the container.
pub const CONTAINER: &str = "registry";

/// A store on a fresh folder; ended and removed when dropped.
#[derive(Debug)]
pub struct Azurite {
    _process: Process,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Azurite {
    /// Starts a store with an empty container. `None`, and a line that says so, if the program is not there.
    pub fn start() -> Option<Self> {
        let Some(program) = tools::find("azurite-blob", TOOL) else {
            missing("azurite");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let address = reserved_address();
        let mut start = isolated_command(program);
        start.args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string(), "--silent"]);
        start.args(["--skipApiVersionCheck", "--disableTelemetry", "--location"]).arg(folder.path());
        start.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = Process::start(&mut start).unwrap();
        let said = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        tools::until_listening(&mut process, address, said);
        let azurite = Self { _process: process, address, _folder: folder };
        azurite.create_container();
        Some(azurite)
    }

    /// Returns the section of a configuration file, as distribution and this program read it.
    pub fn section(&self, root: &str) -> String {
        format!(
            "azure: {{accountname: {ACCOUNT}, accountkey: '{ACCOUNT_KEY}', container: {CONTAINER}, \
             credentials: {{type: shared_key}}, rootdirectory: '{root}', \
             serviceurl: 'http://{}/{ACCOUNT}'}}",
            self.address
        )
    }

    fn create_container(&self) {
        let (status, _) = self.ask("PUT", "", &[("restype", "container")], &[]);
        assert_eq!(status, 201, "Azurite creates a container");
    }

    /// Returns all keys of the container, which has less than a page of them.
    pub fn keys(&self) -> Vec<String> {
        let (status, text) = self.ask("GET", "", &[("comp", "list"), ("restype", "container")], &[]);
        assert_eq!(status, 200, "{text}");
        let names = text.split("<Name>").skip(1).map(|rest| rest.split_once("</Name>").unwrap().0.to_owned());
        names.collect()
    }

    /// Gives an object another key.
    pub fn rename(&self, from: &str, to: &str) {
        let source = format!("http://{}/{ACCOUNT}/{CONTAINER}/{from}", self.address);
        let (status, text) = self.ask("PUT", to, &[], &[("x-ms-copy-source", &source)]);
        assert_eq!(status, 202, "{text}");
        let (status, text) = self.ask("DELETE", from, &[], &[]);
        assert_eq!(status, 202, "{text}");
    }

    /// Sends a request without a body that is signed by the key of the account ("Shared Key" in the documentation of
    /// Azure Storage). An empty key names the container. Parameters and headers must be in order, and begin with
    /// `x-ms-` before `x-ms-date`.
    fn ask(
        &self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let slash = if key.is_empty() { "" } else { "/" };
        let path = format!("/{ACCOUNT}/{CONTAINER}{slash}{key}");
        let marks = [("x-ms-date", date.as_str()), ("x-ms-version", "2021-12-02")];
        let headers = [headers, &marks].concat();
        let signed: String = headers.iter().flat_map(|(name, value)| [*name, ":", value, "\n"]).collect();
        let asked: String = query.iter().flat_map(|(name, value)| ["\n", *name, ":", value]).collect();
        // Empty lines stand for the standard headers, which the request has not.
        let text = format!("{method}{}{signed}/{ACCOUNT}{path}{asked}", "\n".repeat(12));
        let signing_key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(ACCOUNT_KEY).unwrap());
        let signature = STANDARD.encode(hmac::sign(&signing_key, text.as_bytes()));
        let authorization = format!("SharedKey {ACCOUNT}:{signature}");
        let headers = [&headers[..], &[("authorization", &authorization), ("content-length", "0")]].concat();
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let target = format!("{path}{mark}{}", query.join("&"));
        let text = String::from_utf8(request(method, &target, &headers, b"")).unwrap();
        // A host with a name would name the account.
        let text = text.replace("registry.test", &self.address.to_string());
        let mut connection = Peer(self.address).connect();
        connection.send(text.as_bytes()).unwrap();
        let (status, headers) = connection.head().unwrap();
        let mut body = Vec::new();
        if status != 204 {
            connection.body(&headers, |piece| body.extend_from_slice(piece)).unwrap();
        }
        (status, String::from_utf8(body).unwrap())
    }
}

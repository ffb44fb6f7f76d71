//! Azurite, Microsoft's emulator of Azure Blob Storage, as `.ci/tools` installs it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::RUNTIME;
use super::gateway::{client, client_builder};
use super::program::{Server, folder, reserved_address};
use crate::{Azure, AzureCredentials, AzureOptions, Endpoint, RootPrefix, Secret, http_client};

/// Account that every Azurite has, with the key that Azurite documents.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server with one empty container; ended when dropped.
pub(super) struct Azurite {
    _server: Server,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Azurite {
    /// Starts a server on a fresh folder. `None`, and a line that says so, if the program is not there.
    pub(super) fn start() -> Option<Self> {
        let azurite = Self::start_in(folder(), |_, _| ())?;
        RUNTIME.block_on(azurite.container("").create_container()).unwrap();
        Some(azurite)
    }

    /// Starts a server that takes tokens, and so speaks TLS alone. `None` without the program, or without openssl.
    pub(super) fn start_with_tokens() -> Option<Self> {
        let folder = folder();
        let config = "[req]\ndistinguished_name = name\nx509_extensions = server\nprompt = no\n[name]\nCN = azurite\n\
                      [server]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
        std::fs::write(folder.path().join("openssl.cnf"), config).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config"]);
        openssl.arg(folder.path().join("openssl.cnf")).arg("-keyout").arg(folder.path().join("key.pem"));
        openssl.arg("-out").arg(folder.path().join("certificate.pem")).stderr(Stdio::null());
        if !openssl.status().is_ok_and(|status| status.success()) {
            println!("skipped: this test needs openssl");
            return None;
        }
        let azurite = Self::start_in(folder, |command, folder| {
            command.args(["--oauth", "basic", "--key"]).arg(folder.join("key.pem"));
            command.arg("--cert").arg(folder.join("certificate.pem"));
        })?;
        RUNTIME.block_on(azurite.container_of_token("").create_container()).unwrap();
        Some(azurite)
    }

    fn start_in(folder: tempfile::TempDir, configure: impl FnOnce(&mut Command, &Path)) -> Option<Self> {
        let address = reserved_address();
        let bin = "azurite-3.35.0/node_modules/.bin";
        let server = Server::start("azurite-blob", bin, address, |command| {
            command.args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string(), "--silent"]);
            command.args(["--skipApiVersionCheck", "--disableTelemetry", "--location"]).arg(folder.path());
            configure(command, folder.path());
        })?;
        Some(Self { _server: server, address, folder })
    }

    /// Returns a client that trusts the server.
    pub(super) fn client(&self) -> reqwest::Client {
        let pem = std::fs::read(self.folder.path().join("certificate.pem")).unwrap();
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        http_client(client_builder(trusted)).unwrap()
    }

    /// Returns a client of a folder in the container, by a token. Azurite looks at the claims alone.
    pub(super) fn container_of_token(&self, root: &str) -> Azure {
        let (begin, end) = (1_600_000_000, 4_000_000_000_u64);
        let claims = serde_json::json!({
            "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/tenant/",
            "iat": begin, "nbf": begin, "exp": end, "oid": "object", "tid": "tenant",
        });
        let [head, claims] = [r#"{"alg":"none","typ":"JWT"}"#.to_owned(), claims.to_string()]
            .map(|text| BASE64_URL_SAFE_NO_PAD.encode(text));
        let options = options(&format!("https://{}/{ACCOUNT}", self.address));
        let root = root.parse::<RootPrefix>().unwrap();
        Azure::with_token(&format!("{head}.{claims}.none"), &options, &root, self.client().into()).unwrap()
    }

    /// Returns a client of a folder in the container.
    pub(super) fn container(&self, root: &str) -> Azure {
        container_at(self.address, root)
    }
}

/// Returns a client of a folder in the container of a server.
pub(super) fn container_at(address: SocketAddr, root: &str) -> Azure {
    let options = options(&format!("http://{address}/{ACCOUNT}"));
    Azure::new(&options, &root.parse::<RootPrefix>().unwrap(), client().into()).unwrap()
}

fn options(endpoint: &str) -> AzureOptions {
    AzureOptions {
        account: ACCOUNT.into(),
        container: "container".into(),
        credentials: AzureCredentials::SharedKey(Secret::new(ACCOUNT_KEY.into())),
        endpoint: Some(Endpoint::with_path(endpoint, false).unwrap()),
        ..AzureOptions::default()
    }
}

//! versitygw, an S3 server on a folder, as `.ci/tools` installs it.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::RootCertStore;

use super::program::{Server, folder, reserved_address};
use crate::{Endpoint, RootPrefix, S3, S3Keys, S3Options, Secret, http_client};

const BUCKET: &str = "bucket";
const ACCESS_KEY: &str = "access";
const SECRET_KEY: &str = "secret key of the tests";

/// A server with one empty bucket; ended when dropped.
pub(super) struct Gateway {
    _server: Server,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts a server on a fresh folder. `None`, and a line that says so, if the program is not there.
    pub(super) fn start() -> Option<Self> {
        let (folder, address) = (folder(), reserved_address());
        let [data, sidecar] = ["data", "sidecar"].map(|name| folder.path().join(name));
        std::fs::create_dir_all(data.join(BUCKET)).unwrap();
        std::fs::create_dir(&sidecar).unwrap();
        let server = Server::start("versitygw", "versitygw-1.8.0", address, |command| {
            command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
            command.args(["--port", &address.to_string(), "posix", "--sidecar"]).args([sidecar, data]);
        })?;
        Some(Self { _server: server, address, _folder: folder })
    }

    /// Returns a client of the bucket.
    pub(super) fn bucket(&self) -> S3 {
        self.beneath("")
    }

    /// Returns a client of a folder in the bucket.
    pub(super) fn beneath(&self, root: &str) -> S3 {
        let keys = S3Keys {
            access_key: ACCESS_KEY.into(),
            secret_key: Secret::new(SECRET_KEY.into()),
            session_token: None,
        };
        let options = S3Options {
            bucket: BUCKET.into(),
            endpoint: Some(Endpoint::of_host(&format!("http://{}", self.address), false).unwrap()),
            path_style: true,
            keys: Some(keys),
            ..S3Options::default()
        };
        S3::amazon(&options, &root.parse::<RootPrefix>().unwrap(), client().into()).unwrap()
    }
}

/// Returns a client that trusts no certificate and uses no proxy.
pub(crate) fn client() -> reqwest::Client {
    http_client(client_builder(RootCertStore::empty())).unwrap()
}

/// Returns the builder of a client that trusts certificates and uses no proxy.
pub(super) fn client_builder(trusted: RootCertStore) -> reqwest::ClientBuilder {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy()
}

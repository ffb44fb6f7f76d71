//! Azurite, Microsoft's emulator of Azure Blob Storage, as `.ci/tools` installs it.

use std::net::SocketAddr;

use super::RUNTIME;
use super::gateway::client;
use super::program::{Server, folder, free_address};
use crate::{Azure, AzureCredentials, AzureOptions, Endpoint, RootPrefix, Secret};

/// Account that every Azurite has, with the key that Azurite documents.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server with one empty container; ended when dropped.
pub(super) struct Azurite {
    _server: Server,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Azurite {
    /// Starts a server on a fresh folder. `None`, and a line that says so, if the program is not there.
    pub(super) fn start() -> Option<Self> {
        let (folder, address) = (folder(), free_address());
        let bin = "azurite-3.35.0/node_modules/.bin";
        let server = Server::start("azurite-blob", bin, address, |command| {
            command.args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string(), "--silent"]);
            command.args(["--skipApiVersionCheck", "--disableTelemetry", "--location"]).arg(folder.path());
        })?;
        let azurite = Self { _server: server, address, _folder: folder };
        RUNTIME.block_on(azurite.container("").create_container()).unwrap();
        Some(azurite)
    }

    /// Returns a client of a folder in the container.
    pub(super) fn container(&self, root: &str) -> Azure {
        let endpoint = format!("http://{}/{ACCOUNT}", self.address);
        let options = AzureOptions {
            account: ACCOUNT.into(),
            container: "container".into(),
            credentials: AzureCredentials::SharedKey(Secret::new(ACCOUNT_KEY.into())),
            endpoint: Some(Endpoint::with_path(&endpoint, false).unwrap()),
            ..AzureOptions::default()
        };
        Azure::new(&options, &root.parse::<RootPrefix>().unwrap(), client()).unwrap()
    }
}

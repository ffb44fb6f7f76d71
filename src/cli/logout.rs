//! `quinistry logout`: removes stored credentials.

use super::remote;
use crate::client::DockerConfig;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Registry, such as localhost:5000
    #[arg(value_parser = remote::host)]
    host: String,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = DockerConfig::from_env()?;
        let removed = super::block_on(async { Ok(config.remove(&self.host).await?) })?;
        super::print(if removed {
            format!("logged out of {}\n", self.host)
        } else {
            format!("there were no credentials for {}\n", self.host)
        })
    }
}

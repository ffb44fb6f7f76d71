//! `quinistry list`

use super::remote::Remote;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The registry, such as localhost:5000
    host: String,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let names = super::block_on(async { Ok(client.repositories(&self.host).await?) })?;
        super::print(names.iter().map(|name| super::plain(name) + "\n").collect::<String>())
    }
}

//! `quinistry list`

use serde::Serialize;

use super::output::{Output, Report};
use super::remote::{self, Remote};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The registry, such as localhost:5000
    #[arg(value_parser = remote::host)]
    host: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Repositories {
    host: String,
    repositories: Vec<String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let repositories = super::block_on(async { Ok(client.repositories(&self.host).await?) })?;
        self.output.print(&Repositories { host: self.host, repositories })
    }
}

impl Report for Repositories {
    fn text(&self) -> String {
        self.repositories.iter().map(|name| super::plain(name) + "\n").collect()
    }

    fn essence(&self) -> String {
        self.text()
    }
}

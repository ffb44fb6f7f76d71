//! `quinistry list`: lists the repositories of a registry.

use serde::Serialize;

use super::output::{OutputArgs, Report};
use super::remote::{self, ConnectionArgs};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Registry, such as localhost:5000
    #[arg(value_parser = remote::host)]
    host: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
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
        let client = self.connection.client()?;
        let repositories = super::block_on(async { Ok(client.repositories(&self.host).await?) })?;
        self.output.print(&Repositories { host: self.host, repositories })
    }
}

impl Report for Repositories {
    fn text(&self) -> String {
        self.repositories.iter().map(|name| super::sanitize(name) + "\n").collect()
    }

    fn essence(&self) -> String {
        self.text()
    }
}

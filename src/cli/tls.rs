//! `quinistry tls`: an own authority and a certificate for a registry that no public authority knows.

pub(super) mod authority;
mod files;
mod host;
mod trust;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Subcommand, ValueHint};

use self::authority::{Authority, Names};
use self::host::Host;
use super::output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Debug, Subcommand)]
enum TlsCommand {
    /// Make an authority and a certificate, and say how each engine trusts it
    Init(InitArgs),
}

#[derive(Debug, clap::Args)]
struct InitArgs {
    /// Folder for ca.crt, ca.key, tls.crt and tls.key
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,

    /// Name or address under which clients reach the registry; repeat it for more
    #[arg(long = "host", value_name = "NAME", required_unless_present = "addresses", value_parser = Host::parse)]
    hosts: Vec<Host>,

    /// Address under which clients reach the registry, as with --host
    #[arg(long = "ip", value_name = "ADDRESS", value_parser = Host::parse_address)]
    addresses: Vec<Host>,

    /// Port of the registry, for the commands that are printed
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,

    /// Replace the files of an authority: every client must trust the new one
    #[arg(long)]
    force: bool,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            TlsCommand::Init(args) => args.run(),
        }
    }
}

impl InitArgs {
    fn run(self) -> anyhow::Result<()> {
        let hosts: Vec<Host> = self.hosts.into_iter().chain(self.addresses).collect();
        let names = Names::of(&hosts);
        let now = SystemTime::now();
        let authority = Authority::create(&names, now)?;
        let leaf = authority.issue(&names, None, now)?;
        files::write_all(
            &self.folder,
            &[
                (files::AUTHORITY, authority.certificate()),
                (files::AUTHORITY_KEY, authority.key()),
                (files::CERTIFICATE, &leaf.certificate),
                (files::KEY, &leaf.key),
            ],
            self.force,
        )?;
        let folder = absolute(&self.folder);
        output::print(trust::instructions(&folder, &hosts, self.port))
    }
}

/// Returns the path as it is valid from any folder.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

//! `quinistry copy`

use super::remote::{Remote, parse_name};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_name = "FROM", help = "What to copy: HOST[:PORT]/NAME[:TAG][@DIGEST]")]
    from: String,
    /// Where to: the same, usually with a tag
    #[arg(value_name = "TO")]
    to: String,
    /// Copy what refers to it, too: signatures, bills of materials and the like
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (from, to) = (parse_name(&self.from)?, parse_name(&self.to)?);
        let client = self.remote.client()?;
        let progress = super::progress::bars();
        let report = super::block_on(async { Ok(client.copy(&from, &to, self.all, progress).await?) })?;
        for digest in &report.missing {
            eprintln!(
                "warning: left out {digest}: it is listed as a referrer, and its manifest was not found"
            );
        }
        let (digest, referrers) = (report.push.digest, report.push.referrers);
        let tag = to.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let also = if self.all { format!("  and {referrers} that refer to it") } else { String::new() };
        super::print(format!("{}/{}{tag}@{digest}{also}\n", to.host(), to.repository()))
    }
}

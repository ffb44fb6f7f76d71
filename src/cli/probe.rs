//! `quinistry probe`: a health check for containers whose image holds nothing but this executable.

use std::time::Duration;

use reqwest::Url;
use tokio::time::{Instant, sleep};

use super::remote::{TlsArgs, warn_unverified};
use crate::client::{Client, ClientOptions};
use crate::escape;

/// Time between two requests.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_parser = url, help = "URL to request, for example http://localhost:8080/v2/")]
    url: Url,

    /// Time to repeat the request until it succeeds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u32,

    #[command(flatten)]
    tls: TlsArgs,
}

fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|_| "not a URL")?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("neither http nor https".into()) }
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.tls.insecure_skip_tls_verify {
            warn_unverified("the server");
        }
        let client = Client::new(ClientOptions { tls: self.tls.options(), ..ClientOptions::default() })?;
        let status = super::block_on(async {
            let end = Instant::now() + Duration::from_secs(self.wait.into());
            loop {
                match client.probe(&self.url).await {
                    Ok(status) => return Ok(status),
                    Err(error) if Instant::now() >= end => return Err(error.into()),
                    Err(_) => sleep(PROBE_INTERVAL).await,
                }
            }
        })?;
        super::print(format!("{}: {status}\n", escape::without_userinfo(self.url.as_str())))
    }
}

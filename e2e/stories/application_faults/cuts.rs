//! Loads whose connections to the API server break: twenty times at random, and for good.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::support::application::{Carried, only_error, parse_bundle};
use crate::support::breaking_proxy::BreakingProxy;
use crate::support::random::SeededRandom;
use crate::support::{Stage, shell};

const BREAKS: u64 = 20;
/// Bytes between two breaks: the load gives up at breaks without 1 MiB of new bytes of a blob between them.
const LEAST_BYTES_BETWEEN: u64 = 5 << 19;
const MORE_BYTES_BETWEEN: u64 = 2 << 20;
/// Length of the longest request with content of a blob.
const CHUNK_BYTES: u64 = 8 << 20;
/// Bytes that requests, WebSocket and TLS add to content: one part of so many, and a fixed length for each connection.
const OVERHEAD_PART: u64 = 50;
const OVERHEAD_BYTES: u64 = 64 << 10;
/// Bytes after which the API server goes away: within the first layer.
const BYTES_BEFORE_OUTAGE: u64 = 3 << 20;

/// Loads a version while the connections to the API server break again and again, and returns its `Bundle`. At most one
/// chunk is sent twice for each break.
pub async fn load(stage: &Stage, resource: &str, carried: &Carried) -> Result<Value> {
    let proxy = BreakingProxy::start().await?;
    let (mut random, seed) = SeededRandom::new();
    let mut command = carried.load_command(stage, resource, "shop")?;
    command.env("KUBECONFIG", proxy.kubeconfig());
    let began = std::time::Instant::now();
    let loading = shell::text(command);
    tokio::pin!(loading);
    let mut breaks = 0;
    let yaml = loop {
        let next = proxy.sent() + LEAST_BYTES_BETWEEN + random.below(MORE_BYTES_BETWEEN);
        tokio::select! {
            biased;
            loaded = &mut loading => break loaded?,
            () = proxy.until_sent(next), if breaks < BREAKS => {
                proxy.break_connections();
                breaks += 1;
            }
        }
    };
    let (bytes, sent) = (std::fs::metadata(&carried.file)?.len(), proxy.sent());
    stage.log(format_args!(
        "loaded {} kB in {:.1} s, cut {breaks} times (seed {seed}), {} kB sent",
        bytes >> 10,
        began.elapsed().as_secs_f32(),
        sent >> 10
    ));
    ensure!(breaks == BREAKS, "the load ended after {breaks} breaks");
    let limit = bytes + BREAKS * CHUNK_BYTES;
    let limit = limit + limit / OVERHEAD_PART + BREAKS * OVERHEAD_BYTES;
    ensure!(sent <= limit, "{sent} bytes sent for {bytes}: more than a chunk for each of {BREAKS} breaks");
    carried.check_loaded(stage, resource).await?;
    parse_bundle(&yaml)
}

/// Begins to load a version, and lets the API server go away for good. The load ends with a message, and the next one
/// loads the rest.
pub async fn load_without_server(stage: &Stage, resource: &str, carried: &Carried) -> Result<()> {
    let proxy = BreakingProxy::start().await?;
    let mut command = carried.load_command(stage, resource, "shop")?;
    command.env("KUBECONFIG", proxy.kubeconfig());
    let began = std::time::Instant::now();
    let leaving = async {
        proxy.until_sent(BYTES_BEFORE_OUTAGE).await;
        proxy.set_refusing(true);
        std::future::pending::<()>().await;
    };
    let errors = tokio::select! {
        failed = shell::failure(command) => failed?,
        () = leaving => unreachable!("the future is pending"),
    };
    let line = only_error(&errors)?;
    ensure!(line.contains("start the command again"), "the error does not say what to do: {line}");
    stage.log(format_args!("after {:.1} s without an API server: {line}", began.elapsed().as_secs_f32()));
    proxy.set_refusing(false);
    carried.load(stage, resource, "shop").await?;
    carried.check_loaded(stage, resource).await
}

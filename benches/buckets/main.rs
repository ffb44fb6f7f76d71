//! Registries on a store that is far away: quinistry beside distribution 3.1, on one versitygw whose answers
//! begin 20 ms late.
//!
//! `benches/buckets/run` builds the release binary, installs the others and calls the bench. Only the status of
//! a response is checked here: the tests check the rest.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::duplicate_mod, reason = "the benches and the tests share the guard of processes")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]

mod content;
mod many;
mod registry;
#[path = "../../tests/support"]
#[allow(dead_code, unreachable_pub, reason = "the same files are modules of the tests")]
mod store {
    pub mod delay_proxy;
    pub mod ports;
    pub mod process;
    pub mod skip;
    pub mod tools;
    pub mod versitygw;
}
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::net::SocketAddr;
use std::time::Duration;

use content::Content;
use registry::{Program, Pulls, Registry, pull_directly};
use store::delay_proxy::DelayProxy;
use store::versitygw::Versitygw;
use support::load_average;
use support::spread::Spread;
use table::{Goal, Table};

/// Time before each answer of the store: that of another zone or region.
const DELAY: Duration = Duration::from_millis(20);
/// Number of measurements of short operations.
const ROUNDS: usize = 15;
/// Number of measurements that take seconds.
const LONG_ROUNDS: usize = 3;
/// Number of pulls of a large blob.
const PULL_ROUNDS: usize = 7;
/// Rate of a pull through the registry, as a share of that of a pull from the store itself.
const PROXIED_RATE: f64 = 0.9;
/// Length of a large blob in MiB.
const LARGE_MIB: usize = 256;

fn main() {
    let before = load_average();
    let store = Versitygw::on_disk().expect("versitygw is not installed: benches/buckets/run installs it");
    let far = DelayProxy::start(store.address, DELAY);
    let mut table = Table::default();
    for program in [Program::Quinistry, Program::Distribution] {
        // Each program has a folder of the bucket, so that neither finds what the other has written.
        let root = format!("/{program:?}");
        let registry = Registry::start(program, far.address, &root, Pulls::Redirected);
        let mut content = Content::new(program);
        measure(&mut table, &registry, &mut content);
        let proxy = Registry::start(program, far.address, &root, Pulls::Proxied);
        measure_pulls(&mut table, &registry, &proxy, far.address, &content.blob(LARGE_MIB << 20));
    }
    many::measure(&mut table, &store);
    print!("\n{table}");
    println!(
        "Medians; the store answers {} ms late. Load before {before}, after {}.",
        DELAY.as_millis(),
        load_average()
    );
}

/// Measures pulls through a registry beside pulls from the store itself, in turn.
fn measure_pulls(
    table: &mut Table,
    registry: &Registry,
    proxy: &Registry,
    store: SocketAddr,
    blob: &content::Blob,
) {
    registry.push_put(blob);
    let url = registry.location(blob);
    let (mut proxied, mut direct) = (Vec::new(), Vec::new());
    for round in 0..=PULL_ROUNDS {
        let pulls = [proxy.pull(blob), pull_directly(store, &url)].map(support::milliseconds);
        // The first one opens connections to the store.
        if round > 0 {
            proxied.push(pulls[0]);
            direct.push(pulls[1]);
        }
    }
    let goal = Goal::Milliseconds(Spread::of(direct.clone()).median() / PROXIED_RATE);
    table.add("pull of 256 MiB from the store itself", registry.program, direct, None);
    table.add("pull of 256 MiB through the registry", registry.program, proxied, Some(goal));
}

fn measure(table: &mut Table, registry: &Registry, content: &mut Content) {
    let mut row = |name, goal, rounds, work: &mut dyn FnMut() -> Duration| {
        // The first one opens connections to the store.
        work();
        let figures = (0..rounds).map(|_| support::milliseconds(work())).collect();
        table.add(name, registry.program, figures, Some(goal));
    };
    row("blob of 120 B: POST, PATCH, PUT", Goal::Milliseconds(90.0), ROUNDS, &mut || {
        registry.push_patched(&content.blob(120))
    });
    row("blob of 100 kB: POST, PUT", Goal::Milliseconds(60.0), ROUNDS, &mut || {
        registry.push_put(&content.blob(100_000))
    });
    row("PUT of a manifest, two parts, one tag", Goal::Milliseconds(120.0), ROUNDS, &mut || {
        let parts = [content.blob(2_000), content.blob(2_000)];
        for part in &parts {
            registry.push_put(part);
        }
        registry.put_manifest(&Content::manifest(&parts))
    });
    let known = content.blob(100_000);
    registry.push_put(&known);
    row("HEAD of a blob", Goal::Milliseconds(35.0), ROUNDS, &mut || registry.head(&known));
    row("GET of a blob, redirected", Goal::Milliseconds(35.0), ROUNDS, &mut || registry.redirected(&known));
    row("GET of a manifest by tag", Goal::Milliseconds(60.0), ROUNDS, &mut || registry.get_manifest());
    row("blob of 256 MiB: POST, PUT", Goal::ShareOfDistribution(0.45), LONG_ROUNDS, &mut || {
        registry.push_put(&content.blob(LARGE_MIB << 20))
    });
    row("blob of 256 MiB: POST, PATCH, PUT", Goal::ShareOfDistribution(0.65), LONG_ROUNDS, &mut || {
        registry.push_patched(&content.blob(LARGE_MIB << 20))
    });
    table.add_memory(registry.program, registry.high_water());
}

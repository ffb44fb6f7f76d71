//! Start times of processes, their memory, and the sizes of the programs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::comparison::Comparison;
use super::content::Pattern;
use super::data::{IMAGE, PeerData};
use super::peers::Peer;
use super::pushes::{Cleanup, push_all, with_empty_folder};
use super::row::Work;
use super::support::process::{Process, free_address};
use super::support::{bootstrap, milliseconds};

const MANY_CLIENTS: usize = 16;
const GENERATIONS: usize = 10;

/// Pause without requests after which a server counts as idle.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// Starts a server. Returns the time from before its start to the last byte of its first response, in
/// milliseconds.
pub(crate) fn start_and_get(start: impl FnOnce() -> Process, target: &str) -> (Process, f64) {
    let begin = Instant::now();
    let server = start();
    server.connect().get(target, |_| ());
    let time = milliseconds(begin.elapsed());
    (server, time)
}

pub(crate) fn measure(comparison: &mut Comparison, data: &PeerData, servers: &[Peer]) {
    let options = comparison.options.clone();
    let own = [Peer::Quinistry];
    let work = Work::cost("exec to first manifest, own image", "ms").at_most(20.0);
    comparison.row(work, options.starts(), &own, |_| {
        start_and_get(|| start_quine(&options.quinistry), "/v2/quinistry/manifests/latest").1
    });
    // crane's manifests would have to be pushed first.
    let persistent: Vec<Peer> = servers.iter().copied().filter(|peer| *peer != Peer::Crane).collect();
    let manifest = format!("/v2/{IMAGE}/manifests/latest");
    comparison.row(
        Work::cost("exec to first manifest, of a store", "ms"),
        options.starts(),
        &persistent,
        |peer| {
            let folder = data.folder(peer);
            start_and_get(|| peer.start(&options.quinistry, &folder), &manifest).1
        },
    );
    let generation = Work::cost(format!("one generation of {GENERATIONS}, local chain"), "ms").at_most(60.0);
    let mut generations = Vec::new();
    comparison.row(generation, (GENERATIONS - 1) * options.rounds(), &own, |_| {
        if generations.is_empty() {
            generations = bootstrap::generations(&options.quinistry, GENERATIONS);
        }
        generations.pop().expect("it has raised some")
    });
}

pub(crate) fn memory(comparison: &mut Comparison, data: &PeerData, registries: &[Peer]) {
    let options = comparison.options.clone();
    let rounds = options.rounds();
    let quine = vec![
        Work::cost("memory high-water at first answer, own image only", "MB"),
        Work::cost(format!("memory high-water, {MANY_CLIENTS} downloads of the own layer"), "MB")
            .at_most(16.0),
    ];
    comparison.rows_of_one_measurement(quine, rounds, &[Peer::Quinistry], |_| {
        let (server, _) = start_and_get(|| start_quine(&options.quinistry), "/v2/quinistry/manifests/latest");
        let at_start = server.high_water();
        let manifest = server.connect().body("/v2/quinistry/manifests/latest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().expect("the quine has a layer").to_owned();
        download(&server, &format!("/v2/quinistry/blobs/{layer}"));
        vec![at_start, server.high_water()]
    });
    let store = vec![
        Work::cost("memory high-water at first answer, of a store", "MB"),
        Work::cost("memory resident when idle", "MB"),
        Work::cost(format!("memory high-water, {MANY_CLIENTS} downloads of such a layer"), "MB"),
    ];
    let layer = format!("/v2/{IMAGE}/blobs/{}", data.layers[3].digest);
    comparison.rows_of_one_measurement(store, rounds, registries, |peer| {
        let folder = data.folder(peer);
        let target = if peer == Peer::Crane { "/v2/" } else { &format!("/v2/{IMAGE}/manifests/latest") };
        let (server, _) = start_and_get(|| peer.start(&options.quinistry, &folder), target);
        let at_start = server.high_water();
        thread::sleep(IDLE_PAUSE);
        let idle = server.resident();
        download(&server, &layer);
        vec![at_start, idle, server.high_water()]
    });
    let size = options.scaled(100_000_000);
    let name = format!("memory high-water, {MANY_CLIENTS} pushes of {} MB", size / 1_000_000);
    if comparison.selects(&[&name]) {
        let pattern = Pattern::new();
        let blobs = pattern.blobs(size, MANY_CLIENTS, 0);
        comparison.row(Work::cost(name, "MB").at_most(32.0), rounds, registries, |peer| {
            with_empty_folder(&options, peer, Cleanup::Immediate, |folder| {
                let server = peer.start(&options.quinistry, folder);
                push_all(&server, MANY_CLIENTS, &blobs, &pattern, Duration::MAX);
                server.high_water()
            })
        });
    }
}

pub(crate) fn sizes(comparison: &mut Comparison, registries: &[Peer]) {
    let quinistry = comparison.options.quinistry.clone();
    let megabytes = |path: &Path| fs::metadata(path).unwrap().len() as f64 / 1e6;
    comparison.row(Work::cost("binary", "MB").at_most(12.0), 1, registries, |peer| {
        megabytes(&peer.path().filter(|_| peer != Peer::Quinistry).unwrap_or_else(|| quinistry.clone()))
    });
    comparison.row(Work::cost("image, config and layer", "MB"), 1, &[Peer::Quinistry], |_| {
        let manifest = Command::new(&quinistry).args(["image", "manifest"]).output().unwrap().stdout;
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let size =
            |descriptor: &serde_json::Value| descriptor["size"].as_f64().expect("descriptors have sizes");
        (size(&manifest["config"]) + size(&manifest["layers"][0])) / 1e6
    });
}

/// Starts a registry that serves its own image only.
fn start_quine(quinistry: &Path) -> Process {
    let address = free_address();
    let mut command = Command::new(quinistry);
    command.args(["serve", "--listen", &address.to_string()]);
    Process::start(command, address)
}

fn download(server: &Process, target: &str) {
    thread::scope(|scope| {
        for _ in 0..MANY_CLIENTS {
            scope.spawn(|| server.connect().get(target, |_| ()));
        }
    });
}

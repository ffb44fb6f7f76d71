//! Pushes: many small blobs, some of middle size, one large one; and images that are pulled at once. Each
//! measurement begins with an empty folder.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::comparison::Comparison;
use super::content::{CONFIG, GeneratedBlob, Pattern, manifest};
use super::data::flush;
use super::options::Options;
use super::peers::Peer;
use super::push::{self, PushCount};
use super::row::Work;
use super::support::cores::start_measured;
use super::support::process::Process;

const REPOSITORY: &str = "pushed";
const MANY_CLIENTS: usize = 16;

pub(crate) fn measure(comparison: &mut Comparison, registries: &[Peer]) {
    let pattern = Pattern::new();
    small(comparison, &pattern, registries);
    middle(comparison, &pattern, registries);
    large(comparison, &pattern, registries);
    mixed(comparison, &pattern, registries);
}

fn small(comparison: &mut Comparison, pattern: &Pattern, registries: &[Peer]) {
    let count = comparison.options.scaled(10_000);
    let blobs = pattern.blobs(4_096, count, 0);
    for clients in [1, MANY_CLIENTS] {
        let name = format!("push {count} × 4 KB, {clients} clients");
        let work = Work::rate(name, "blobs/s");
        let work = if clients == MANY_CLIENTS { work.relative_to(Peer::DockerRegistry, 5.0) } else { work };
        let (rounds, limit) = (comparison.options.rounds(), comparison.options.push_limit());
        let options = comparison.options.clone();
        comparison.row(work, rounds, registries, |peer| {
            with_empty_folder(&options, peer, Cleanup::AtTheEnd, |folder| {
                let server = peer.start(&options.quinistry, folder);
                push_all(&server, clients, &blobs, pattern, limit).rate()
            })
        });
    }
}

fn middle(comparison: &mut Comparison, pattern: &Pattern, registries: &[Peer]) {
    let (size, count) = (comparison.options.scaled(10_000_000), 100);
    let works = [1, MANY_CLIENTS].map(|clients| {
        (clients, Work::rate(format!("push {count} × {} MB, {clients} clients", size / 1_000_000), "MB/s"))
    });
    if !comparison.selects(&works.each_ref().map(|(_, work)| work.name.as_str())) {
        return;
    }
    let blobs = pattern.blobs(size, count, 0);
    for (clients, work) in works {
        let (rounds, limit) = (comparison.options.rounds(), comparison.options.push_limit());
        let options = comparison.options.clone();
        comparison.row(work, rounds, registries, |peer| {
            with_empty_folder(&options, peer, Cleanup::Immediate, |folder| {
                let server = peer.start(&options.quinistry, folder);
                let done = push_all(&server, clients, &blobs, pattern, limit);
                done.rate() * size as f64 / 1e6
            })
        });
    }
}

/// Measures one blob of a gigabyte, compared with writing and flushing as many bytes to a file, and as many
/// bytes by many clients.
fn large(comparison: &mut Comparison, pattern: &Pattern, registries: &[Peer]) {
    let size = comparison.options.scaled(1_000_000_000);
    let one = Work::rate(format!("push 1 × {} MB, 1 client", size / 1_000_000), "MB/s")
        .relative_to(Peer::DockerRegistry, 3.0)
        .relative_to(Peer::Dd, 0.6);
    let many = Work::rate(
        format!("push {MANY_CLIENTS} × {} MB, {MANY_CLIENTS} clients", size / MANY_CLIENTS / 1_000_000),
        "MB/s",
    )
    .relative_to(Peer::Distribution, 1.2)
    .relative_to(Peer::Dd, 0.9);
    let options = comparison.options.clone();
    let rounds = options.rounds();
    let with_dd: Vec<Peer> = registries.iter().copied().chain([Peer::Dd]).collect();
    if comparison.selects(&[&one.name]) {
        let blob = pattern.blobs(size, 1, 0);
        let sources = write_sources(&options, pattern, &blob);
        comparison.row(one, rounds, &with_dd, |peer| {
            with_empty_folder(&options, peer, Cleanup::Immediate, |folder| {
                let time = if peer == Peer::Dd {
                    dd(&sources, folder)
                } else {
                    let server = peer.start(&options.quinistry, folder);
                    push_all(&server, 1, &blob, pattern, Duration::MAX).time
                };
                size as f64 / time.as_secs_f64() / 1e6
            })
        });
        remove(&sources);
    }
    if comparison.selects(&[&many.name]) {
        let blobs = pattern.blobs(size / MANY_CLIENTS, MANY_CLIENTS, 0);
        let sources = write_sources(&options, pattern, &blobs);
        comparison.row(many, rounds, &with_dd, |peer| {
            with_empty_folder(&options, peer, Cleanup::Immediate, |folder| {
                let time = if peer == Peer::Dd {
                    dd(&sources, folder)
                } else {
                    let server = peer.start(&options.quinistry, folder);
                    push_all(&server, MANY_CLIENTS, &blobs, pattern, Duration::MAX).time
                };
                (size / MANY_CLIENTS * MANY_CLIENTS) as f64 / time.as_secs_f64() / 1e6
            })
        });
        remove(&sources);
    }
}

/// Writes the files that `dd` copies. They are on disk and in memory then.
fn write_sources(options: &Options, pattern: &Pattern, blobs: &[GeneratedBlob]) -> Vec<PathBuf> {
    let write = |(number, blob): (usize, &GeneratedBlob)| {
        let path = options.dir.join(format!("source-{number}"));
        let mut file = File::create(&path).unwrap();
        for chunk in pattern.chunks(blob) {
            file.write_all(chunk).unwrap();
        }
        file.sync_all().unwrap();
        path
    };
    blobs.iter().enumerate().map(write).collect()
}

fn remove(files: &[PathBuf]) {
    for file in files {
        fs::remove_file(file).unwrap();
    }
}

/// Copies each file to a folder by a process of its own, all at once, and returns the time until all are on
/// disk.
fn dd(sources: &[PathBuf], folder: &Path) -> Duration {
    let begin = Instant::now();
    let start = |(number, source): (usize, &PathBuf)| {
        let mut command = Command::new("dd");
        let target = folder.join(number.to_string());
        command.arg(format!("if={}", source.display())).arg(format!("of={}", target.display()));
        command.args(["bs=1M", "conv=fsync"]).stderr(Stdio::null());
        start_measured(|| command.spawn().unwrap())
    };
    let copies: Vec<_> = sources.iter().enumerate().map(start).collect();
    for mut copy in copies {
        assert!(copy.wait().unwrap().success(), "dd");
    }
    begin.elapsed()
}

/// Measures images that are pushed and pulled again at once.
fn mixed(comparison: &mut Comparison, pattern: &Pattern, registries: &[Peer]) {
    let clients = 8;
    let work = Work::rate(format!("push an image of 64 KB and pull it, {clients} clients"), "images/s");
    if !comparison.selects(&[&work.name]) {
        return;
    }
    let blobs = pattern.blobs(65_536, comparison.options.scaled(20_000), 0);
    let (rounds, limit) = (comparison.options.rounds(), comparison.options.push_limit());
    let options = comparison.options.clone();
    comparison.row(work, rounds, registries, |peer| {
        with_empty_folder(&options, peer, Cleanup::AtTheEnd, |folder| {
            let server = peer.start(&options.quinistry, folder);
            push_config(&server, REPOSITORY);
            push::all(&server, clients, blobs.len(), limit, |connection, number| {
                let layer = &blobs[number];
                push::blob(connection, REPOSITORY, layer, pattern);
                let target = format!("/v2/{REPOSITORY}/manifests/t{number}");
                push::manifest(connection, &target, &manifest(&[layer], number as u64));
                connection.get(&target, |_| ());
                connection.get(&format!("/v2/{REPOSITORY}/blobs/{}", layer.digest), |_| ());
            })
            .rate()
        })
    });
}

/// Pushes the configuration that all images share.
pub(crate) fn push_config(server: &Process, repository: &str) {
    let digest = quinistry::oci::Digest::sha256(CONFIG);
    push::bytes(&mut server.connect(), repository, digest.as_str(), &[CONFIG]);
}

pub(crate) fn push_all(
    server: &Process,
    clients: usize,
    blobs: &[GeneratedBlob],
    pattern: &Pattern,
    limit: Duration,
) -> PushCount {
    push::all(server, clients, blobs.len(), limit, |connection, number| {
        push::blob(connection, REPOSITORY, &blobs[number], pattern);
    })
}

/// Returns the folder that contains the folders of all pushes.
pub(crate) fn root(options: &Options) -> PathBuf {
    options.dir.join("pushed")
}

/// Treatment of the pushed files after a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleanup {
    /// Removes large files at once.
    Immediate,
    /// Leaves thousands of small files until the end of the bench, since their removal would slow the next
    /// measurement down.
    AtTheEnd,
}

/// Runs a measurement on an empty folder, and flushes the disk afterwards: files that a peer has not flushed
/// are not written during the next measurement.
pub(crate) fn with_empty_folder<T>(
    options: &Options,
    peer: Peer,
    cleanup: Cleanup,
    work: impl FnOnce(&Path) -> T,
) -> T {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let root = root(options);
    let folder = root.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir_all(&folder).unwrap();
    let done = work(&folder);
    if cleanup == Cleanup::Immediate || peer == Peer::Crane {
        fs::remove_dir_all(&folder).unwrap();
    }
    flush(&root);
    done
}

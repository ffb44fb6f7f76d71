//! Side by side: the same work on the same machine by quinistry, by other registries, and by programs that
//! only move bytes.
//!
//! The bench drives every program from outside, over loopback, in turn, and prints one table;
//! `benches/compare/run` installs the peers and calls the bench. Only the status of a response is checked
//! here: the tests check the rest.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]

mod comparison;
mod content;
mod costs;
mod data;
mod growth;
mod json;
mod options;
mod peers;
mod push;
mod pushes;
mod reads;
mod row;
mod secure;
mod starts;
#[path = "../support/mod.rs"]
mod support;
mod svg;
mod table;
mod wrong_logins;

use std::fs;
use std::path::Path;

use comparison::Comparison;
use data::PeerData;
use json::MachineLoad;
use options::{MAX_QUIET_LOAD, Options};
use peers::{PERSISTENT, Peer, REGISTRIES, SERVERS};
use support::foreign_load::{ForeignLoad, load_of_last_minute};
use support::{cores, load_average, wrk};
use table::ComparisonTable;

/// Explanation of the table.
const NOTES: &str = "\
Medians, and × how many times better quinistry's is; beneath them the least and the greatest figure. –: not supported, or
not measured.
quinistry flushes pushed files and their folders before it responds. docker-registry 2.8 and distribution 3.1 flush all
files, but no folders (distribution only those of links): blobs may be lost in a power failure. crane flushes nothing.
crane keeps manifests in memory, and hashes a blob at each request, so that it is not measured with many large blobs.
nginx is not a registry: it serves the same responses as static files, with sendfile and one worker. dd: conv=fsync, of the
same bytes, as many processes as clients. System calls are those of one connection; processor time is that of the server.
Pushes of many blobs end after a few seconds: the rate is that of the blobs pushed by then.";

fn main() {
    let options = Options::parse();
    fs::create_dir_all(&options.dir).unwrap();
    if options.needs_quiet_machine && load_of_last_minute() > MAX_QUIET_LOAD {
        eprintln!(
            "error: the load of this machine is {}, more than {MAX_QUIET_LOAD}, and goals would not be judged; wait, or leave \
             out --quiet-machine",
            load_of_last_minute()
        );
        std::process::exit(1);
    }
    let (before, foreign) = (load_average(), ForeignLoad::begin());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let pinned = if options.is_pinned { cores::pin() } else { None };
    let installed = |all: &[Peer]| all.iter().copied().filter(|peer| peer.is_installed()).collect::<Vec<_>>();
    for peer in SERVERS.iter().filter(|peer| !peer.is_installed()) {
        eprintln!("{} is not installed and is left out", peer.name());
    }
    assert!(wrk::is_installed(), "wrk is not installed: benches/compare/run installs it");
    let data = PeerData::new(&options);
    // Remains of an interrupted run.
    let _ = fs::remove_dir_all(pushes::root(&options));
    let (servers, registries) = (installed(SERVERS), installed(REGISTRIES));
    let mut comparison = Comparison::new(options);
    comparison.prepare(|| servers.iter().for_each(|peer| drop(data.folder(*peer))));

    starts::sizes(&mut comparison, &registries);
    starts::measure(&mut comparison, &data, &servers);
    // On a busy machine there is no time for the last works: the most numerous ones, with the fewest goals.
    let panels = growth::measure(&mut comparison, &data, &installed(PERSISTENT));
    pushes::measure(&mut comparison, &registries);
    starts::memory(&mut comparison, &data, &registries);
    reads::measure(&mut comparison, &data, &servers);
    secure::measure(&mut comparison, &data, &servers);
    wrong_logins::measure(&mut comparison, &data, &servers);

    let took = comparison.elapsed();
    let Comparison { options, rows, skipped, .. } = comparison;
    let load = MachineLoad { cores, before, after: load_average(), foreign: foreign.average() };
    let is_judged = !options.needs_quiet_machine || load.foreign <= MAX_QUIET_LOAD;
    print!("\n{}\n{NOTES}\n", ComparisonTable { rows: &rows, is_judged });
    match pinned {
        Some(cores) => println!("servers on 1 core, load on {cores}"),
        None => println!("servers and load share all cores"),
    }
    println!(
        "load before {}, after {}; other programs took {:.2} cores; figures from a busy machine say little",
        load.before, load.after, load.foreign
    );
    if !is_judged {
        println!("goals are not judged: other programs took more than {MAX_QUIET_LOAD} cores");
    }
    let is_complete = options.is_full() && skipped.is_empty();
    for name in skipped {
        println!("not measured for lack of time: {name}");
    }
    let results = options.dir.join("compare.json");
    fs::write(&results, json::document(&rows, &load, took, is_judged)).unwrap();
    println!("all figures: {}", results.display());
    if !panels.is_empty() {
        let plot = plot_file(&options, is_complete);
        fs::write(&plot, svg::plot(&panels)).unwrap();
        println!("growth: {}", plot.display());
    }
    println!("in {:.0} s", took.as_secs_f64());
    eprintln!("removing pushed files; all other data stays for the next run, in {}", options.dir.display());
    let _ = fs::remove_dir_all(pushes::root(&options));
}

/// Returns the path of the diagram. Only a complete run overwrites the one that docs/benchmarks.md shows.
fn plot_file(options: &Options, is_complete: bool) -> std::path::PathBuf {
    if is_complete {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/growth.svg")
    } else {
        options.dir.join("growth.svg")
    }
}

//! Growth of all figures with the store: to ten times and a hundred times as many manifests. The peers serve
//! each store in turn, one at a time, and the images that each has pushed are removed again.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinistry::oci::Digest;

use super::comparison::Comparison;
use super::content::{CONFIG, GeneratedBlob, Pattern, manifest};
use super::data::{PeerData, StoreFolder, flush, tag};
use super::peers::Peer;
use super::push;
use super::reads::{mean_time, read_pages};
use super::row::{Better, ComparisonRow, Work};
use super::starts::start_and_get;
use super::support::connection::Connection;
use super::support::parallel;
use super::support::process::Process;

const REPOSITORY: &str = "grown";
const CLIENTS: usize = 8;
const SMALLEST_STORE: usize = 1_000;
const GROWTH_FACTORS: [usize; 3] = [1, 10, 100];

/// First number of the images that are pushed to an existing store.
const FIRST_PUSHED_NUMBER: usize = 900_000;

/// Data of one panel of the plot.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// For each peer, the numbers of manifests and the medians.
    pub(crate) lines: Vec<(Peer, Vec<(usize, f64)>)>,
}

/// Title and beginning of the row's name, unit, better.
const MEASUREMENTS: [(&str, &str, Better); 4] = [
    ("exec to first answer", "ms", Better::Less),
    ("manifest GET by tags in turn", "k/s", Better::More),
    ("list of all tags", "ms", Better::Less),
    ("push of images", "images/s", Better::More),
];

pub(crate) fn measure(comparison: &mut Comparison, data: &PeerData, persistent: &[Peer]) -> Vec<Panel> {
    let options = comparison.options.clone();
    let all: Vec<(usize, Vec<Work>)> = GROWTH_FACTORS
        .iter()
        .map(|times| options.scaled(SMALLEST_STORE * times))
        .map(|count| (count, works(count)))
        .collect();
    let pattern = Pattern::new();
    let pushed = pattern.blobs(4_096, options.scaled(20_000), 1);
    for (count, works) in &all {
        if !comparison.selects(&works.iter().map(|work| work.name.as_str()).collect::<Vec<_>>()) {
            continue;
        }
        let folder = comparison.prepare(|| {
            let folder = data.grown(REPOSITORY, *count);
            if pushed_marker(&folder).exists() {
                remove(&folder, &pushed);
            }
            folder
        });
        comparison.rows_of_one_measurement(works.clone(), options.rounds(), persistent, |peer| {
            let target = format!("/v2/{REPOSITORY}/manifests/{}", tag(0));
            let (server, start) = start_and_get(|| peer.start(&options.quinistry, &folder), &target);
            let window = options.window();
            let gets = gets(&server, *count, window);
            let list = format!("/v2/{REPOSITORY}/tags/list");
            // The first list after a start is read from the disk, and would be the only one in the window.
            read_pages(&mut server.connect(), &list);
            let tags = mean_time(&server, window / 2, |connection| read_pages(connection, &list));
            File::create(pushed_marker(&folder)).unwrap();
            let (rate, begun) = push_images(&server, &pushed, &pattern, window * 2);
            drop(server);
            remove(&folder, &pushed[..begun]);
            vec![start, gets / 1e3, tags, rate]
        });
    }
    MEASUREMENTS.iter().enumerate().filter_map(|(at, of)| panel(&comparison.rows, &all, at, of)).collect()
}

fn works(count: usize) -> Vec<Work> {
    let name = |title: &str| format!("{title}, {count} manifests");
    MEASUREMENTS
        .iter()
        .map(|&(title, unit, better)| {
            let work = if better == Better::More {
                Work::rate(name(title), unit)
            } else {
                Work::cost(name(title), unit)
            };
            let is_start = title == MEASUREMENTS[0].0;
            if is_start && count == SMALLEST_STORE * GROWTH_FACTORS[2] { work.at_most(50.0) } else { work }
        })
        .collect()
}

fn panel(
    rows: &[ComparisonRow],
    all: &[(usize, Vec<Work>)],
    at: usize,
    &(title, unit, better): &(&'static str, &'static str, Better),
) -> Option<Panel> {
    let mut lines: Vec<(Peer, Vec<(usize, f64)>)> = Vec::new();
    for (count, works) in all {
        let Some(row) = rows.iter().find(|row| row.work.name == works[at].name) else { continue };
        for (peer, spread) in &row.of {
            let point = (*count, spread.median());
            match lines.iter_mut().find(|(of, _)| of == peer) {
                Some((_, points)) => points.push(point),
                None => lines.push((*peer, vec![point])),
            }
        }
    }
    (!lines.is_empty()).then_some(Panel { title, unit, better, lines })
}

fn image(layer: &GeneratedBlob, number: usize) -> Vec<u8> {
    manifest(&[layer], number as u64)
}

/// Returns the path of a file that exists while a store contains pushed images.
fn pushed_marker(folder: &Path) -> std::path::PathBuf {
    folder.with_extension("pushed")
}

/// Removes the pushed images.
fn remove(folder: &Path, layers: &[GeneratedBlob]) {
    let layout = StoreFolder::new(folder);
    for (number, layer) in layers.iter().enumerate() {
        let number = FIRST_PUSHED_NUMBER + number;
        layout.remove(REPOSITORY, &tag(number), &image(layer, number), &layer.digest);
    }
    flush(folder);
    fs::remove_file(pushed_marker(folder)).unwrap();
}

/// Measures requests for tags from all over the store, so that no response is cached from an earlier request.
fn gets(server: &Process, count: usize, window: Duration) -> f64 {
    let next = AtomicUsize::new(0);
    let one = |connection: &mut Connection, _| {
        let number = next.fetch_add(1, Ordering::Relaxed).wrapping_mul(7_919) % count;
        connection.get(&format!("/v2/{REPOSITORY}/manifests/{}", tag(number)), |_| ());
        1
    };
    parallel::rate(CLIENTS, window, || server.connect(), one)
}

/// Measures pushes, and returns images per second and the number of images begun.
fn push_images(
    server: &Process,
    layers: &[GeneratedBlob],
    pattern: &Pattern,
    window: Duration,
) -> (f64, usize) {
    let digest = Digest::sha256(CONFIG);
    assert_eq!(
        server.connect().ask("HEAD", &format!("/v2/{REPOSITORY}/blobs/{digest}"), "", &[], |_| ()).status,
        200,
        "all images have one configuration"
    );
    let done = push::all(server, CLIENTS, layers.len(), window, |connection, number| {
        let layer = &layers[number];
        push::blob(connection, REPOSITORY, layer, pattern);
        let target = format!("/v2/{REPOSITORY}/manifests/{}", tag(FIRST_PUSHED_NUMBER + number));
        push::manifest(connection, &target, &image(layer, FIRST_PUSHED_NUMBER + number));
    });
    (done.rate(), done.count)
}

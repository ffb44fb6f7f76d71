//! Reads: manifests, lists, and blobs of all sizes. All servers run at once, and are idle except for the one
//! that is measured.

use std::cell::LazyCell;
use std::time::{Duration, Instant};

use quinistry::oci::Digest;

use super::comparison::Comparison;
use super::costs::{self, Costs};
use super::data::{IMAGE, PeerData, REFERRERS, TAGS};
use super::peers::{Peer, SERVERS};
use super::row::Work;
use super::support::connection::Connection;
use super::support::process::Process;
use super::support::{milliseconds, parallel, wrk};

const CONNECTIONS: usize = 8;

/// Duration of a run of `wrk`, which accepts only whole seconds.
const WRK_SECONDS: u64 = 1;

/// Longest body of requests whose costs are counted, in bytes.
const MAX_COUNTED_BYTES: usize = 1_000_000;

/// Time after which responses come from the same cache as all later ones.
const WARM_UP_TIME: Duration = Duration::from_millis(100);

/// Load generator of a GET.
enum LoadGenerator {
    /// `wrk`, for many short responses: thousands per second.
    Wrk,
    /// Threads that read 256 KiB at a time, for few long responses: gigabytes per second. `wrk` reads 8 KiB
    /// at a time, and would itself be the bottleneck.
    Threads,
}

struct Get {
    /// Name without the number of connections.
    name: String,
    work: Work,
    target: String,
    /// Header field with its line break, or empty.
    range: &'static str,
    connections: usize,
    /// Length of the body in bytes.
    length: usize,
    /// True for a blob of 100 MB.
    is_large: bool,
    generator: LoadGenerator,
}

pub(crate) fn measure(comparison: &mut Comparison, data: &PeerData, peers: &[Peer]) {
    let options = &comparison.options;
    let window = options.window();
    let costs = Costs::new(comparison);
    let servers: LazyCell<Vec<(Peer, Process)>, _> = {
        let all: Vec<Peer> = SERVERS.iter().copied().filter(|peer| peers.contains(peer)).collect();
        let options = options.clone();
        LazyCell::new(move || all.into_iter().map(|peer| (peer, data.serve(peer, &options))).collect())
    };
    for get in gets(data) {
        if !comparison.selects(&[&get.work.name]) {
            continue;
        }
        let mut answering_peers = answering_peers(&servers, |connection| get.is_answered(connection));
        // crane would hash gigabytes for minutes before the first byte.
        answering_peers.retain(|peer| *peer != Peer::Crane || !get.is_large || get.connections == 1);
        let rounds = comparison.options.rounds();
        for peer in &answering_peers {
            get.warm_up(server(&servers, *peer));
        }
        let works = vec![get.work.clone(), costs::processor_time(&get.work.name)];
        comparison.rows_of_one_measurement(works, rounds, &answering_peers, |peer| {
            let server = server(&servers, peer);
            let (rate, time) = costs::with_processor_time(server, || get.rate(server, window));
            vec![rate, time]
        });
        if get.connections == CONNECTIONS && get.length <= MAX_COUNTED_BYTES {
            costs.count(
                comparison,
                &get.name,
                &answering_peers,
                |peer| server(&servers, peer),
                |server, count| {
                    let mut connection = server.connect();
                    for _ in 0..count {
                        get.ask(&mut connection);
                    }
                },
            );
        }
    }
    lists(comparison, data, &servers);
    heads(comparison, data, &servers, &costs);
}

fn server(servers: &[(Peer, Process)], peer: Peer) -> &Process {
    &servers.iter().find(|(of, _)| *of == peer).expect("only those are asked that were started").1
}

/// Returns the peers whose responses are as expected.
fn answering_peers(servers: &[(Peer, Process)], answers: impl Fn(&mut Connection) -> bool) -> Vec<Peer> {
    servers.iter().filter(|(_, server)| answers(&mut server.connect())).map(|(peer, _)| *peer).collect()
}

fn gets(data: &PeerData) -> Vec<Get> {
    let image = |rest: &str| format!("/v2/{IMAGE}/{rest}");
    let manifest = |name: &str, reference: &str| Get {
        name: format!("manifest GET by {name}"),
        length: data.image.len(),
        work: Work::rate(format!("manifest GET by {name}, {CONNECTIONS} connections"), "k/s")
            .relative_to(Peer::DockerRegistry, 20.0)
            .relative_to(Peer::Distribution, 20.0)
            .relative_to(Peer::Nginx, 1.0),
        target: image(&format!("manifests/{reference}")),
        range: "",
        connections: CONNECTIONS,
        is_large: false,
        generator: LoadGenerator::Wrk,
    };
    let mut all = vec![manifest("tag", "latest"), manifest("digest", Digest::sha256(&data.image).as_str())];
    for (layer, size) in data.layers.iter().zip(["1 KB", "1 MB", "100 MB"]) {
        for connections in [1, 8, 64] {
            let name = format!("blob GET {size}");
            let (is_short, is_large) = (size == "1 KB", size == "100 MB");
            let unit = if is_short { "k/s" } else { "GB/s" };
            let work =
                Work::rate(format!("{name}, {connections} connections"), unit).relative_to(Peer::Nginx, 1.0);
            let generator = if is_short { LoadGenerator::Wrk } else { LoadGenerator::Threads };
            let target = image(&format!("blobs/{}", layer.digest));
            let length = layer.size;
            all.push(Get { name, work, target, range: "", connections, length, is_large, generator });
        }
    }
    all.push(Get {
        name: String::from("64 KB range"),
        length: 65_536,
        work: Work::rate(format!("64 KB Ranges of a 100 MB blob, {CONNECTIONS} connections"), "GB/s")
            .relative_to(Peer::Nginx, 1.0),
        target: image(&format!("blobs/{}", data.layers[2].digest)),
        // The range begins at a page boundary: elsewhere 64 KiB touch one page more than Linux sends at once,
        // and every server that uses sendfile over loopback waits 40 ms for each.
        range: "range: bytes=4096000-4161535\r\n",
        connections: CONNECTIONS,
        is_large: true,
        generator: LoadGenerator::Threads,
    });
    all
}

impl Get {
    fn is_answered(&self, connection: &mut Connection) -> bool {
        self.ask(connection) == if self.range.is_empty() { 200 } else { 206 }
    }

    /// Asks once, and returns the status.
    fn ask(&self, connection: &mut Connection) -> u16 {
        connection.ask("GET", &self.target, self.range, &[], |_| ()).status
    }

    fn warm_up(&self, server: &Process) {
        self.bytes_per_second(server, WARM_UP_TIME);
    }

    /// Returns the rate, and the number of requests.
    fn rate(&self, server: &Process, window: Duration) -> (f64, f64) {
        match self.generator {
            LoadGenerator::Wrk => {
                let url = format!("http://{}{}", server.address(), self.target);
                let accept = format!("Accept: {}", quinistry::oci::media_type::OCI_MANIFEST);
                let (rate, count) = wrk::rate_and_count(&url, &[accept], self.connections, WRK_SECONDS);
                (rate / 1e3, count)
            }
            LoadGenerator::Threads => {
                let begin = Instant::now();
                let rate = self.bytes_per_second(server, window);
                (rate / 1e9, rate * begin.elapsed().as_secs_f64() / self.length as f64)
            }
        }
    }

    fn bytes_per_second(&self, server: &Process, window: Duration) -> f64 {
        let work =
            |connection: &mut Connection, deadline| connection.get_until(&self.target, self.range, deadline);
        parallel::rate(self.connections, window, || server.connect(), work)
    }
}

/// Measures complete lists, page after page if there are pages.
fn lists(comparison: &mut Comparison, data: &PeerData, servers: &[(Peer, Process)]) {
    let subject = Digest::sha256(&data.image);
    let lists = [
        (format!("all of {} tags", data.tags()), format!("/v2/{TAGS}/tags/list")),
        (format!("all of {} referrers", data.referrers()), format!("/v2/{REFERRERS}/referrers/{subject}")),
    ];
    for (name, target) in lists {
        if !comparison.selects(&[&name]) {
            continue;
        }
        let answering_peers = answering_peers(servers, |connection| {
            connection.ask("GET", &target, "", &[], |_| ()).status == 200
        });
        let (rounds, window) = (comparison.options.rounds(), comparison.options.window() / 2);
        for peer in &answering_peers {
            read_pages(&mut server(servers, *peer).connect(), &target);
        }
        comparison.row(Work::cost(name, "ms"), rounds, &answering_peers, |peer| {
            mean_time(server(servers, peer), window, |connection| read_pages(connection, &target))
        });
    }
}

/// Returns the mean time of an action in milliseconds. The action is repeated on one connection for `window`,
/// and runs at least once.
pub(crate) fn mean_time(server: &Process, window: Duration, one: impl Fn(&mut Connection)) -> f64 {
    let mut connection = server.connect();
    let begin = Instant::now();
    let mut count = 0;
    while count == 0 || begin.elapsed() < window {
        one(&mut connection);
        count += 1;
    }
    milliseconds(begin.elapsed()) / f64::from(count)
}

/// Reads a list to its end.
pub(crate) fn read_pages(connection: &mut Connection, target: &str) {
    let mut next = Some(target.to_owned());
    while let Some(target) = next {
        let answer = connection.ask("GET", &target, "", &[], |_| ());
        assert_eq!(answer.status, 200, "GET {target}: {answer:?}");
        next = answer.next;
    }
}

/// Measures HEAD without `wrk`, which waits for the body whose length the response declares.
fn heads(comparison: &mut Comparison, data: &PeerData, servers: &[(Peer, Process)], costs: &Costs) {
    let work =
        Work::rate(format!("blob HEAD, {CONNECTIONS} connections"), "k/s").relative_to(Peer::Nginx, 1.0);
    if !comparison.selects(&[&work.name]) {
        return;
    }
    let target = format!("/v2/{IMAGE}/blobs/{}", data.layers[1].digest);
    let head = |connection: &mut Connection| connection.ask("HEAD", &target, "", &[], |_| ()).status == 200;
    let answering_peers = answering_peers(servers, head);
    let (rounds, window) = (comparison.options.rounds(), comparison.options.window());
    comparison.row(work, rounds, &answering_peers, |peer| {
        let server = server(servers, peer);
        let one = |connection: &mut Connection, _| usize::from(head(connection));
        parallel::rate(CONNECTIONS, window, || server.connect(), one) / 1e3
    });
    costs.count(
        comparison,
        "blob HEAD",
        &answering_peers,
        |peer| self::server(servers, peer),
        |server, count| {
            let mut connection = server.connect();
            for _ in 0..count {
                head(&mut connection);
            }
        },
    );
}

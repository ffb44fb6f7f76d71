//! Time of a push beside a webhook: without an endpoint, with a receiver that takes all events, with one that is away, and
//! with one that never answers.
//!
//! `benches/webhooks/run` builds the release binary and calls the bench.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::duplicate_mod, reason = "the benches and the tests share the guard of processes")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs 53 bits")]

mod receiver;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use self::receiver::Receiver;
use self::support::connection::Connection;
use self::support::image_push::push_image;
use self::support::process::{Process, free_address};
use self::support::spread::{Spread, verdict};
use self::support::{load_average, milliseconds};

/// Rounds, in each of which all registries get one push: the load of the machine changes. All rounds together make more
/// events than a queue has room for.
const ROUNDS: usize = 6_000;

/// Rounds that open files and fill caches.
const FIRST_ROUNDS: usize = 100;

/// Greatest time with a receiver that is away, as a share of that without an endpoint.
const GOAL: f64 = 1.01;

/// Registry that is measured, with its only client.
struct Registry {
    name: &'static str,
    /// Greatest time of a push, as a share of that of the first registry.
    goal: Option<f64>,
    process: Process,
    connection: Connection,
    milliseconds: Vec<f64>,
    /// Processor time of the process before the measured rounds, in seconds.
    first_processor: f64,
}

impl Registry {
    fn start(folder: &Path, name: &'static str, goal: Option<f64>, endpoint: Option<SocketAddr>) -> Self {
        let (address, root) = (free_address(), folder.join(name.replace(' ', "-")));
        let endpoint = endpoint.map_or(String::new(), |endpoint| {
            format!("notifications: {{endpoints: [{{name: receiver, url: 'http://{endpoint}/'}}]}}\n")
        });
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: \
             '{}'}}}}\nhttp: {{addr: '{address}'}}\n{endpoint}",
            root.display()
        );
        let config = root.with_extension("yml");
        fs::write(&config, text).unwrap();
        let program = std::env::var_os("QUINISTRY");
        let mut command = Command::new(program.expect("benches/webhooks/run names the program by QUINISTRY"));
        command.arg("serve").arg(&config);
        let process = Process::start(command, address);
        let connection = process.connect();
        Self { name, goal, process, connection, milliseconds: Vec::new(), first_processor: 0.0 }
    }

    fn take_turn(&mut self, round: usize) {
        if round == FIRST_ROUNDS {
            self.first_processor = self.process.processor_seconds();
        }
        let took = push_image(&mut self.connection, round);
        if round >= FIRST_ROUNDS {
            self.milliseconds.push(milliseconds(took));
        }
    }

    /// Prints the figures beside those of the first registry.
    fn print(&self, first: &Spread) {
        let times = Spread::of(self.milliseconds.clone());
        let ratio = times.median() / first.median();
        let goal = self.goal.map_or(String::new(), |goal| format!(" ({})", verdict(ratio <= goal)));
        let processor = self.process.processor_seconds() - self.first_processor;
        println!(
            "{:20} median {:.3} ms, {ratio:.4} times{goal}; processor {:.3} ms a push; memory {:.0} MB at most",
            self.name,
            times.median(),
            processor * 1e3 / times.count() as f64,
            self.process.high_water()
        );
    }
}

fn main() {
    let before = load_average();
    let rounds = std::env::args().skip_while(|argument| argument != "--rounds").nth(1);
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    println!("pushes of an image beside webhooks, {rounds} rounds; load before {before}");
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    // The kernel accepts connections to it, and nothing reads them.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut registries = [
        ("no endpoint", None, None),
        ("no endpoint, again", None, None),
        ("receiver answers", None, Some(receiver.address())),
        ("receiver is away", Some(GOAL), Some(free_address())),
        ("receiver is silent", Some(GOAL), Some(silent.local_addr().unwrap())),
    ]
    .map(|(name, goal, endpoint)| Registry::start(folder.path(), name, goal, endpoint));
    for round in 0..FIRST_ROUNDS + rounds {
        let count = registries.len();
        for turn in 0..count {
            // Each registry follows each of the others equally often.
            registries[(turn * (1 + round % (count - 1)) + round) % count].take_turn(round);
        }
    }
    let first = Spread::of(registries[0].milliseconds.clone());
    for registry in &registries {
        registry.print(&first);
    }
    // An event for the configuration, and one for the manifest.
    let expected = 2 * (FIRST_ROUNDS + rounds);
    println!("{} of {expected} events arrived; load after {}", receiver.wait_for(expected), load_average());
}

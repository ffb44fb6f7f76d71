//! Options of the command line, and the numbers, sizes and times that follow from them.

use std::path::{Path, PathBuf};
use std::time::Duration;

const USAGE: &str = "\
benches/compare/run [--quick] [--only WORDS]... [--dir DIR] [--scale N] [--minutes N] [--rounds N] [--quiet-machine] [--unpinned]

  --quick       run a tenth of everything, in two minutes: shows that it works, not how fast
  --only WORDS  run only works whose names contain these words (several: any of them)
  --dir DIR     folder of the data, which is kept between runs, and of the results: on the disk to measure, with 8 GB free
                [default: compare/ in cargo's target folder]
  --scale N     divide all numbers and sizes of stored and pushed objects by N [default: 1]
  --minutes N   begin no measurement after N minutes, not counting the first writing of the data [default: 40]
  --rounds N    number of rounds of each work [default: 7]
  --quiet-machine
                do not begin above a load of 0.5, and judge no goal if other programs take more than half a core during
                the run
  --unpinned    let servers and load share all cores, instead of giving one core to the server and the others to the load";

/// Greatest load at which goals are judged, with `--quiet-machine`.
pub(crate) const MAX_QUIET_LOAD: f64 = 0.5;

/// Least number of rounds whose median one round that was disturbed hardly changes.
const ROUNDS: usize = 7;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Path of the binary to measure.
    pub(crate) quinistry: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) only: Vec<String>,
    pub(crate) quick: bool,
    pub(crate) limit: Duration,
    pub(crate) scale: usize,
    rounds: usize,
    /// True if goals are judged on a quiet machine only.
    pub(crate) needs_quiet_machine: bool,
    /// True if servers have one core, and the load the others.
    pub(crate) is_pinned: bool,
}

impl Options {
    /// Parses the arguments. Prints the usage and ends the process if they are wrong or ask for help.
    pub(crate) fn parse() -> Self {
        let built = Path::new(env!("CARGO_BIN_EXE_quinistry"));
        let quinistry = std::env::var_os("QUINISTRY").map_or_else(|| built.to_owned(), PathBuf::from);
        // DIR/TARGET/PROFILE/quinistry
        let target = built.ancestors().nth(3).expect("cargo builds in a folder");
        let dir = target.join("compare");
        let mut options = Self {
            quinistry,
            dir,
            only: Vec::new(),
            quick: false,
            limit: Duration::from_mins(40),
            scale: 1,
            rounds: ROUNDS,
            needs_quiet_machine: false,
            is_pinned: true,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| usage(&argument));
            match argument.as_str() {
                // Cargo passes this option to every bench.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--only" => options.only.push(value()),
                "--dir" => options.dir = PathBuf::from(value()),
                "--scale" => options.scale = number(&value()).max(1),
                "--minutes" => options.limit = Duration::from_mins(number(&value()) as u64),
                "--rounds" => options.rounds = number(&value()).max(1),
                "--quiet-machine" => options.needs_quiet_machine = true,
                "--unpinned" => options.is_pinned = false,
                _ => usage(&argument),
            }
        }
        if options.quick {
            options.scale = options.scale.max(10);
        }
        options
    }

    /// Returns true if no work is left out or scaled down.
    pub(crate) fn is_full(&self) -> bool {
        self.scale == 1 && self.only.is_empty() && !self.quick && self.rounds >= ROUNDS
    }

    /// Scales a number or size of stored or pushed objects.
    pub(crate) fn scaled(&self, number: usize) -> usize {
        (number / self.scale).max(1)
    }

    /// Number of rounds of each work.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }

    /// Number of requests whose system calls are counted.
    pub(crate) fn counted_requests(&self) -> usize {
        if self.quick { 20 } else { 200 }
    }

    /// Number of starts of a process.
    pub(crate) fn starts(&self) -> usize {
        if self.quick { 3 } else { 15 }
    }

    /// Length of a measurement of repeated requests.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { 400 })
    }

    /// Time after which no further push begins: the rate is known by then.
    pub(crate) fn push_limit(&self) -> Duration {
        Duration::from_millis(if self.quick { 400 } else { 1500 })
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| usage(text))
}

fn usage(argument: &str) -> ! {
    if argument == "--help" {
        println!("{USAGE}");
        std::process::exit(0);
    }
    eprintln!("{argument}: not a valid option or value\n\n{USAGE}");
    std::process::exit(2);
}

//! Options of the command line, and the numbers, sizes and times that follow from them.

use std::path::{Path, PathBuf};
use std::time::Duration;

const USAGE: &str = "\
benches/compare/run [--quick] [--only WORDS]... [--dir DIR] [--scale N] [--minutes N]

  --quick       run a tenth of everything, in two minutes: shows that it works, not how fast
  --only WORDS  run only works whose names contain these words (several: any of them)
  --dir DIR     folder of the data, which is kept between runs, and of the results: on the disk to measure, with 8 GB free
                [default: compare/ in cargo's target folder]
  --scale N     divide all numbers and sizes of stored and pushed objects by N [default: 1]
  --minutes N   begin no measurement after N minutes, not counting the first writing of the data [default: 10]";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Path of the binary to measure.
    pub(crate) quinistry: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) only: Vec<String>,
    pub(crate) quick: bool,
    pub(crate) limit: Duration,
    pub(crate) scale: usize,
}

impl Options {
    /// Parses the arguments. Prints the usage and ends the process if they are wrong or ask for help.
    pub(crate) fn parse() -> Self {
        let built = Path::new(env!("CARGO_BIN_EXE_quinistry"));
        let quinistry = std::env::var_os("QUINISTRY").map_or_else(|| built.to_owned(), PathBuf::from);
        // DIR/TARGET/PROFILE/quinistry
        let target = built.ancestors().nth(3).expect("cargo builds in a folder");
        let dir = target.join("compare");
        let limit = Duration::from_mins(10);
        let mut options = Self { quinistry, dir, only: Vec::new(), quick: false, limit, scale: 1 };
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
        self.scale == 1 && self.only.is_empty() && !self.quick
    }

    /// Scales a number or size of stored or pushed objects.
    pub(crate) fn scaled(&self, number: usize) -> usize {
        (number / self.scale).max(1)
    }

    /// Number of rounds of short measurements.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { 5 }
    }

    /// Number of rounds of measurements that take seconds.
    pub(crate) fn long_rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
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

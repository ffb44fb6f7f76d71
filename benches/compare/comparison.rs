//! The course of a comparison: each work is measured with all peers in turn, round after round, so that noise
//! affects all alike, and within a time limit.

use std::time::{Duration, Instant};

use super::options::Options;
use super::peers::Peer;
use super::row::{ComparisonRow, Work};
use super::support::spread::Spread;

#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) options: Options,
    began: Instant,
    /// Time spent on preparations, which does not count.
    prepared: Duration,
    pub(crate) rows: Vec<ComparisonRow>,
    /// Names of works that were left out for lack of time.
    pub(crate) skipped: Vec<String>,
}

impl Comparison {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            began: Instant::now(),
            prepared: Duration::ZERO,
            rows: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Returns the time spent on measurements.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed().saturating_sub(self.prepared)
    }

    /// Runs a preparation, whose time does not count.
    pub(crate) fn prepare<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        self.prepared += begin.elapsed();
        done
    }

    /// Returns true if any of these works is selected and there is time for it; records works for which there
    /// is none.
    pub(crate) fn selects(&mut self, names: &[&str]) -> bool {
        let only = &self.options.only;
        let wanted = |name: &&str| only.is_empty() || only.iter().any(|words| name.contains(words.as_str()));
        let names: Vec<&str> = names.iter().copied().filter(wanted).collect();
        if self.elapsed() < self.options.limit {
            return !names.is_empty();
        }
        self.skipped.extend(names.into_iter().map(String::from));
        false
    }

    /// Measures one work.
    pub(crate) fn row(
        &mut self,
        work: Work,
        rounds: usize,
        peers: &[Peer],
        mut measure: impl FnMut(Peer) -> f64,
    ) {
        self.rows_of_one_measurement(vec![work], rounds, peers, |peer| vec![measure(peer)]);
    }

    /// Measures several works with one measurement; `measure` returns a figure for each.
    pub(crate) fn rows_of_one_measurement(
        &mut self,
        works: Vec<Work>,
        rounds: usize,
        peers: &[Peer],
        mut measure: impl FnMut(Peer) -> Vec<f64>,
    ) {
        if !self.selects(&works.iter().map(|work| work.name.as_str()).collect::<Vec<_>>()) {
            return;
        }
        let begin = Instant::now();
        let mut figures: Vec<Vec<Vec<f64>>> = vec![vec![Vec::new(); peers.len()]; works.len()];
        for round in 0..rounds {
            if round > 0 && self.elapsed() > self.options.limit {
                break;
            }
            for (place, peer) in peers.iter().enumerate() {
                for (figures_of_work, figure) in figures.iter_mut().zip(measure(*peer)) {
                    figures_of_work[place].push(figure);
                }
            }
        }
        for (work, figures) in works.into_iter().zip(figures) {
            let of = peers.iter().copied().zip(figures.into_iter().map(Spread::of)).collect();
            let row = ComparisonRow { work, of };
            let medians: Vec<String> = row
                .of
                .iter()
                .map(|(peer, spread)| format!("{} {:.2}", peer.name(), spread.median()))
                .collect();
            eprintln!(
                "{:5.0} s  {} ({}): {}",
                self.elapsed().as_secs_f64(),
                row.work.name,
                row.work.unit,
                medians.join(", ")
            );
            self.rows.push(row);
        }
        eprintln!("         in {:.1} s", begin.elapsed().as_secs_f64());
    }
}

//! One row of the table: a work, its figures, and its goals.

use super::peers::Peer;
use super::support::spread::{Spread, verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// Goal of our median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// At least this many times as good as another peer's median.
    RelativeTo(Peer, f64),
}

#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) goals: Vec<Goal>,
}

impl Work {
    /// Creates a work whose figure is a rate: more is better.
    pub(crate) fn rate(name: impl Into<String>, unit: &'static str) -> Self {
        Self { name: name.into(), unit, better: Better::More, goals: Vec::new() }
    }

    /// Creates a work whose figure is a cost: less is better.
    pub(crate) fn cost(name: impl Into<String>, unit: &'static str) -> Self {
        Self { name: name.into(), unit, better: Better::Less, goals: Vec::new() }
    }

    pub(crate) fn at_most(mut self, most: f64) -> Self {
        self.goals.push(Goal::AtMost(most));
        self
    }

    pub(crate) fn at_least(mut self, least: f64) -> Self {
        self.goals.push(Goal::AtLeast(least));
        self
    }

    pub(crate) fn relative_to(mut self, peer: Peer, times: f64) -> Self {
        self.goals.push(Goal::RelativeTo(peer, times));
        self
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ComparisonRow {
    pub(crate) work: Work,
    pub(crate) of: Vec<(Peer, Spread)>,
}

impl ComparisonRow {
    pub(crate) fn spread(&self, peer: Peer) -> Option<&Spread> {
        self.of.iter().find(|(of, _)| *of == peer).map(|(_, spread)| spread)
    }

    /// Returns how many times better our median is than a peer's.
    pub(crate) fn ratio(&self, peer: Peer) -> Option<f64> {
        let (own, other) = (self.spread(Peer::Quinistry)?.median(), self.spread(peer)?.median());
        Some(if self.work.better == Better::More { own / other } else { other / own })
    }

    /// Describes each goal, and whether it is met if goals are judged. Leaves out those whose peer was not
    /// measured.
    pub(crate) fn verdicts(&self, is_judged: bool) -> Vec<String> {
        let describe = |(goal, met)| {
            if is_judged { format!("{goal} {}", verdict(met)) } else { format!("{goal} not judged") }
        };
        self.work.goals.iter().filter_map(|goal| self.compare(*goal)).map(describe).collect()
    }

    /// Describes a goal and whether it is met. Returns `None` if a required peer was not measured.
    fn compare(&self, goal: Goal) -> Option<(String, bool)> {
        match goal {
            Goal::AtMost(most) => {
                let median = self.spread(Peer::Quinistry)?.median();
                Some((format!("≤ {most} {}", self.work.unit), median <= most))
            }
            Goal::AtLeast(least) => {
                let median = self.spread(Peer::Quinistry)?.median();
                Some((format!("≥ {least} {}", self.work.unit), median >= least))
            }
            Goal::RelativeTo(peer, times) => {
                let ratio = self.ratio(peer)?;
                Some((format!("≥ {times}× {}", peer.name()), ratio >= times))
            }
        }
    }
}

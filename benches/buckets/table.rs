//! The table at the end: a row for each operation, a column for each program, and the goals.

use std::fmt;

use super::registry::Program;
use super::support::spread::{Spread, verdict};

/// Goal of quinistry's median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    Milliseconds(f64),
    /// At most this share of distribution's median.
    ShareOfDistribution(f64),
}

#[derive(Debug)]
struct Row {
    name: String,
    quinistry: Option<Spread>,
    distribution: Option<Spread>,
    goal: Option<Goal>,
}

/// Formats the rows as a text table.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// Adds the figures of a program, in milliseconds.
    pub(crate) fn add(&mut self, name: &str, program: Program, figures: Vec<f64>, goal: Option<Goal>) {
        self.insert(&format!("{name}, ms"), program, figures, goal);
    }

    /// Adds the memory of a program, in megabytes.
    pub(crate) fn add_memory(&mut self, program: Program, figure: f64) {
        self.insert("memory high-water, MB", program, vec![figure], None);
    }

    /// Adds a figure without a goal.
    pub(crate) fn add_figure(&mut self, name: &str, program: Program, figure: f64) {
        self.insert(name, program, vec![figure], None);
    }

    fn insert(&mut self, name: &str, program: Program, figures: Vec<f64>, goal: Option<Goal>) {
        let at = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.0.push(Row { name: name.to_owned(), quinistry: None, distribution: None, goal });
            self.0.len() - 1
        });
        let spread = Some(Spread::of(figures));
        match program {
            Program::Quinistry => self.0[at].quinistry = spread,
            Program::Distribution => self.0[at].distribution = spread,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.name.len()).max().unwrap_or_default();
        writeln!(f, "{:width$}  {:>24}  {:>24}  goal", "", "quinistry (least–most)", "distribution 3.1")?;
        for Row { name, quinistry, distribution, goal } in &self.0 {
            let cell = |spread: &Option<Spread>| match spread {
                Some(spread) => {
                    format!("{:.0} ({:.0}–{:.0})", spread.median(), spread.least(), spread.most())
                }
                None => String::from("–"),
            };
            write!(f, "{name:width$}  {:>24}  {:>24}", cell(quinistry), cell(distribution))?;
            let (Some(own), Some(goal)) = (quinistry, goal) else {
                writeln!(f)?;
                continue;
            };
            match goal {
                Goal::Milliseconds(most) => {
                    writeln!(f, "  ≤ {most:.0} ms {}", verdict(own.median() <= *most))?;
                }
                Goal::ShareOfDistribution(share) => {
                    let most = distribution.as_ref().map(|other| other.median() * share);
                    let met = most.map_or("", |most| verdict(own.median() <= most));
                    writeln!(f, "  ≤ {:.0} % of distribution {met}", share * 100.0)?;
                }
            }
        }
        Ok(())
    }
}

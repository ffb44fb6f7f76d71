//! The table at the end: for each measurement the minimum, the median, the maximum, and the goal.

use std::fmt;

use super::support::spread::{Spread, verdict};

/// Goal of a median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    values: Spread,
    goal: Option<Goal>,
}

/// Formats the rows as a text table.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn row(&mut self, name: &str, unit: &'static str, values: Vec<f64>, goal: Option<Goal>) {
        self.0.push(Row { name: name.to_owned(), unit, values: Spread::of(values), goal });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.name.len()).max().unwrap_or_default();
        writeln!(f, "{:width$}       n      min   median      max unit  goal", "")?;
        for Row { name, unit, values, goal } in &self.0 {
            let (min, median, max) = (values.least(), values.median(), values.most());
            write!(f, "{name:width$} {:7} {min:8.2} {median:8.2} {max:8.2} {unit:5}", values.count())?;
            match goal {
                Some(Goal::AtMost(most)) => writeln!(f, " ≤ {most} {}", verdict(median <= *most))?,
                Some(Goal::AtLeast(least)) => writeln!(f, " ≥ {least} {}", verdict(median >= *least))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

//! The table at the end: for each measurement the minimum, the median, the maximum, and the goal.

use std::fmt;

use super::support::spread::{Spread, verdict};

/// Goal of a median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MedianGoal {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug)]
struct MeasurementRow {
    name: String,
    unit: &'static str,
    values: Spread,
    goal: Option<MedianGoal>,
}

/// Formats the rows as a text table.
#[derive(Debug, Default)]
pub(crate) struct MeasurementTable(Vec<MeasurementRow>);

impl MeasurementTable {
    pub(crate) fn row(&mut self, name: &str, unit: &'static str, values: Vec<f64>, goal: Option<MedianGoal>) {
        self.0.push(MeasurementRow { name: name.to_owned(), unit, values: Spread::of(values), goal });
    }
}

impl fmt::Display for MeasurementTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.name.len()).max().unwrap_or_default();
        writeln!(f, "{:width$}       n      min   median      max unit  goal", "")?;
        for MeasurementRow { name, unit, values, goal } in &self.0 {
            let (min, median, max) = (values.least(), values.median(), values.most());
            write!(f, "{name:width$} {:7} {min:8.2} {median:8.2} {max:8.2} {unit:5}", values.count())?;
            match goal {
                Some(MedianGoal::AtMost(most)) => writeln!(f, " ≤ {most} {}", verdict(median <= *most))?,
                Some(MedianGoal::AtLeast(least)) => writeln!(f, " ≥ {least} {}", verdict(median >= *least))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

//! The table at the end: for each measurement the least, the median, the most, and whether its goal was met.

use std::fmt;

/// What the median must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    /// Sorted, never empty.
    values: Vec<f64>,
    goal: Option<Goal>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn row(&mut self, name: &str, unit: &'static str, mut values: Vec<f64>, goal: Option<Goal>) {
        assert!(!values.is_empty(), "nothing was measured for {name}");
        values.sort_by(f64::total_cmp);
        self.0.push(Row { name: name.to_owned(), unit, values, goal });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.name.len()).max().unwrap_or_default();
        writeln!(f, "{:width$}       n      min   median      max unit  goal", "")?;
        for Row { name, unit, values, goal } in &self.0 {
            let median = values[values.len() / 2];
            let (min, max) = (values[0], values[values.len() - 1]);
            write!(f, "{name:width$} {:7} {min:8.2} {median:8.2} {max:8.2} {unit:5}", values.len())?;
            match goal {
                Some(Goal::AtMost(most)) => writeln!(f, " ≤ {most} {}", verdict(median <= *most))?,
                Some(Goal::AtLeast(least)) => writeln!(f, " ≥ {least} {}", verdict(median >= *least))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

//! The table at the end: a row for each work, a column for each peer; medians with the ratio to ours, and
//! beneath them the least and the greatest figure.

use std::fmt;

use super::peers::Peer;
use super::row::ComparisonRow;

/// Columns with their peers: the two that are not registries measure different works, and share one.
const COLUMNS: [(&str, &[Peer]); 5] = [
    ("quinistry", &[Peer::Quinistry]),
    ("docker-registry", &[Peer::DockerRegistry]),
    ("distribution", &[Peer::Distribution]),
    ("crane", &[Peer::Crane]),
    ("nginx or dd", &[Peer::Nginx, Peer::Dd]),
];

/// Formats the rows as a text table.
#[derive(Debug)]
pub(crate) struct ComparisonTable<'a> {
    pub(crate) rows: &'a [ComparisonRow],
    /// True if the table says which goals are met.
    pub(crate) is_judged: bool,
}

impl fmt::Display for ComparisonTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["work", "unit", "n"].into_iter().chain(COLUMNS.map(|(head, _)| head)).chain(["goal"]);
        let mut lines = vec![heads.map(String::from).collect::<Vec<_>>()];
        lines.extend(self.rows.iter().flat_map(|row| cells(row, self.is_judged)));
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default())
            .collect();
        for line in lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Formats a row as lines of cells.
fn cells(row: &ComparisonRow, is_judged: bool) -> Vec<Vec<String>> {
    let goals = row.verdicts(is_judged);
    let count = row.of.iter().map(|(_, spread)| spread.count()).max().unwrap_or_default();
    let mut first = vec![row.work.name.clone(), row.work.unit.to_owned(), count.to_string()];
    let mut second = vec![String::new(); 3];
    for (_, peers) in COLUMNS {
        let Some((peer, spread)) = row.of.iter().find(|(peer, _)| peers.contains(peer)) else {
            first.push("–".into());
            second.push(String::new());
            continue;
        };
        let ratio = row.ratio(*peer).filter(|_| *peer != Peer::Quinistry);
        let ratio = ratio.map(times).unwrap_or_default();
        first.push(format!("{}{ratio}", figure(spread.median())));
        let range = format!("{}–{}", figure(spread.least()), figure(spread.most()));
        second.push(if spread.count() > 1 { range } else { String::new() });
    }
    let mut goals = goals.into_iter();
    first.push(goals.next().unwrap_or_default());
    second.push(goals.next().unwrap_or_default());
    let mut lines = vec![first];
    if second.iter().any(|cell| !cell.is_empty()) {
        lines.push(second);
    }
    lines.extend(goals.map(|goal| {
        let mut line = vec![String::new(); 3 + COLUMNS.len()];
        line.push(goal);
        line
    }));
    lines
}

fn times(ratio: f64) -> String {
    // Greater ratios would need more digits and say no more; a ratio to zero is infinite.
    if ratio > 999.0 { " ×>999".into() } else { format!(" ×{}", figure(ratio)) }
}

/// Formats a figure with three digits: the measurements are not more precise.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.1 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

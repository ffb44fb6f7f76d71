//! All figures as JSON, to compare runs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::row::{Better, ComparisonRow};

/// Machine of a run, and its load by other programs.
#[derive(Clone, Debug)]
pub(crate) struct MachineLoad {
    pub(crate) cores: usize,
    /// Load averages before the run, and after it with that of the run.
    pub(crate) before: String,
    pub(crate) after: String,
    /// Cores that other programs took during the run, on average.
    pub(crate) foreign: f64,
}

pub(crate) fn document(
    rows: &[ComparisonRow],
    load: &MachineLoad,
    took: Duration,
    is_judged: bool,
) -> String {
    let works: Vec<Value> = rows.iter().map(|row| work(row, is_judged)).collect();
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cores": load.cores,
        "loadBefore": load.before,
        "loadAfter": load.after,
        "foreignCores": load.foreign,
        "seconds": took.as_secs(),
        "works": works,
    });
    format!("{document:#}\n")
}

fn work(row: &ComparisonRow, is_judged: bool) -> Value {
    let figures: Map<String, Value> =
        row.of.iter().map(|(peer, spread)| (peer.name().to_owned(), json!(spread.values()))).collect();
    json!({
        "work": row.work.name,
        "unit": row.work.unit,
        "better": if row.work.better == Better::More { "more" } else { "less" },
        "figures": figures,
        "goals": row.verdicts(is_judged),
    })
}

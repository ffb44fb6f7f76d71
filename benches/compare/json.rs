//! All figures as JSON, to compare runs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::row::{Better, ComparisonRow};

pub(crate) fn document(rows: &[ComparisonRow], before: &str, after: &str, took: Duration) -> String {
    let works: Vec<Value> = rows.iter().map(work).collect();
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "loadBefore": before,
        "loadAfter": after,
        "seconds": took.as_secs(),
        "works": works,
    });
    format!("{document:#}\n")
}

fn work(row: &ComparisonRow) -> Value {
    let figures: Map<String, Value> =
        row.of.iter().map(|(peer, spread)| (peer.name().to_owned(), json!(spread.values()))).collect();
    json!({
        "work": row.work.name,
        "unit": row.work.unit,
        "better": if row.work.better == Better::More { "more" } else { "less" },
        "figures": figures,
        "goals": row.work.goals.iter().filter_map(|goal| row.verdict(*goal)).collect::<Vec<_>>(),
    })
}

//! Files of the repository, and the tables in them.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Returns a path in the repository.
pub(crate) fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Reads a file of the repository.
pub(crate) fn read(file: &str) -> String {
    let path = path(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a file of YAML documents.
pub(crate) fn yaml(file: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&read(file)).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// Returns the cells of every row of the table with this header. The table ends at the first other line.
pub(crate) fn table<const COLUMNS: usize>(page: &str, header: [&str; COLUMNS]) -> Vec<[String; COLUMNS]> {
    let header = format!("| {} |", header.join(" | "));
    let mut lines = page.lines().skip_while(|line| *line != header);
    assert!(lines.next().is_some(), "no table begins with {header}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let inner = line.trim_start_matches("| ").trim_end_matches('|').trim_end();
        let cells: Vec<String> = inner.split(" | ").map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{COLUMNS} cells are expected: {cells:?}"))
    })
    .collect()
}

/// Returns the text of a cell that is code, without its backticks.
#[track_caller]
pub(crate) fn code(cell: &str) -> &str {
    let inner = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    inner.unwrap_or_else(|| panic!("not in backticks: {cell}"))
}

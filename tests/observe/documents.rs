//! `docs/metrics.md`: each metric of the registry and each value of a label has a row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::exposition::read;
use crate::registry::full_pages;

const PAGE: &str = "docs/metrics.md";

/// Returns the cells of the rows of a table, by the beginning of its header.
fn rows(header: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let (_, table) = text.split_once(header).unwrap_or_else(|| panic!("{PAGE} has no table {header}"));
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect()
}

#[test]
fn each_metric_has_a_row_with_its_type_and_labels() {
    let mut expected = BTreeSet::new();
    for page in full_pages() {
        for (name, family) in read(&page, true) {
            expected.insert((name, family.labels, family.kind));
        }
    }
    let rows = rows("\n| metric of the registry |");
    let listed: BTreeSet<_> = rows
        .iter()
        .map(|row| {
            let (name, labels) = row[0].split_once('{').unwrap_or((&row[0], "}"));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            (name.to_owned(), labels.map(str::to_owned).collect::<BTreeSet<_>>(), row[1].clone())
        })
        .collect();
    assert_eq!((listed.len(), listed), (rows.len(), expected));
}

#[test]
fn each_value_of_a_label_has_a_row() {
    let mut expected = BTreeMap::<String, BTreeSet<String>>::new();
    for page in full_pages() {
        for family in read(&page, true).into_values() {
            for (label, values) in family.values {
                expected.entry(label).or_default().extend(values);
            }
        }
    }
    // The first are described by their meaning: every status of an answer, the version of the program, and
    // the names of quotas and endpoints.
    expected.remove("code");
    expected.remove("version");
    expected.remove("quota");
    expected.remove("endpoint");
    let mut listed = BTreeMap::<_, BTreeSet<_>>::new();
    for row in rows("\n| label of the registry |") {
        let values = row[1].split(',').map(|value| value.trim().trim_matches('`').to_owned());
        listed.entry(row[0].clone()).or_default().extend(values);
    }
    assert_eq!(listed, expected);
}

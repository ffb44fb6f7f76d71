//! `docs/hostile-inputs.md`: every `row_NN_…` test has a row, and every row names the files of its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::page::{path, read};

const PAGE: &str = "docs/hostile-inputs.md";

/// The folders that have tests.
const FOLDERS: [&str; 2] = ["tests", "src"];

/// Returns the rows in the name of a test: `row_19_…` has one, `rows_24_and_26_to_28_…` has four.
fn rows(name: &str) -> Vec<u32> {
    let Some(rest) = name.strip_prefix("row_").or_else(|| name.strip_prefix("rows_")) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    let mut words = rest.split('_');
    while let Some(word) = words.next() {
        match (word, word.parse()) {
            (_, Ok(row)) => rows.push(row),
            ("and", _) => {}
            ("to", _) => {
                let (Some(first), Some(Ok(last))) = (rows.last().copied(), words.next().map(str::parse))
                else {
                    break;
                };
                rows.extend(first + 1..=last);
            }
            _ => break,
        }
    }
    rows
}

/// Adds the files below `folder` that have tests of rows.
fn search(folder: &Path, found: &mut BTreeMap<u32, BTreeSet<String>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.is_dir() {
            search(&file, found);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&file).unwrap();
            let name = file.strip_prefix(path("")).unwrap().to_str().unwrap();
            for line in text.lines().filter_map(|line| line.trim().split_once("fn ")) {
                for row in rows(line.1) {
                    found.entry(row).or_default().insert(name.into());
                }
            }
        }
    }
}

#[test]
fn names_of_tests_tell_their_rows() {
    assert_eq!(rows("row_09_components_that_look"), [9]);
    assert_eq!(rows("row_64_http_2_is_not_spoken"), [64]);
    assert_eq!(rows("rows_42_to_44_sessions"), [42, 43, 44]);
    assert_eq!(rows("rows_24_and_26_to_28_what"), [24, 26, 27, 28]);
    assert_eq!(rows("rowing_1_boat"), [0_u32; 0]);
}

#[test]
fn every_test_of_a_row_is_listed_and_every_row_has_a_test() {
    let mut found = BTreeMap::new();
    for folder in FOLDERS {
        search(&path(folder), &mut found);
    }
    let page = read(PAGE);
    let mut expected = String::new();
    let mut listed = Vec::new();
    for line in page.lines() {
        let row = line.strip_prefix("| ").and_then(|rest| rest.split_once(" |"));
        match row.and_then(|(number, _)| number.parse::<u32>().ok()) {
            None => writeln!(expected, "{line}").unwrap(),
            Some(row) => {
                listed.push(row);
                let files = found.get(&row).unwrap_or_else(|| panic!("{PAGE}: row {row} has no test"));
                let files: Vec<String> = files.iter().map(|file| format!("`{file}`")).collect();
                let (rest, _) = line.trim_end_matches('|').rsplit_once('|').unwrap();
                writeln!(expected, "{rest}| {} |", files.join(", ")).unwrap();
            }
        }
    }
    assert_eq!(listed, found.keys().copied().collect::<Vec<_>>(), "rows of {PAGE}, and rows that tests have");
    if std::env::var_os("QUINISTRY_UPDATE_GOLDEN").is_some() {
        std::fs::write(path(PAGE), expected).unwrap();
        return;
    }
    for (line, expected) in page.lines().zip(expected.lines()) {
        assert_eq!(line, expected, "{PAGE}; run this test with QUINISTRY_UPDATE_GOLDEN=1");
    }
}

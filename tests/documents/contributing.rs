//! `CONTRIBUTING.md`: test programs, scripts and environment variables that it names exist.

use std::collections::BTreeSet;
use std::path::Path;

use crate::page::{path, read};

const PAGE: &str = "CONTRIBUTING.md";

/// The folders that have sources and scripts.
const SOURCES: [&str; 6] = ["src", "tests", "e2e", "fuzz", "benches", ".ci"];

/// Returns the words of the page that follow `prefix` directly.
fn words_after(prefix: &str) -> BTreeSet<String> {
    let page = read(PAGE);
    let rests = page.split(prefix).skip(1);
    let is_part = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.');
    let words = rests.map(|rest| rest.chars().take_while(is_part).collect::<String>());
    words.filter(|word| !word.is_empty()).collect()
}

/// Adds the texts of all files below `folder` that are UTF-8.
fn gather(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.is_dir() {
            if file.file_name().is_some_and(|name| name != "target") {
                gather(&file, all);
            }
        } else if file.file_name().is_some_and(|name| name != "contributing.rs") {
            all.push_str(&std::fs::read_to_string(&file).unwrap_or_default());
        }
    }
}

#[test]
fn test_programs_exist() {
    let names = words_after("--test ");
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let found = [format!("tests/{name}.rs"), format!("tests/{name}/main.rs")];
        assert!(found.iter().any(|file| path(file).is_file()), "{PAGE}: no test program {name}");
    }
}

#[test]
fn scripts_exist() {
    let scripts = words_after("\n$ ").into_iter().filter(|word| word.contains('/'));
    let scripts: Vec<String> = scripts.collect();
    assert!(scripts.len() > 2, "{scripts:?}");
    for script in scripts {
        assert!(path(&script).is_file(), "{PAGE}: no script {script}");
    }
}

#[test]
fn environment_variables_are_read() {
    let mut sources = String::new();
    for folder in SOURCES {
        gather(&path(folder), &mut sources);
    }
    let names = words_after("QUINISTRY_");
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        assert!(sources.contains(&format!("QUINISTRY_{name}")), "{PAGE}: nothing reads QUINISTRY_{name}");
    }
}

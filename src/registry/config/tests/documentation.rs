//! `docs/configuration.md`: its tables of keys are made from the table that the program reads.

use std::fmt::Write as _;
use std::path::Path;

use crate::config::{ConfigKey, KeyTreatment, Kind, all_keys};

const BEGIN: &str = "<!-- begin of the keys -->\n";
const END: &str = "<!-- end of the keys -->\n";

/// Returns what happens with a key, for a reader.
fn treatment(key: &ConfigKey) -> String {
    match key.outcome {
        KeyTreatment::Implement | KeyTreatment::Silent if key.note.is_empty() => key.outcome.as_str().into(),
        KeyTreatment::Implement | KeyTreatment::Silent => format!("{}; {}", key.outcome.as_str(), key.note),
        KeyTreatment::Warn(message) | KeyTreatment::Refuse(message, _) => {
            format!("{}: {message}", key.outcome.as_str())
        }
        KeyTreatment::Within => key.outcome.as_str().into(),
    }
}

fn tables() -> String {
    let mut text = String::new();
    let mut section = "";
    // Sections that only group their keys need no row.
    let is_plain_section = |key: &ConfigKey| {
        matches!(key.kind, Kind::Section) && key.outcome == KeyTreatment::Implement && key.note.is_empty()
    };
    for key in all_keys().filter(|key| !is_plain_section(key)) {
        let top = key.path.split('.').next().unwrap_or(key.path);
        // Keys at the top that stand alone share a table.
        let is_single = key.kind != Kind::Section && !key.path.contains('.');
        let heading = if is_single { "Single keys" } else { top };
        if heading != section {
            section = heading;
            let shown = if heading == top { format!("`{top}`") } else { heading.to_owned() };
            write!(
                text,
                "\n### {shown}\n\n| key | type | default | in distribution | here |\n|---|---|---|---|---|\n"
            )
            .unwrap();
        }
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let (kind, lines) = (key.kind.describe(), key.lines.as_str());
        let lines = if lines == "own" { "no" } else { lines };
        writeln!(text, "| `{}` | {kind} | {default} | {lines} | {} |", key.path, treatment(key)).unwrap();
    }
    text + "\n"
}

#[test]
fn the_page_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("a begin of the keys");
    let (_, after) = rest.split_once(END).expect("an end of the keys");
    let expected = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("QUINISTRY_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert!(page == expected, "run this test with QUINISTRY_UPDATE_GOLDEN=1, and look at the difference");
}

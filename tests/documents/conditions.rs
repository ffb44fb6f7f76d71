//! `docs/conditions.md`: one row for each reason, and one for each reason of an Event.
//! (`tests/kubernetes/chart` compares the conditions with the metrics.)

use crate::page::{code, read, table, yaml};

const PAGE: &str = "docs/conditions.md";

/// The enumeration of the reasons that only Events have: its file, and the line that opens it.
const EVENT_REASONS: (&str, &str) = ("src/kube/crd/reason.rs", "pub enum EventReason {");

#[test]
fn each_reason_has_one_row() {
    let definition = &yaml("crds/quinistries.quinistry.dev.yaml")[0];
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let deviations = &schema["properties"]["status"]["properties"]["deviations"]["items"];
    let reasons = deviations["properties"]["reason"]["enum"].as_array().unwrap();
    let mut reasons: Vec<&str> = reasons.iter().map(|reason| reason.as_str().unwrap()).collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    let rows = table(&read(PAGE), ["reason", "meaning", "what to do"]);
    let mut listed: Vec<&str> = rows.iter().map(|[reason, ..]| code(reason)).collect();
    for row in &rows {
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
    reasons.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, reasons);
}

#[test]
fn each_reason_of_an_event_has_one_row() {
    let (file, opening) = EVENT_REASONS;
    let source = read(file);
    let (_, body) = source.split_once(opening).unwrap_or_else(|| panic!("{file} has no {opening}"));
    let (body, _) = body.split_once("\n}").unwrap();
    let variants = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let variants: Vec<&str> =
        variants.filter_map(|line| line.strip_suffix(',')).filter(|line| !line.is_empty()).collect();
    let rows = table(&read(PAGE), ["reason", "type", "meaning"]);
    let listed: Vec<&str> = rows.iter().map(|[reason, ..]| code(reason)).collect();
    assert_eq!(listed, variants, "in the order of {file}");
}

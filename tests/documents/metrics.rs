//! `docs/metrics.md`: the alerts of the charts. (`tests/kubernetes` compares the metrics.)

use std::collections::BTreeSet;

use crate::page::{code, read, table, yaml};

const PAGE: &str = "docs/metrics.md";

#[test]
fn each_alert_has_a_row() {
    for (golden, heading) in [
        ("tests/golden/chart/everything.yaml", "alert"),
        ("tests/golden/registry-chart/everything.yaml", "alert of the registry"),
    ] {
        compare(golden, heading);
    }
}

/// Compares the alerts of a rendered chart with the rows of the table whose first heading is `heading`.
fn compare(golden: &str, heading: &str) {
    let objects = yaml(golden);
    let rules = objects.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap();
    let expected: Vec<[String; 3]> = rules
        .iter()
        .map(|rule| {
            [&rule["alert"], &rule["for"], &rule["labels"]["severity"]]
                .map(|text| text.as_str().unwrap().into())
        })
        .collect();
    let rows = table(&read(PAGE), [heading, "after", "severity", "condition"]);
    let listed: Vec<[String; 3]> =
        rows.into_iter().map(|[alert, after, severity, _]| [code(&alert).into(), after, severity]).collect();
    assert_eq!(listed, expected, "{golden}");
}

#[test]
fn alerts_of_the_registry_ask_for_metrics_that_have_a_row() {
    let (objects, page) = (yaml("tests/golden/registry-chart/everything.yaml"), read(PAGE));
    let rules = objects.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap();
    let expressions: Vec<&str> = rules.iter().map(|rule| rule["expr"].as_str().unwrap()).collect();
    let words = expressions.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_lowercase() && c != '_'));
    let names: BTreeSet<&str> = words.filter(|word| word.starts_with("quinistry_")).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("\n| `{name}` | gauge |")), "{name}");
    }
}

//! `docs/metrics.md`: the alerts of the chart. (`tests/kubernetes/chart` compares the metrics.)

use crate::page::{code, read, table, yaml};

const PAGE: &str = "docs/metrics.md";

#[test]
fn each_alert_has_a_row() {
    let objects = yaml("tests/golden/chart/everything.yaml");
    let rules = objects.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap();
    let expected: Vec<[String; 3]> = rules
        .iter()
        .map(|rule| {
            [&rule["alert"], &rule["for"], &rule["labels"]["severity"]]
                .map(|text| text.as_str().unwrap().into())
        })
        .collect();
    let rows = table(&read(PAGE), ["alert", "after", "severity", "condition"]);
    let listed: Vec<[String; 3]> =
        rows.into_iter().map(|[alert, after, severity, _]| [code(&alert).into(), after, severity]).collect();
    assert_eq!(listed, expected);
}

//! Alerts ask for metrics that the operator shows, and say what to do. `docs/metrics.md` describes the same
//! metrics, and `docs/conditions.md` the same conditions.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use quinistry::operator::{Operator, Settings, router};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::chart::helm::{EVERYTHING, Helm, only, root};

/// Prefix of the names of all metrics.
const PREFIX: &str = "quinistry_operator_";

/// Returns the metrics page of an operator that has not reconciled anything yet.
async fn shown() -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::new("http://localhost".parse().unwrap());
    let app = router(Operator::new(&config, Settings::default()).unwrap());
    let response = app.oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

/// The families of a text in Prometheus' format.
fn families(shown: &str) -> BTreeSet<String> {
    let types = shown.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// The operator's metrics that a text names, by their families.
fn named(text: &str) -> BTreeSet<String> {
    let names = text.match_indices(PREFIX).map(|(at, _)| {
        let name: String = text[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        family.unwrap_or(&name).to_owned()
    });
    names.collect()
}

fn alerts(helm: &Helm, args: &[&str]) -> Vec<Value> {
    let objects = helm.objects(args);
    let rules = &only(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"];
    rules.as_array().unwrap().clone()
}

#[tokio::test]
async fn alerts_ask_for_what_the_operator_shows() {
    let Some(helm) = Helm::find() else { return };
    let shown = shown().await;
    let families = families(&shown);
    let mut asked = BTreeSet::new();
    for alert in alerts(&helm, &["--set", "prometheusRule.enabled=true"]) {
        let expr = alert["expr"].as_str().unwrap();
        for name in named(expr) {
            assert!(families.contains(&name), "{name} in {expr}");
            asked.insert(name);
        }
        // A status or a type that there is not would never raise an alarm.
        let pieces: Vec<_> = expr.split('"').collect();
        for pair in pieces.chunks_exact(2) {
            let label = pair[0].trim_end_matches(['=', '!']);
            let label = label.rsplit(['{', ' ', ',']).next().unwrap();
            match label {
                // Given by Prometheus: a Service's own name, and where it is.
                "job" => assert_eq!(pair[1], "shelf-quinistry-operator"),
                "namespace" => assert_eq!(pair[1], "library"),
                _ => assert!(shown.contains(&format!("{label}=\"{}\"", pair[1])), "{label} in {expr}"),
            }
        }
    }
    assert_eq!(asked.len(), 4, "{asked:?}");
}

#[test]
fn alerts_say_what_to_do() {
    let Some(helm) = Helm::find() else { return };
    for args in [EVERYTHING, &["--set", "prometheusRule.enabled=true"]] {
        let alerts = alerts(&helm, args);
        let names: Vec<_> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "QuinistryOperatorDown",
                "QuinistryLeaderMissing",
                "QuinistryNotReady",
                "QuinistryStoreNotReady",
                "QuinistryBundleNotAvailable",
                "QuinistryFixedPointBroken",
                "QuinistryReconcileFails"
            ]
        );
        for alert in &alerts {
            let name = &alert["alert"];
            let bytes_differ = name == "QuinistryFixedPointBroken";
            let severity = if bytes_differ { "critical" } else { "warning" };
            assert_eq!(alert["labels"]["severity"], severity, "{name}");
            assert_eq!(alert["for"] == "0m", bytes_differ, "{name} waits {}", alert["for"]);
            assert!(alert["annotations"]["summary"].is_string(), "{name}");
            let description = alert["annotations"]["description"].as_str().unwrap();
            let namespace = if args == EVERYTHING { "--namespace" } else { "--all-namespaces" };
            assert!(description.contains("kubectl "), "{name}");
            assert!(description.contains(namespace) || description.contains("--namespace library"), "{name}");
        }
    }
}

/// Returns the first cells of the rows of a table, by the header of the table.
fn rows(page: &str, header: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let (_, table) = text.split_once(header).unwrap_or_else(|| panic!("{page} has no table {header}"));
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect()
}

/// Returns the labels of the series in a text of Prometheus' format, each with its values, without the
/// buckets' bounds.
fn labels(series: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut labels = BTreeMap::<_, BTreeSet<_>>::new();
    for line in series.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, pairs)) = line.split_once('{') else { continue };
        let (pairs, _) = pairs.split_once('}').unwrap();
        for (label, value) in pairs.split(',').map(|pair| pair.split_once('=').unwrap()) {
            labels.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    labels.remove("le");
    labels
}

#[tokio::test]
async fn the_page_describes_all_metrics_with_their_types_and_labels() {
    let shown = shown().await;
    let mut expected = BTreeSet::new();
    for family in shown.split("# HELP ").skip(1) {
        let (_, kind) = family.split_once("# TYPE ").unwrap();
        let (name, kind) = kind.lines().next().unwrap().split_once(' ').unwrap();
        let mut labels: Vec<String> = labels(family).into_keys().collect();
        labels.sort();
        expected.insert((name.to_owned(), labels, kind.to_owned()));
    }
    let rows = rows("docs/metrics.md", "\n| metric | type |");
    let listed: BTreeSet<_> = rows
        .iter()
        .map(|row| {
            let (name, labels) = row[0].split_once('{').unwrap_or((&row[0], "}"));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let mut labels: Vec<String> = labels.map(str::to_owned).collect();
            labels.sort();
            (name.to_owned(), labels, row[1].clone())
        })
        .collect();
    assert_eq!((listed.len(), listed), (rows.len(), expected));
}

#[tokio::test]
async fn the_page_describes_all_values_of_labels() {
    let mut listed = BTreeMap::<_, BTreeSet<_>>::new();
    for row in rows("docs/metrics.md", "\n| label | value |") {
        let values = row[1].split(',').map(|value| value.trim().trim_matches('`').to_owned());
        listed.entry(row[0].clone()).or_default().extend(values);
    }
    assert_eq!(listed, labels(&shown().await));
}

#[tokio::test]
async fn the_page_describes_all_conditions() {
    let mut listed: Vec<String> =
        rows("docs/conditions.md", "\n| condition |").into_iter().map(|row| row[0].clone()).collect();
    listed.sort();
    let shown = shown().await;
    let of_resources = shown.lines().filter(|line| line.starts_with("quinistry_operator_conditions{"));
    let of_resources = of_resources.collect::<Vec<_>>().join("\n");
    assert_eq!(listed, labels(&of_resources)["type"].iter().cloned().collect::<Vec<_>>());
}

//! Alerts are made of metrics that there are, and say what to do. The README names the same metrics.

use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use quinistry::operator::{Operator, Settings, router};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::helm::{EVERYTHING, Helm, only, root};

/// What all names begin with.
const PREFIX: &str = "quinistry_operator_";

/// What an operator shows that has seen nothing yet.
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
    assert_eq!(asked.len(), 3, "{asked:?}");
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

#[tokio::test]
async fn the_readme_names_all_metrics_and_no_others() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert_eq!(named(&readme), families(&shown().await));
}

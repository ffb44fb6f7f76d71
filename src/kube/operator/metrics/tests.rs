use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quinistry_http::metrics::LabelValue as _;

use super::{Category, Conditions, Metrics, STATUSES, VerificationResult, Write};
use crate::crd::BundleStatus;

/// All series with their values. Panics where Prometheus would refuse the text.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut families = BTreeSet::new();
    let mut family = (String::new(), String::new());
    let mut series = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            assert!(!words.is_empty() && !words.contains('\\'), "{line}");
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            family = (name.into(), kind.into());
            continue;
        }
        let (left, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = left.split_once('{').unwrap_or((left, "}"));
        let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line} is not of {}", family.0));
        let suffixes: &[_] = if family.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        let labels = labels.strip_suffix('}').unwrap();
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap();
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
            assert!(!value.contains(['"', '\\']), "{line}");
        }
        assert!(series.insert(left.to_owned(), value.parse().unwrap()).is_none(), "{left} comes twice");
    }
    series
}

#[test]
fn the_output_is_valid_prometheus_text() {
    let metrics = Metrics::default();
    metrics.reconciled(Duration::from_millis(3), None);
    metrics.reconciled(Duration::from_mins(1), Some(Category::Forbidden));
    metrics.wrote(Write::Apply);
    metrics.verified(VerificationResult::Corrupt);
    let series = series(&metrics.render(true));
    let value = |rest: &str| series[&format!("quinistry_operator_{rest}")];
    assert!((value("reconcile_seconds_sum") - 60.003).abs() < 1e-9);
    for (name, expected) in [
        ("reconciles_total", 2.0),
        ("reconcile_failures_total{reason=\"forbidden\"}", 1.0),
        ("reconcile_failures_total{reason=\"conflict\"}", 0.0),
        ("reconcile_seconds_bucket{le=\"0.001\"}", 0.0),
        ("reconcile_seconds_bucket{le=\"0.005\"}", 1.0),
        ("reconcile_seconds_bucket{le=\"30\"}", 1.0),
        ("reconcile_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("reconcile_seconds_count", 2.0),
        ("writes_total{kind=\"apply\"}", 1.0),
        ("verifications_total{result=\"corrupt\"}", 1.0),
    ] {
        assert!((value(name) - expected).abs() < f64::EPSILON, "{name}: {}", value(name));
    }
}

#[test]
fn no_count_brings_a_new_series() {
    let metrics = Metrics::default();
    let before: Vec<_> = series(&metrics.render(true)).into_keys().collect();
    for category in Category::ALL {
        metrics.reconciled(Duration::ZERO, Some(category));
    }
    for write in Write::ALL {
        metrics.wrote(*write);
    }
    for result in VerificationResult::ALL {
        metrics.verified(*result);
    }
    metrics.reported("uid", 3, 2, &Conditions::default(), None);
    metrics.bundle_reported("uid", &bundle("False"));
    let after: Vec<_> = series(&metrics.render(true)).into_keys().collect();
    assert_eq!(before, after);
}

/// Status of a bundle whose condition Available has this status.
fn bundle(available: &str) -> BundleStatus {
    let condition = serde_json::json!({"type": "Available", "status": available, "reason": "r", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    BundleStatus { conditions: vec![serde_json::from_value(condition).unwrap()], ..BundleStatus::default() }
}

#[test]
fn conditions_are_counted_over_bundles() {
    let metrics = Metrics::default();
    let available = |leads| {
        let series = series(&metrics.render(leads));
        STATUSES.map(|status| {
            let labels = format!("{{type=\"Available\",status=\"{status}\"}}");
            series[&format!("quinistry_operator_bundle_conditions{labels}")].to_string()
        })
    };
    for (uid, status) in [("a", "Unknown"), ("b", "False"), ("c", "False"), ("a", "True")] {
        metrics.bundle_reported(uid, &bundle(status));
    }
    assert_eq!(available(true), ["1", "2", "0"]);
    assert!(metrics.render(true).contains("quinistry_operator_bundles 3\n"));
    metrics.bundle_unclaimed("b");
    metrics.keep_bundles(|uid| uid != "a");
    assert_eq!(available(true), ["0", "1", "0"]);
    assert_eq!(available(false), ["0", "0", "0"], "the leader reports them");
}

#[test]
fn conditions_are_counted_over_resources() {
    let metrics = Metrics::default();
    let condition = |kind: &str, status: &str| {
        let name = format!("quinistry_operator_conditions{{type=\"{kind}\",status=\"{status}\"}}");
        series(&metrics.render(true))[&name].to_string()
    };
    let mut words = Conditions::default();
    metrics.reported("a", 3, 0, &words, None);
    metrics.reported("b", 2, 0, &words, None);
    assert_eq!(STATUSES.map(|status| condition("Ready", status)), ["0", "0", "2"]);
    words.ready.status = "True";
    words.fixed_point.status = "False";
    metrics.reported("a", 3, 3, &words, None);
    assert_eq!(STATUSES.map(|status| condition("Ready", status)), ["1", "0", "1"]);
    assert_eq!(STATUSES.map(|status| condition("FixedPoint", status)), ["0", "1", "1"]);
    // A deleted resource counts in no condition.
    metrics.keep(|uid| uid == "b");
    assert_eq!(STATUSES.map(|status| condition("Ready", status)), ["0", "0", "1"]);
    assert!(metrics.render(true).contains("quinistry_operator_resources 1\n"));
    // Nor does a resource that the leader reports.
    assert!(metrics.render(false).contains("quinistry_operator_resources 0\n"));
    assert!(metrics.render(false).contains("quinistry_operator_leader 0\n"));
}

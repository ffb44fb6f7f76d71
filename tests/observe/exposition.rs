//! Strict reader of the Prometheus text format: every line must be of the form that the format prescribes.

use std::collections::{BTreeMap, BTreeSet};

use crate::registry::{Observed, full_pages, session};
use quinistry::http::access_log::AccessLogFormat;

/// Gauge that has the name of a counter, because distribution gives it that name.
pub(crate) const GAUGE_OF_DISTRIBUTION: &str = "registry_notifications_pending_total";

/// Metric of a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    /// Names of the labels, without the bounds of buckets.
    pub(crate) labels: BTreeSet<String>,
    /// Values of each label.
    pub(crate) values: BTreeMap<String, BTreeSet<String>>,
    /// Value of each series, by its name with labels.
    pub(crate) series: BTreeMap<String, f64>,
}

/// Reads a page of metrics by their names. With `is_ours`, what is allowed but not our custom is refused, too.
pub(crate) fn read(page: &str, is_ours: bool) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    let mut help = BTreeSet::new();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap();
            assert!(help.insert(name.to_owned()), "{name} is described twice");
            assert!(!is_ours || text.ends_with('.') && !text.contains('\\'), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind), "{line}");
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(!is_ours || name.chars().all(is_name) && help.contains(name), "{line}");
            let is_counter = kind == "counter" || name == GAUGE_OF_DISTRIBUTION;
            assert!(!is_ours || is_counter == name.ends_with("_total"), "{line}");
            name.clone_into(&mut current);
            let family = Family {
                kind: kind.into(),
                labels: BTreeSet::new(),
                values: BTreeMap::new(),
                series: BTreeMap::new(),
            };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} comes twice");
        } else {
            let family = families.get_mut(&current).unwrap_or_else(|| panic!("{line} has no type"));
            read_sample(&current, family, line);
        }
    }
    if is_ours {
        families.iter().filter(|(_, family)| family.kind == "histogram").for_each(check_histogram);
    }
    families
}

fn read_sample(name: &str, family: &mut Family, line: &str) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
    let (full, labels) = series.split_once('{').unwrap_or((series, "}"));
    let suffix = full.strip_prefix(name).unwrap_or_else(|| panic!("{line} is not of {name}"));
    let suffixes: &[&str] = match &*family.kind {
        "histogram" => &["_bucket", "_sum", "_count"],
        "summary" => &["", "_sum", "_count"],
        _ => &[""],
    };
    assert!(suffixes.contains(&suffix), "{line}");
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    let mut names = BTreeSet::new();
    for pair in labels.split("\",").filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        let value = value.strip_suffix('"').unwrap_or(value);
        assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !value.contains('"'), "{line}");
        if label == "le" || label == "quantile" {
            assert!(suffix == "_bucket" || family.kind == "summary", "{line}");
            continue;
        }
        assert!(names.insert(label.to_owned()), "{line}");
        family.values.entry(label.to_owned()).or_default().insert(value.to_owned());
    }
    assert!(
        family.series.is_empty() || family.labels == names,
        "{line} has other labels than its neighbours"
    );
    family.labels = names;
    assert!(family.series.insert(series.to_owned(), value).is_none(), "{series} comes twice");
}

/// Checks that the buckets of each histogram ascend to its count.
fn check_histogram((name, family): (&String, &Family)) {
    let (bucket, count) = (format!("{name}_bucket"), format!("{name}_count"));
    let ending = |series: &str| series.replacen(&count, &bucket, 1);
    let counts: Vec<_> = family.series.iter().filter(|(series, _)| series.starts_with(&count)).collect();
    assert!(!counts.is_empty(), "{name}");
    for (series, count) in counts {
        let bucket = ending(series);
        let prefix =
            bucket.strip_suffix('}').map_or(format!("{bucket}{{le=\""), |open| format!("{open},le=\""));
        let mut buckets: Vec<(f64, f64)> = family
            .series
            .iter()
            .filter_map(|(series, value)| {
                let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                Some((bound.replace("+Inf", "inf").parse().unwrap(), *value))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, next| one.1 <= next.1), "{series}: {buckets:?}");
        assert!(
            buckets.last().is_some_and(|(bound, last)| bound.is_infinite() && last.total_cmp(count).is_eq()),
            "{series}"
        );
    }
}

#[test]
fn the_page_is_valid_text_before_and_after_a_session() {
    let registry = Observed::start(AccessLogFormat::Combined);
    let before = read(&registry.page(), true);
    session(registry.peer());
    registry.log();
    let after = read(&registry.page(), true);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    // Every series that was there goes on.
    for (name, family) in &before {
        assert!(family.series.keys().all(|series| after[name].series.contains_key(series)), "{name}");
    }
    for page in full_pages() {
        read(&page, true);
    }
}

#[test]
fn a_session_counts_in_the_series_of_its_endpoints() {
    let registry = Observed::start(AccessLogFormat::Combined);
    let count = session(registry.peer());
    registry.log();
    let page = read(&registry.page(), true);
    let sum = |name: &str| page[name].series.values().sum::<f64>();
    assert!((sum("registry_http_requests_total") - f64::from(u32::try_from(count).unwrap())).abs() < 0.5);
    assert!(sum("registry_http_in_flight_requests").abs() < 0.5);
    let flushes = page["quinistry_store_flush_seconds"].series["quinistry_store_flush_seconds_count"];
    assert!(flushes > 0.0);
    let written = "registry_storage_action_seconds_count{driver=\"filesystem\",action=\"PutContent\"}";
    assert!(page["registry_storage_action_seconds"].series[written] > 0.0);
    for handler in ["base", "manifest", "tags", "blob", "blob_upload", "blob_upload_chunk", "catalog"] {
        let series = &page["registry_http_requests_total"].series;
        let counted = series.iter().filter(|(series, _)| series.contains(&format!("handler=\"{handler}\"")));
        assert!(counted.map(|(_, value)| value).sum::<f64>() > 0.0, "{handler}");
    }
}

//! Metrics beside distribution's own: names and labels that dashboards were made for.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use quinistry::http::access_log::AccessLogFormat;

use crate::exposition::{Family, read};
use crate::registry::{Observed, session};
use crate::support::distribution::{Distribution, Version};
use crate::support::http::{Peer, TEST_TIMEOUT};

/// Metrics of distribution 2.8 and 3.1 that a session brings forth, with their labels.
const DISTRIBUTION: [(&str, &str, &[&str]); 6] = [
    ("registry_http_requests_total", "counter", &["code", "handler", "method"]),
    ("registry_http_request_duration_seconds", "histogram", &["handler", "method"]),
    ("registry_http_in_flight_requests", "gauge", &["handler"]),
    ("registry_http_request_size_bytes", "histogram", &["handler"]),
    ("registry_http_response_size_bytes", "histogram", &["handler"]),
    ("registry_storage_action_seconds", "histogram", &["action", "driver"]),
];

/// Beginnings of the names of metrics that we do not have: Go's runtime and its library for metrics; the
/// cache of blob descriptors, which this registry does not need; notifications, which the session has no
/// endpoint for; and the proxy, which this registry does not have yet.
const ABSENT: [&str; 6] =
    ["go_", "process_", "promhttp_", "registry_storage_cache_", "registry_notifications_", "registry_proxy_"];

/// Values of labels that we do not have: calls of distribution's drivers that no call of ours is like.
const ABSENT_VALUES: [(&str, &str); 2] = [("action", "URLFor"), ("action", "RedirectURL")];

fn ours() -> std::collections::BTreeMap<String, Family> {
    let registry = Observed::start(AccessLogFormat::Combined);
    session(registry.peer());
    registry.log();
    read(&registry.page(), true)
}

#[test]
fn the_page_has_the_names_and_labels_of_distribution() {
    let ours = ours();
    for (name, kind, labels) in DISTRIBUTION {
        let family = ours.get(name).unwrap_or_else(|| panic!("no {name}"));
        let expected: BTreeSet<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!((&*family.kind, &family.labels), (kind, &expected), "{name}");
    }
}

#[test]
fn every_series_that_distribution_shows_for_the_same_session_is_there() {
    let ours = ours();
    for version in [Version::Second, Version::Third] {
        let Some((distribution, metrics)) = Distribution::with_metrics(version) else { continue };
        session(Peer(distribution.host.parse().unwrap()));
        let theirs = read(&page(metrics), false);
        let mut compared = 0;
        for (name, family) in &theirs {
            if ABSENT.iter().any(|absent| name.starts_with(absent)) {
                continue;
            }
            compared += 1;
            let own = ours.get(name).unwrap_or_else(|| panic!("{version:?}: no {name}"));
            assert_eq!((&own.kind, &own.labels), (&family.kind, &family.labels), "{version:?}: {name}");
            for (label, values) in &family.values {
                for value in values.iter().filter(|value| !ABSENT_VALUES.contains(&(label, value))) {
                    assert!(own.values[label].contains(value), "{version:?}: {name} without {label}={value}");
                }
            }
        }
        assert!(compared >= 6, "{version:?}: {compared}");
    }
}

/// Reads distribution's page, whose length is not known beforehand.
fn page(address: SocketAddr) -> String {
    let peer = Peer(address);
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    while !peer.is_listening() {
        assert!(std::time::Instant::now() < deadline, "the debug listener does not come");
        std::thread::yield_now();
    }
    let mut connection = peer.connect();
    connection.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let (status, headers) = connection.head().unwrap();
    assert_eq!(status, 200);
    let mut body = Vec::new();
    connection.body(&headers, |piece| body.extend(piece)).unwrap();
    String::from_utf8(body).unwrap()
}

//! Metrics of events that are sent to endpoints, under the names of distribution.

use quinistry_http::metrics::Exposition;

use crate::notifications::EndpointStatistics;

/// Writes the numbers of all endpoints; nothing if there was none.
pub(super) fn write(page: &mut Exposition, endpoints: &[EndpointStatistics]) {
    if endpoints.is_empty() {
        return;
    }
    let names: Vec<String> = endpoints.iter().map(|endpoint| label_value(&endpoint.name)).collect();
    let with_names = || endpoints.iter().zip(&names);
    page.counter_series(
        "registry_notifications_events_total",
        "Events for endpoints, and what became of the attempts to send them.",
        with_names().flat_map(|(of, name)| {
            [
                ("Events", of.events),
                ("Successes", of.successes),
                ("Failures", of.failures),
                ("Errors", of.errors),
            ]
            .map(|(kind, count)| ([("type", kind), ("endpoint", name.as_str())], count))
        }),
    );
    page.gauges(
        "registry_notifications_pending_total",
        "Events that wait.",
        with_names().map(|(of, name)| ([("endpoint", name.as_str())], of.pending)),
    );
    page.counter_series(
        "registry_notifications_status_total",
        "Answers of receivers.",
        with_names().flat_map(|(of, name)| {
            let statuses = of.statuses.iter();
            statuses.map(move |(code, count)| ([("code", *code), ("endpoint", name.as_str())], *count))
        }),
    );
    page.counter_series(
        "quinistry_events_dropped_total",
        "Events that were not sent.",
        with_names().flat_map(|(of, name)| {
            let dropped = of.dropped.iter();
            dropped.map(move |(why, count)| ([("endpoint", name.as_str()), ("why", why.as_str())], *count))
        }),
    );
}

/// Escapes the value of a label, which a configuration names (Prometheus text format, version 0.0.4).
fn label_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifications::DropReason;

    #[test]
    fn the_page_has_the_names_of_distribution() {
        let endpoint = EndpointStatistics {
            name: "a\"\\\n".into(),
            events: 5,
            successes: 1,
            failures: 2,
            errors: 3,
            pending: 4,
            statuses: vec![("200 OK", 1), ("503 Service Unavailable", 2)],
            dropped: DropReason::ALL.map(|reason| (reason, 7)),
        };
        let mut page = Exposition::default();
        write(&mut page, &[endpoint]);
        let text = page.into_text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines[..7],
            [
                r#"registry_notifications_events_total{type="Events",endpoint="a\"\\\n"} 5"#,
                r#"registry_notifications_events_total{type="Successes",endpoint="a\"\\\n"} 1"#,
                r#"registry_notifications_events_total{type="Failures",endpoint="a\"\\\n"} 2"#,
                r#"registry_notifications_events_total{type="Errors",endpoint="a\"\\\n"} 3"#,
                r#"registry_notifications_pending_total{endpoint="a\"\\\n"} 4"#,
                r#"registry_notifications_status_total{code="200 OK",endpoint="a\"\\\n"} 1"#,
                r#"registry_notifications_status_total{code="503 Service Unavailable",endpoint="a\"\\\n"} 2"#,
            ]
        );
        assert!(text.contains(r#"quinistry_events_dropped_total{endpoint="a\"\\\n",why="queue_full"} 7"#));
        let mut page = Exposition::default();
        write(&mut page, &[]);
        assert_eq!(page.into_text(), "");
    }
}

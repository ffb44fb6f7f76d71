//! Health checks that a configuration asks for.

use std::time::Duration;

use super::{findings, with};
use crate::config::HealthCheckKind;

#[test]
fn urls_that_no_check_can_ask_are_refused_with_their_place() {
    let uri = |uri: &str| findings(&format!("health:\n  http:\n    - uri: {uri}\n"));
    for text in ["http://alice:hunter2@a.example/", "HTTPS://hunter2@a.example/"] {
        assert_eq!(
            uri(text),
            [
                "c.yml:5:12: error: health.http[0].uri: must not hold a user or password; remove them, and send an \
                 Authorization header by `headers`"
            ]
        );
    }
    for text in ["http://a.example/x", "https://a.example/x"] {
        assert!(uri(text).is_empty());
    }
}

#[test]
fn names_of_checks_do_not_hold_the_query_of_a_url() {
    let config = with("health: {http: [{uri: 'http://a.example:8080/x?token=hunter2'}]}\n");
    assert_eq!(config.health[0].name, "http://a.example:8080/x");
    assert!(matches!(&config.health[0].kind, HealthCheckKind::Http { uri, .. }
        if uri == "http://a.example:8080/x?token=hunter2"));
}

#[test]
fn intervals_have_a_shortest_length() {
    let interval = |text: &str| with(&format!("health: {{{text}}}\n")).health[0].interval;
    for (text, milliseconds) in [
        ("file: [{file: /a, interval: 10}]", 100),
        ("tcp: [{addr: 'a:1', interval: 99ms}]", 100),
        ("http: [{uri: 'http://a', interval: 1us}]", 100),
        ("storagedriver: {enabled: true, interval: 1ns}", 100),
        ("file: [{file: /a, interval: 100ms}]", 100),
        ("file: [{file: /a, interval: 250ms}]", 250),
        ("file: [{file: /a, interval: 0}]", 10_000),
    ] {
        assert_eq!(interval(text), Duration::from_millis(milliseconds), "{text}");
    }
    assert_eq!(
        findings("health: {file: [{file: /a, interval: 10}]}\n"),
        [
            "c.yml:3:38: warning: health.file[0].interval: 10 means 10 nanoseconds; did you mean 10s?",
            "c.yml:3:38: warning: health.file[0].interval: is shorter than 100ms, the shortest interval, which is used \
             instead",
        ]
    );
    assert!(findings("health: {file: [{file: /a, interval: 100ms}]}\n").is_empty());
}

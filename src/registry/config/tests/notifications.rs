//! Endpoints of events.

use std::time::Duration;

use super::{accepted, findings, lines, load_variables, with};
use crate::config::{Action, EndpointSettings, EndpointUrl, EnvelopeVersion, NotificationsConfig};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Keys of an endpoint, with two texts behind `name: a, url: http://h` that differ in the key alone.
pub(super) const CHANGES: &[(&str, &str, &str)] = &[
    ("notifications.endpoints[].name", "", "name: b"),
    ("notifications.endpoints[].url", "", "url: 'http://other'"),
    ("notifications.endpoints[].disabled", "", "disabled: true"),
    ("notifications.endpoints[].headers", "", "headers: {a: [b]}"),
    ("notifications.endpoints[].timeout", "", "timeout: 2s"),
    ("notifications.endpoints[].threshold", "", "threshold: 2"),
    ("notifications.endpoints[].backoff", "", "backoff: 2s"),
    ("notifications.endpoints[].ignoredmediatypes", "", "ignoredmediatypes: [a/b]"),
    ("notifications.endpoints[].ignore.mediatypes", "", "ignore: {mediatypes: [a/b]}"),
    ("notifications.endpoints[].ignore.actions", "", "ignore: {actions: [pull]}"),
    ("notifications.endpoints[].quinistry.mediatype", "", "quinistry: {mediatype: v1}"),
    ("notifications.endpoints[].quinistry.repositories", "", "quinistry: {repositories: [a]}"),
    ("notifications.endpoints[].quinistry.ignoreactors", "", "quinistry: {ignoreactors: [a]}"),
    ("notifications.endpoints[].quinistry.secret", "", SECRET_KEY),
    ("notifications.endpoints[].quinistry.formersecret", "", FORMER_SECRET_KEY),
    ("notifications.endpoints[].quinistry.ca", "", "quinistry: {ca: /ca.pem}"),
    ("notifications.endpoints[].quinistry.queue", "", "quinistry: {queue: 1}"),
    ("notifications.endpoints[].quinistry.giveup", "", "quinistry: {giveup: 24h}"),
];

const SECRET_KEY: &str = "quinistry: {secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}";
const FORMER_SECRET_KEY: &str = "quinistry: {formersecret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}";

/// Returns the section with one endpoint, whose keys `more` gives or replaces.
pub(super) fn endpoint(more: &str) -> String {
    let given = |key: &str, default: &str| {
        if more.starts_with(key) { String::new() } else { format!("{default}, ") }
    };
    let (name, url) = (given("name:", "name: a"), given("url:", "url: 'http://h'"));
    format!("notifications: {{endpoints: [{{{name}{url}{more}}}]}}")
}

fn only(more: &str) -> EndpointSettings {
    let mut config = with(&endpoint(more)).notifications;
    assert_eq!(config.endpoints.len(), 1);
    config.endpoints.remove(0)
}

fn named(name: &str, url: &str) -> EndpointSettings {
    EndpointSettings::new(name.into(), EndpointUrl::new(&url.parse().unwrap()).unwrap())
}

#[test]
fn an_endpoint_has_the_defaults_of_distribution() {
    assert_eq!(with("").notifications, NotificationsConfig::default());
    let settings = only("");
    assert_eq!(settings, named("a", "http://h"));
    assert_eq!((settings.timeout, settings.threshold.get()), (Duration::from_secs(1), 10));
    assert_eq!((settings.backoff, settings.queue.get()), (Duration::from_secs(1), 10_000));
    assert_eq!((settings.version, settings.give_up), (EnvelopeVersion::V2, None));
    // 0 stands for the default, as in distribution.
    assert_eq!(only("timeout: 0, threshold: 0, backoff: 0, quinistry: {queue: 0, giveup: 0}"), settings);
}

#[test]
fn both_lists_of_media_types_count() {
    let settings = only("ignoredmediatypes: [a/b], ignore: {mediatypes: [c/d], actions: [PULL, mount]}");
    assert_eq!(settings.ignored_media_types, ["a/b", "c/d"]);
    assert_eq!(settings.ignored_actions, [Action::Pull, Action::Mount]);
}

#[test]
fn the_new_secret_stands_before_the_former_one() {
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let both = only(&format!("quinistry: {{formersecret: {other}, secret: {SECRET}}}"));
    assert_eq!(both.secrets, [SECRET, other].map(|text| text.parse().unwrap()));
}

#[test]
fn disabled_endpoints_get_no_events() {
    let text = "notifications: {endpoints: [{name: a, url: 'http://a', disabled: true}, \
                {name: b, url: 'http://u:p@b/x'}]}";
    assert_eq!(with(text).notifications.endpoints, [named("b", "http://u:p@b/x")]);
}

#[test]
fn variables_reach_an_endpoint() {
    let loaded = load_variables(&[
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "a"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "https://h/hook"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_QUINISTRY_MEDIATYPE", "v1"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_QUINISTRY_SECRET", SECRET),
    ]);
    let expected = EndpointSettings {
        version: EnvelopeVersion::V1,
        secrets: vec![SECRET.parse().unwrap()],
        ..named("a", "https://h/hook")
    };
    assert_eq!(accepted(&loaded).notifications.endpoints, [expected], "{:?}", lines(&loaded));
}

/// Checks that an endpoint with these keys is refused with this message.
fn assert_error(more: &str, message: &str) {
    let found = findings(&endpoint(more));
    let is_error = |line: &String| line.contains(": error: ") && line.contains(message);
    assert!(found.iter().any(is_error), "{more}: {found:?}");
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (more, expected) in [
        ("name: ''", "endpoints[0].name: is empty"),
        ("quinistry: {secret: hunter2}", "endpoints[0].quinistry.secret: the value must be whsec_"),
        ("quinistry: {formersecret: whsec_AAAA}", "quinistry.formersecret: the value must be whsec_"),
        ("quinistry: {repositories: ['!a']}", "quinistry.repositories: matches no repository"),
        ("quinistry: {repositories: ['a**']}", "quinistry.repositories: \"a**\""),
        ("quinistry: {secrets: a}", "endpoints[0].quinistry.secrets: is not known; did you mean secret?"),
        ("ignore: {actions: [pulls]}", "must be one of push, pull, mount, delete"),
        ("url: 'ftp://h'", "endpoints[0].url: the value must be a URL like https://HOST:PORT"),
    ] {
        assert_error(more, expected);
    }
}

#[test]
fn row_154_a_spool_and_cloud_events_are_refused() {
    let message = "quinistry.spool: events that wait are kept in memory alone; remove it";
    assert_error("quinistry: {spool: true}", message);
    let message = "quinistry.format: \"cloudevents\" must be one of distribution";
    assert_error("quinistry: {format: cloudevents}", message);
    assert_eq!(findings(&endpoint("quinistry: {spool: false, format: distribution}")), [""; 0]);
}

#[test]
fn row_155_two_endpoints_of_one_name_are_refused() {
    let text = "notifications: {endpoints: [{name: a, url: 'http://h'}, {name: a, url: 'http://i'}]}";
    let found = findings(text);
    assert!(found.len() == 1 && found[0].contains("endpoints[1].name: is the name of another"), "{found:?}");
}

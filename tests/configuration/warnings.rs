//! Warnings in the log of this program: each is told where it is due, and once.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;

use super::program::{Given, Place, Registry};
use crate::support::http::Peer;
use crate::support::process::{command, output};
use crate::support::server::{PROGRAM, SERVE, Server};

const FILE: &str = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{root}'}}\n";

/// Line of a password file: `alice` has the password `password`.
const ALICE: &str = "alice:$2y$10$N8qllDSuwHKO62EfhkYd7OPsDqtpMhPVgbm/g2LqRRwZ2AhVQSOPe\n";

/// Header fields by which a proxy names its client, each with a value.
const FORWARDED: [(&str, &str); 3] =
    [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"), ("X-Real-IP", "192.0.2.1")];

const HINT: &str = "ignoring the client address in a header field";

/// Asks for the base with fields of a proxy, several times.
fn ask_as_a_proxy(peer: Peer) {
    for _ in 0..3 {
        for field in FORWARDED {
            assert_eq!(peer.ask("GET", "/v2/", &[field], b"").status, 200);
        }
    }
}

fn reload(registry: &Registry) {
    let before = registry.log().matches("configuration reloaded").count();
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration reloaded", before + 1);
}

fn count(registry: &Registry, text: &str) -> usize {
    registry.log().matches(text).count()
}

#[test]
fn a_proxy_that_is_not_listed_is_hinted_at_once() {
    let place = Place::new();
    let file = |more: &str| format!("{FILE}http: {{addr: '{{addr}}'}}\n{more}");
    let unlisted = file("quinistry: {http: {trustedproxies: [192.0.2.0/24]}}\n");
    let registry = place.serve_ours(Given { file: Some(&unlisted), ..Given::default() });
    assert_eq!(registry.peer.ask("GET", "/v2/", &[("X-Forwarded-Proto", "https")], b"").status, 200);
    assert_eq!(count(&registry, HINT), 0, "no address is ignored");
    ask_as_a_proxy(registry.peer);
    registry.wait_for_log(HINT, 1);
    let log = registry.log();
    let line = log.lines().find(|line| line.contains(HINT)).unwrap();
    assert!(line.contains("127.0.0.1") && line.contains("x-forwarded-for"), "{line}");
    assert!(line.contains("add it to quinistry.http.trustedproxies"), "{line}");
    ask_as_a_proxy(registry.peer);
    reload(&registry);
    assert_eq!(count(&registry, HINT), 1, "{}", registry.log());
}

#[test]
fn a_listed_proxy_and_a_registry_that_uses_no_addresses_get_no_hint() {
    let place = Place::new();
    let listed =
        format!("{FILE}http: {{addr: '{{addr}}'}}\nquinistry: {{http: {{trustedproxies: [127.0.0.0/8]}}}}\n");
    let registry = place.serve_ours(Given { file: Some(&listed), ..Given::default() });
    ask_as_a_proxy(registry.peer);
    reload(&registry);
    assert_eq!(count(&registry, HINT), 0, "{}", registry.log());
    let server = Server::launch(command(PROGRAM).args(SERVE));
    ask_as_a_proxy(server.peer);
    assert!(!server.log().contains(HINT), "{}", server.log());
}

/// Returns a file with users and tokens that a secret of one repeated letter signs.
fn with_secret(letter: &str, times: usize) -> String {
    format!(
        "{FILE}http: {{addr: '{{addr}}', secret: '{}'}}\nauth: {{htpasswd: {{realm: r, path: '{{folder}}/users'}}}}\n\
         quinistry: {{tokens: {{enabled: true}}, audit: {{path: '{{folder}}/audit.log'}}}}\n",
        letter.repeat(times)
    )
}

#[test]
fn a_reload_with_another_secret_ends_tokens_and_is_told_once() {
    let told = "tokens that were issued before are no longer valid";
    let place = Place::new();
    fs::write(place.path("users"), ALICE).unwrap();
    let registry = place.serve_ours(Given { file: Some(&with_secret("a", 40)), ..Given::default() });
    let basic = format!("Basic {}", STANDARD.encode("alice:password"));
    let issued = registry.peer.ask("GET", "/v2/_token?service=quinistry", &[("Authorization", &basic)], b"");
    let bearer = format!("Bearer {}", issued.json()["token"].as_str().expect("a token was issued"));
    let status = || registry.peer.ask("GET", "/v2/", &[("Authorization", &bearer)], b"").status;
    reload(&registry);
    assert_eq!((status(), count(&registry, told)), (200, 0), "nothing has changed");
    place.write_file(&with_secret("b", 40), registry.peer);
    reload(&registry);
    assert_eq!((status(), count(&registry, told)), (401, 1), "{}", registry.log());
    reload(&registry);
    assert_eq!(count(&registry, told), 1, "{}", registry.log());

    // A refused reload changes nothing, and is recorded with its reason.
    let without_users = FILE.to_owned() + "http: {addr: '{addr}'}\n";
    place.write_file(&without_users, registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration refused", 1);
    assert_eq!((registry.peer.get("/v2/").status, count(&registry, told)), (401, 1));
    assert_eq!(count(&registry, "neither users nor rules any more"), 1, "{}", registry.log());
    registry.stop();
    let audit = fs::read_to_string(place.path("audit.log")).unwrap();
    let reloads: Vec<_> = audit.lines().filter(|line| line.contains("\"action\":\"reload\"")).collect();
    let granted = reloads.iter().filter(|line| line.contains("\"decision\":\"granted\"")).count();
    assert_eq!((reloads.len(), granted), (4, 3), "{audit}");
    let last = reloads.last().unwrap();
    assert!(last.contains("\"denied\"") && last.contains("neither users nor rules any more"), "{last}");
}

#[test]
fn a_short_secret_is_told_by_the_check_and_once_by_the_log() {
    let told = "has fewer than 32 characters and signs tokens";
    let place = Place::new();
    fs::write(place.path("users"), ALICE).unwrap();
    let registry = place.serve_ours(Given { file: Some(&with_secret("a", 31)), ..Given::default() });
    registry.wait_for_log(told, 1);
    let config = place.path("config.yml");
    let output = output(command(PROGRAM).args(["config", "check"]).arg(&config)).unwrap();
    let checked = String::from_utf8(output.stdout).unwrap();
    assert!(checked.contains("warning: http.secret: ") && checked.contains(told), "{checked}");
    assert_eq!(registry.peer.get("/v2/").status, 401);
    assert_eq!(count(&registry, told), 1, "{}", registry.log());
}

#[test]
fn a_reload_that_opens_the_registry_to_the_network_is_told_once() {
    let told = "everyone who reaches this registry can push now";
    let place = Place::new();
    let file = |more: &str| format!("{FILE}http: {{addr: '0.0.0.0:{{port}}'}}\n{more}");
    let rules = "quinistry: {access: [{repositories: ['**'], who: [anonymous], can: [pull]}]}\n";
    let registry = place.serve_ours(Given { file: Some(&file(rules)), ..Given::default() });
    reload(&registry);
    assert_eq!(count(&registry, told), 0, "{}", registry.log());
    place.write_file(&file("auth: none\n"), registry.peer);
    reload(&registry);
    assert_eq!(count(&registry, told), 1, "{}", registry.log());
    reload(&registry);
    assert_eq!(count(&registry, told), 1, "open as before: {}", registry.log());
}

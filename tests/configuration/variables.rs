//! Variables and their effects, on this program and on distribution 3.1, which reads lists by index as well.

use super::program::{Given, Place, Program, Start};
use super::questions::Content;

/// Visible effect of a variable.
#[derive(Clone, Copy, Debug)]
enum Effect {
    /// The question of this name is answered with this status.
    Status(&'static str, u16),
    /// The answer to the question of this name has this value of `X-Test`.
    Header(&'static str, &'static str),
    /// The answer to the question of this name has a link to a next page.
    Link(&'static str),
}

use Effect::{Header, Link, Status};

/// Distribution's behaviour with the same variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distribution {
    /// The variables have the same effect.
    Same,
    /// Distribution ends before it serves.
    Ends,
    /// The variables have another effect.
    Differs,
}

use Distribution::{Differs, Ends, Same};

type Row = (&'static [(&'static str, &'static str)], Effect, Distribution);

const DELETES: Effect = Status("delete manifest", 202);
const REFUSES_WRITES: Effect = Status("upload", 405);
const SERVES: Effect = Status("base", 200);
const TAKES_URLS: Effect = Status("layer elsewhere", 201);

const ROWS: &[Row] = &[
    (&[("REGISTRY_STORAGE_DELETE_ENABLED", "true")], DELETES, Same),
    (&[("REGISTRY_STORAGE_DELETE_ENABLED", "yes")], DELETES, Same),
    (&[("REGISTRY_STORAGE_DELETE_ENABLED", "false")], Status("delete manifest", 405), Same),
    (&[("REGISTRY_STORAGE_DELETE", "{enabled: true}")], DELETES, Same),
    (&[("REGISTRY_HTTP_HEADERS", "{X-Test: [a]}")], Header("base", "a"), Same),
    (&[("REGISTRY_HTTP_HEADERS_X-Test", "[a]")], Header("base", "a"), Same),
    (&[("REGISTRY_HTTP_HEADERS_X-Test", "[a, b]")], Header("base", "a, b"), Same),
    (&[("REGISTRY_HTTP_PREFIX", "/registry/")], Status("base below a prefix", 200), Same),
    (&[("REGISTRY_HTTP_PREFIX", "/registry/")], Status("base", 404), Same),
    (&[("REGISTRY_CATALOG_MAXENTRIES", "1")], Link("catalog"), Same),
    // It limits only the pages of clients that ask for a number.
    (&[("REGISTRY_TAGS_MAXTAGS", "1")], Link("tags"), Differs),
    (&[("REGISTRY_VALIDATION_DISABLED", "true")], TAKES_URLS, Same),
    (&[("REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW", "['^https://example']")], TAKES_URLS, Same),
    (&[("REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_0", "^https://example")], TAKES_URLS, Same),
    (
        &[("REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMS", "none")],
        Status("index, child missing", 201),
        Same,
    ),
    (&[("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}")], REFUSES_WRITES, Same),
    (&[("REGISTRY_STORAGE_MAINTENANCE", "{readonly: {enabled: true}}")], REFUSES_WRITES, Same),
    (&[("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")], REFUSES_WRITES, Ends),
    (&[("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED", "false")], SERVES, Ends),
    (&[("REGISTRY_POLICY_REPOSITORY_CLASSES", "[image]")], Status("plugin", 403), Same),
    (&[("REGISTRY_POLICY_REPOSITORY_CLASSES", "[image]")], Status("image", 201), Same),
    (&[("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "inmemory")], SERVES, Same),
    (&[("REGISTRY_STORAGE_TAG_CONCURRENCYLIMIT", "4")], SERVES, Same),
    (
        &[
            ("REGISTRY_HEALTH_STORAGEDRIVER_ENABLED", "true"),
            ("REGISTRY_HEALTH_STORAGEDRIVER_INTERVAL", "10s"),
            ("REGISTRY_HEALTH_STORAGEDRIVER_THRESHOLD", "3"),
        ],
        SERVES,
        Same,
    ),
    (&[("REGISTRY_LOG_LEVEL", "debug")], SERVES, Same),
    (&[("REGISTRY_LOG_FIELDS_SERVICE", "registry")], SERVES, Same),
    (&[("REGISTRY_LOG_ACCESSLOG_DISABLED", "true")], SERVES, Same),
    (&[("REGISTRY_AUTH", "none")], SERVES, Same),
    (&[("REGISTRY_HTTP_HOST", "https://registry.example.com")], SERVES, Same),
    (&[("REGISTRY_HTTP_RELATIVEURLS", "true")], SERVES, Same),
    (&[("REGISTRY_HTTP_DRAINTIMEOUT", "5s")], SERVES, Same),
    (&[("REGISTRY_HTTP_HTTP2_DISABLED", "true")], SERVES, Same),
    (&[("REGISTRY_HTTP_DEBUG_ADDR", "127.0.0.1:0")], SERVES, Same),
    (&[("REGISTRY_HTTP_SECRET", "secret")], SERVES, Same),
    (&[("REGISTRY_HTTP_SECRET", "*abc")], SERVES, Ends),
    (
        &[
            ("REGISTRY_PORT", "tcp://10.96.0.7:5000"),
            ("REGISTRY_SERVICE_HOST", "10.96.0.7"),
            ("REGISTRY_SERVICE_PORT", "5000"),
            ("REGISTRY_PORT_5000_TCP_ADDR", "10.96.0.7"),
        ],
        SERVES,
        Same,
    ),
    (
        &[("REGISTRY_HTTP_PORT", "tcp://10.96.0.8:80"), ("REGISTRY_REDIS_PORT", "tcp://10.96.0.9:6379")],
        SERVES,
        Same,
    ),
    (&[("REGISTRY_AUTH_PORT", "tcp://10.96.0.8:80")], SERVES, Ends),
    (&[("REGISTRY_STORAGE_PORT", "tcp://10.96.0.8:80")], SERVES, Ends),
    (&[("REGISTRY_UNKNOWN_KEY", "x")], SERVES, Same),
];

const FILE: &str = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{root}'}}\nhttp: {addr: '{addr}'}\n";

/// Result of checking a row.
enum Check {
    Passes,
    Fails(String),
    /// The program is not there.
    Missing,
}

/// Checks the effect of a row on a program.
fn check((variables, effect, distribution): &Row, program: Program, content: &Content) -> Check {
    let place = Place::new();
    let is_to_end = program != Program::Ours && *distribution == Ends;
    let registry = match place.start(program, Given { file: Some(FILE), variables, flags: &[] }) {
        None => return Check::Missing,
        Some(Start::Refuses { .. }) if is_to_end => return Check::Passes,
        Some(Start::Refuses { log, .. }) => {
            return Check::Fails(format!("{variables:?}, {program:?} ended: {log}"));
        }
        Some(Start::Serves(_)) if is_to_end => {
            return Check::Fails(format!("{variables:?}, {program:?} serves"));
        }
        Some(Start::Serves(registry)) => registry,
    };
    // The content is pushed where the variables permit it; an effect on it needs it.
    if matches!(effect, Link(_) | Status("delete manifest" | "layer elsewhere" | "plugin" | "image", _)) {
        content.push(registry.peer);
    }
    let (Status(name, _) | Header(name, _) | Link(name)) = *effect;
    let questions = content.questions();
    let question = questions.iter().find(|question| question.name == name).expect("the question exists");
    let outcome = question.ask(registry.peer);
    let has_effect = match effect {
        Status(_, status) => outcome.status == *status,
        Header(_, value) => outcome.headers.get("x-test").is_some_and(|found| found == value),
        Link(_) => outcome.headers.contains_key("link"),
    };
    if has_effect {
        return Check::Passes;
    }
    Check::Fails(format!("{variables:?}, {program:?}: {effect:?}, but {outcome:?}"))
}

#[test]
fn variables_have_the_effect_that_they_have_on_distribution() {
    let content = Content::new();
    let mut problems = Vec::new();
    for program in [Program::Ours, Program::Third] {
        for row in ROWS.iter().filter(|row| program == Program::Ours || row.2 != Differs) {
            match check(row, program, &content) {
                Check::Passes => {}
                Check::Fails(problem) => problems.push(problem),
                Check::Missing => break,
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

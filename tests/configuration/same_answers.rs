//! One file, one environment and one folder in three programs: the answers are the same, or a difference that is
//! named here.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::program::{Given, Place, Program, Start};
use super::questions::Content;

/// A configuration that every program is given.
struct Case {
    name: &'static str,
    /// Lines that are put below `storage:` and its folder.
    storage: &'static str,
    /// Lines that are put below `http:` and its address.
    http: &'static str,
    /// Sections.
    rest: &'static str,
    variables: &'static [(&'static str, &'static str)],
    /// Questions whose answers differ, and why.
    differs: &'static [(&'static str, &'static str)],
    /// Version of distribution that has the key.
    only: Option<Program>,
}

const CASE: Case =
    Case { name: "", storage: "", http: "", rest: "", variables: &[], differs: &[], only: None };

/// Differences that no configuration changes.
const ALWAYS: &[(&str, &str)] = &[
    ("root", "every answer has Docker-Distribution-API-Version here"),
    ("catalog, many", "a page that is too long is refused there, and cut here"),
    ("tags, many", "a page that is too long is refused there, and cut here"),
];

const CASES: &[Case] = &[
    Case { name: "nothing but a folder", ..CASE },
    Case { name: "storage.delete.enabled", storage: "delete: {enabled: true}", ..CASE },
    Case { name: "storage.delete.enabled: false", storage: "delete: {enabled: false}", ..CASE },
    Case {
        name: "storage.maintenance.readonly",
        storage: "maintenance: {readonly: {enabled: true}}",
        ..CASE
    },
    Case { name: "storage.cache", storage: "cache: {blobdescriptor: inmemory}", ..CASE },
    Case { name: "storage.redirect.disable", storage: "redirect: {disable: true}", ..CASE },
    Case {
        name: "storage.maintenance.uploadpurging",
        storage: "maintenance: {uploadpurging: {enabled: true, age: 168h, interval: 24h, dryrun: false}}",
        ..CASE
    },
    Case {
        name: "storage.tag.concurrencylimit",
        storage: "tag: {concurrencylimit: 8}",
        only: Some(Program::Third),
        ..CASE
    },
    Case {
        name: "http.headers",
        http: "headers: {X-Test: [one, two], X-Content-Type-Options: [nosniff]}",
        ..CASE
    },
    Case { name: "http.prefix", http: "prefix: /registry/", ..CASE },
    Case { name: "http.relativeurls", http: "relativeurls: true", ..CASE },
    Case { name: "http.secret", http: "secret: asecretforlocaldevelopment", ..CASE },
    Case { name: "http.draintimeout", http: "draintimeout: 60s", ..CASE },
    Case { name: "http.host", http: "host: 'https://registry.example.com'", ..CASE },
    Case { name: "http.http2.disabled", http: "http2: {disabled: true}", ..CASE },
    Case { name: "http.net", http: "net: tcp", ..CASE },
    Case {
        name: "http.debug",
        http: "debug: {addr: '127.0.0.1:0', prometheus: {enabled: true, path: /metrics}}",
        ..CASE
    },
    Case { name: "catalog.maxentries", rest: "catalog: {maxentries: 1}", only: Some(Program::Third), ..CASE },
    Case {
        name: "tags.maxtags",
        rest: "tags: {maxtags: 1}",
        differs: &[("tags", "only clients that ask for a number get pages there")],
        only: Some(Program::Third),
        ..CASE
    },
    Case {
        name: "validation.manifests.urls.allow",
        rest: "validation: {manifests: {urls: {allow: ['^https?://example\\.com/']}}}",
        ..CASE
    },
    Case {
        name: "validation.manifests.urls.deny",
        rest: "validation: {manifests: {urls: {allow: ['.*'], deny: ['example']}}}",
        ..CASE
    },
    Case { name: "validation.enabled", rest: "validation: {enabled: true}", ..CASE },
    Case { name: "validation.disabled", rest: "validation: {disabled: true}", differs: DISABLED, ..CASE },
    Case {
        name: "validation.manifests.indexes.platforms: none",
        rest: "validation: {manifests: {indexes: {platforms: none}}}",
        only: Some(Program::Third),
        ..CASE
    },
    Case {
        name: "validation.manifests.indexes.platforms: all",
        rest: "validation: {manifests: {indexes: {platforms: all}}}",
        only: Some(Program::Third),
        ..CASE
    },
    Case { name: "policy.repository.classes", rest: "policy: {repository: {classes: [image]}}", ..CASE },
    Case {
        name: "policy.repository.classes: plugin",
        rest: "policy: {repository: {classes: [plugin]}}",
        ..CASE
    },
    Case { name: "log", rest: "log: {level: warn, formatter: json, fields: {service: registry}}", ..CASE },
    Case { name: "log.accesslog", rest: "log: {accesslog: {disabled: true}}", ..CASE },
    Case {
        name: "health",
        rest: "health: {storagedriver: {enabled: true, interval: 10s, threshold: 3}}",
        ..CASE
    },
    Case { name: "auth: none", rest: "auth: none", ..CASE },
    Case { name: "delete, by a variable", variables: &[("REGISTRY_STORAGE_DELETE_ENABLED", "true")], ..CASE },
    Case {
        name: "headers, by a variable",
        variables: &[("REGISTRY_HTTP_HEADERS_X-Test", "[variable]")],
        ..CASE
    },
    Case { name: "prefix, by a variable", variables: &[("REGISTRY_HTTP_PREFIX", "/registry/")], ..CASE },
    Case {
        name: "service links",
        variables: &[
            ("REGISTRY_PORT", "tcp://10.96.0.7:5000"),
            ("REGISTRY_SERVICE_HOST", "10.96.0.7"),
            ("REGISTRY_SERVICE_PORT", "5000"),
        ],
        ..CASE
    },
    Case {
        name: "relative URLs, by a variable",
        variables: &[("REGISTRY_HTTP_RELATIVEURLS", "true")],
        ..CASE
    },
    Case {
        name: "validation, by a variable",
        variables: &[("REGISTRY_VALIDATION_DISABLED", "true")],
        differs: DISABLED,
        ..CASE
    },
];

/// Difference of a disabled validation.
const DISABLED: &[(&str, &str)] = &[
    ("index, child missing", "version 2.8 demands every child all the same"),
    ("index, two missing", "version 2.8 demands every child all the same"),
];

/// Differences of version 2.8, which does not divide lists of tags into pages.
const OF_SECOND: &[(&str, &str)] =
    &[("tags, one", "one page has all tags there, whatever the client asks for")];

/// Storage folder that every case starts from, pushed by distribution's oldest version that is there.
fn storage(content: &Content) -> Option<PathBuf> {
    static STORAGE: OnceLock<Option<Place>> = OnceLock::new();
    let place = STORAGE.get_or_init(|| {
        let place = Place::new();
        let file = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{root}'}}\nhttp: {addr: '{addr}'}\n";
        let registry = place.serve(Program::Second, Given { file: Some(file), ..Given::default() })?;
        content.push(registry.peer);
        drop(registry);
        Some(place)
    });
    place.as_ref().map(Place::root)
}

impl Case {
    fn file(&self) -> String {
        let line = |text: &str| if text.is_empty() { String::new() } else { format!("  {text}\n") };
        format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: '{{root}}'}}\n{}http:\n  addr: '{{addr}}'\n{}{}\n",
            line(self.storage),
            line(self.http),
            self.rest
        )
    }

    /// Compares this program with one version of distribution. Returns what differs without a reason here.
    fn compare(&self, content: &Content, other: Program) -> Option<Vec<String>> {
        let root = storage(content)?;
        let file = self.file();
        let given = Given { file: Some(&file), variables: self.variables, flags: &[] };
        let (own_place, other_place) = (Place::with_storage_of(&root), Place::with_storage_of(&root));
        let theirs = match other_place.start(other, given)? {
            Start::Serves(registry) => registry,
            Start::Refuses { log, .. } => {
                return Some(vec![format!("{}: {other:?} ended: {log}", self.name)]);
            }
        };
        let ours = own_place.serve_ours(given);
        let mut found = Vec::new();
        for question in content.questions() {
            let (own, expected) = (question.ask(ours.peer), question.ask(theirs.peer));
            let of_version = if other == Program::Second { OF_SECOND } else { &[] };
            let reasons = self.differs.iter().chain(ALWAYS).chain(of_version);
            let is_known = reasons.into_iter().any(|(name, _)| *name == question.name);
            if own != expected && !is_known {
                found.push(format!("{}, {}: {own:?}, but {other:?} {expected:?}", self.name, question.name));
            }
        }
        Some(found)
    }
}

fn assert_same(other: Program) {
    let content = Content::new();
    let mut found = Vec::new();
    for case in CASES.iter().filter(|case| case.only.is_none_or(|only| only == other)) {
        let Some(differences) = case.compare(&content, other) else { return };
        found.extend(differences);
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_configuration_of_distribution_2_gives_the_same_answers_here() {
    assert_same(Program::Second);
}

#[test]
fn a_configuration_of_distribution_3_gives_the_same_answers_here() {
    assert_same(Program::Third);
}

//! Forms of files, errors with their places, and hostile files by the number of their row.

use std::fmt::Write as _;
use std::time::Duration;

use quinistry_http::client_address::TrustedProxies;

use super::{SMALLEST, accepted, findings, lines, load_bytes, load_text, with};
use crate::config::{
    Config, HealthCheckKind, LogFormat, LogLevel, RequiredEntries, Severity, StorageLocation, UrlPatterns,
};

fn only_error(bytes: &[u8]) -> String {
    let loaded = load_bytes(bytes, &[]);
    assert!(loaded.config.is_none());
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|found| found.is_error()).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn every_value_reaches_the_typed_configuration() {
    let text = r#"
version: 0.1
log:
  level: debug
  formatter: json
  fields: {service: registry, zone: 7}
  accesslog: {disabled: true}
storage:
  filesystem: {rootdirectory: /srv/r}
  delete: {enabled: true}
  maintenance:
    uploadpurging: {enabled: false, age: 2h, interval: 30m, dryrun: true}
    readonly: {enabled: true}
http:
  addr: localhost:5001
  prefix: /registry/
  host: https://r.example.com:8443
  draintimeout: 1m
  headers:
    X-A: [b, c]
  debug: {addr: "localhost:5002", prometheus: {enabled: true, path: /m}}
health:
  storagedriver: {enabled: true, interval: 5s, threshold: 2}
  file: [{file: /down, interval: 1s}]
  tcp: [{addr: "redis:6379", timeout: 2s, threshold: 4}]
  http: [{uri: "http://x/health", statuscode: 204, headers: {a: [b]}}]
validation:
  manifests:
    urls: {allow: ['^https://a\.example/'], deny: [secret]}
    indexes: {platforms: list, platformlist: [{architecture: arm64, os: linux}]}
policy: {repository: {classes: [image, plugin]}}
catalog: {maxentries: 7}
tags: {maxtags: 8}
quinistry: {http: {trustedproxies: [10.0.0.0/8, "::1"]}}
"#;
    let loaded = load_text(text, &[]);
    let config = accepted(&loaded);
    assert_eq!((config.log.level, config.log.formatter), (LogLevel::Debug, LogFormat::Json));
    let fields = [("service", "registry"), ("zone", "7")].map(|(name, text)| (name.into(), text.into()));
    assert_eq!(config.log.fields, fields);
    assert!(!config.log.access_log);
    assert_eq!(config.storage.location, StorageLocation::Folder("/srv/r".into()));
    assert!(config.storage.allows_delete && config.storage.is_read_only);
    let purging = config.storage.upload_purging;
    assert!(!purging.enabled && purging.dry_run);
    assert_eq!((purging.age, purging.interval), (Duration::from_hours(2), Duration::from_mins(30)));
    assert_eq!(config.http.listen.to_string(), "localhost:5001");
    assert_eq!(config.http.prefix, "/registry/");
    assert_eq!(config.http.drain_timeout, Some(Duration::from_mins(1)));
    assert_eq!(config.http.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["b", "c"]);
    let debug = config.http.debug.as_ref().unwrap();
    assert_eq!(
        (debug.listen.to_string().as_str(), debug.metrics_path.as_deref()),
        ("localhost:5002", Some("/m"))
    );
    let names: Vec<_> = config.health.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["storagedriver_filesystem", "/down", "http://x/health", "redis:6379"]);
    let thresholds: Vec<_> = config.health.iter().map(|check| check.threshold.get()).collect();
    assert_eq!(thresholds, [2, 1, 1, 4]);
    assert!(matches!(&config.health[2].kind, HealthCheckKind::Http { status, headers, .. }
        if status.as_u16() == 204 && headers["a"] == "b"));
    assert!(matches!(&config.health[3].kind, HealthCheckKind::Tcp { timeout, .. } if timeout.as_secs() == 2));
    assert_eq!(config.validation.urls.allow, [r"^https://a\.example/"]);
    assert_eq!(config.validation.urls.deny, ["secret"]);
    assert!(
        matches!(&config.validation.indexes, RequiredEntries::OfPlatforms(list) if list[0].architecture == "arm64")
    );
    assert_eq!(config.policy_classes.as_ref().unwrap().len(), 2);
    assert_eq!((config.max_catalog_entries.get(), config.max_tags.get()), (7, 8));
    assert_eq!(config.http.trusted_proxies, TrustedProxies::parse(["10.0.0.0/8", "::1"]).unwrap());
}

#[test]
fn absent_values_have_distributions_defaults() {
    let config = with("");
    assert_eq!(config.storage.location, StorageLocation::Memory);
    assert!(!config.storage.allows_delete && !config.storage.is_read_only);
    assert!(config.storage.upload_purging.enabled);
    assert_eq!(config.storage.upload_purging.age, Duration::from_hours(168));
    assert_eq!(config.http.listen.to_string(), ":5000");
    assert_eq!(config.http.prefix, "/");
    assert_eq!((config.http.drain_timeout, &config.http.debug), (None, &None));
    assert!(config.health.is_empty() && config.policy_classes.is_none() && config.log.access_log);
    assert!(!config.validation.is_disabled && config.validation.indexes == RequiredEntries::All);
    assert_eq!(config.validation.urls, UrlPatterns::default());
    assert_eq!((config.max_catalog_entries.get(), config.max_tags.get()), (1000, 1000));
    assert_eq!(with("catalog: {maxentries: -5}\ntags: {maxtags: 0}\n"), config);
}

#[test]
fn short_and_old_forms_are_read() {
    let is_read_only = |text: &str| {
        let text = format!("version: 0.1\nstorage: {{inmemory: , maintenance: {{readonly: {text}}}}}\n");
        accepted(&load_text(&text, &[])).storage.is_read_only
    };
    for (text, expected) in [
        ("true", true),
        ("\"true\"", true),
        ("{enabled: yes}", true),
        ("off", false),
        ("{enabled: \"false\"}", false),
    ] {
        assert_eq!(is_read_only(text), expected, "{text}");
    }
    assert_eq!(with("loglevel: WARN\n").log.level, LogLevel::Warn);
    assert_eq!(with("loglevel: warn\nlog: {level: error}\n").log.level, LogLevel::Error);
    assert_eq!(with("auth: none\nhttp: {addr: \"localhost:1\"}\n").http.listen.to_string(), "localhost:1");
    assert_eq!(with("catalog: {maxentries: 0x10}\n").max_catalog_entries.get(), 16);
    // The old switch of validation wins when it is on.
    assert!(with("validation: {disabled: true}\n").validation.is_disabled);
    assert!(!with("validation: {disabled: true, enabled: true}\n").validation.is_disabled);
    let socket = with("http: {net: unix, addr: /run/q.sock}\n").http.listen;
    assert_eq!(socket.to_string(), "unix:/run/q.sock");
}

#[test]
fn merge_keys_and_aliases_are_resolved() {
    let text = "
version: 0.1
storage: inmemory
x-check: &check {interval: 1s, threshold: 3}
health:
  file:
    - <<: *check
      file: /a
    - {<<: [*check], file: /b, threshold: 5}
";
    let loaded = load_text(text, &[]);
    let thresholds: Vec<_> = accepted(&loaded).health.iter().map(|check| check.threshold.get()).collect();
    assert_eq!(thresholds, [3, 5]);
    assert_eq!(lines(&loaded), ["c.yml:4:1: warning: x-check: is not known, and has no effect"]);
}

#[test]
fn ten_errors_in_one_file_are_told_at_once_with_their_places() {
    let text = "version: 0.1
log:
  level: loud
storage:
  filesystem:
    rootdirectory: [a]
  delete:
    enable: true
http:
  addr: 5000
  draintimeout: 5 s
  host: r.example.com
  headers:
    Content-Length: [1]
  tls:
    certificate: /c
health:
  http: [{uri: 'http://x', statuscode: 999}]
auth:
  htpasswd: {realm: x}
";
    let loaded = load_text(text, &[]);
    assert!(loaded.config.is_none());
    let expected = [
        "c.yml:3:10: error: log.level: \"loud\" must be one of error, warn, info, debug",
        "c.yml:6:20: error: storage.filesystem.rootdirectory: must be text",
        "c.yml:8:5: error: storage.delete.enable: is not known; did you mean enabled?",
        "c.yml:10:9: error: http.addr: \"5000\" is not an address, :5000 is",
        "c.yml:11:17: error: http.draintimeout: \"5 s\" is not a duration; write it like 30s, 1h30m or 1.5s",
        "c.yml:12:9: error: http.host: \"r.example.com\" must be a URL like https://HOST:PORT",
        "c.yml:14:21: error: http.headers.Content-Length: must not be set: it frames the message",
        "c.yml:16:18: error: http.tls.key: is missing, and the certificate cannot be used",
        "c.yml:18:40: error: health.http[0].statuscode: must be a status from 100 to 599",
        "c.yml:20:3: error: auth.htpasswd.path: is missing",
    ];
    let lines = lines(&loaded);
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn unknown_keys_warn_and_near_locks_they_are_errors() {
    let severity = |text: &str, key: &str| {
        let loaded = load_text(&format!("{SMALLEST}{text}"), &[]);
        let found = loaded.diagnostics.iter().find(|found| found.key == key).map(|found| found.severity);
        found.unwrap_or_else(|| panic!("{key}: {:?}", lines(&loaded)))
    };
    assert_eq!(severity("http: {adrr: x}", "http.adrr"), Severity::Warning);
    assert_eq!(severity("port: 5000", "port"), Severity::Warning);
    assert_eq!(severity("http: {tls: {clientca: x}}", "http.tls.clientca"), Severity::Error);
    assert_eq!(severity("auth: {htpaswd: x}", "auth.htpaswd"), Severity::Error);
    assert_eq!(severity("proxy: {url: x}", "proxy.url"), Severity::Error);
    assert_eq!(severity("validation: {manifests: {url: x}}", "validation.manifests.url"), Severity::Error);
    assert_eq!(severity("quinistry: {acces: x}", "quinistry.acces"), Severity::Error);
    // A dot in a key does not make a section.
    assert_eq!(severity("auth: {'x.y': z}", "auth.x.y"), Severity::Error);
    assert_eq!(severity("http: {tls: {'a.b.c': x}}", "http.tls.a.b.c"), Severity::Error);
    let loaded = load_text("version: 0.1\nstorage: {filesystem: , inmemmory: }\n", &[]);
    assert_eq!(
        lines(&loaded)[0],
        "c.yml:2:25: error: storage.inmemmory: is not a known storage driver or switch; did you mean inmemory?"
    );
}

#[test]
fn a_version_and_one_driver_are_demanded() {
    assert_eq!(
        lines(&load_text("storage: inmemory\n", &[])),
        ["c.yml:1:1: error: version: is missing; write `version: 0.1`"]
    );
    assert_eq!(lines(&load_text("version: 0.1\n", &[])), ["c.yml:1:1: error: storage: is missing"]);
    assert_eq!(
        lines(&load_text("version: 0.2\nstorage: inmemory\n", &[])),
        ["c.yml:1:10: error: version: \"0.2\" must be 0.1; write `version: 0.1`"]
    );
    assert_eq!(
        lines(&load_text("version: 0.1\nstorage: {delete: {enabled: true}}\n", &[])),
        ["c.yml:2:1: error: storage: needs a driver, such as `filesystem`"]
    );
    assert_eq!(
        lines(&load_text("version: 0.1\nstorage:\n  inmemory:\n  filesystem:\n", &[])),
        [
            "c.yml:4:3: error: storage.filesystem: only one is possible, and inmemory is given at c.yml:3:3; remove one \
          of them"
        ]
    );
}

#[test]
fn row_82_aliases_that_multiply_end_at_the_budget() {
    let mut text = format!("{SMALLEST}a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        writeln!(text, "a{level}: &a{level} [{}]", vec![before; 9].join(", ")).unwrap();
    }
    assert!(only_error(text.as_bytes()).ends_with("error: holds more than 100,000 values"));
    let long = "y".repeat(500_000);
    let text = format!("{SMALLEST}a: &a {long}\nb: [{}]\n", vec!["*a"; 20].join(", "));
    assert!(only_error(text.as_bytes()).ends_with("error: holds more than 4 MiB of text"));
    let itself = format!("{SMALLEST}a: &a [*a]\n");
    assert!(only_error(itself.as_bytes()).contains("3:8: error: an alias stands inside the value"));
}

#[test]
fn row_83_deep_nesting_is_an_error() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        let error = only_error(format!("{SMALLEST}a:\n  {text}").as_bytes());
        assert!(error.starts_with("c.yml:"), "{error}");
    }
    let text = format!(
        "{SMALLEST}a: &a {}\nb: {}*a{}\n",
        "[".repeat(40) + &"]".repeat(40),
        "[".repeat(40),
        "]".repeat(40)
    );
    assert!(only_error(text.as_bytes()).contains("nests deeper than 64 levels through aliases"));
}

#[test]
fn row_84_the_last_of_two_equal_keys_holds_and_is_told() {
    let loaded = load_text(&format!("{SMALLEST}log: {{level: debug}}\nlog: {{level: error}}\n"), &[]);
    assert_eq!(accepted(&loaded).log.level, LogLevel::Error);
    assert_eq!(
        lines(&loaded),
        ["c.yml:4:1: warning: log is given twice, first at c.yml:3:1; the last one holds"]
    );
}

#[test]
fn row_85_tabs_line_ends_and_encodings() {
    let windows = SMALLEST.replace('\n', "\r\n");
    assert!(load_text(&windows, &[]).config.is_some());
    assert!(load_text(&format!("\u{feff}{SMALLEST}"), &[]).config.is_some());
    let utf16: Vec<u8> =
        [0xfeff].into_iter().chain(SMALLEST.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(only_error(&utf16), "c.yml:1:1: error: is UTF-16; save it as UTF-8");
    assert_eq!(
        only_error(b"version: 0.1\nstorage: \xff\n"),
        "c.yml:2:1: error: is not UTF-8 here; save it as UTF-8"
    );
    let tab = only_error(b"version: 0.1\nstorage:\n\tinmemory: {}\n");
    assert!(tab.starts_with("c.yml:3:"), "{tab}");
}

#[test]
fn row_86_foreign_tags_are_errors() {
    let message = |tag: &str| {
        let error = only_error(format!("{SMALLEST}a: {tag} aGk=\n").as_bytes());
        let (place, message) = error.split_once(" error: ").unwrap();
        assert!(place.starts_with("c.yml:3:"), "{error}");
        message.to_owned()
    };
    for tag in ["!!binary", "!!set"] {
        assert_eq!(message(tag), format!("the tag {tag} is not supported here; remove it"));
    }
    // The text of another tag may be a password.
    for tag in ["!!python/object:os.system", "!custom", "!<custom>", "!!custom"] {
        let expected = "a value that begins with ! must stand in quotes; tags are not supported";
        assert_eq!(message(tag), expected, "{tag}");
    }
    assert!(load_text("version: !!str 0.1\nstorage: !!map {inmemory: !!null }\n", &[]).config.is_some());
}

#[test]
fn rows_87_and_88_two_controllers_and_a_bare_one_are_refused() {
    let found =
        findings("auth:\n  htpasswd: {realm: a, path: /b}\n  token: {realm: a, service: b, issuer: c}\n");
    assert!(
        found.iter().any(|line| line.contains("auth.token: only one is possible, and htpasswd")),
        "{found:#?}"
    );
    let found = findings("auth: htpasswd\n");
    for key in ["realm", "path"] {
        assert!(found.contains(&format!("c.yml:3:7: error: auth.htpasswd.{key}: is missing")), "{found:#?}");
    }
}

#[test]
fn row_89_ports_without_a_colon_are_told() {
    assert_eq!(findings("port: 5000\n"), ["c.yml:3:1: warning: port: is not known, and has no effect"]);
    assert_eq!(
        findings("http: {addr: 5000}\n"),
        ["c.yml:3:14: error: http.addr: \"5000\" is not an address, :5000 is"]
    );
}

#[test]
fn row_90_durations_without_a_unit_are_told() {
    let timeout = |text: &str| {
        let loaded = load_text(&format!("{SMALLEST}http: {{draintimeout: {text}}}\n"), &[]);
        (loaded.config.as_ref().and_then(|config: &Config| config.http.drain_timeout), lines(&loaded))
    };
    let (drain, found) = timeout("5");
    assert_eq!(drain, Some(Duration::from_nanos(5)));
    assert_eq!(found, ["c.yml:3:22: warning: http.draintimeout: 5 means 5 nanoseconds; did you mean 5s?"]);
    for text in ["5 s", "-1h", "1e9h"] {
        let (drain, found) = timeout(text);
        assert_eq!((drain, found.len()), (None, 1), "{text}: {found:?}");
        assert!(found[0].contains("error"), "{found:?}");
    }
}

#[test]
fn row_97_empty_and_long_files_are_errors() {
    assert_eq!(only_error(b""), "c.yml:1:1: error: is empty; begin with `version: 0.1`");
    assert_eq!(only_error(b"# nothing\n"), "c.yml:1:1: error: is empty; begin with `version: 0.1`");
    assert_eq!(only_error(&vec![0; 2 << 20]), "c.yml:1:1: error: is longer than 1 MiB");
    assert!(only_error(&vec![0; 1 << 20]).starts_with("c.yml:1:"));
    assert!(only_error(b"- a\n").contains("must be a section"));
    assert!(only_error(b"text").contains("must be a section"));
}

#[test]
fn row_98_a_file_that_is_cut_off_is_not_accepted() {
    let text = "version: 0.1\nlog: {level: info}\nhttp:\n  addr: :5000\nstorage:\n  filesystem:\n    rootdirectory: /r\n";
    let accepted: Vec<_> =
        (0..text.len()).filter(|end| load_text(&text[..*end], &[]).config.is_some()).collect();
    // The cut is behind the driver's name, which is a whole configuration.
    let driver = text.find("filesystem:").unwrap() + "filesystem".len();
    assert!(accepted.iter().all(|end| *end >= driver), "{accepted:?}");
}

#[test]
fn only_the_first_document_is_read_and_told() {
    let loaded = load_text(&format!("{SMALLEST}---\nlog: {{level: debug}}\n"), &[]);
    assert_eq!(accepted(&loaded).log.level, LogLevel::Info);
    assert_eq!(lines(&loaded), ["c.yml:3:1: warning: a second document begins here, and is not read"]);
}

#[test]
fn findings_are_bounded() {
    let lines: Vec<String> = (0..20_000).map(|number| format!("a{number}: 1")).collect();
    let found = findings(&lines.join("\n"));
    assert!(found.len() < 1000, "{}", found.len());
    assert!(found.last().unwrap().ends_with("more findings are not shown"));
}

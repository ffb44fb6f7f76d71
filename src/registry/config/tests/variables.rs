//! Variables of the environment: the rules of their names and values, and hostile ones by the number of their
//! row.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use quinistry_http::client_address::TrustedProxies;

use super::{Files, SMALLEST, accepted, environment, lines, load_text, load_variables};
use crate::config::{
    Config, Loaded, LogLevel, Source, StorageLocation, load, sets_a_key, unresolved_variables,
};

fn configured(text: &str, variables: &[(&str, &str)]) -> Config {
    accepted(&load_text(text, variables)).clone()
}

fn errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let loaded = load_text(text, variables);
    let errors =
        loaded.diagnostics.iter().filter(|found| found.is_error()).map(ToString::to_string).collect();
    assert!(loaded.config.is_none(), "accepted: {errors:?}");
    errors
}

#[test]
fn variables_alone_stand_over_the_built_in_configuration() {
    let loaded = load_variables(&[("REGISTRY_STORAGE_DELETE_ENABLED", "true"), ("HOME", "/root")]);
    let config = accepted(&loaded);
    assert!(config.storage.allows_delete);
    assert_eq!(config.storage.location, StorageLocation::Folder("/var/lib/registry".into()));
    assert_eq!(config.http.listen.to_string(), ":5000");
    assert_eq!(config.http.headers["x-content-type-options"], "nosniff");
    assert_eq!((config.health.len(), config.health[0].threshold.get()), (1, 3));
    assert_eq!(loaded.set_by_environment, ["REGISTRY_STORAGE_DELETE_ENABLED"]);
    assert!(lines(&loaded).is_empty(), "{:?}", lines(&loaded));
}

#[test]
fn a_variable_wins_over_the_file_in_every_form_of_a_value() {
    let file =
        format!("{SMALLEST}http: {{addr: ':1', headers: {{X-A: [a]}}}}\nhealth: {{file: [{{file: /a}}]}}\n");
    let config = configured(
        &file,
        &[
            ("REGISTRY_HTTP_ADDR", "localhost:2"),
            ("REGISTRY_HTTP_HEADERS_X-A", "[b, c]"),
            ("REGISTRY_HTTP_HEADERS_X-New", "- d"),
            ("REGISTRY_HEALTH_FILE_0_FILE", "/b"),
            ("REGISTRY_HEALTH_FILE_1", "{file: /c, interval: 2s}"),
            ("REGISTRY_HEALTH_FILECHECKERS_1_FILE", "/x"),
            ("REGISTRY_HEALTH_TCP", "[{\"addr\": \"x:1\"}]"),
            ("REGISTRY_LOG_FIELDS_MY_FIELD", "12345"),
            ("REGISTRY_LOG", "{level: warn}"),
            ("REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_0", "^https://a/"),
            ("REGISTRY_POLICY_REPOSITORY_CLASSES", "[image]"),
            ("REGISTRY_CATALOG_MAXENTRIES", "5"),
            ("registry_tags_maxtags", "6"),
            ("REGISTRY_tags_maxtags", "7"),
            ("REGISTRY_QUINISTRY_HTTP_TRUSTEDPROXIES_0", "10.0.0.0/8"),
        ],
    );
    assert_eq!(config.http.listen.to_string(), "localhost:2");
    assert_eq!(config.http.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(config.http.headers["x-new"], "d");
    let names: Vec<_> = config.health.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["/b", "/c", "x:1"]);
    // The section is replaced first, then its field is set.
    assert_eq!((config.log.level, config.log.fields[0].0.as_str()), (LogLevel::Warn, "my_field"));
    assert_eq!(config.log.fields[0].1, "12345");
    assert_eq!(config.validation.urls.allow, ["^https://a/"]);
    assert_eq!((config.max_catalog_entries.get(), config.max_tags.get()), (5, 7));
    assert_eq!(config.policy_classes.unwrap().len(), 1);
    assert_eq!(config.http.trusted_proxies, TrustedProxies::parse(["10.0.0.0/8"]).unwrap());
}

#[test]
fn keys_of_the_file_in_another_case_take_no_variable() {
    let users = [("REGISTRY_AUTH_HTPASSWD_PATH", "/b"), ("REGISTRY_AUTH_HTPASSWD_REALM", "a")];
    for key in ["AUTH: {}", "Auth: {htpasswd: {}}"] {
        let found = errors(&format!("{SMALLEST}{key}\n"), &users);
        assert!(found[0].contains("is not known; did you mean auth?"), "{key}: {found:?}");
    }
    for key in ["auth: {}", ""] {
        let config = configured(&format!("{SMALLEST}{key}\n"), &users);
        assert_eq!(config.users.htpasswd.unwrap().path.to_str(), Some("/b"), "{key}");
    }
    let found =
        errors(&format!("{SMALLEST}http: {{TLS: {{}}}}\n"), &[("REGISTRY_HTTP_TLS_CERTIFICATE", "/c")]);
    assert!(found[0].contains("http.TLS: is not known; did you mean tls?"), "{found:?}");
    assert!(found[1].contains("http.tls.key: is missing"), "{found:?}");
    let address = [("REGISTRY_HTTP_ADDR", "localhost:7")];
    for key in ["HTTP: {}", "http: {ADDR: ':1'}", "HTTP: {addr: ':1'}"] {
        let config = configured(&format!("{SMALLEST}{key}\n"), &address);
        assert_eq!(config.http.listen.to_string(), "localhost:7", "{key}");
    }
    // Names inside maps of any names have no case.
    let file = format!("{SMALLEST}log: {{fields: {{Zone: a}}}}\n");
    let config = configured(&file, &[("REGISTRY_LOG_FIELDS_ZONE", "b")]);
    assert_eq!(config.log.fields, [("Zone".to_owned(), "b".to_owned())]);
}

#[test]
fn text_that_is_no_yaml_does_not_end_what_has_no_effect() {
    for (name, value) in [
        ("REGISTRY_REDIS_PASSWORD", "@x"),
        ("REGISTRY_REDIS_PASSWORD", "*x"),
        ("REGISTRY_REDIS_PASSWORD", "{x"),
        ("REGISTRY_REDIS", "!x"),
        ("REGISTRY_REPORTING_BUGSNAG_APIKEY", "%x"),
        ("REGISTRY_LOG_HOOKS", "'x"),
    ] {
        let loaded = load_text(SMALLEST, &[(name, value)]);
        assert!(loaded.config.is_some(), "{name}={value}: {:?}", lines(&loaded));
    }
}

#[test]
fn variables_that_set_no_key_are_told_apart() {
    let variables = [
        ("REGISTRY_AUHT_HTPASSWD_PATH", "/b"),
        ("REGISTRY_AUTH_HTPASWD", "x"),
        ("REGISTRY_HTTP_ADDR", ":1"),
        ("REGISTRY_HTTP_SECRET_FILE", "/s"),
        ("REGISTRY_PORT", "tcp://10.0.0.1:5000"),
        ("REGISTRY_CONFIGURATION_PATH", "/c.yml"),
        ("HOME", "/root"),
    ];
    let expected = ["REGISTRY_AUHT_HTPASSWD_PATH", "REGISTRY_AUTH_HTPASWD"];
    assert_eq!(unresolved_variables(environment(&variables)), expected);
}

#[test]
fn the_read_only_switch_works_in_every_form() {
    for (file, name, value) in [
        (SMALLEST, "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
        (SMALLEST, "REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}"),
        (SMALLEST, "REGISTRY_STORAGE_MAINTENANCE_READONLY", "true"),
        (SMALLEST, "REGISTRY_STORAGE_MAINTENANCE", "{readonly: {enabled: true}}"),
        (
            "version: 0.1\nstorage: {inmemory: , maintenance: {readonly: false}}",
            "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED",
            "true",
        ),
    ] {
        assert!(configured(file, &[(name, value)]).storage.is_read_only, "{name}={value}");
    }
    let variables = [("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_DRYRUN", "true")];
    assert!(configured(SMALLEST, &variables).storage.upload_purging.dry_run);
}

#[test]
fn keys_with_an_underscore_are_reached() {
    let found = errors(
        "version: 0.1\nstorage: {azure: {accountname: a, container: c}}\n",
        &[("REGISTRY_STORAGE_AZURE_MAX_RETRIES", "many")],
    );
    assert_eq!(
        found.last().unwrap(),
        "REGISTRY_STORAGE_AZURE_MAX_RETRIES: error: storage.azure.max_retries: \"many\" must be a whole number"
    );
}

#[test]
fn a_driver_of_the_environment_replaces_the_built_in_one_but_not_the_files() {
    let loaded = load_variables(&[("REGISTRY_STORAGE", "inmemory")]);
    assert_eq!(accepted(&loaded).storage.location, StorageLocation::Memory);
    let loaded = load_variables(&[("REGISTRY_STORAGE_INMEMORY", "")]);
    assert_eq!(accepted(&loaded).storage.location, StorageLocation::Memory);
    let found = errors(
        "version: 0.1\nstorage:\n  filesystem: {rootdirectory: /r}\n",
        &[("REGISTRY_STORAGE_INMEMORY", "{}")],
    );
    assert_eq!(
        found,
        [
            "REGISTRY_STORAGE_INMEMORY: error: storage.inmemory: only one is possible, and filesystem is given at \
          c.yml:3:3; remove one of them"
        ]
    );
    let loaded = load_text(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /r}}\n",
        &[("REGISTRY_STORAGE", "{inmemory: {}}")],
    );
    assert_eq!(accepted(&loaded).storage.location, StorageLocation::Memory);
    assert_eq!(
        lines(&loaded),
        [
            "REGISTRY_STORAGE: warning: storage: replaces the whole section of the file, storage.filesystem at c.yml:2:11"
        ]
    );
}

#[test]
fn unresolved_names_warn_and_near_locks_they_are_errors() {
    let loaded = load_text(
        SMALLEST,
        &[
            ("REGISTRY_HTTP_ADRR", ":1"),
            ("REGISTRY_URL", "x"),
            ("REGISTRY_HTTP_NET_X", "x"),
            ("REGISTRY_PORT", "5000"),
        ],
    );
    assert_eq!(
        lines(&loaded),
        [
            "REGISTRY_HTTP_ADRR: warning: sets no key; did you mean REGISTRY_HTTP_ADDR?",
            "REGISTRY_HTTP_NET_X: warning: sets no key of http.net; `quinistry config keys` lists them",
            "REGISTRY_PORT: warning: sets no key; `quinistry config keys` lists them",
            "REGISTRY_URL: warning: sets no key; `quinistry config keys` lists them",
        ]
    );
    for (name, hint) in [
        ("REGISTRY_AUTH_HTPASWD_PATH", "did you mean REGISTRY_AUTH_HTPASSWD?"),
        ("REGISTRY_HTTP_TLS_CLIENTCA", "did you mean REGISTRY_HTTP_TLS_CLIENTCAS?"),
        ("REGISTRY_PROXY_REMOTE", "did you mean REGISTRY_PROXY_REMOTEURL?"),
        ("REGISTRY_QUINISTRY_ACESS", "did you mean REGISTRY_QUINISTRY_ACCESS?"),
    ] {
        let found = errors(SMALLEST, &[(name, "x")]);
        assert!(found.len() == 1 && found[0].contains(hint), "{found:?}");
        assert!(sets_a_key(environment(&[(name, "x")])), "{name}");
    }
}

#[test]
fn links_of_services_set_nothing_and_are_not_told() {
    let links = [
        ("REGISTRY_PORT", "tcp://10.0.0.1:5000"),
        ("REGISTRY_SERVICE_HOST", "10.0.0.1"),
        ("REGISTRY_AUTH_PORT", "tcp://10.0.0.2:80"),
        ("REGISTRY_AUTH_SERVICE_PORT", "80"),
        ("REGISTRY_STORAGE_PORT_80_TCP_ADDR", "10.0.0.3"),
        ("REGISTRY_HTTP_PORT", "tcp://10.0.0.4:80"),
        ("REGISTRY_HTTP_HEADERS_PORT_80_TCP", "tcp://10.0.0.5:80"),
        ("REGISTRY_CONFIGURATION_PATH", "/c.yml"),
    ];
    assert!(!sets_a_key(environment(&links)));
    let loaded = load_text(SMALLEST, &links);
    assert!(lines(&loaded).is_empty() && loaded.set_by_environment.is_empty(), "{:?}", lines(&loaded));
    assert_eq!(loaded.service_links.len(), 7);
    assert!(accepted(&loaded).http.headers.is_empty());
    assert!(!sets_a_key(environment(&[("REGISTRY_URL", "x"), ("PATH", "/bin")])));
    assert!(sets_a_key(environment(&[("REGISTRY_HTTP_ADDR", ":1")])));
}

#[test]
fn text_that_is_no_yaml_is_taken_literally() {
    for value in ["*abc", "@abc", "{abc", "a: b: c", "%x", "[a]", "#x", "a: b", "---", "'a"] {
        let config = configured(SMALLEST, &[("REGISTRY_LOG_FIELDS_X", value)]);
        assert_eq!(config.log.fields[0].1, value);
    }
    let config = configured(SMALLEST, &[("REGISTRY_LOG_FIELDS_X", "'a #b'")]);
    assert_eq!(config.log.fields[0].1, "a #b");
    let loaded = load_text(SMALLEST, &[("REGISTRY_HTTP_SECRET", "abc #def")]);
    assert_eq!(
        lines(&loaded),
        [
            "REGISTRY_HTTP_SECRET: warning: http.secret: the text from # on is a comment; put the value in quotes to keep it"
        ]
    );
    let found = errors(SMALLEST, &[("REGISTRY_HTTP_HEADERS", "{a")]);
    assert!(
        found[0].starts_with("REGISTRY_HTTP_HEADERS: error: http.headers: is not valid YAML"),
        "{found:?}"
    );
}

/// Returns files with values, each with other permission bits.
fn value_files() -> Files {
    Files(
        [
            ("/s", (0o600, b"localhost:7\r\n".to_vec())),
            ("/open", (0o644, b"secret".to_vec())),
            ("/world", (0o666, b"secret".to_vec())),
            ("/binary", (0o600, vec![0xff])),
        ]
        .into(),
    )
}

fn with_files(variables: &[(&str, &str)]) -> Loaded {
    load(Some(Source { name: "c.yml", bytes: SMALLEST.as_bytes() }), environment(variables), &value_files())
}

#[test]
fn a_value_may_stand_in_a_file() {
    let loaded = with_files(&[("REGISTRY_HTTP_ADDR_FILE", "/s")]);
    assert_eq!(accepted(&loaded).http.listen.to_string(), "localhost:7");
    let both = with_files(&[("REGISTRY_HTTP_ADDR", ":1"), ("REGISTRY_HTTP_ADDR_FILE", "/s")]);
    assert!(lines(&both)[0].contains("REGISTRY_HTTP_ADDR is set as well"), "{:?}", lines(&both));
    // A list is not text.
    let list = with_files(&[("REGISTRY_HTTP_HEADERS_FILE", "/s")]);
    assert!(lines(&list)[0].contains("must be a list"), "{:?}", lines(&list));
}

#[test]
fn row_91_a_variable_that_removes_users_says_so() {
    let loaded = load_text(
        &format!("{SMALLEST}http: {{addr: 'localhost:1'}}\nauth: {{htpasswd: {{realm: a, path: /b}}}}\n"),
        &[("REGISTRY_AUTH", "none")],
    );
    assert!(loaded.config.is_some());
    assert_eq!(
        lines(&loaded),
        [
            "REGISTRY_AUTH: warning: auth: replaces the whole section of the file, auth.htpasswd at c.yml:4:8, and there \
          are no users"
        ]
    );
}

#[test]
fn row_93_many_and_long_variables_are_bounded() {
    let names: Vec<String> = (0..10_000).map(|number| format!("REGISTRY_HTTP_FIELD{number}")).collect();
    let long = "x".repeat(1 << 20);
    let mut variables: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    variables.push(("REGISTRY_LOG_FIELDS_LONG", &long));
    let loaded = load_text(SMALLEST, &variables);
    assert!(loaded.config.is_some() && loaded.diagnostics.len() < 100, "{}", loaded.diagnostics.len());
    assert!(lines(&loaded).contains(&"REGISTRY_*: warning: 9950 more variables set no key".to_owned()));
    let longer = long + "x";
    let found = errors(SMALLEST, &[("REGISTRY_HTTP_HOST", &longer)]);
    assert_eq!(found, ["REGISTRY_HTTP_HOST: error: http.host: is longer than 1 MiB"]);
    let names: Vec<String> = (0..10_000).map(|number| format!("REGISTRY_LOG_FIELDS_F{number}")).collect();
    let variables: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    assert_eq!(accepted(&load_text(SMALLEST, &variables)).log.fields.len(), 10_000);
}

#[test]
fn row_94_values_that_are_not_utf_8_are_errors_by_name() {
    let variables = [("REGISTRY_HTTP_ADDR".into(), OsString::from_vec(vec![0xff]))];
    let loaded =
        load(Some(Source { name: "c.yml", bytes: SMALLEST.as_bytes() }), variables, &Files::default());
    assert_eq!(lines(&loaded), ["REGISTRY_HTTP_ADDR: error: http.addr: is not valid UTF-8"]);
    let variables = [(OsString::from_vec(b"REGISTRY_\xff".to_vec()), "x".into())];
    let loaded =
        load(Some(Source { name: "c.yml", bytes: SMALLEST.as_bytes() }), variables, &Files::default());
    assert!(loaded.config.is_some() && loaded.diagnostics.len() == 1);
}

#[test]
fn row_94_names_that_are_not_utf_8_count_as_they_are_applied() {
    let variables = [(OsString::from_vec(b"REGISTRY_HTTP_HEADERS_\xff".to_vec()), OsString::from("[x]"))];
    assert!(sets_a_key(variables.clone()));
    let loaded =
        load(Some(Source { name: "c.yml", bytes: SMALLEST.as_bytes() }), variables, &Files::default());
    assert!(loaded.config.is_none() && lines(&loaded)[0].contains("is not a valid name of a header"));
}

#[test]
fn row_95_headers_with_line_ends_are_refused() {
    let found = errors(SMALLEST, &[("REGISTRY_HTTP_HEADERS_X", "[\"a\\r\\nSet-Cookie: b\"]")]);
    assert_eq!(
        found,
        [
            "REGISTRY_HTTP_HEADERS_X: error: http.headers.x: \"a\\r\\nSet-Cookie: b\" must be one line of visible characters"
        ]
    );
}

#[test]
fn row_96_indexes_beyond_a_list_are_errors() {
    let found = errors(SMALLEST, &[("REGISTRY_HEALTH_FILE_99999999999_FILE", "x")]);
    assert!(found[0].contains("health.file has no element of this number"), "{found:?}");
    let found = errors(SMALLEST, &[("REGISTRY_HEALTH_FILE_2_FILE", "x")]);
    assert_eq!(
        found,
        [
            "REGISTRY_HEALTH_FILE_2_FILE: error: health.file[].file: the list has no element 2; the next free one is 0"
        ]
    );
}

#[test]
fn row_99_files_that_every_user_can_read_or_write_are_told() {
    let loaded = with_files(&[("REGISTRY_HTTP_SECRET_FILE", "/open")]);
    assert!(loaded.config.is_some());
    assert_eq!(
        lines(&loaded),
        [
            "REGISTRY_HTTP_SECRET_FILE: warning: http.secret: every user can read /open, and its content is a secret"
        ]
    );
    for (path, hint) in [
        ("/world", "every user can write /world; run `chmod 600` on it"),
        ("/binary", "the content of /binary is not UTF-8"),
        ("/missing", "failed to read /missing: entity not found; name a readable file"),
    ] {
        let loaded = with_files(&[("REGISTRY_HTTP_SECRET_FILE", path)]);
        assert!(loaded.config.is_none() && lines(&loaded)[0].contains(hint), "{:?}", lines(&loaded));
    }
}

#[test]
fn names_of_variables_are_told_in_their_order() {
    let names = ["REGISTRY_HTTP_HEADERS_A_10", "REGISTRY_HTTP_HEADERS_A_9"];
    let loaded = load_variables(&names.map(|name| (name, "[x]")));
    assert_eq!(loaded.set_by_environment, names);
    let links = ["REGISTRY_PORT_10_TCP", "REGISTRY_PORT_9_TCP"];
    let loaded = load_variables(&links.map(|name| (name, "tcp://10.0.0.3:80")));
    assert_eq!(loaded.service_links, links);
}

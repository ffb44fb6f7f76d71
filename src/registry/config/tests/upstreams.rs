//! Upstreams, and distribution's `proxy`.

use std::time::Duration;

use super::{SMALLEST, findings, lines, load_text, load_variables, with};
use crate::config::{
    InsecureUpstream, MissingPolicy, PrefetchRule, SecretText, Severity, UpstreamCredentials,
    UpstreamSettings,
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.into()).collect()
}

#[test]
fn upstreams_are_read() {
    let text = "auth: {none: }
quinistry:
  access: [{repositories: ['**'], who: [anonymous], can: [pull]}]
  upstreams:
  - prefix: docker.io
    ns: [docker.io]
    remoteurl: https://registry-1.docker.io
    username: robot
    passwordfile: /run/secrets/hub
    ttl: 5m
    keep: 0
    size: 10GiB
    platforms: [linux/amd64, linux/arm/v7]
    prefetch: [{repository: library/debian, tags: ['12*', latest]}]
    negative: 10s
    allow: ['library/*', 'team/**']
    deny: [team/secret]
    missing: drop
    maxconnections: 4
    maxblob: 10GiB
    realm: [auth.example]
    ca: /etc/ca.pem
  - {prefix: lan/cache, remoteurl: 'http://10.0.0.1:5000', insecure: true}
  - {prefix: '', remoteurl: 'https://quay.io', allow: ['public/**'], exec: {command: helper, lifetime: 1h}}
";
    let hub = UpstreamSettings {
        namespaces: vec!["docker.io".parse().unwrap()],
        credentials: Some(UpstreamCredentials::PasswordFile {
            user: "robot".into(),
            path: "/run/secrets/hub".into(),
        }),
        ca: Some("/etc/ca.pem".into()),
        token_hosts: texts(&["auth.example"]),
        max_connections: 4,
        ttl: Duration::from_mins(5),
        keep: None,
        max_bytes: Some(10 << 30),
        platforms: vec!["linux/amd64".parse().unwrap(), "linux/arm/v7".parse().unwrap()],
        prefetch: vec![PrefetchRule {
            repository: "library/debian".parse().unwrap(),
            tags: texts(&["12*", "latest"]),
            interval: Duration::from_hours(6),
        }],
        negative_ttl: Duration::from_secs(10),
        allow: texts(&["library/*", "team/**"]),
        deny: texts(&["team/secret"]),
        max_blob_bytes: Some(10 << 30),
        missing: MissingPolicy::Drop,
        ..UpstreamSettings::new(
            Some("docker.io".parse().unwrap()),
            "https://registry-1.docker.io".parse().unwrap(),
        )
    };
    let lan = UpstreamSettings {
        insecure: InsecureUpstream::Private,
        ..UpstreamSettings::new(Some("lan/cache".parse().unwrap()), "http://10.0.0.1:5000".parse().unwrap())
    };
    let root = UpstreamSettings {
        allow: texts(&["public/**"]),
        credentials: Some(UpstreamCredentials::Helper {
            command: "helper".into(),
            lifetime: Some(Duration::from_hours(1)),
        }),
        ..UpstreamSettings::new(None, "https://quay.io".parse().unwrap())
    };
    assert_eq!(with(text).upstreams, [hub, lan, root]);
    assert_eq!(findings(text), [""; 0]);
    assert_eq!(with("").upstreams, []);
}

#[test]
fn distributions_proxy_holds_every_name_and_asks_for_each_tag() {
    let text =
        "proxy: {remoteurl: 'https://registry-1.docker.io', username: robot, password: secret, ttl: 24h}\n";
    let expected = UpstreamSettings {
        credentials: Some(UpstreamCredentials::Password {
            user: "robot".into(),
            password: SecretText("secret".into()),
        }),
        ttl: Duration::ZERO,
        allow: texts(&["**"]),
        keep: Some(Duration::from_hours(24)),
        ..UpstreamSettings::new(None, "https://registry-1.docker.io".parse().unwrap())
    };
    assert_eq!(with(text).upstreams, std::slice::from_ref(&expected));
    assert_eq!(
        findings(text),
        [
            "c.yml:3:62: warning: proxy.username: there are no users, and every client that reaches the registry reads \
             what this user may read; add auth.htpasswd or auth.token",
        ]
    );
    let loaded = load_variables(&[("REGISTRY_PROXY_REMOTEURL", "https://registry-1.docker.io")]);
    let alone = UpstreamSettings { credentials: None, keep: Some(Duration::from_hours(168)), ..expected };
    assert_eq!(loaded.config.as_ref().unwrap().upstreams, [alone]);
    let forever = with("proxy: {remoteurl: 'https://registry-1.docker.io', ttl: 0}\n");
    assert_eq!(forever.upstreams[0].keep, None);
    assert_eq!(with("proxy: {remoteurl: ''}\n").upstreams, []);
    let plain = with("proxy: {remoteurl: 'http://cache:5000'}\n");
    assert_eq!(plain.upstreams[0].insecure, InsecureUpstream::Public);
    let element = load_variables(&[
        ("REGISTRY_QUINISTRY_UPSTREAMS_0_PREFIX", "quay"),
        ("REGISTRY_QUINISTRY_UPSTREAMS_0_REMOTEURL", "https://quay.io"),
    ]);
    let quay = UpstreamSettings::new(Some("quay".parse().unwrap()), "https://quay.io".parse().unwrap());
    assert_eq!(element.config.unwrap_or_else(|| panic!("{:?}", element.diagnostics)).upstreams, [quay]);
}

#[test]
fn mistakes_are_errors_at_their_places() {
    let upstream = |more: &str| format!("{{prefix: a, remoteurl: 'https://a.example', {more}}}");
    let cases = [
        ("{prefix: a}".to_owned(), "quinistry.upstreams[0].remoteurl: is missing"),
        ("{remoteurl: 'https://a.example'}".to_owned(), "quinistry.upstreams[0].prefix: is missing"),
        (
            "{prefix: '', remoteurl: 'https://a.example'}".to_owned(),
            "quinistry.upstreams[0].prefix: is empty, and needs allow: ",
        ),
        (
            "{prefix: A, remoteurl: 'https://a.example'}".to_owned(),
            "quinistry.upstreams[0].prefix: \"A\" not a repository name: ",
        ),
        (
            format!("{}, {}", upstream(""), upstream("")),
            "quinistry.upstreams[1].prefix: \"a\" is the prefix of quinistry.upstreams[0], too",
        ),
        (
            format!(
                "{}, {{prefix: b, remoteurl: 'https://b', ns: [docker.io]}}",
                upstream("ns: [Docker.io]")
            ),
            "quinistry.upstreams[1].ns: docker.io is a namespace of quinistry.upstreams[0], too",
        ),
        (upstream("ns: ['https://a']"), "quinistry.upstreams[0].ns: \"https://a\" is not a host "),
        (upstream("allow: ['!a']"), "quinistry.upstreams[0].allow: \"!a\" takes nothing away"),
        (upstream("deny: [A]"), "quinistry.upstreams[0].deny: \"A\" matches no repository"),
        (upstream("username: a"), "quinistry.upstreams[0].username: needs a password"),
        (upstream("password: a"), "quinistry.upstreams[0].password: needs a username"),
        (
            upstream("username: a, password: b, passwordfile: /c"),
            "quinistry.upstreams[0].passwordfile: is given beside password",
        ),
        (
            upstream("username: a, password: b, exec: {command: c}"),
            "quinistry.upstreams[0].password: is given beside exec",
        ),
        (
            "{prefix: a, remoteurl: 'http://a.example'}".to_owned(),
            "quinistry.upstreams[0].remoteurl: is not https; write https, or insecure: true",
        ),
        (
            "{prefix: a, remoteurl: 'https://a.example/b'}".to_owned(),
            "quinistry.upstreams[0].remoteurl: must not have a path",
        ),
        (
            "{prefix: a, remoteurl: 'https://u:p@a.example'}".to_owned(),
            "quinistry.upstreams[0].remoteurl: must not hold a user or password",
        ),
        (upstream("realm: ['a b']"), "quinistry.upstreams[0].realm: \"a b\" must be a host"),
        (
            upstream("maxconnections: 0"),
            "quinistry.upstreams[0].maxconnections: \"0\" must not be less than 1",
        ),
        (upstream("missing: forget"), "quinistry.upstreams[0].missing: \"forget\" must be one of keep, drop"),
        (upstream("prefetch: [{repository: a}]"), "quinistry.upstreams[0].prefetch[0].tags: is missing"),
        (
            upstream("prefetch: [{repository: A, tags: [a]}]"),
            "quinistry.upstreams[0].prefetch[0].repository: \"A\" ",
        ),
        (
            upstream("prefetch: [{repository: a, tags: ['[a']}]"),
            "quinistry.upstreams[0].prefetch[0].tags: \"[a\" is not a valid pattern",
        ),
        (
            upstream("prefetch: [{repository: a, tags: [a], interval: 5s}]"),
            "quinistry.upstreams[0].prefetch[0].interval: is less than a minute",
        ),
        (
            upstream("platforms: [linux], prefetch: [{repository: a, tags: [a]}]"),
            "quinistry.upstreams[0].platforms: \"linux\" is not a platform",
        ),
        (upstream("remote: x"), "quinistry.upstreams[0].remote: is not known"),
    ];
    for (upstreams, expected) in cases {
        let loaded = load_text(&format!("{SMALLEST}quinistry: {{upstreams: [{upstreams}]}}\n"), &[]);
        assert!(loaded.config.is_none(), "{upstreams}");
        let all = lines(&loaded);
        assert!(all.iter().any(|line| line.starts_with("c.yml:3:") && line.contains(expected)), "{all:#?}");
    }
    let both = "proxy: {remoteurl: 'https://a.example'}\nquinistry: {upstreams: [{prefix: '', allow: [a], remoteurl: \
                'https://b.example'}]}\n";
    let all = findings(both);
    assert!(all.iter().any(|line| line.contains("\"\" is the prefix of proxy, too")), "{all:#?}");
    let ineffective = load_text(&format!("{SMALLEST}proxy: {{username: a}}\n"), &[]);
    assert_eq!((ineffective.count(Severity::Warning), ineffective.config.unwrap().upstreams.len()), (1, 0));
}

/// Settings of each implemented key that changes the upstream.
pub(super) const CHANGES: &[(&str, &str)] = &[
    ("prefix", "prefix: b"),
    ("remoteurl", "remoteurl: 'https://b.example'"),
    ("ns", "ns: [a.example]"),
    ("username", "username: other"),
    ("password", "password: other"),
    ("passwordfile", "password: , passwordfile: /p"),
    ("exec.command", "username: , password: , exec: {command: a}"),
    ("exec.lifetime", "username: , password: , exec: {command: a, lifetime: 1h}"),
    ("realm", "realm: [auth.example]"),
    ("ca", "ca: /ca.pem"),
    ("insecure", "insecure: public"),
    ("ttl", "ttl: 1h"),
    ("keep", "keep: 1h"),
    ("size", "size: 1GiB"),
    ("platforms", "platforms: [linux/amd64]"),
    ("prefetch[].repository", "prefetch: [{repository: a, tags: [a]}]"),
    ("prefetch[].tags", "prefetch: [{repository: a, tags: [b]}]"),
    ("prefetch[].interval", "prefetch: [{repository: a, tags: [a], interval: 1h}]"),
    ("negative", "negative: 1h"),
    ("allow", "allow: [a]"),
    ("deny", "deny: [a]"),
    ("missing", "missing: drop"),
    ("maxconnections", "maxconnections: 1"),
    ("maxblob", "maxblob: 1GiB"),
];

#[test]
fn each_key_changes_the_upstream() {
    let of = |more: &str| {
        let mut all = vec!["prefix: a", "remoteurl: 'https://a.example'", "username: u", "password: p"];
        all.retain(|given| !more.split(", ").any(|new| new.split(':').next() == given.split(':').next()));
        let text = format!("quinistry: {{upstreams: [{{{}, {more}}}]}}\n", all.join(", "));
        with(&text).upstreams
    };
    let before = of("ttl: 15m");
    for (key, more) in CHANGES {
        assert_ne!(of(more), before, "{key}");
    }
    let lifetime = |key| CHANGES.iter().find(|(known, _)| *known == key).map(|(_, more)| of(more));
    assert_ne!(lifetime("exec.lifetime"), lifetime("exec.command"));
}

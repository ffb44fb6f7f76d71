//! TLS towards real registries: whose certificates are trusted, and what is said of the others.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};

use quinistry::client::{Client, ClientError, ClientOptions, DockerConfig, TlsOptions};

use crate::support::certificates::{AUTHORITY, BOTH, Certificates, Pair, Profile, SERVER};
use crate::support::client::{honest, image, login_for};
use crate::support::distribution::{Distribution, Version};
use crate::support::process::{Process, command, output};
use crate::support::scripted_registry::ScriptedRegistry;
use crate::support::server::PROGRAM;

/// Runs a command with variables, without the credentials and certificates of the machine's user.
fn run(arguments: &[&str], variables: &[(&str, &Path)]) -> Output {
    let mut command = command(PROGRAM);
    command.args(arguments).env("DOCKER_CONFIG", "/nonexistent").env("HOME", "/nonexistent");
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").envs(variables.iter().copied());
    output(&mut command).unwrap()
}

/// Asserts success, and returns standard error.
#[track_caller]
fn good(arguments: &[&str], variables: &[(&str, &Path)]) -> String {
    let output = run(arguments, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {error}");
    error
}

/// Asserts a failure, and returns its one line.
#[track_caller]
fn failure(arguments: &[&str], variables: &[(&str, &Path)]) -> String {
    let output = run(arguments, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert_eq!(error.lines().filter(|line| !line.starts_with("warning: ")).count(), 1, "{error}");
    for word in ["invalid peer", "Context", "UNIX", "Error", "DnsName", "alert:", "InvalidCert"] {
        assert!(!error.contains(word), "words of the TLS library: {error}");
    }
    error
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn registry(pair: &Pair) -> Option<Distribution> {
    Distribution::with_tls(Version::Second, pair, "", "")
}

#[test]
fn each_fault_of_a_certificate_has_its_own_sentence() {
    let Some(made) = Certificates::new() else { return };
    let with = |extensions, validity, hash| Profile { extensions, validity, hash };
    let authority = made.self_signed("authority", with(AUTHORITY, Profile::default().validity, "sha256"));
    let (always, names) = (Profile::default().validity, "subjectAltName=DNS:reg.example,IP:10.0.0.5\n");
    let client_only = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth\n";
    for (name, profile, expected) in [
        (
            "old",
            with(SERVER, ("20200101000000Z", "20210203040500Z"), "sha256"),
            &["expired ", " years ago (2021-02-03 04:05 UTC, ", "renew"][..],
        ),
        (
            "early",
            with(SERVER, ("20980203040500Z", "20991231235959Z"), "sha256"),
            &["not valid before 2098-02-03 04:05 UTC, in ", " years ", "set the clock"],
        ),
        (
            "named",
            with(names, always, "sha256"),
            &["is for reg.example and 10.0.0.5, not for 127.0.0.1; use a name"],
        ),
        ("nameless", with("basicConstraints=CA:FALSE\n", always, "sha256"), &["is for no host at all"]),
        ("sha1", with(SERVER, always, "sha1"), &["is signed with SHA-1, which is broken", "SHA-256"]),
        ("client", with(client_only, always, "sha256"), &["is not for servers", "serverAuth"]),
    ] {
        let pair = made.signed_by(&authority, name, profile);
        let Some(registry) = registry(&pair) else { return };
        let error = failure(&["list", &registry.host, "--ca", text(&authority.certificate)], &[]);
        assert!(error.starts_with(&format!("quinistry: failed to reach {}: its ", registry.host)), "{error}");
        for part in expected {
            assert!(error.contains(part), "{name}: {error}");
        }
    }
    let other = made.self_signed("other", with(AUTHORITY, always, "sha256"));
    for (name, extensions, expected) in [
        ("unknown", SERVER, "no trusted authority has issued its certificate; "),
        ("both", BOTH, "is that of an authority (CA:TRUE), and is not trusted; "),
    ] {
        let Some(registry) = registry(&made.self_signed(name, with(extensions, always, "sha256"))) else {
            return;
        };
        let error = failure(&["list", &registry.host, "--ca", text(&other.certificate)], &[]);
        assert!(error.contains(expected) && error.contains(" with --ca FILE"), "{error}");
    }
}

#[test]
fn a_certificate_that_is_named_is_trusted_as_it_is_and_its_name_and_dates_still_count() {
    let Some(made) = Certificates::new() else { return };
    let past = ("20200101000000Z", "20210203040500Z");
    let elsewhere = "basicConstraints=critical,CA:TRUE\nsubjectAltName=DNS:reg.example\n";
    let profile = Profile { extensions: BOTH, ..Profile::default() };
    let authority = made.self_signed("authority", Profile { extensions: AUTHORITY, ..profile });
    let trusted = [
        made.self_signed("both", profile),
        made.self_signed("plain", Profile::default()),
        made.self_signed("sha1", Profile { hash: "sha1", ..profile }),
        made.signed_by(&authority, "leaf", Profile::default()),
    ];
    for pair in &trusted {
        let Some(registry) = registry(pair) else { return };
        good(&["list", &registry.host, "--ca", text(&pair.certificate)], &[]);
        // The machine's store is another place to name it.
        let other = text(&authority.key.with_extension("crt")).to_owned();
        good(&["list", &registry.host, "--ca", &other], &[("SSL_CERT_FILE", &pair.certificate)]);
    }
    for (name, profile, expected) in [
        ("old", Profile { validity: past, ..profile }, "its certificate expired "),
        ("elsewhere", Profile { extensions: elsewhere, ..profile }, "is for reg.example, not for 127.0.0.1"),
    ] {
        let pair = made.self_signed(name, profile);
        let Some(registry) = registry(&pair) else { return };
        let error = failure(&["list", &registry.host, "--ca", text(&pair.certificate)], &[]);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_chain_is_followed_to_an_authority_of_the_file_or_of_the_machine() {
    let Some(made) = Certificates::new() else { return };
    let profile = Profile { extensions: AUTHORITY, ..Profile::default() };
    let root = made.self_signed("root", profile);
    let middle = made.signed_by(&root, "middle", profile);
    let leaf = made.signed_by(&middle, "leaf", Profile::default());
    let stranger = made.self_signed("stranger", profile);
    let chain = made.bundle("chain.pem", &[&leaf, &middle]);
    let Some(registry) = registry(&Pair { certificate: chain, key: leaf.key.clone() }) else { return };
    let (root, other) = (&root.certificate, text(&stranger.certificate));
    let host = registry.host.as_str();
    good(&["list", host, "--ca", text(root)], &[]);
    good(&["list", host, "--ca", other], &[("SSL_CERT_FILE", root)]);
    let folder = made.path().join("store");
    fs::create_dir(&folder).unwrap();
    fs::copy(root, folder.join("root.pem")).unwrap();
    good(&["list", host, "--ca", other], &[("SSL_CERT_DIR", &folder)]);
    let unknown = "no trusted authority has issued its certificate";
    assert!(failure(&["list", host, "--ca", other], &[]).contains(unknown));
    let Some(short) = self::registry(&leaf) else { return };
    let error = failure(&["list", &short.host, "--ca", text(root)], &[]);
    assert!(error.contains(unknown), "the server sends no intermediate: {error}");
}

/// Puts files into the folder of a registry under the `certs.d` of a home folder.
fn certs_d(home: &Path, place: &str, host: &str, files: &[(&str, &Path)]) {
    let folder = home.join(".config").join(place).join("certs.d").join(host);
    fs::create_dir_all(&folder).unwrap();
    for (name, from) in files {
        fs::copy(from, folder.join(name)).unwrap();
    }
}

#[test]
fn the_folders_of_docker_and_podman_are_read() {
    let Some(made) = Certificates::new() else { return };
    let pair = made.self_signed("both", Profile { extensions: BOTH, ..Profile::default() });
    let Some(registry) = registry(&pair) else { return };
    let host = registry.host.as_str();
    for place in ["containers", "docker"] {
        let home = tempfile::tempdir().unwrap();
        certs_d(home.path(), place, host, &[("ca.crt", &pair.certificate)]);
        good(&["list", host], &[("HOME", home.path())]);
    }
    let home = tempfile::tempdir().unwrap();
    certs_d(home.path(), "docker", "127.0.0.1:1", &[("ca.crt", &pair.certificate)]);
    let error = failure(&["list", host], &[("HOME", home.path())]);
    assert!(error.contains("it speaks TLS, and the request was plain HTTP; "), "another port: {error}");
    certs_d(home.path(), "docker", host, &[("client.cert", &pair.certificate)]);
    let error = failure(&["list", host], &[("HOME", home.path())]);
    assert!(error.contains("client.key is missing"), "{error}");
}

#[test]
fn a_registry_that_demands_a_client_certificate_gets_it() {
    let Some(made) = Certificates::new() else { return };
    let profile = Profile { extensions: AUTHORITY, ..Profile::default() };
    let (authority, stranger) =
        (made.self_signed("authority", profile), made.self_signed("stranger", profile));
    let server = made.signed_by(&authority, "server", Profile::default());
    let user = Profile { extensions: "extendedKeyUsage=clientAuth\n", ..Profile::default() };
    let (mine, foreign) =
        (made.signed_by(&authority, "mine", user), made.signed_by(&stranger, "foreign", user));
    let demanded = format!(", clientcas: ['{}']", authority.certificate.display());
    let ca = text(&authority.certificate).to_owned();
    for (version, old) in [(Version::Second, true), (Version::Third, true), (Version::Third, false)] {
        let minimum = if old { "" } else { ", minimumtls: tls1.3" };
        let tls = format!("{demanded}{minimum}");
        let Some(registry) = Distribution::with_tls(version, &server, &tls, "") else { return };
        let host = registry.host.as_str();
        let with = |pair: &Pair| {
            let pair = [text(&pair.certificate).to_owned(), text(&pair.key).to_owned()];
            ["list", host, "--ca", &ca, "--cert", &pair[0], "--key", &pair[1]].map(str::to_owned)
        };
        good(&with(&mine).each_ref().map(String::as_str), &[]);
        let error = failure(&["list", host, "--ca", &ca], &[]);
        assert!(error.contains("client certificate") && error.contains("--cert FILE"), "{error}");
        let error = failure(&with(&foreign).each_ref().map(String::as_str), &[]);
        assert!(error.contains("refused the client certificate"), "{error}");
        let home = tempfile::tempdir().unwrap();
        let files = [
            ("ca.crt", authority.certificate.as_path()),
            ("client.cert", &mine.certificate),
            ("client.key", &mine.key),
        ];
        certs_d(home.path(), "containers", host, &files);
        good(&["list", host], &[("HOME", home.path())]);
    }
    let mixed = ["list", "127.0.0.1:1", "--cert", text(&mine.certificate), "--key", text(&foreign.key)];
    let error = failure(&mixed, &[]);
    assert!(error.contains("does not belong to the certificate"), "{error}");
    let alone = run(&["list", "127.0.0.1:1", "--cert", text(&mine.certificate)], &[]);
    assert_eq!(alone.status.code(), Some(2));
}

#[test]
fn certificates_are_not_checked_where_the_user_says_so_and_is_warned() {
    let Some(made) = Certificates::new() else { return };
    let old = Profile { validity: ("20200101000000Z", "20210203040500Z"), ..Profile::default() };
    let Some(registry) = registry(&made.self_signed("old", old)) else { return };
    for _ in 0..2 {
        let error = good(&["list", &registry.host, "--insecure-skip-tls-verify"], &[]);
        assert!(
            error.starts_with(
                "warning: the certificates of registries are not checked (--insecure-skip-tls-verify): "
            ) && error.lines().count() == 1,
            "{error}"
        );
    }
    let url = format!("https://{}/v2/", registry.host);
    let error = failure(&["probe", &url], &[]);
    assert!(error.contains("its certificate expired "), "{error}");
    good(&["probe", &url, "--insecure-skip-tls-verify"], &[]);
    let both = run(&["list", &registry.host, "--insecure-skip-tls-verify", "--plain-http"], &[]);
    assert_eq!(both.status.code(), Some(2));
}

/// Starts openssl's own server, and returns its address.
fn openssl_server(pair: &Pair, more: &[&str]) -> (Process, String) {
    let mut serve = command("openssl");
    serve.args(["s_server", "-accept", "127.0.0.1:0", "-www"]).args(more);
    serve.args([Path::new("-cert"), &pair.certificate, Path::new("-key"), &pair.key]);
    // Distributions' configurations allow no version of TLS before 1.2.
    serve.env("OPENSSL_CONF", "/dev/null");
    // Standard input must stay open: the server ends with it.
    serve.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::start(&mut serve).unwrap();
    let mut log = BufReader::new(process.child().stdout.take().unwrap());
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "openssl ended");
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.trim_end().to_owned();
        }
    };
    // The server must not block on a full pipe, nor end for want of a reader.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (process, address)
}

/// Starts a server that answers each request with these bytes, and returns its address.
fn raw_server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The connection is reset if it is closed before the whole request is read: one piece, in both protocols.
            let _ = stream.read(&mut [0; 16 * 1024]);
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn plain_http_and_old_versions_of_tls_are_told_apart_from_wrong_certificates() {
    let Some(made) = Certificates::new() else { return };
    let pair = made.self_signed("pair", Profile::default());
    let ca = text(&pair.certificate);
    let in_plain = "it speaks TLS, and the request was plain HTTP; leave out --plain-http";
    // Go's server answers in plain HTTP, openssl's closes the connection, and others send a TLS alert.
    let Some(registry) = registry(&pair) else { return };
    let (_server, address) = openssl_server(&pair, &[]);
    let alert = raw_server(b"\x15\x03\x03\x00\x02\x02\x32");
    for (host, expected) in
        [(&registry.host, in_plain), (&alert, in_plain), (&address, "(does it speak TLS? then leave out")]
    {
        for arguments in [&["list", host.as_str()][..], &["list", host, "--plain-http"]] {
            let error = failure(arguments, &[]);
            assert!(error.contains(expected), "{error}");
        }
    }
    let (_server, address) = openssl_server(&pair, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    let error = failure(&["list", &address, "--ca", ca], &[]);
    assert!(error.contains("supports no version of TLS from 1.2 on"), "{error}");
    let Some(plain) = Distribution::start() else { return };
    let error = failure(&["list", &plain.host, "--ca", ca], &[]);
    assert!(error.contains("it speaks plain HTTP, and the request was TLS; "), "{error}");
    let closing = raw_server(b"");
    let error = failure(&["list", &closing, "--ca", ca], &[]);
    assert!(error.contains("it closed the connection during the TLS handshake; "), "{error}");
}

#[test]
fn each_side_of_a_copy_has_its_own_certificates() {
    let Some(made) = Certificates::new() else { return };
    let (one, two) =
        (made.self_signed("one", Profile::default()), made.self_signed("two", Profile::default()));
    let (Some(first), Some(second)) = (registry(&one), registry(&two)) else { return };
    let plain = ScriptedRegistry::start(|request| honest(&image(), request));
    let (a, b) = (text(&one.certificate), text(&two.certificate));
    let name = |host: &str, rest: &str| format!("{host}/{rest}");
    let (start, middle, end) = (name(&plain.host, "a"), name(&first.host, "b:1"), name(&second.host, "c:1"));
    good(&["copy", &start, &middle, "--to-ca", a, "-q"], &[]);
    good(&["copy", &middle, &end, "--from-ca", a, "--to-ca", b, "-q"], &[]);
    good(&["copy", &middle, &end, "--ca", a, "--to-ca", b, "-q"], &[]);
    good(&["copy", &start, &end, "--ca", b, "--from-plain-http", "-q"], &[]);
    let error = failure(&["copy", &middle, &end, "--from-ca", b, "--to-ca", a, "-q"], &[]);
    assert!(error.contains(&format!("failed to reach {}: no trusted authority", first.host)), "{error}");
    let error = failure(&["copy", &middle, &end, "--from-ca", a, "--to-ca", a, "-q"], &[]);
    assert!(error.contains(&format!("failed to reach {}: no trusted authority", second.host)), "{error}");
    let warned = good(&["copy", &middle, &end, "--from-ca", a, "--to-insecure-skip-tls-verify", "-q"], &[]);
    let expected = format!("warning: the certificates of {} are not checked", second.host);
    assert!(warned.starts_with(&expected) && warned.lines().count() == 1, "{warned}");
    let both = run(&["copy", &middle, &end, "--to-ca", b, "--to-plain-http"], &[]);
    assert_eq!(both.status.code(), Some(2));
}

#[tokio::test]
async fn credentials_leave_a_registry_whose_certificate_was_not_checked_for_no_other_host() {
    let Some(made) = Certificates::new() else { return };
    let pair = made.self_signed("pair", Profile::default());
    let tokens =
        "auth: {token: {realm: 'https://auth.invalid/token', service: s, issuer: i, rootcertbundle: '";
    let sections = format!("{tokens}{}'}}}}\n", pair.certificate.display());
    let Some(registry) = Distribution::with_tls(Version::Second, &pair, "", &sections) else { return };
    let config = made.path().join("config.json");
    fs::write(&config, login_for(&registry.host)).unwrap();
    let host = registry.host.as_str();
    let login = || Some(DockerConfig::at(&config));
    let unchecked = TlsOptions { skip_verify: true, ..TlsOptions::default() };
    let error = refusal(host, unchecked.clone(), login()).await;
    assert!(matches!(&error, ClientError::Withheld { .. }), "{error}");
    assert!(error.to_string().contains("not sent to its token server https://auth.invalid/token"), "{error}");
    // Without a secret any token server may be asked, and a verified registry may name any.
    let checked = TlsOptions { ca: Some(pair.certificate.clone()), ..TlsOptions::default() };
    for (tls, config) in [(unchecked, None), (checked, login())] {
        let error = refusal(host, tls, config).await;
        assert!(matches!(&error, ClientError::Connect { host, .. } if host == "auth.invalid"), "{error}");
    }
}

async fn refusal(host: &str, tls: TlsOptions, config: Option<DockerConfig>) -> ClientError {
    let client = Client::new(ClientOptions { tls, config, ..ClientOptions::default() }).unwrap();
    client.repositories(host).await.unwrap_err()
}

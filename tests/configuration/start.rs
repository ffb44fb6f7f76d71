//! Starts, reloads and refusals of this program with a configuration.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::program::{Given, Place};
use super::questions::Content;
use crate::support::certificates::{Certificates, Profile};
use crate::support::distribution::{Distribution, Version};
use crate::support::http::{Answer, Peer, TEST_TIMEOUT};
use crate::support::ports::reserved_address;
use crate::support::process::{command, output};
use crate::support::server::PROGRAM;

const FILE: &str = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{root}'}}\nhttp: {addr: '{addr}'}\n";

fn given(file: &str) -> Given<'_> {
    Given { file: Some(file), ..Given::default() }
}

/// Asks again until an answer has the wanted property.
fn until(peer: Peer, path: &str, is_wanted: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let answer = peer.get(path);
        if is_wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path}: {answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn variables_alone_configure_a_registry() {
    let place = Place::new();
    let variables =
        [("REGISTRY_HTTP_ADDR", "{addr}"), ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "{root}")];
    let registry = place.serve_ours(Given { variables: &variables, ..Given::default() });
    Content::new().push(registry.peer);
    let base = registry.peer.get("/v2/");
    assert_eq!(
        base.header("x-content-type-options"),
        Some("nosniff"),
        "a header of the default configuration"
    );
    assert!(place.root().join("docker/registry/v2/repositories/app").is_dir());
    assert!(registry.log().contains("REGISTRY_HTTP_ADDR"), "{}", registry.log());
}

#[test]
fn a_file_alone_is_served_as_the_image_of_distribution_does() {
    let (place, address) = (Place::new(), reserved_address());
    let file = place.path("config.yml");
    let text = FILE.replace("{root}", &place.root().display().to_string());
    fs::write(&file, text.replace("{addr}", &address.to_string())).unwrap();
    let mut process = crate::support::process::Process::start(command(PROGRAM).arg(&file)).unwrap();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !Peer(address).is_listening() {
        assert!(process.is_running() && Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(Peer(address).get("/").status, 200, "load balancers ask for /");
}

#[test]
fn every_error_has_its_line_and_nothing_is_served() {
    let file = "version: 0.1
storage:
  filesystem: {rootdirectory: '{root}'}
  s3: {bucket: images, secretkey: verysecret}
auth:
  silly: {realm: basic, service: registry}
http:
  addr: '5000'
  tls: {certificate: /tls/cert.pem}
proxy: {remoteurl: 'https://registry-1.docker.io', password: hidden}
";
    let (code, log) = Place::new().refuse_ours(given(file));
    assert_eq!(code, Some(1), "{log}");
    for place in ["config.yml:4:", "config.yml:6:", "config.yml:8:", "config.yml:9:", "config.yml:10:"] {
        assert!(log.lines().any(|line| line.contains(place) && line.contains("error: ")), "{place} in {log}");
    }
    assert!(!log.contains("verysecret") && !log.contains("hidden"), "{log}");
    assert!(!log.contains("serving"), "{log}");
}

#[test]
fn a_lock_in_the_environment_is_never_ignored() {
    for (name, value) in [
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_REALMS", "x"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/tls.crt"),
        ("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/ca.pem"),
        ("REGISTRY_PROXY_REMOTEURL", "https://user:password@registry-1.docker.io"),
        ("REGISTRY_STORAGE_S3_BUCKET", "images"),
        ("REGISTRY_QUINISTRY_ACCESS", ""),
    ] {
        let given =
            Given { variables: &[("REGISTRY_HTTP_ADDR", "{addr}"), (name, value)], ..Given::default() };
        let (code, log) = Place::new().refuse_ours(given);
        assert_eq!(code, Some(1), "{name}: {log}");
        assert!(log.contains(name), "{name} in {log}");
    }
}

#[test]
fn rules_and_the_audit_log_follow_a_reload() {
    let place = Place::new();
    let audit = place.path("audit.log");
    let rules = |right: &str| {
        let grant = format!("{{repositories: ['open/**'], who: [anonymous], can: [{right}]}}");
        format!("{FILE}quinistry: {{access: [{grant}], audit: {{path: '{}'}}}}\n", audit.display())
    };
    let (before, after) = (rules("push"), rules("pull"));
    let registry = place.serve_ours(given(&before));
    let post = |repository: &str| {
        registry.peer.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"").status
    };
    assert_eq!((post("open/a"), post("closed/a")), (202, 403));
    let rotated = place.path("audit.log.1");
    fs::rename(&audit, &rotated).unwrap();
    place.write_file(&after, registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration reloaded", 1);
    assert_eq!(post("open/a"), 403);
    registry.stop();
    let (former, new) = (fs::read_to_string(rotated).unwrap(), fs::read_to_string(audit).unwrap());
    let has =
        |text: &str, parts: &[&str]| text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&former, &["open/a", "\"granted\"", "config.yml:", "202"]), "{former}");
    assert!(has(&former, &["closed/a", "\"denied\"", "403"]), "{former}");
    assert!(has(&new, &["\"action\":\"reload\"", "\"granted\""]), "{new}");
    assert!(has(&new, &["open/a", "\"denied\"", "403"]), "{new}");
}

#[test]
fn a_reload_without_users_and_rules_is_refused_unless_the_file_says_so() {
    let place = Place::new();
    let before =
        format!("{FILE}quinistry: {{access: [{{repositories: ['**'], who: [anonymous], can: [pull]}}]}}\n");
    let registry = place.serve_ours(given(&before));
    let post = || registry.peer.ask("POST", "/v2/a/blobs/uploads/", &[], b"").status;
    assert_eq!(post(), 403);
    place.write_file(FILE, registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration refused", 1);
    assert!(registry.log().contains("write `auth: none` if that is intended"), "{}", registry.log());
    assert_eq!(post(), 403, "the former rules hold");
    let open = format!("{FILE}auth: none\n");
    place.write_file(&open, registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration reloaded", 1);
    assert_eq!(post(), 202);
    // A registry that is open already needs no such word.
    place.write_file(FILE, registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration reloaded", 2);
    assert_eq!(post(), 202);
}

#[test]
fn a_reload_with_users_whose_rules_are_gone_is_refused() {
    let place = Place::new();
    let users = place.path("htpasswd");
    fs::write(&users, "").unwrap();
    let with_users = format!("{FILE}auth: {{htpasswd: {{realm: r, path: '{}'}}}}\n", users.display());
    let rules = |who: &str| {
        format!("{with_users}quinistry: {{access: [{{repositories: ['**'], who: [{who}], can: [admin]}}]}}\n")
    };
    let registry = place.serve_ours(given(&rules("alice")));
    place.write_file(&with_users, registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration refused", 1);
    assert!(registry.log().contains("restore quinistry.access"), "{}", registry.log());
    place.write_file(&rules("authenticated"), registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration reloaded", 1);
}

#[test]
fn flags_beside_a_file_override_the_listener_and_only_restrict_further() {
    let place = Place::new();
    let address = reserved_address();
    let file = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{root}'}, delete: {enabled: true}}\n\
                http: {addr: '127.0.0.1:1'}\n";
    let flags = ["--listen", "{addr}", "--read-only", "--metrics", &address.to_string()];
    let registry = place.serve_ours(Given { file: Some(file), flags: &flags, ..Given::default() });
    assert_eq!(registry.peer.ask("POST", "/v2/a/blobs/uploads/", &[], b"").status, 405);
    assert!(Peer(address).get("/metrics").text().contains("registry_http_requests_total"));

    let (code, log) =
        place.refuse_ours(Given { file: Some(file), flags: &["--storage", "x"], ..Given::default() });
    assert_eq!(code, Some(2), "{log}");
}

#[test]
fn a_reload_takes_a_good_file_and_keeps_the_former_one_for_a_bad_one() {
    let (place, debug) = (Place::new(), reserved_address());
    let file = |delete: &str, more: &str| {
        format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: '{{root}}'}}\n  delete: {{enabled: {delete}}}\n\
             http:\n  addr: '{{addr}}'\n  headers: {{X-Test: ['{delete}']}}\n  \
             debug: {{addr: '{debug}', prometheus: {{enabled: true}}}}\n{more}"
        )
    };
    let registry = place.serve_ours(given(&file("false", "")));
    let success = |wanted: &str| {
        let line = format!("quinistry_config_last_reload_successful {wanted}");
        until(Peer(debug), "/metrics", |page| page.text().contains(&line));
    };
    success("1");
    assert_eq!(registry.peer.get("/v2/").header("x-test"), Some("false"));

    place.write_file(&file("true", ""), registry.peer);
    registry.signal(Signal::HUP);
    until(registry.peer, "/v2/", |answer| answer.header("x-test") == Some("true"));

    for broken in [
        file("maybe", ""),
        file("false", "log: {formatter: json}\nhealth: {http: [{uri: 'https://u:p@h/'}]}\n"),
        file("false", "auth: {htpasswd: {realm: a, path: b}}\n"),
        "version: 0.1\n".into(),
    ] {
        let before = registry.log().matches("configuration refused").count();
        place.write_file(&broken, registry.peer);
        registry.signal(Signal::HUP);
        registry.wait_for_log("configuration refused", before + 1);
        success("0");
        assert_eq!(registry.peer.get("/v2/").header("x-test"), Some("true"), "the former one holds");
    }
    assert!(registry.log().contains("config.yml:4:"), "{}", registry.log());

    assert!(!registry.log().contains("{\""), "no form of a refused file holds: {}", registry.log());
    let before = registry.log().matches("configuration refused").count();
    fs::remove_file(place.path("config.yml")).unwrap();
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration refused", before + 1);
    success("0");

    place.write_file(&file("false", "log: {level: debug}\n"), registry.peer);
    registry.signal(Signal::HUP);
    until(registry.peer, "/v2/", |answer| answer.header("x-test") == Some("false"));
    success("1");
}

#[test]
fn a_change_that_needs_a_restart_is_told_until_it_is_taken_back() {
    let place = Place::new();
    let registry = place.serve_ours(given(FILE));
    let told = "takes effect only when the registry is started again";
    let moved = FILE.replace("{addr}", "127.0.0.1:1");
    for (file, times) in [(moved.as_str(), 1), (&moved, 2), (FILE, 2)] {
        let before = registry.log().matches("configuration reloaded").count();
        place.write_file(file, registry.peer);
        registry.signal(Signal::HUP);
        registry.wait_for_log("configuration reloaded", before + 1);
        assert_eq!(registry.log().matches(told).count(), times, "{}", registry.log());
    }
}

#[test]
fn a_folder_in_use_is_served_for_reading_and_stays_so_after_a_reload() {
    let place = Place::new();
    let writer = place.serve_ours(given(FILE));
    let read_only = FILE.replace("'}}", "'}, maintenance: {readonly: true}}");
    let reader = place.serve_ours(given(&read_only));
    let push = || reader.peer.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    assert_eq!(push().status, 405);
    place.write_file(FILE, reader.peer);
    reader.signal(Signal::HUP);
    reader.wait_for_log("storage was opened for reading only, writes are refused", 1);
    push().assert_read_only();
    assert_eq!(writer.peer.get("/v2/").status, 200);
}

#[test]
fn no_request_fails_through_a_hundred_reloads() {
    let place = Place::new();
    let registry = place.serve_ours(given(FILE));
    let content = Content::new();
    content.push(registry.peer);
    std::thread::scope(|scope| {
        let pulls = scope.spawn(|| {
            let mut connection = registry.peer.connect();
            for _ in 0..2000 {
                let request = crate::support::http::request("GET", "/v2/app/manifests/1", &[], b"");
                assert_eq!(connection.ask(&request).body, content.app.manifest);
            }
        });
        for reload in 1..=100 {
            registry.signal(Signal::HUP);
            registry.wait_for_log("configuration reloaded", reload);
        }
        pulls.join().unwrap();
    });
}

#[test]
fn a_read_only_registry_takes_writes_after_a_reload() {
    let place = Place::new();
    let read_only = FILE.replace("'}}", "'}, maintenance: {readonly: {enabled: true}}}");
    let registry = place.serve_ours(given(&read_only));
    let open = || registry.peer.ask("POST", "/v2/a/blobs/uploads/", &[], b"").status;
    assert_eq!(open(), 405);
    place.write_file(FILE, registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration reloaded", 1);
    assert_eq!(open(), 202);
}

#[test]
fn a_file_takes_the_node_out_of_its_balancer() {
    let place = Place::new();
    let file = format!("{FILE}health: {{file: [{{file: '{{folder}}/down', interval: 100ms}}]}}\n");
    let registry = place.serve_ours(given(&file));
    assert_eq!(registry.peer.get("/").status, 200);
    fs::write(place.path("down"), "").unwrap();
    let answer = until(registry.peer, "/v2/", |answer| answer.status == 503);
    assert_eq!(answer.json()["errors"][0]["code"], "UNAVAILABLE");
    assert!(!answer.text().contains("down"), "no name of a check leaves: {}", answer.text());
    assert_eq!(registry.peer.get("/").status, 503);
    fs::remove_file(place.path("down")).unwrap();
    until(registry.peer, "/", |answer| answer.status == 200);
}

#[test]
fn a_server_is_checked_over_tls_with_the_authorities_of_the_machine() {
    let Some(made) = Certificates::new() else { return };
    let pair = made.self_signed("pair", Profile::default());
    let Some(server) = Distribution::with_tls(Version::Second, &pair, "", "") else { return };
    let trusted = pair.certificate.to_str().unwrap();
    for (store, expected) in [
        ("/nonexistent", "no trusted authority has issued its certificate; "),
        (trusted, "answered with status 200 OK"),
    ] {
        let (place, debug) = (Place::new(), reserved_address());
        let checks = format!("[{{uri: 'https://{}/v2/', interval: 100ms, statuscode: 418}}]", server.host);
        let file = FILE.replace("'{addr}'", &format!("'{{addr}}', debug: {{addr: '{debug}'}}"))
            + &format!("health: {{http: {checks}}}\n");
        let variables = [("SSL_CERT_FILE", store)];
        let registry = place.serve_ours(Given { variables: &variables, ..given(&file) });
        until(Peer(debug), "/debug/health", |answer| answer.text().contains(expected));
        assert_eq!(registry.peer.get("/v2/").status, 503);
    }
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end() {
    let place = Place::new();
    let socket = place.path("registry.sock");
    let debug = reserved_address();
    let file = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{{root}}'}}}}\n\
         http: {{net: unix, addr: '{{folder}}/registry.sock', debug: {{addr: '{debug}'}}}}\n"
    );
    let path = place.path("config.yml");
    let text = file.replace("{root}", &place.root().display().to_string());
    fs::write(&path, text.replace("{folder}", &place.path("").display().to_string())).unwrap();
    let mut process =
        crate::support::process::Process::start(command(PROGRAM).arg("serve").arg(path)).unwrap();
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(process.is_running() && Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(Peer(debug).get("/debug/health").status, 200);
    process.signal(Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success());
    assert!(!socket.exists());
}

#[test]
fn web_pages_of_the_configured_origins_may_ask_before_they_read() {
    let place = Place::new();
    let file = FILE
        .replace("'{addr}'}", "'{addr}', headers: {Access-Control-Allow-Origin: ['https://ui.example']}}");
    let registry = place.serve_ours(given(&file));
    let answer = registry.peer.ask("OPTIONS", "/v2/_catalog", &[], b"");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://ui.example"));
    place.write_file(FILE, registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration reloaded", 1);
    assert_eq!(registry.peer.ask("OPTIONS", "/v2/_catalog", &[], b"").status, 405);
}

#[test]
fn a_socket_of_systemd_wins_over_the_address_of_the_file() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer(listener.local_addr().unwrap());
    let file = FILE.replace("{addr}", "127.0.0.1:1").replace("{root}", &place.root().display().to_string());
    fs::write(place.path("config.yml"), file).unwrap();
    // As sd_listen_fds(3) describes: the socket is file descriptor 3 of the process with this ID.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve \"$1\" 3<&0 0</dev/null";
    let mut shell = command("/bin/sh");
    shell.args(["-c", script, PROGRAM]).arg(place.path("config.yml")).stdin(OwnedFd::from(listener));
    let _process = crate::support::process::Process::start(&mut shell).unwrap();
    // The kernel takes connections from the start, and the program answers once it serves.
    assert_eq!(peer.get("/v2/").status, 200);
}

#[test]
fn lines_are_json_with_every_way_to_ask_for_it() {
    let json = format!("{FILE}log: {{formatter: json, fields: {{service: registry}}}}\n");
    for given in [
        given(&json),
        Given { flags: &["--log-format", "json"], ..given(FILE) },
        Given { variables: &[("REGISTRY_LOG_FORMATTER", "json")], ..given(FILE) },
    ] {
        let place = Place::new();
        let registry = place.serve_ours(given);
        registry.wait_for_log("serving", 1);
        let log = registry.log();
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(
            lines.iter().any(|line| line["msg"].as_str().is_some_and(|text| text.starts_with("serving"))),
            "{log}"
        );
    }
}

#[test]
fn garbage_collect_takes_the_file_of_the_registry() {
    let (place, content) = (Place::new(), Content::new());
    let delete = FILE.replace("'}}", "'}, delete: {enabled: true}}");
    let registry = place.serve_ours(given(&delete));
    content.push(registry.peer);
    let path = format!("/v2/team/tool/manifests/{}", content.tool.digest());
    assert_eq!(registry.peer.ask("DELETE", &path, &[], b"").status, 202);
    registry.stop();
    let layer = content.tool.layers[0].0.digest.hex().to_owned();
    let data = place.root().join(format!("docker/registry/v2/blobs/sha256/{}/{layer}/data", &layer[..2]));
    let collect = |flags: &[&str]| {
        let done = output(command(PROGRAM).arg("garbage-collect").arg(place.path("config.yml")).args(flags))
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    assert!(collect(&["-d"]).contains(&layer));
    assert!(data.exists(), "a dry run removes nothing");
    assert_eq!(collect(&["-m", "-q"]), "");
    assert!(!data.exists());
}

#[test]
fn garbage_collect_needs_no_more_than_the_storage() {
    let (place, content) = (Place::new(), Content::new());
    let registry = place.serve_ours(given(FILE));
    content.push(registry.peer);
    let peer = registry.peer;
    registry.stop();
    let collect = |more: &str| {
        place.write_file(&format!("{FILE}{more}"), peer);
        output(command(PROGRAM).args(["garbage-collect", "-d"]).arg(place.path("config.yml"))).unwrap()
    };
    for more in [
        "auth: {htpasswd: {realm: a, path: /nowhere}}\n",
        "proxy: {remoteurl: 'https://registry-1.docker.io'}\n",
        "notifications: {endpoints: [{name: a, url: 'https://a.example'}]}\n",
    ] {
        let done = collect(more);
        assert!(done.status.success(), "{more}: {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{more}");
    }
    let refused = "storage: {s3: {accesskey: a}}\nversion: 1\nauth: {silly: {realm: a, service: b}}\n";
    let refused = collect(refused);
    assert_eq!(refused.status.code(), Some(1));
    let log = String::from_utf8(refused.stderr).unwrap();
    for key in ["storage.s3.accesskey: ", "storage.s3.bucket: ", "version: "] {
        assert!(log.lines().any(|line| line.contains(&format!("error: {key}"))), "{key} in {log}");
    }
    assert!(!log.contains("auth"), "{log}");
}

#[test]
fn a_mistyped_variable_beside_flags_is_told() {
    let place = Place::new();
    let registry = place.serve_ours(Given {
        variables: &[("REGISTRY_AUHT_HTPASSWD_PATH", "/b"), ("REGISTRY_PORT", "tcp://10.0.0.1:5000")],
        flags: &["--storage", "{root}", "--listen", "{addr}"],
        ..Given::default()
    });
    registry.wait_for_log("REGISTRY_AUHT_HTPASSWD_PATH", 1);
    assert!(!registry.log().contains("REGISTRY_PORT"), "{}", registry.log());
}

#[test]
fn headers_beyond_ascii_are_sent_as_they_are() {
    let place = Place::new();
    let file = FILE.replace("'{addr}'", "'{addr}', headers: {X-Team: ['caf\u{e9}']}");
    let registry = place.serve_ours(given(&file));
    let answer = registry.peer.get("/v2/");
    assert_eq!((answer.status, answer.header("x-team")), (200, Some("caf\u{e9}")));
}

#[test]
fn a_registry_that_everyone_can_push_to_says_so_once() {
    for (address, warns) in [("0.0.0.0:{port}", true), ("127.0.0.1:{port}", false)] {
        let file = FILE.replace("{addr}", address);
        let place = Place::new();
        let registry = place.serve_ours(given(&file));
        registry.wait_for_log("serving", 1);
        registry.wait_for_log("next: ", 1);
        let log = registry.log();
        assert_eq!(log.matches("can push").count(), usize::from(warns), "{log}");
    }
}

//! Users of password files and API keys, in this program and in distribution's registries: files that each of them,
//! Apache's `htpasswd` and `quinistry user` have written, and changes of files that are in use.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::program::{Given, Place, Program, Registry};
use crate::support::http::{Peer, TEST_TIMEOUT};
use crate::support::process::output_with;
use crate::support::server::PROGRAM;
use crate::support::skip::{Need, lacks};

/// Configuration with users and keys. Deletion is on, so that rights of keys can be told apart.
pub(crate) const CONFIG: &str = "version: 0.1
log: {accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '{root}'}, delete: {enabled: true}}
http: {addr: '{addr}'}
auth: {htpasswd: {realm: Test, path: '{folder}/htpasswd'}}
quinistry: {keys: {file: '{folder}/keys'}}
";

pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Returns the status of `/v2/` for credentials.
fn status(peer: Peer, authorization: &str) -> u16 {
    peer.ask("GET", "/v2/", &[("Authorization", authorization)], b"").status
}

/// Waits until credentials have another status, after a file has changed. Waits longer between two attempts than the
/// throttle of wrong passwords asks for within the time that a change takes.
fn wait_for_status(peer: Peer, authorization: &str, expected: u16) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while status(peer, authorization) != expected {
        assert!(Instant::now() < deadline, "waiting for {expected}");
        thread::sleep(Duration::from_secs(1));
    }
}

/// Runs this program with a text as standard input.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(PROGRAM);
    output_with(command.args(arguments).env_clear(), input.as_bytes()).unwrap()
}

/// Runs this program, which must succeed, and returns its standard output.
fn done(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs this program, which must fail, and returns its error.
fn failed(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn add_user(file: &Path, name: &str, password: &str) -> String {
    done(&["user", "add", file.to_str().unwrap(), name, "--password-stdin"], &format!("{password}\n"))
}

/// Place with a password file in which `alice` has the password `secret`.
fn place_with_alice() -> Place {
    let place = Place::new();
    add_user(&place.path("htpasswd"), "alice", "secret");
    place
}

fn serve(place: &Place) -> Registry {
    place.serve_ours(Given { file: Some(CONFIG), ..Given::default() })
}

/// Asserts which credentials a registry with `alice` and `secret` accepts.
fn assert_knows_alice(program: Program, peer: Peer) {
    for (authorization, expected) in [
        (basic("alice", "secret"), 200),
        (basic("alice", "wrong"), 401),
        (basic("alice", ""), 401),
        (basic("nemo", "secret"), 401),
        (basic("ALICE", "secret"), 401),
    ] {
        assert_eq!(status(peer, &authorization), expected, "{program:?}: {authorization}");
    }
    assert_eq!(peer.get("/v2/").status, 401, "{program:?}: no credentials");
}

#[test]
fn a_password_file_of_ours_is_accepted_by_each_program() {
    for program in [Program::Ours, Program::Second, Program::Third] {
        let place = place_with_alice();
        add_user(&place.path("htpasswd"), "bob", "other");
        let Some(registry) = place.serve(program, Given { file: Some(CONFIG), ..Given::default() }) else {
            continue;
        };
        assert_knows_alice(program, registry.peer);
        assert_eq!(status(registry.peer, &basic("bob", "other")), 200, "{program:?}");
    }
}

#[test]
fn a_password_file_of_apaches_program_is_accepted_by_each_program() {
    if lacks(&[Need::Tool("htpasswd")]) {
        return;
    }
    for program in [Program::Ours, Program::Second, Program::Third] {
        let place = Place::new();
        let file = place.path("htpasswd");
        for (flags, user, password) in
            [("-cbB", "alice", "secret"), ("-bB", "bob", "other"), ("-bm", "md5", "old")]
        {
            let made =
                Command::new("htpasswd").arg(flags).arg(&file).args([user, password]).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let Some(registry) = place.serve(program, Given { file: Some(CONFIG), ..Given::default() }) else {
            continue;
        };
        assert_knows_alice(program, registry.peer);
        assert_eq!(status(registry.peer, &basic("md5", "old")), 401, "{program:?}: bcrypt alone");
    }
}

#[test]
fn a_password_file_that_distribution_made_is_accepted() {
    for program in [Program::Second, Program::Third] {
        let place = Place::new();
        let Some(registry) = place.serve(program, Given { file: Some(CONFIG), ..Given::default() }) else {
            continue;
        };
        let log = registry.log();
        let (_, password) = log.split_once("password=").expect("distribution logs the password");
        let password = password.split_whitespace().next().unwrap().trim_matches('"').to_owned();
        drop(registry);
        let registry = serve(&place);
        assert_eq!(status(registry.peer, &basic("docker", &password)), 200, "{program:?}");
        assert_eq!(status(registry.peer, &basic("docker", "wrong")), 401, "{program:?}");
    }
}

#[test]
fn a_missing_password_file_is_created_and_its_password_is_not_in_the_log() {
    let place = Place::new();
    let registry =
        place.serve_ours(Given { file: Some(CONFIG), flags: &["--log-format", "json"], ..Given::default() });
    registry.wait_for_log("created password file", 1);
    let log = registry.log();
    let line = log.lines().find(|line| line.contains("created password file")).expect("the password is told");
    assert!(line.starts_with("quinistry: created password file /"), "{line}");
    let (_, rest) = line.split_once("with user docker and password ").unwrap();
    let password = rest.split(',').next().unwrap();
    assert_eq!(status(registry.peer, &basic("docker", password)), 200);
    let in_log = log.lines().filter(|line| line.starts_with('{')).any(|line| line.contains(password));
    assert!(!in_log && log.matches(password).count() == 1, "{log}");
    let mode = place.path("htpasswd").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(registry.stop().success());
    let again = serve(&place);
    again.wait_for_log("serving quinistry", 1);
    assert!(!again.log().contains("created password file"));
    assert_eq!(status(again.peer, &basic("docker", password)), 200);
}

#[test]
fn a_user_that_is_added_can_log_in_and_one_that_is_removed_cannot() {
    let place = place_with_alice();
    let (file, registry) = (place.path("htpasswd"), serve(&place));
    assert_eq!(status(registry.peer, &basic("alice", "secret")), 200);
    assert_eq!(status(registry.peer, &basic("bob", "hidden")), 401);
    add_user(&file, "bob", "hidden");
    wait_for_status(registry.peer, &basic("bob", "hidden"), 200);
    assert_eq!(done(&["user", "remove", file.to_str().unwrap(), "alice"], ""), "removed user alice\n");
    // Although the password is remembered.
    wait_for_status(registry.peer, &basic("alice", "secret"), 401);
    // A file that is gone is a slip, and an empty one an order.
    fs::remove_file(&file).unwrap();
    registry.wait_for_log("htpasswd: No such file", 1);
    assert_eq!(status(registry.peer, &basic("bob", "hidden")), 200);
    fs::write(&file, "").unwrap();
    wait_for_status(registry.peer, &basic("bob", "hidden"), 401);
}

#[test]
fn a_hundred_pulls_of_one_user_at_once_make_one_computation() {
    let place = place_with_alice();
    let registry = place.serve_ours(Given {
        file: Some(CONFIG),
        flags: &["--metrics", "unix:{folder}/metrics"],
        ..Given::default()
    });
    let authorization = basic("alice", "secret");
    let pulls: Vec<_> = (0..100)
        .map(|_| {
            let (peer, authorization) = (registry.peer, authorization.clone());
            thread::spawn(move || {
                let headers = [("Authorization", authorization.as_str())];
                peer.ask("GET", "/v2/quinistry/tags/list", &headers, b"").status
            })
        })
        .collect();
    assert!(pulls.into_iter().all(|pull| pull.join().unwrap() == 200));
    let page = metrics_of(&place.path("metrics"));
    let value = |series: &str| {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series))
            .unwrap_or_else(|| panic!("{series}: {page}"));
        line.trim().parse::<u64>().unwrap()
    };
    assert_eq!(value("quinistry_auth_bcrypt_seconds_count "), 1);
    assert_eq!(value("quinistry_auth_attempts_total{how=\"password\",result=\"success\"} "), 100);
    assert_eq!(value("quinistry_auth_cache_total{result=\"miss\"} "), 1);
}

/// Reads the metrics from a unix socket.
fn metrics_of(socket: &Path) -> String {
    use std::io::Read as _;
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_api_key_has_the_rights_of_its_owner_without_those_that_its_limit_takes_away() {
    let place = place_with_alice();
    let registry = serve(&place);
    let config = place.path("config.yml");
    let config = config.to_str().unwrap();
    let added = [
        "key",
        "add",
        config,
        "--for",
        "alice",
        "--can",
        "pull",
        "--repositories",
        "team/**",
        "--expires",
        "90d",
        "--note",
        "CI",
    ];
    let key = done(&added, "").trim().to_owned();
    wait_for_status(registry.peer, &format!("Bearer {key}"), 200);
    let file = fs::read_to_string(place.path("keys")).unwrap();
    assert!(!file.contains(&key[16..]), "the file does not have the secret");
    assert_eq!(place.path("keys").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    for authorization in [format!("Bearer {key}"), basic("alice", &key), basic("key", &key)] {
        let ask = |method: &str, path: &str| {
            registry.peer.ask(method, path, &[("Authorization", &authorization)], b"").status
        };
        assert_eq!(ask("GET", "/v2/team/app/tags/list"), 404, "permitted, and there are no tags");
        assert_eq!(ask("GET", "/v2/app/tags/list"), 403, "another repository");
        assert_eq!(ask("POST", "/v2/team/app/blobs/uploads/"), 403, "another right");
    }
    assert_eq!(status(registry.peer, &basic("nemo", &key)), 401);
    let listed = done(&["key", "list", config], "");
    let id = &key[3..15];
    assert!(
        listed.starts_with(&format!("{id}  alice  pull  team/**  expires ")) && listed.ends_with("Z  CI\n"),
        "{listed}"
    );
    assert!(done(&["key", "list", config, "-o", "json"], "").contains(&format!("\"id\": \"{id}\"")));
    assert_eq!(done(&["key", "remove", config, id], ""), format!("removed key {id}\n"));
    wait_for_status(registry.peer, &format!("Bearer {key}"), 401);
}

#[test]
fn an_api_key_ends_with_its_owner() {
    let place = place_with_alice();
    let registry = serve(&place);
    let config = place.path("config.yml");
    let key = done(&["key", "add", config.to_str().unwrap(), "--for", "alice"], "").trim().to_owned();
    wait_for_status(registry.peer, &format!("Bearer {key}"), 200);
    done(&["user", "remove", place.path("htpasswd").to_str().unwrap(), "alice"], "");
    wait_for_status(registry.peer, &format!("Bearer {key}"), 401);
    let error = failed(&["key", "add", config.to_str().unwrap(), "--for", "alice"], "");
    assert!(error.contains("has no user alice; add one with `quinistry user add`"), "{error}");
}

#[test]
fn commands_for_users_keep_the_file_as_it_was_but_for_the_user() {
    let place = Place::new();
    let file = place.path("htpasswd");
    fs::write(&file, "# team\nbob:!\n\nalice:!\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(add_user(&file, "bob", "x"), "changed the password of user bob\n");
    assert_eq!(add_user(&file, "carol", "y"), "added user carol\n");
    let text = fs::read_to_string(&file).unwrap();
    let names: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["# team", "bob", "", "alice", "carol"]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let path = file.to_str().unwrap();
    assert_eq!(done(&["user", "list", path], ""), "bob\nalice\ncarol\n");
    let json = done(&["user", "list", path, "-o", "json"], "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["users"][0], serde_json::json!({"name": "bob", "canLogIn": true, "cost": 10, "line": 2}));
    assert_eq!(json["users"][1]["canLogIn"], false);
    for (arguments, expected) in [
        (["user", "add", path, "a:b", "--password-stdin"].as_slice(), "has a colon"),
        (
            &["user", "add", path, "dora", "--password-stdin"],
            "has 73 bytes, and bcrypt looks at the first 72",
        ),
        (&["user", "add", path, "dora"], "give --password-stdin"),
        (&["user", "remove", path, "dora"], "has no user dora"),
        (&["user", "remove", "/nonexistent/htpasswd", "dora"], "does not exist; name the file"),
    ] {
        let error = failed(arguments, &"x".repeat(73));
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "a failed command changes nothing");
}

#[test]
fn the_first_user_and_the_first_key_make_their_files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (users, keys, config) =
        (path("etc/quinistry/htpasswd"), path("lib/quinistry/keys"), path("config.yml"));
    let text = CONFIG.replace("'{root}'", "/srv").replace("'{addr}'", "localhost:5000");
    let text = text.replace("'{folder}/htpasswd'", &users).replace("'{folder}/keys'", &keys);
    fs::write(&config, text).unwrap();
    let added = run(&["user", "add", &users, "alice", "--password-stdin"], "secret\n");
    let note = String::from_utf8(added.stderr).unwrap();
    assert!(added.status.success() && note.contains("which only uid "), "{note}");
    assert!(note.contains(&format!("chown USER {} ", path("etc"))), "{note}");
    done(&["key", "add", &config, "--for", "alice"], "");
    for (file, mode) in [(path("etc/quinistry"), 0o700), (users.clone(), 0o600), (keys, 0o600)] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
    // Only a file that was made is described.
    let changed = run(&["user", "add", &users, "alice", "--password-stdin"], "other\n");
    assert!(changed.status.success() && changed.stderr.is_empty(), "{changed:?}");
    let error = failed(&["user", "add", &users, "bob", "--password-stdin"], "secret\nbob\n");
    assert!(error.contains("has several lines"), "{error}");
    let below_a_file = format!("{users}/htpasswd");
    let error = failed(&["user", "add", &below_a_file, "alice", "--password-stdin"], "secret\n");
    assert!(error.contains("a part of the path is a file") && error.lines().count() == 1, "{error}");
}

#[test]
fn config_check_reads_the_files_of_users_and_keys() {
    let place = place_with_alice();
    let registry = serve(&place);
    let config = place.path("config.yml");
    let config = config.to_str().unwrap();
    let output = done(&["config", "check", config], "");
    assert!(output.contains("note: quinistry.keys.file: ") && output.contains("\nok: "), "{output}");
    fs::write(place.path("htpasswd"), "bob:$2y$31$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i\n")
        .unwrap();
    let output = run(&["config", "check", config], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("htpasswd:1:1: error: auth.htpasswd.path: user bob cannot log in"), "{text}");
    drop(registry);
}

#[test]
fn the_audit_log_is_a_file_whose_folder_is_made() {
    let place = Place::new();
    let audited = CONFIG.replace("quinistry: {", "quinistry: {audit: {path: '{folder}/log/audit.log'}, ");
    let registry = place.serve_ours(Given { file: Some(&audited), ..Given::default() });
    assert_eq!(status(registry.peer, &basic("nemo", "secret")), 401);
    assert!(place.path("log/audit.log").is_file());
    assert_eq!(place.path("log").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    drop(registry);
    let config = place.path("config.yml");
    let text = fs::read_to_string(&config).unwrap().replace("/log/audit.log", "/log");
    fs::write(&config, text).unwrap();
    let output = run(&["config", "check", config.to_str().unwrap()], "");
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{found}");
    let expected = "/log is a folder; name a file in it, such as ";
    assert!(found.contains("error: quinistry.audit.path: ") && found.contains(expected), "{found}");
}

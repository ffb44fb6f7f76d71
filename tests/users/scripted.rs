//! Rights of several users over one registry, in sessions of real clients: what each may read, copy, move and
//! delete, and what the logs keep of it.

use serde_json::Value;

use crate::attempt::Verdict::{Allowed, Refused};
use crate::clients::{Client as _, Crane, Curl, Docker, crane, curl};
use crate::machine::Machine;
use crate::program::lacks;
use crate::registry::{ALICE, BOB, Given, Login, Program, Registry, WRONG, start};
use crate::session::Session;

/// Alice may do everything below `team`, and Bob may read and create below `public` and `bob`, but move no tag.
const RULES: &str = "quinistry:
  access:
    - {repositories: ['public/**'], who: [anonymous, authenticated], can: [pull]}
    - {repositories: ['team/**', 'public/**'], who: [alice], can: [push, overwrite, delete]}
    - {repositories: ['bob/**'], who: [bob], can: [push]}
";

/// A machine with a registry of these rules, and with more lines of configuration.
fn machine(more: &str) -> Option<(Machine, Registry)> {
    if lacks(&Crane::needs()) {
        return None;
    }
    let mut machine = Machine::start();
    let more = format!("{RULES}{}", more.replace("{folder}", &machine.path("")));
    let given = Given { program: Program::Ours, port: 5000, is_tls: false, tls: "", http: "", more: &more };
    let registry = start(&mut machine, given);
    Some((machine, registry))
}

fn session<'a>(machine: &'a Machine, registry: &'a Registry, login: Login, client: &Crane) -> Session<'a> {
    let session = Session::new(machine, registry, Some(login), login.user);
    client.login(&session).expect("crane has a login").allowed();
    session
}

/// Status of a request by curl, whatever it is.
fn status(session: &Session<'_>, arguments: &[&str], path: &str) -> String {
    let mut ask =
        session.command("curl", &["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    ask.args(session.user_and_password().iter().flat_map(|login| ["--user", login]));
    ask.args(arguments).arg(session.registry.url(path));
    let output = crate::support::process::output(&mut ask).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn lists_show_exactly_what_the_user_may_read() {
    let Some((mut machine, registry)) = machine("") else { return };
    let client = Crane::start(&mut machine, &[]);
    let (alice, bob) =
        (session(&machine, &registry, ALICE, &client), session(&machine, &registry, BOB, &client));
    for (session, repository) in
        [(&alice, "public/tool"), (&alice, "team/app"), (&alice, "team/secret"), (&bob, "bob/own")]
    {
        client.push(session, repository).expect("crane pushes").allowed();
    }
    let anonymous = Session::new(&machine, &registry, None, "anonymous");
    let catalog = |session: &Session<'_>| session.attempt(crane(session, &["catalog", &registry.host]));
    for (session, wanted) in [
        (&alice, "public/tool\nquinistry\nteam/app\nteam/secret\n"),
        (&bob, "bob/own\npublic/tool\nquinistry\n"),
    ] {
        let listed = catalog(session);
        listed.allowed();
        assert_eq!(listed.stdout(), wanted);
    }
    let tags = |session: &Session<'_>, repository: &str| {
        let name = format!("{}/{repository}", registry.host);
        session.attempt(crane(session, &["ls", &name]))
    };
    for (session, repository, verdict) in [
        (&alice, "team/secret", Allowed),
        (&bob, "team/secret", Refused),
        // A repository that does not exist is refused in the same way.
        (&bob, "team/nothing", Refused),
        (&bob, "bob/own", Allowed),
        (&alice, "bob/own", Refused),
        (&anonymous, "public/tool", Allowed),
        (&anonymous, "team/app", Refused),
    ] {
        let listed = tags(session, repository);
        assert_eq!(listed.verdict(), verdict, "{}", listed.said());
        if verdict == Allowed {
            assert_eq!(listed.stdout(), "1\n");
        }
    }
}

#[test]
fn a_mount_from_an_unreadable_repository_becomes_an_upload_and_reveals_nothing() {
    let Some((mut machine, registry)) = machine("") else { return };
    let client = Crane::start(&mut machine, &[]);
    let (alice, bob) =
        (session(&machine, &registry, ALICE, &client), session(&machine, &registry, BOB, &client));
    client.push(&alice, "team/secret").expect("crane pushes").allowed();
    client.push(&alice, "public/tool").expect("crane pushes").allowed();
    let layer = client.layer();
    let mount = |from: &str| {
        let path = format!("/v2/bob/fresh/blobs/uploads/?mount={layer}&from={from}");
        status(&bob, &["--request", "POST"], &path)
    };
    // An unreadable source, one that does not exist, and one without the blob are all alike.
    assert_eq!(mount("team/secret"), "202");
    assert_eq!(mount("team/nothing"), "202");
    assert_eq!(mount("quinistry"), "202");
    assert_eq!(status(&bob, &["--head"], &format!("/v2/bob/fresh/blobs/{layer}")), "404");
    client.push(&bob, "bob/tool").expect("crane pushes what it has").allowed();
    assert_eq!(mount("public/tool"), "201");
    let copy = [format!("{}/public/tool:1", registry.host), format!("{}/bob/copy:1", registry.host)];
    bob.attempt(crane(&bob, &["copy", &copy[0], &copy[1]])).allowed();
}

/// Docker offers the repository that it has seen the layers in, also if another user was logged in then.
#[test]
fn docker_uploads_the_layers_that_it_may_not_mount() {
    if lacks(&Docker::needs()) {
        return;
    }
    let Some((mut machine, registry)) = machine("") else { return };
    let docker = Docker::start(&mut machine, &[]);
    let [alice, bob] = [ALICE, BOB].map(|login| Session::new(&machine, &registry, Some(login), login.user));
    for session in [&alice, &bob] {
        docker.login(session).expect("docker has a login").allowed();
    }
    docker.push(&alice, "team/secret").expect("docker pushes").allowed();
    docker.push(&bob, "bob/app").expect("docker pushes").allowed();
    docker.pull(&bob, "bob/app").allowed();
    let log = std::fs::read_to_string(machine.path("registry-5000.log")).unwrap();
    let mounts: Vec<&str> = log.lines().filter(|line| line.contains("from=team%2Fsecret")).collect();
    assert!(!mounts.is_empty() && mounts.iter().all(|line| line.contains("\" 202 ")), "{log}");
    assert_eq!(docker.pull(&bob, "team/secret").verdict(), Refused);
}

#[test]
fn a_tag_moves_only_with_the_right_to_overwrite() {
    let Some((mut machine, registry)) = machine("") else { return };
    let client = Crane::start(&mut machine, &[]);
    let (alice, bob) =
        (session(&machine, &registry, ALICE, &client), session(&machine, &registry, BOB, &client));
    for (session, repository, verdict) in [(&bob, "bob/app", Refused), (&alice, "team/app", Allowed)] {
        client.push(session, repository).expect("crane pushes").allowed();
        // The same digest again moves nothing.
        client.push(session, repository).expect("crane pushes").allowed();
        let other = Curl::new().push(session, repository).expect("curl pushes");
        assert_eq!(other.verdict(), verdict, "{repository}: {}", other.said());
    }
    let digest = |session: &Session<'_>, reference: &str| {
        let found = session.attempt(crane(session, &["digest", &format!("{}/{reference}", registry.host)]));
        found.allowed();
        found.stdout().trim().to_owned()
    };
    assert_eq!(digest(&bob, "bob/app:1"), client.digest());
    assert_ne!(digest(&alice, "team/app:1"), client.digest());
    // By digest it is there, and another tag may be made of it.
    let made = status(&bob, &["--request", "DELETE"], &format!("/v2/bob/app/manifests/{}", client.digest()));
    assert_eq!(made, "403");
    let tag = bob.attempt(crane(&bob, &["tag", &bob.reference("bob/app"), "2"]));
    tag.allowed();
}

/// A scripted session leaves all its lines in the audit log, and no password, key or token in any log.
#[test]
fn the_audit_log_holds_every_line_and_no_secret() {
    let Some((mut machine, registry)) = machine("  audit: {path: '{folder}/audit.log'}\n") else { return };
    let client = Crane::start(&mut machine, &[]);
    let (alice, bob) =
        (session(&machine, &registry, ALICE, &client), session(&machine, &registry, BOB, &client));
    client.push(&alice, "team/app").expect("crane pushes").allowed();
    assert_eq!(client.pull(&bob, "team/app").verdict(), Refused);
    let wrong = Session::new(&machine, &registry, Some(WRONG), "wrong");
    assert_eq!(wrong.attempt(curl(&wrong, &[&registry.url("/v2/")])).verdict(), Refused);
    assert_eq!(status(&wrong, &[], "/v2/_token"), "401");
    let path = format!("/v2/team/app/manifests/{}", client.digest());
    assert_eq!(status(&bob, &["--request", "DELETE"], &path), "403");
    assert_eq!(status(&alice, &["--request", "DELETE"], &path), "202");

    let file = machine.path("audit.log");
    let lines = machine.until("the audit log's last line", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let deleted = |line: &Value| line["action"] == "delete" && line["status"] == 202;
        lines.iter().any(deleted).then_some(lines)
    });
    let has = |wanted: &[(&str, Value)]| {
        lines.iter().any(|line| wanted.iter().all(|(key, value)| line[*key] == *value))
    };
    for wanted in [
        &[("identity", "alice".into()), ("repository", "team/app".into()), ("status", 201.into())][..],
        &[("identity", "bob".into()), ("repository", "team/app".into()), ("status", 403.into())],
        &[("identity", "bob".into()), ("action", "delete".into()), ("status", 403.into())],
        &[("identity", "alice".into()), ("action", "delete".into()), ("status", 202.into())],
    ] {
        assert!(has(wanted), "{wanted:?} is not in {lines:#?}");
    }
    let is_failed_login = |line: &&Value| {
        (&line["identity"], &line["action"], &line["status"])
            == (&WRONG.user.into(), &"login".into(), &401.into())
    };
    let failed = lines.iter().filter(is_failed_login).count();
    assert_eq!(failed, 2, "one at /v2/ and one at /v2/_token: {lines:#?}");
    let basic = |login: Login| {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(format!("{}:{}", login.user, login.password))
    };
    let secrets = [ALICE, BOB, WRONG].map(|login| [login.password.to_owned(), basic(login)]).concat();
    for log in ["audit.log", "registry-5000.log"] {
        let text = std::fs::read_to_string(machine.path(log)).unwrap();
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} in {log}: {text}");
        }
        // Tokens of the registry's own endpoint are JWTs, whose header begins so, and hashes of bcrypt so.
        for beginning in ["eyJ", "$2b$", "$2y$"] {
            assert!(!text.contains(beginning), "{beginning} in {log}: {text}");
        }
    }
}

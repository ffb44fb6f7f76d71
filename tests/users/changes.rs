//! Users that come and go while the registry serves.

use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::program::{QUINISTRY, lacks};
use crate::registry::{Given, Login, Program, Registry, start};
use crate::session::Session;

const CAROL: Login = Login { user: "carol", password: "latecomer-Vz5dF" };

/// Status of a request, `200` or `401`; `429` after many failures.
fn ask(session: &Session<'_>, authorization: &[&str]) -> String {
    let mut ask =
        session.command("curl", &["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    ask.args(authorization).arg(session.registry.url("/v2/"));
    let asked = Attempt::run(ask, "");
    asked.allowed();
    asked.stdout().to_owned()
}

fn run(machine: &Machine, arguments: &[&str], input: &str) -> String {
    let mut command = machine.command(QUINISTRY);
    command.args(arguments);
    let done = Attempt::run(command, input);
    done.allowed();
    done.stdout().to_owned()
}

/// With a password, with a token of the registry that was issued before, and with an API key.
#[test]
fn a_user_is_let_in_when_added_and_refused_in_every_way_when_removed() {
    if lacks(&[]) {
        return;
    }
    let mut machine = Machine::start();
    let keys = machine.path("keys");
    let more = format!("quinistry:\n  keys: {{file: '{keys}'}}\n  tokens: {{enabled: true}}\n");
    let given = Given { program: Program::Ours, port: 5000, is_tls: false, tls: "", http: "", more: &more };
    let registry: Registry = start(&mut machine, given);
    let folder = machine.path("registry-5000");
    let (config, passwords) = (format!("{folder}/config.yml"), format!("{folder}/htpasswd"));
    let session = Session::new(&machine, &registry, None, "carol");
    let password = format!("{}:{}", CAROL.user, CAROL.password);
    let with_password = ["--user", &password];
    assert_eq!(ask(&session, &with_password), "401");

    run(&machine, &["user", "add", &passwords, CAROL.user, "--password-stdin"], CAROL.password);
    let until = |status: &str, authorization: &[&str], what: &str| {
        machine.until(what, || (ask(&session, authorization) == status).then_some(()));
    };
    until("200", &with_password, "the new user");
    let key = run(&machine, &["key", "add", &config, "--for", CAROL.user], "");
    let key = key.split_whitespace().find(|word| word.starts_with("qk_")).expect("the key is printed");
    let with_key = format!("{}:{key}", CAROL.user);
    let with_key = ["--user", &with_key];
    until("200", &with_key, "the new key");
    let mut issue = session.command("curl", &["--silent", "--fail"]);
    issue.args(with_password).arg(registry.url("/v2/_token?scope=repository:a:pull"));
    let issued = Attempt::run(issue, "");
    issued.allowed();
    let issued: serde_json::Value = serde_json::from_str(issued.stdout()).unwrap();
    let token = format!("Authorization: Bearer {}", issued["token"].as_str().unwrap());
    let with_token = ["--header", &token];
    assert_eq!(ask(&session, &with_token), "200");

    run(&machine, &["user", "remove", &passwords, CAROL.user], "");
    for (how, authorization) in [("password", with_password), ("token", with_token), ("key", with_key)] {
        until("401", &authorization, &format!("the refusal of a removed user's {how}"));
    }
    let log = std::fs::read_to_string(machine.path("registry-5000.log")).unwrap();
    for secret in [CAROL.password, key, issued["token"].as_str().unwrap()] {
        assert!(!log.contains(secret), "{log}");
    }
}

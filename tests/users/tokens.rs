//! Docker with distribution's registry, which sends its clients to this program for tokens, with the files and
//! commands of `docs/tokens.md`.

use std::fs;

use crate::attempt::Attempt;
use crate::attempt::Verdict::{Allowed, Refused};
use crate::clients::{Client as _, Docker};
use crate::machine::Machine;
use crate::matrix::prepare_tls;
use crate::program::lacks;
use crate::registry::{ADDRESS, ALICE, BOB, NAME, PASSWORDS, Program, Registry, WRONG};
use crate::session::Session;

/// Rules of the issuer, which the page leaves to the reader.
const RULES: &str = "  access:
    - {repositories: ['team/**'], who: [alice], can: [push, overwrite]}
    - {repositories: ['**'], who: [authenticated], can: [pull]}
";

/// Returns the blocks of a language below the heading about tokens for other registries.
fn blocks(language: &str) -> Vec<&'static str> {
    let page = include_str!("../../docs/tokens.md");
    let section = page.split_once("## Tokens for other registries\n").unwrap().1;
    let section = section.split_once("\n## ").unwrap().0;
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// Replaces the names and folders of the page by those of the machine.
fn moved(text: &str, machine: &Machine, program: Program, port: u16) -> String {
    let folder = machine.path(if program == Program::Ours { "ours" } else { "distribution" });
    let mut text = text.to_owned();
    for (written, here) in [
        ("registry.example.com:5000", format!("{NAME}:5000")),
        ("addr: :5000", format!("addr: {ADDRESS}:{port}")),
        ("/var/lib/registry", format!("{folder}/root")),
        ("/etc/quinistry", machine.path("ours")),
        ("/etc/distribution", machine.path("distribution")),
    ] {
        text = text.replace(written, &here);
    }
    text
}

/// Starts a registry with a configuration of the page, and waits until it answers.
fn serve(machine: &mut Machine, program: Program, config: &str, port: u16) -> Registry {
    let name = if program == Program::Ours { "ours" } else { "distribution" };
    let file = machine.path(&format!("{name}/config.yml"));
    fs::write(&file, moved(config, machine, program, port)).unwrap();
    let mut command = machine.command(program.path());
    command.args(["serve", &file]).env("OTEL_TRACES_EXPORTER", "none");
    machine.daemon(name, command);
    let authority = machine.path("certificates/ca.crt");
    let registry = Registry { host: format!("{NAME}:{port}"), authority: Some(authority.clone()) };
    machine.until(name, || {
        let mut ask = machine.command("curl");
        ask.args(["--silent", "--output", "/dev/null", "--cacert", &authority]).arg(registry.url("/v2/"));
        ask.output().unwrap().status.success().then_some(())
    });
    registry
}

#[test]
fn docker_pushes_to_distribution_and_pulls_with_tokens_that_this_program_issues() {
    if lacks(&[Docker::needs(), vec![Program::Distribution.path(), "openssl"]].concat()) {
        return;
    }
    let mut machine = Machine::start();
    prepare_tls(&machine);
    for name in ["ours", "distribution"] {
        fs::create_dir(machine.path(name)).unwrap();
        for file in ["tls.crt", "tls.key"] {
            fs::copy(machine.path(&format!("certificates/{file}")), machine.path(&format!("{name}/{file}")))
                .unwrap();
        }
    }
    fs::write(machine.path("ours/htpasswd"), PASSWORDS).unwrap();
    let ([make_key, fetch_key], [issuer, verifier]) = (&blocks("sh")[..], &blocks("yaml")[..]) else {
        panic!("the page has two commands and two configurations");
    };
    let shell = |machine: &Machine, script: &str| {
        let mut shell = machine.command("sh");
        shell.args(["-ec", &moved(script, machine, Program::Ours, 5000)]);
        shell.env("CURL_CA_BUNDLE", machine.path("certificates/ca.crt"));
        Attempt::run(shell, "").allowed();
    };
    shell(&machine, make_key);
    serve(&mut machine, Program::Ours, &format!("{issuer}{RULES}"), 5000);
    shell(&machine, fetch_key);
    let registry = serve(&mut machine, Program::Distribution, verifier, 5001);

    let docker = Docker::start(&mut machine, std::slice::from_ref(&registry));
    let [wrong, alice, bob] = [(WRONG, "wrong"), (ALICE, "alice"), (BOB, "bob")]
        .map(|(login, name)| Session::new(&machine, &registry, Some(login), name));
    let anonymous = Session::new(&machine, &registry, None, "anonymous");
    assert_eq!(docker.login(&wrong).expect("docker has a login").verdict(), Refused);
    for session in [&alice, &bob] {
        docker.login(session).expect("docker has a login").allowed();
    }
    // The rules of the issuer decide about the repositories of the other registry.
    for (session, repository, verdict) in [
        (&anonymous, "team/app", Refused),
        (&bob, "team/app", Refused),
        (&alice, "other/app", Refused),
        (&alice, "team/app", Allowed),
    ] {
        let pushed = docker.push(session, repository).expect("docker pushes");
        assert_eq!(pushed.verdict(), verdict, "{repository}: {}", pushed.said());
    }
    assert_eq!(docker.pull(&anonymous, "team/app").verdict(), Refused);
    docker.remove(&alice, "team/app");
    docker.pull(&bob, "team/app").allowed();

    // Distribution itself knows no user: each token is of this program.
    let log = fs::read_to_string(machine.path("ours.log")).unwrap();
    assert!(log.lines().filter(|line| line.contains("/v2/_token") && line.contains("\" 200 ")).count() >= 2);
    for secret in [ALICE.password, BOB.password, WRONG.password] {
        assert!(!log.contains(secret), "{log}");
    }
}

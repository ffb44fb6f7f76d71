//! Every client against every kind of access: logins, pushes and pulls, right, wrong and without a login.

use crate::attempt::Verdict::{self, Allowed, Refused};
use crate::clients::{
    Client, Containerd, Crane, Crictl, Curl, Docker, Helm, Oras, Ours, Podman, Regctl, Skopeo,
};
use crate::machine::Machine;
use crate::program::{QUINISTRY, lacks};
use crate::registry::{ADDRESS, ALICE, Given, NAME, Program, Registry, WRONG, start};
use crate::session::Session;

/// Rules with which everyone pulls and every user pushes: the access that distribution cannot give.
const ANONYMOUS_PULLS: &str = "quinistry:\n  access:\n  \
    - {repositories: ['**'], who: [anonymous], can: [pull]}\n  \
    - {repositories: ['**'], who: [authenticated], can: [push]}\n";

/// Repository of these tests.
const REPOSITORY: &str = "team/private";

/// A registry's decisions, as one client shows them. `None` where the client has no such command.
#[derive(Debug, PartialEq, Eq)]
struct Verdicts {
    login: Option<Verdict>,
    push: Option<Verdict>,
    pull: Verdict,
    /// With a wrong password. A login that only writes the password down counts as none.
    wrong_login: Option<Verdict>,
    wrong_pull: Option<Verdict>,
    anonymous_push: Option<Verdict>,
    anonymous_pull: Verdict,
}

impl Verdicts {
    /// Verdicts of a client against a registry.
    fn of<C: Client>(client: &C, machine: &Machine, registry: &Registry) -> Self {
        let right = Session::new(machine, registry, Some(ALICE), "right");
        let login = client.login(&right).map(|attempt| attempt.verdict());
        let push = client.push(&right, REPOSITORY).map(|attempt| attempt.verdict());
        if push.is_none() {
            // The tag is there for clients that only pull.
            let curl = Session::new(machine, registry, Some(ALICE), "curl");
            Curl::new().push(&curl, REPOSITORY).expect("curl pushes").allowed();
        }
        let pull = client.pull(&right, REPOSITORY).verdict();

        let wrong = Session::new(machine, registry, Some(WRONG), "wrong");
        let wrong_login = client.login(&wrong).map(|attempt| attempt.verdict());
        // A client whose login was refused has no password to pull with.
        let remembers = wrong_login != Some(Refused);
        let wrong_pull = remembers.then(|| client.pull(&wrong, REPOSITORY).verdict());
        let wrong_login = wrong_login.filter(|verdict| *verdict == Refused);

        let anonymous = Session::new(machine, registry, None, "anonymous");
        // Of what is there already, a client that may read it sends nothing.
        let anonymous_push = client.push(&anonymous, "team/anonymous").map(|attempt| attempt.verdict());
        let anonymous_pull = client.pull(&anonymous, REPOSITORY).verdict();
        Self { login, push, pull, wrong_login, wrong_pull, anonymous_push, anonymous_pull }
    }

    /// Verdicts that a client must show where pulls without a login are allowed or refused.
    fn expected(abilities: Abilities, anonymous_pull: Verdict) -> Self {
        let pushes = abilities.pushes;
        let wrong_pull = match abilities.password {
            PasswordUse::CheckedLogin => None,
            PasswordUse::Login => Some(Refused),
            // No challenge asks for a password that is not needed.
            PasswordUse::EachCommand => Some(anonymous_pull),
        };
        Self {
            login: (abilities.password != PasswordUse::EachCommand).then_some(Allowed),
            push: pushes.then_some(Allowed),
            pull: Allowed,
            wrong_login: (abilities.password == PasswordUse::CheckedLogin).then_some(Refused),
            wrong_pull,
            anonymous_push: pushes.then_some(Refused),
            anonymous_pull,
        }
    }
}

/// Abilities of a client.
#[derive(Clone, Copy)]
struct Abilities {
    password: PasswordUse,
    pushes: bool,
}

/// Way of a client to use a password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PasswordUse {
    /// A login asks the registry, and remembers the password if that is right.
    CheckedLogin,
    /// A login remembers the password, whatever it is.
    Login,
    /// The user gives it with each command. The client sends it after the answer 401 to the request in question.
    EachCommand,
}

const ALL: Abilities = Abilities { password: PasswordUse::CheckedLogin, pushes: true };

/// Checks that one password file gives equal verdicts with distribution and with this program.
fn passwords_alone<C: Client>(abilities: Abilities) {
    if lacks(&[C::needs(), vec![Program::Distribution.path()]].concat()) {
        return;
    }
    let mut machine = Machine::start();
    let registries = [(Program::Distribution, 5000), (Program::Ours, 5001)].map(|(program, port)| {
        start(&mut machine, Given { program, port, is_tls: false, tls: "", http: "", more: "" })
    });
    let client = C::start(&mut machine, &registries);
    for registry in &registries {
        let verdicts = Verdicts::of(&client, &machine, registry);
        assert_eq!(verdicts, Verdicts::expected(abilities, Refused), "{}", registry.host);
    }
}

fn anonymous_pulls<C: Client>(abilities: Abilities) {
    if lacks(&C::needs()) {
        return;
    }
    let mut machine = Machine::start();
    let given =
        Given { program: Program::Ours, port: 5000, is_tls: false, tls: "", http: "", more: ANONYMOUS_PULLS };
    let registry = start(&mut machine, given);
    let client = C::start(&mut machine, std::slice::from_ref(&registry));
    let verdicts = Verdicts::of(&client, &machine, &registry);
    assert_eq!(verdicts, Verdicts::expected(abilities, Allowed));
}

/// By name and by address, with the certificate that this program makes.
fn tls<C: Client>(abilities: Abilities) {
    if lacks(&C::needs()) {
        return;
    }
    let mut machine = Machine::start();
    prepare_tls(&machine);
    let registry = start(
        &mut machine,
        Given { program: Program::Ours, port: 5000, is_tls: true, tls: "", http: "", more: "" },
    );
    let registries = [registry.at(ADDRESS), registry];
    let client = C::start(&mut machine, &registries);
    for registry in &registries {
        let verdicts = Verdicts::of(&client, &machine, registry);
        assert_eq!(verdicts, Verdicts::expected(abilities, Refused), "{}", registry.host);
    }
}

/// Gives the machine the registry's name and address, and makes a certificate for both.
pub(crate) fn prepare_tls(machine: &Machine) {
    machine.run("ip", &["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
    let hosts = machine.path("etc-hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{ADDRESS} {NAME}\n")).unwrap();
    machine.run("mount", &["--bind", &hosts, "/etc/hosts"]);
    let folder = machine.path("certificates");
    machine.run(QUINISTRY, &["tls", "init", &folder, "--host", NAME, "--host", ADDRESS]);
}

macro_rules! matrix {
    ($($module:ident, $client:ty, $abilities:expr;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn sees_equal_verdicts_of_distribution_where_passwords_are_all() {
                passwords_alone::<$client>($abilities);
            }

            #[test]
            fn pulls_without_a_login_and_pushes_with_one() {
                anonymous_pulls::<$client>($abilities);
            }

            #[test]
            fn works_over_tls_by_name_and_by_address() {
                tls::<$client>($abilities);
            }
        }
    )*};
}

matrix! {
    docker, Docker, ALL;
    podman, Podman, ALL;
    skopeo, Skopeo, ALL;
    crane, Crane, Abilities { password: PasswordUse::Login, pushes: true };
    regctl, Regctl, ALL;
    helm, Helm, ALL;
    oras, Oras, ALL;
    curl, Curl, ALL;
    ours, Ours, ALL;
    containerd, Containerd, Abilities { password: PasswordUse::EachCommand, pushes: true };
    kubelet, Crictl, Abilities { password: PasswordUse::EachCommand, pushes: false };
}

//! Commands that `quinistry tls init` prints, pasted into a shell: afterwards each engine trusts the registry
//! without any option.

use std::fs;

use crate::clients::{Client as _, Containerd, Docker};
use crate::machine::Machine;
use crate::program::{QUINISTRY, built, lacks};
use crate::registry::{ADDRESS, ALICE, Given, NAME, Program, start};
use crate::session::Session;

/// Folders that the commands write to, hidden below copies of them.
const FOLDERS: [&str; 5] = [
    "/etc/docker",
    "/etc/containers",
    "/etc/containerd",
    "/etc/ssl/certs",
    "/usr/local/share/ca-certificates",
];

/// Hides the folders, and makes `sudo` run its arguments, since the tests are root.
fn hide_folders(machine: &Machine) {
    for folder in FOLDERS {
        fs::create_dir_all(folder).unwrap();
        let copy = machine.path(&format!("copy{}", folder.replace('/', "-")));
        machine.run("cp", &["--archive", folder, &copy]);
        machine.run("mount", &["--bind", &copy, folder]);
    }
    let folder = machine.path("bin");
    fs::create_dir(&folder).unwrap();
    fs::write(format!("{folder}/sudo"), "#!/bin/sh\nexec \"$@\"\n").unwrap();
    machine.run("chmod", &["+x", &format!("{folder}/sudo")]);
}

#[test]
fn each_engine_trusts_the_registry_after_the_printed_commands() {
    if lacks(
        &[Docker::needs(), Containerd::needs(), vec!["skopeo", "podman", "update-ca-certificates"]].concat(),
    ) {
        return;
    }
    let mut machine = Machine::start();
    hide_folders(&machine);
    machine.run("ip", &["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
    let hosts = machine.path("etc-hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n{ADDRESS} {NAME}\n")).unwrap();
    machine.run("mount", &["--bind", &hosts, "/etc/hosts"]);
    let folder = machine.path("certificates");
    let init = ["tls", "init", &folder, "--host", NAME, "--ip", ADDRESS, "--port", "5000"];
    let printed = machine.run(QUINISTRY, &init);
    // The commands of the other distributions and of the registry itself are not for this machine.
    let sections = printed.split("\n# ").skip(1).filter(|section| {
        !section.starts_with("The system: Fedora") && !section.starts_with("Then, on the registry's machine")
    });
    let script: String = sections.map(|section| section.split_once('\n').unwrap().1).collect();
    let path = format!("PATH={}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", machine.path("bin"));
    machine.run("env", &[&path, "sh", "-exc", &script]);

    let given = Given { program: Program::Ours, port: 5000, is_tls: true, tls: "", http: "", more: "" };
    let registry = start(&mut machine, given);
    let docker = Docker::serve(&mut machine);
    for registry in [registry.at(ADDRESS), registry] {
        let session = Session::new(&machine, &registry, Some(ALICE), "alice");
        docker.login(&session).expect("docker has a login").allowed();
        docker.push(&session, "team/app").expect("docker pushes").allowed();
        let reference = session.reference("team/app");
        let user = session.user_and_password().unwrap();
        let image = format!("docker://{reference}");
        let (logins, password, host) = (session.path("podman.json"), ALICE.password, &registry.host);
        let (head, crane) = (registry.url("/v2/"), built("crane", "0.22.1"));
        for (program, arguments) in [
            ("skopeo", &["inspect", "--raw", "--creds", &user, &image][..]),
            (
                "podman",
                &["login", "--authfile", &logins, "--username", ALICE.user, "--password", password, host],
            ),
            ("curl", &["--silent", "--show-error", "--fail", "--user", &user, &head]),
            (crane, &["digest", &reference]),
        ] {
            session.attempt(session.command(program, arguments)).allowed();
        }
    }
    let containerd = Containerd::with_hosts(&mut machine, "/etc/containerd/certs.d");
    let registry = crate::registry::Registry { host: format!("{NAME}:5000"), authority: Some(folder) };
    let session = Session::new(&machine, &registry, Some(ALICE), "containerd");
    containerd.pull(&session, "team/app").allowed();
}

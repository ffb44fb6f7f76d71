//! Client certificates as identities, with the clients that can send one.

use std::fs;

use crate::attempt::Verdict;
use crate::clients::{Client as _, Containerd, Docker, curl};
use crate::machine::Machine;
use crate::matrix::prepare_tls;
use crate::program::lacks;
use crate::registry::{Given, Program, Registry, start};
use crate::session::Session;

/// Rules by which only the holder of a certificate pushes.
const RULES: &str = "quinistry:
  clientcerts: {user: [commonname]}
  access:
    - {repositories: ['robots/**'], who: [robot-7], can: [push, overwrite]}
  audit: {path: '{folder}audit.log'}
";

/// Makes an authority for clients, a certificate of it for `robot-7`, and one that signs itself.
fn make_certificates(machine: &Machine) {
    let script = r#"
        umask 077; cd "$0"
        new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@"; }
        new -x509 -days 2 -subj /CN=clients -keyout clients.key -out clients.pem
        new -subj /CN=robot-7 -keyout robot.key -out robot.csr
        printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n' >extensions
        openssl x509 -req -days 2 -in robot.csr -CA clients.pem -CAkey clients.key -CAcreateserial \
            -extfile extensions -out robot.pem
        new -x509 -days 2 -subj /CN=robot-7 -addext basicConstraints=critical,CA:FALSE -keyout own.key -out own.pem
    "#;
    machine.run("sh", &["-ec", script, &machine.path("certificates")]);
}

/// A machine with such a registry, which asks for certificates as `how` says.
fn machine(how: &str) -> (Machine, Registry) {
    let mut machine = Machine::start();
    prepare_tls(&machine);
    make_certificates(&machine);
    let authority = machine.path("certificates/clients.pem");
    let tls = format!(", clientcas: ['{authority}'], clientauth: {how}");
    let mut more = RULES.replace("{folder}", &machine.path(""));
    if how == "request-client-cert" {
        // Names of certificates that are not verified cannot even be configured.
        more = more.replace("  clientcerts: {user: [commonname]}\n", "");
    }
    let given = Given { program: Program::Ours, port: 5000, is_tls: true, tls: &tls, http: "", more: &more };
    let registry = start(&mut machine, given);
    (machine, registry)
}

/// Verdict of a request that opens an upload.
fn upload(session: &Session<'_>, certificate: &str) -> Verdict {
    let machine = session.machine;
    let [pem, key] = ["pem", "key"].map(|end| machine.path(&format!("certificates/{certificate}.{end}")));
    let url = session.registry.url("/v2/robots/app/blobs/uploads/");
    let ask = ["--cert", &pem, "--key", &key, "--request", "POST", "--output", "/dev/null", &url];
    session.attempt(curl(session, &ask)).verdict()
}

#[test]
fn curl_is_who_its_verified_certificate_says() {
    if lacks(&["openssl"]) {
        return;
    }
    let (machine, registry) = machine("verify-client-cert-if-given");
    let session = Session::new(&machine, &registry, None, "robot");
    assert_eq!(upload(&session, "robot"), Verdict::Allowed);
    machine.until("the audit log's line", || {
        let text = fs::read_to_string(machine.path("audit.log")).unwrap_or_default();
        text.lines().any(|line| line.contains("\"robot-7\"") && line.contains("certificate")).then_some(())
    });
}

/// A certificate that is asked for and not verified proves nothing: anyone makes one with any name.
#[test]
fn a_certificate_that_nobody_signed_is_no_identity() {
    if lacks(&["openssl"]) {
        return;
    }
    let (machine, registry) = machine("request-client-cert");
    let session = Session::new(&machine, &registry, None, "own");
    assert_eq!(upload(&session, "own"), Verdict::Refused);
}

#[test]
fn docker_pushes_with_a_certificate_in_place_of_a_login() {
    if lacks(&[Docker::needs(), vec!["openssl"]].concat()) {
        return;
    }
    let (mut machine, registry) = machine("verify-client-cert-if-given");
    let docker = Docker::start(&mut machine, std::slice::from_ref(&registry));
    let session = Session::new(&machine, &registry, None, "docker");
    assert_eq!(docker.push(&session, "robots/app").expect("docker pushes").verdict(), Verdict::Refused);
    // As Docker wants the names, in the folder that is its own `/etc/docker`.
    let folder = machine.path(&format!("etc-docker/certs.d/{}", registry.host));
    for (from, to) in [("robot.pem", "client.cert"), ("robot.key", "client.key")] {
        fs::copy(machine.path(&format!("certificates/{from}")), format!("{folder}/{to}")).unwrap();
    }
    docker.push(&session, "robots/app").expect("docker pushes").allowed();
    docker.pull(&session, "robots/app").allowed();
}

#[test]
fn containerd_pushes_and_pulls_with_a_certificate_in_its_hosts_file() {
    if lacks(&[Containerd::needs(), vec!["openssl"]].concat()) {
        return;
    }
    let (mut machine, registry) = machine("verify-client-cert-if-given");
    let containerd = Containerd::start(&mut machine, std::slice::from_ref(&registry));
    let session = Session::new(&machine, &registry, None, "containerd");
    let push = || containerd.push(&session, "robots/app").expect("containerd pushes");
    assert_eq!(push().verdict(), Verdict::Refused);
    let [pem, key] = ["pem", "key"].map(|end| machine.path(&format!("certificates/robot.{end}")));
    let hosts = machine.path(&format!("hosts/{}/hosts.toml", registry.host));
    let former = fs::read_to_string(&hosts).unwrap();
    fs::write(&hosts, format!("{former}client = [[{pem:?}, {key:?}]]\n")).unwrap();
    push().allowed();
    containerd.pull(&session, "robots/app").allowed();
}

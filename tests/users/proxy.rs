//! A registry with users behind nginx, which ends TLS, with the file of `docs/reverse-proxies.md`.

use std::fs;

use crate::attempt::Verdict::{Allowed, Refused};
use crate::clients::{Client as _, Docker};
use crate::machine::Machine;
use crate::matrix::prepare_tls;
use crate::program::lacks;
use crate::registry::{ADDRESS, ALICE, Given, NAME, Program, Registry, WRONG, start};
use crate::session::Session;

pub(crate) const NGINX: &str = "/usr/sbin/nginx";

/// Parts of a whole file around that of the documentation.
const NGINX_FILE: &str = "user root;
pid {folder}nginx.pid;
error_log {folder}nginx-error.log;
events {}
http {
    access_log off;
    client_body_temp_path {folder}nginx-body;
    proxy_temp_path {folder}nginx-proxy;
    fastcgi_temp_path {folder}nginx-fastcgi;
    uwsgi_temp_path {folder}nginx-uwsgi;
    scgi_temp_path {folder}nginx-scgi;
    {documented}
}
";

/// The only location of the documented file.
pub(crate) const LOCATION: &str = "location /v2/ { proxy_pass http://127.0.0.1:5000; }";

/// Locations of a registry whose own URLs begin with a prefix. Docker shows its token below the `/v2/` that sent
/// the challenge alone, so that it must not follow a `Location` with the prefix.
const LOCATIONS_OF_PREFIX: &str = "location /v2/ {
        proxy_pass http://127.0.0.1:5000/registry/v2/;
        proxy_redirect /registry/v2/ /v2/;
    }
    location /registry/ { proxy_pass http://127.0.0.1:5000; }";

/// Returns nginx's file for a machine.
fn nginx_file(machine: &Machine, locations: &str) -> String {
    let page = include_str!("../../docs/reverse-proxies.md");
    let mut documented = page.split_once("```nginx\n").unwrap().1.split_once("```").unwrap().0.to_owned();
    let folder = machine.path("certificates");
    for (written, here) in [
        ("listen 443 ssl;", format!("listen {ADDRESS}:8443 ssl;")),
        ("/etc/nginx/tls.", format!("{folder}/tls.")),
        (LOCATION, locations.to_owned()),
    ] {
        assert!(documented.contains(written), "{written} is not in {documented}");
        documented = documented.replace(written, &here);
    }
    NGINX_FILE.replace("{folder}", &machine.path("")).replace("{documented}", &documented)
}

/// Starts nginx before the registry on port 5000. Returns the registry as its clients know it.
pub(crate) fn start_nginx(machine: &mut Machine, locations: &str) -> Registry {
    fs::write(machine.path("nginx.conf"), nginx_file(machine, locations)).unwrap();
    let mut nginx = machine.command(NGINX);
    nginx.args(["-c", &machine.path("nginx.conf"), "-g", "daemon off;"]);
    machine.daemon("nginx", nginx);
    let authority = Some(machine.path("certificates/ca.crt"));
    let registry = Registry { host: format!("{NAME}:8443"), authority };
    machine.until("nginx", || {
        let mut ask = machine.command("curl");
        ask.args(["--silent", "--insecure", "--output", "/dev/null"]).arg(registry.url("/"));
        ask.output().unwrap().status.success().then_some(())
    });
    registry
}

const RULES: &str = "quinistry:
  http: {trustedproxies: [127.0.0.0/8]}
  access:
    - {repositories: ['**'], who: [anonymous], can: [pull]}
    - {repositories: ['**'], who: [authenticated], can: [push]}
  audit: {path: '{folder}audit.log'}
";

#[test]
fn docker_logs_in_pushes_and_pulls_through_nginx_as_documented() {
    docker_works_through_nginx(LOCATION, "/");
}

#[test]
fn docker_logs_in_pushes_and_pulls_through_nginx_below_a_prefix() {
    docker_works_through_nginx(LOCATIONS_OF_PREFIX, "/registry/");
}

fn docker_works_through_nginx(locations: &str, prefix: &str) {
    if lacks(&[Docker::needs(), vec![NGINX]].concat()) {
        return;
    }
    let mut machine = Machine::start();
    prepare_tls(&machine);
    let rules = RULES.replace("{folder}", &machine.path(""));
    let keys = format!(", prefix: {prefix}");
    let given =
        Given { program: Program::Ours, port: 5000, is_tls: false, tls: "", http: &keys, more: &rules };
    let direct = start(&mut machine, given);
    let registry = start_nginx(&mut machine, locations);
    let docker = Docker::start(&mut machine, std::slice::from_ref(&registry));

    let right = Session::new(&machine, &registry, Some(ALICE), "right");
    let wrong = Session::new(&machine, &registry, Some(WRONG), "wrong");
    assert_eq!(docker.login(&wrong).expect("docker has a login").verdict(), Refused);
    docker.login(&right).expect("docker has a login").allowed();
    docker.push(&right, "team/app").expect("docker pushes").allowed();
    let anonymous = Session::new(&machine, &registry, None, "anonymous");
    assert_eq!(docker.pull(&anonymous, "team/app").verdict(), Allowed);
    assert_eq!(docker.push(&anonymous, "team/other").expect("docker pushes").verdict(), Refused);

    // The address is the client's, and not the proxy's.
    machine.until("the audit log's line of the wrong password", || {
        let text = fs::read_to_string(machine.path("audit.log")).unwrap_or_default();
        text.lines().any(|line| line.contains("\"status\":401") && line.contains(ADDRESS)).then_some(())
    });

    // The realm is the proxy's, as the client sees it, and every Location is a path alone.
    let headers = |registry: &Registry, arguments: &[&str], path: &str| {
        let mut ask =
            right.command("curl", &["--silent", "--insecure", "--dump-header", "-", "--output", "/dev/null"]);
        ask.args(arguments).arg(registry.url(path));
        String::from_utf8(ask.output().unwrap().stdout).unwrap().to_lowercase()
    };
    let challenge = headers(&registry, &[], "/v2/");
    assert!(challenge.contains(&format!("realm=\"https://{NAME}:8443{prefix}v2/_token\"")), "{challenge}");
    let user = right.user_and_password().unwrap();
    let forged = ["--request", "POST", "--user", &user, "--header", "X-Forwarded-Host: evil.example"];
    let path = "/v2/team/b/blobs/uploads/";
    for (registry, prefix) in [(&registry, "/"), (&direct, prefix)] {
        let opened = headers(registry, &forged, &format!("{}{}", prefix.trim_end_matches('/'), path));
        let location = opened.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        // nginx completes a path that it rewrites.
        let path_alone = location.strip_prefix(&format!("https://{NAME}:8443")).unwrap_or(location);
        assert!(path_alone.starts_with(&format!("{prefix}v2/team/b/blobs/uploads/")), "{opened}");
        assert!(!opened.contains("evil"), "{opened}");
    }
}

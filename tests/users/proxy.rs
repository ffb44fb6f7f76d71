//! A registry with users behind nginx, which ends TLS and shows the registry below a path of its own.

use std::fs;

use crate::attempt::Verdict::{Allowed, Refused};
use crate::clients::{Client as _, Docker};
use crate::machine::Machine;
use crate::matrix::prepare_tls;
use crate::program::lacks;
use crate::registry::{ADDRESS, ALICE, Given, NAME, Program, Registry, WRONG, start};
use crate::session::Session;

const NGINX: &str = "/usr/sbin/nginx";

/// As our documentation writes it, but for the files of this test.
const NGINX_FILE: &str = r"
user root;
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
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-For $remote_addr;
    server {
        listen {address}:8443 ssl;
        ssl_certificate {folder}certificates/tls.crt;
        ssl_certificate_key {folder}certificates/tls.key;
        location / { proxy_pass http://127.0.0.1:5000; }
    }
}
";

const RULES: &str = "quinistry:
  http: {trustedproxies: [127.0.0.0/8]}
  access:
    - {repositories: ['**'], who: [anonymous], can: [pull]}
    - {repositories: ['**'], who: [authenticated], can: [push]}
";

#[test]
fn docker_logs_in_pushes_and_pulls_through_nginx_with_tls() {
    if lacks(&[Docker::needs(), vec![NGINX]].concat()) {
        return;
    }
    let mut machine = Machine::start();
    prepare_tls(&machine);
    let given = Given { program: Program::Ours, port: 5000, is_tls: false, tls: "", more: RULES };
    let direct = start(&mut machine, given);
    let file = NGINX_FILE.replace("{folder}", &machine.path("")).replace("{address}", ADDRESS);
    fs::write(machine.path("nginx.conf"), file).unwrap();
    let mut nginx = machine.command(NGINX);
    nginx.args(["-c", &machine.path("nginx.conf"), "-g", "daemon off;"]);
    machine.daemon("nginx", nginx);
    let authority = Some(machine.path("certificates/ca.crt"));
    let registry = Registry { host: format!("{NAME}:8443"), authority };
    let docker = Docker::start(&mut machine, std::slice::from_ref(&registry));

    let right = Session::new(&machine, &registry, Some(ALICE), "right");
    machine.until("nginx", || {
        let mut ask = right.command("curl", &["--silent", "--insecure", "--output", "/dev/null"]);
        ask.arg(registry.url("/")).output().unwrap().status.success().then_some(())
    });
    let wrong = Session::new(&machine, &registry, Some(WRONG), "wrong");
    assert_eq!(docker.login(&wrong).expect("docker has a login").verdict(), Refused);
    docker.login(&right).expect("docker has a login").allowed();
    docker.push(&right, "team/app").expect("docker pushes").allowed();
    let anonymous = Session::new(&machine, &registry, None, "anonymous");
    assert_eq!(docker.pull(&anonymous, "team/app").verdict(), Allowed);
    assert_eq!(docker.push(&anonymous, "team/other").expect("docker pushes").verdict(), Refused);

    // The realm is the proxy's, as the client sees it, and every Location is a path alone.
    let headers = |registry: &Registry, arguments: &[&str], path: &str| {
        let mut ask =
            right.command("curl", &["--silent", "--insecure", "--dump-header", "-", "--output", "/dev/null"]);
        ask.args(arguments).arg(registry.url(path));
        String::from_utf8(ask.output().unwrap().stdout).unwrap().to_lowercase()
    };
    let challenge = headers(&registry, &[], "/v2/");
    assert!(challenge.contains(&format!("realm=\"https://{NAME}:8443/v2/_token\"")), "{challenge}");
    let user = right.user_and_password().unwrap();
    let forged = ["--request", "POST", "--user", &user, "--header", "X-Forwarded-Host: evil.example"];
    for (registry, path) in [(&registry, "/v2/team/b/blobs/uploads/"), (&direct, "/v2/team/b/blobs/uploads/")]
    {
        let opened = headers(registry, &forged, path);
        assert!(opened.contains("\nlocation: /v2/team/b/blobs/uploads/"), "{opened}");
        assert!(!opened.contains("evil"), "{opened}");
    }
}

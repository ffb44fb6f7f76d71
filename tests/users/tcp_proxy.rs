//! A registry with TLS behind haproxy, which passes TCP on, with the file of `docs/reverse-proxies.md`.

use std::fs;

use crate::machine::Machine;
use crate::matrix::prepare_tls;
use crate::program::lacks;
use crate::registry::{ADDRESS, NAME};

const HAPROXY: &str = "/usr/sbin/haproxy";

/// Registry behind the documented proxy. The test replaces `{trusted}` by the networks of trusted proxies.
const CONFIG: &str = "version: 0.1
storage: {inmemory: {}}
http:
  addr: '127.0.0.1:5000'
  tls: {certificate: '{folder}/tls.crt', key: '{folder}/tls.key'}
quinistry: {http: {trustedproxies: ['{trusted}'], proxyprotocol: true}}
";

/// Part of a whole file before that of the documentation.
const HAPROXY_DEFAULTS: &str = "defaults
    timeout connect 10s
    timeout client 60s
    timeout server 60s

";

/// Asks by curl through haproxy, from an address that is not the proxy's. Returns true if there was an answer.
fn ask(machine: &Machine) -> bool {
    let mut curl = machine.command("curl");
    curl.args(["--silent", "--fail", "--output", "/dev/null", "--interface", "127.0.0.7"]);
    curl.args([
        "--cacert",
        &machine.path("certificates/ca.crt"),
        "--resolve",
        &format!("{NAME}:443:127.0.0.1"),
    ]);
    curl.arg(format!("https://{NAME}/v2/")).output().unwrap().status.success()
}

/// Starts haproxy with the documented file, and a registry that trusts these proxies.
fn start(trusted: &str) -> Machine {
    let mut machine = Machine::start();
    prepare_tls(&machine);
    let config = CONFIG.replace("{folder}", &machine.path("certificates")).replace("{trusted}", trusted);
    fs::write(machine.path("config.yml"), config).unwrap();
    let mut registry = machine.command(crate::program::QUINISTRY);
    registry.args(["serve", &machine.path("config.yml")]);
    machine.daemon("registry", registry);
    let page = include_str!("../../docs/reverse-proxies.md");
    let documented = page.split_once("```haproxy\n").unwrap().1.split_once("```").unwrap().0;
    fs::write(machine.path("haproxy.cfg"), format!("{HAPROXY_DEFAULTS}{documented}")).unwrap();
    let mut haproxy = machine.command(HAPROXY);
    haproxy.args(["-db", "-f", &machine.path("haproxy.cfg")]);
    machine.daemon("haproxy", haproxy);
    machine
}

fn log(machine: &Machine) -> String {
    fs::read_to_string(machine.path("registry.log")).unwrap_or_default()
}

#[test]
fn the_access_log_has_the_address_of_the_client_behind_haproxy_as_documented() {
    if lacks(&[HAPROXY]) {
        return;
    }
    let machine = start("127.0.0.1/32");
    machine.until("haproxy and the registry", || ask(&machine).then_some(()));
    machine.until("the line of the access log", || {
        log(&machine)
            .lines()
            .any(|line| line.starts_with("127.0.0.7 ") && line.contains("GET /v2/"))
            .then_some(())
    });
}

#[test]
fn connections_of_a_proxy_that_is_not_trusted_are_closed() {
    if lacks(&[HAPROXY]) {
        return;
    }
    let machine = start(&format!("{ADDRESS}/32"));
    machine.until("the refusal in the log", || {
        assert!(!ask(&machine), "a request was answered");
        log(&machine).contains("refusing connections of peers that").then_some(())
    });
    assert!(!log(&machine).contains("GET /v2/"));
}

//! HTTPS of the real program: its first lines, versions and suites as openssl sees them, and a certificate that is
//! exchanged while a client pulls.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Output, Stdio};

use super::program::{Given, Place, Registry};
use crate::support::certificates::{AUTHORITY, Certificates, Pair, Profile};
use crate::support::http::Peer;
use crate::support::images::{Image, Packing};
use crate::support::ports::reserved_address;
use crate::support::process::{command, output, spawn};
use crate::support::skip::{Need, lacks};

/// Configuration with TLS. The test replaces `{keys}` by further keys of `http.tls`.
const CONFIG: &str = "version: 0.1
log: {accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '{root}'}}
http:
  addr: '{addr}'
  tls: {certificate: '{folder}/tls.crt', key: '{folder}/tls.key'{keys}}
";

/// Certificate of a registry with a public name, on every address of a machine.
const NAMED: &str = "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:*.test,DNS:registry.test\n";

/// A user of the lowest cost of bcrypt.
pub(crate) const PASSWORDS: &str = "alice:$2b$04$0K7Rm7wwqc3T835uAD/J6Osl8fopNTWsvqFLeT0LQzzP3oXN0koWK\n";

/// Puts a pair into the place of the registry's own by renames, as certificate managers do. Returns after the
/// certificate, and before the key: the caller calls the result.
fn exchange<'a>(place: &'a Place, pair: &'a Pair) -> impl FnOnce() + 'a {
    let rename = |from: &std::path::Path, name: &str| {
        let new = place.path("new");
        fs::copy(from, &new).unwrap();
        fs::rename(new, place.path(name)).unwrap();
    };
    rename(&pair.certificate, "tls.crt");
    move || rename(&pair.key, "tls.key")
}

pub(crate) fn serve(place: &Place, pair: &Pair, keys: &str) -> Registry {
    exchange(place, pair)();
    place.serve_ours(Given { file: Some(&CONFIG.replace("{keys}", keys)), ..Given::default() })
}

/// Makes a handshake by openssl, and ends the connection.
fn handshake(peer: Peer, arguments: &[&str]) -> Output {
    let mut client = command("openssl");
    client.args(["s_client", "-connect", &peer.0.to_string()]).args(arguments).stdin(Stdio::null());
    output(&mut client).unwrap()
}

fn assert_accepted(peer: Peer, arguments: &[&str], version_and_suite: [&str; 2]) {
    let output = handshake(peer, arguments);
    let [version, suite] = version_and_suite;
    let expected = format!("New, {version}, Cipher is {suite}\n");
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains(&expected), "{arguments:?}: {text}{error}");
}

/// Asserts that the server, and not openssl itself, ends a handshake.
fn assert_refused(peer: Peer, arguments: &[&str], alert: &str) {
    let output = handshake(peer, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains(&format!("alert {alert}")), "{arguments:?}: {error}");
}

#[test]
fn openssl_is_served_by_each_suite_alone_and_by_no_old_version() {
    let Some(certificates) = Certificates::new() else { return };
    let elliptic = certificates.self_signed("elliptic", Profile::default());
    let rsa =
        Pair { certificate: certificates.path().join("rsa.crt"), key: certificates.path().join("rsa.key") };
    let mut request = command("openssl");
    request.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout"]);
    assert!(output(request.arg(&rsa.key).arg("-out").arg(&rsa.certificate)).unwrap().status.success());

    for (kind, pair) in [("ECDSA", &elliptic), ("RSA", &rsa)] {
        let place = Place::new();
        let registry = serve(&place, pair, "");
        let peer = registry.peer;
        // The lowest level of security makes openssl offer what the server must refuse.
        for version in ["-tls1", "-tls1_1"] {
            assert_refused(peer, &[version, "-cipher", "ALL:@SECLEVEL=0"], "handshake failure");
        }
        for suite in ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"] {
            let suite = format!("ECDHE-{kind}-{suite}");
            assert_accepted(peer, &["-tls1_2", "-cipher", &suite], ["TLSv1.2", &suite]);
        }
        for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
            assert_accepted(peer, &["-tls1_3", "-ciphersuites", suite], ["TLSv1.3", suite]);
        }
        for suite in [format!("ECDHE-{kind}-AES128-SHA"), "AES128-GCM-SHA256".into()] {
            let suite = format!("{suite}:@SECLEVEL=0");
            assert_refused(peer, &["-tls1_2", "-cipher", &suite], "handshake failure");
        }
    }

    let place = Place::new();
    let registry = serve(&place, &elliptic, ", minimumtls: tls1.3");
    assert_refused(registry.peer, &["-tls1_2"], "protocol version");
    assert_accepted(registry.peer, &["-tls1_3"], ["TLSv1.3", "TLS_AES_256_GCM_SHA384"]);

    let place = Place::new();
    let suites = ", ciphersuites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]";
    let registry = serve(&place, &elliptic, suites);
    let suite = "ECDHE-ECDSA-AES256-GCM-SHA384";
    assert_accepted(registry.peer, &["-tls1_2"], ["TLSv1.2", suite]);
    assert_refused(
        registry.peer,
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        "handshake failure",
    );
}

/// Runs curl, which must succeed, and returns its standard output.
fn curl(certificates: &Certificates, arguments: &[&str]) -> String {
    let mut curl = command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(certificates.path().join("ca.crt"));
    let output = output(curl.args(arguments)).unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_pull_outlasts_a_pair_that_does_not_fit_and_the_exchange_of_the_certificate() {
    let Some(certificates) = Certificates::new() else { return };
    if lacks(&[Need::Tool("curl")]) {
        return;
    }
    let authority = Profile { extensions: AUTHORITY, ..Profile::default() };
    let authority = certificates.self_signed("ca", authority);
    let [former, next] =
        ["former", "next"].map(|name| certificates.signed_by(&authority, name, Profile::default()));
    let (place, debug) = (Place::new(), reserved_address());
    exchange(&place, &former)();
    let file = format!(
        "{}  debug: {{addr: '{debug}', prometheus: {{enabled: true}}}}\n",
        CONFIG.replace("{keys}", "")
    );
    let registry = place.serve_ours(Given { file: Some(&file), ..Given::default() });
    let url = format!("https://{}", registry.peer.0);
    let metric = |line: &str| {
        let page = Peer(debug).get("/metrics").body;
        String::from_utf8(page).unwrap().lines().any(|found| found == line)
    };

    // More than the kernel holds between the registry and a client that does not read.
    let layer: Vec<u8> = (0..=250).cycle().take(32 << 20).collect();
    let image = Image::of_tars("amd64", &[layer], Packing::Plain);
    let (descriptor, bytes) = image.blobs().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let blob = place.path("blob");
    fs::write(&blob, bytes).unwrap();
    let uploads = format!("{url}/v2/app/blobs/uploads/");
    let opened = curl(&certificates, &["--request", "POST", "--dump-header", "-", &uploads]).to_lowercase();
    let location = opened.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().trim();
    let mark = if location.contains('?') { '&' } else { '?' };
    let upload = format!("{url}{location}{mark}digest={}", descriptor.digest);
    curl(&certificates, &["--upload-file", blob.to_str().unwrap(), &upload]);

    let mut pull = command("openssl");
    pull.args(["s_client", "-quiet", "-verify_return_error", "-connect", &registry.peer.0.to_string()]);
    pull.arg("-CAfile").arg(&authority.certificate);
    let mut pull = spawn(pull.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()));
    let path = format!("/v2/app/blobs/{}", descriptor.digest);
    let request = format!("GET {path} HTTP/1.1\r\nHost: registry.test\r\nConnection: close\r\n\r\n");
    let mut stdin = pull.stdin.take().unwrap();
    stdin.write_all(request.as_bytes()).unwrap();
    let mut response = vec![0; 1024];
    let mut stdout = pull.stdout.take().unwrap();
    stdout.read_exact(&mut response).unwrap();

    let with_key = exchange(&place, &next);
    registry.wait_for_log("cannot read files again", 1);
    assert!(metric("quinistry_reload_failures_total{what=\"tls\"} 1"));
    assert!(metric("quinistry_tls_reloads_total{result=\"failure\"} 1"));
    let shown = |pair: &Pair| {
        let output = handshake(registry.peer, &["-showcerts"]);
        let certificate = fs::read_to_string(&pair.certificate).unwrap();
        String::from_utf8(output.stdout).unwrap().contains(certificate.trim())
    };
    assert!(shown(&former) && !shown(&next), "a key of another certificate changes nothing");
    with_key();
    registry.wait_for_log("changed files reloaded", 1);
    assert!(metric("quinistry_tls_reloads_total{result=\"success\"} 1"));
    assert!(shown(&next) && !shown(&former), "new connections get the new certificate");

    stdout.read_to_end(&mut response).unwrap();
    drop(stdin);
    assert!(pull.wait().unwrap().success());
    assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(response.ends_with(bytes), "{} bytes came", response.len());
    let log = registry.log();
    assert_eq!(log.matches("cannot read files again").count(), 1, "{log}");
    assert!(log.contains("tls.key is not the key of the certificate in"), "{log}");
}

#[test]
fn the_first_lines_name_the_certified_host_and_warn_where_strangers_read_or_write() {
    let Some(certificates) = Certificates::new() else { return };
    let pair = certificates.self_signed("named", Profile { extensions: NAMED, ..Profile::default() });
    let users = "auth: {htpasswd: {realm: Test, path: '{folder}/htpasswd'}}\n";
    let plain = CONFIG.split("  tls:").next().unwrap();
    let secure = CONFIG.replace("{keys}", "");
    let proxy = format!("{users}quinistry: {{http: {{trustedproxies: [10.0.0.0/8]}}}}\n");
    for (file, address, more, host, warning) in [
        (plain, "0.0.0.0", "", "localhost", Some("everyone who reaches this address can push")),
        (plain, "0.0.0.0", users, "localhost", Some("passwords and tokens reach this address in clear")),
        (plain, "0.0.0.0", &proxy, "localhost", None),
        (plain, "127.0.0.1", users, "127.0.0.1", None),
        (&secure, "0.0.0.0", "", "registry.test", Some("everyone who reaches this address can push")),
        (&secure, "0.0.0.0", users, "registry.test", None),
        (&secure, "127.0.0.1", users, "registry.test", None),
    ] {
        let place = Place::new();
        exchange(&place, &pair)();
        fs::write(place.path("htpasswd"), PASSWORDS).unwrap();
        let file = file.replace("{addr}", &format!("{address}:{{port}}")) + more;
        let registry = place.serve_ours(Given { file: Some(&file), ..Given::default() });
        registry.wait_for_log("next: ", 1);
        let host = format!("{host}:{}", registry.peer.0.port());
        let login = if more.is_empty() { String::new() } else { format!("docker login {host}, then ") };
        let next = format!("next: {login}docker push {host}/NAME:TAG");
        registry.wait_for_log(&next, 1);
        let protocol =
            if file.contains("tls:") { "serving quinistry over HTTPS" } else { "serving quinistry " };
        let log = registry.log();
        assert!(log.contains(protocol), "{log}");
        // Both warnings are about an address; others are about the test's cheap password.
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" this address ")).collect();
        assert_eq!(warnings.len(), usize::from(warning.is_some()), "{file}: {log}");
        assert!(warnings.iter().zip(warning).all(|(line, warning)| line.contains(warning)), "{file}: {log}");
    }
}

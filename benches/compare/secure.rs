//! Reads over TLS 1.3 with one certificate for all servers, and with a password.
//!
//! The clients decrypt on the same machine, which weighs the same for all servers.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::comparison::Comparison;
use super::data::{IMAGE, PeerData};
use super::peers::{Peer, Protection};
use super::row::Work;
use super::support::process::Process;
use super::support::wrk;

const CONNECTIONS: usize = 8;

/// Duration of a run of `wrk`, which accepts only whole seconds.
const WRK_SECONDS: u64 = 1;

/// Peers that speak TLS.
const OVER_TLS: [Peer; 4] = [Peer::Quinistry, Peer::DockerRegistry, Peer::Distribution, Peer::Nginx];

/// Peers that ask for passwords.
const WITH_PASSWORDS: [Peer; 3] = [Peer::Quinistry, Peer::DockerRegistry, Peer::Distribution];

/// `reader:reader-k2Hw8` in a header field of a request.
pub(crate) const AUTHORIZATION: &str = "Authorization: Basic cmVhZGVyOnJlYWRlci1rMkh3OA==";

/// The line of that user, with the cost that `htpasswd -B` and distribution's documentation use most.
const PASSWORDS: &str = "reader:$2b$10$4ONFYhHFdRQXFuypQgNupOc4D5BWaytb1AVghh8azsLssihMPq37i\n";

/// Password file with that user.
#[derive(Debug)]
pub(crate) struct PasswordFile(PathBuf);

impl PasswordFile {
    pub(crate) fn write(folder: &Path) -> Self {
        let file = folder.join("htpasswd");
        fs::write(&file, PASSWORDS).unwrap();
        Self(file)
    }

    pub(crate) fn protection(&self) -> Protection<'_> {
        Protection { tls: None, passwords: Some(&self.0) }
    }
}

pub(crate) fn measure(comparison: &mut Comparison, data: &PeerData, peers: &[Peer]) {
    over_tls(comparison, data, peers);
    with_passwords(comparison, data, peers);
}

fn over_tls(comparison: &mut Comparison, data: &PeerData, peers: &[Peer]) {
    let manifest = Work::rate(format!("manifest GET over TLS 1.3, {CONNECTIONS} connections"), "k/s")
        .relative_to(Peer::Nginx, 1.0);
    let blob = Work::rate(format!("blob GET 100 MB over TLS 1.3, {CONNECTIONS} connections"), "GB/s")
        .relative_to(Peer::Nginx, 0.9);
    if !comparison.selects(&[&manifest.name, &blob.name]) {
        return;
    }
    let folder = comparison.options.dir.join("tls");
    let Some((certificate, key)) = certificate(&folder) else {
        eprintln!("openssl or curl is not installed: nothing is measured over TLS");
        return;
    };
    let protection = Protection { tls: Some((&certificate, &key)), passwords: None };
    let (peers, servers) = start(comparison, data, &OVER_TLS, peers, protection);
    let rounds = comparison.options.rounds();
    let url = |peer: Peer, rest: &str| format!("https://{}/v2/{IMAGE}/{rest}", address(&servers, peer));
    comparison.row(manifest, rounds, &peers, |peer| {
        wrk::rate(&url(peer, "manifests/latest"), &[accept()], CONNECTIONS, WRK_SECONDS) / 1e3
    });
    let layer = &data.layers[2];
    comparison.row(blob, rounds, &peers, |peer| {
        gigabytes_per_second(&url(peer, &format!("blobs/{}", layer.digest)))
    });
}

fn with_passwords(comparison: &mut Comparison, data: &PeerData, peers: &[Peer]) {
    let manifest = Work::rate(format!("manifest GET with a password, {CONNECTIONS} connections"), "k/s");
    let part = Work::rate("manifest GET with a password, as a part of that without", "×").at_least(0.8);
    if !comparison.selects(&[&manifest.name, &part.name]) {
        return;
    }
    let file = PasswordFile::write(&comparison.options.dir);
    let (protected, servers) = start(comparison, data, &WITH_PASSWORDS, peers, file.protection());
    let (_, open) = start(comparison, data, &WITH_PASSWORDS, peers, Protection::default());
    let rate = |servers: &[(Peer, Process)], peer: Peer, fields: &[String]| {
        let url = format!("http://{}/v2/{IMAGE}/manifests/latest", address(servers, peer));
        wrk::rate(&url, fields, CONNECTIONS, WRK_SECONDS) / 1e3
    };
    let rounds = comparison.options.rounds();
    comparison.rows_of_one_measurement(vec![manifest, part], rounds, &protected, |peer| {
        let without = rate(&open, peer, &[accept()]);
        let with = rate(&servers, peer, &[accept(), AUTHORIZATION.into()]);
        vec![with, with / without]
    });
}

/// Starts those of the wanted peers that are installed. Returns when all of them listen.
fn start(
    comparison: &Comparison,
    data: &PeerData,
    wanted: &[Peer],
    installed: &[Peer],
    protection: Protection<'_>,
) -> (Vec<Peer>, Vec<(Peer, Process)>) {
    let peers: Vec<Peer> = wanted.iter().copied().filter(|peer| installed.contains(peer)).collect();
    let quinistry = &comparison.options.quinistry;
    let start = |peer: Peer| (peer, peer.start_protected(quinistry, &data.folder(peer), protection));
    let servers: Vec<(Peer, Process)> = peers.iter().copied().map(start).collect();
    for (_, server) in &servers {
        drop(server.connect());
    }
    (peers, servers)
}

fn address(servers: &[(Peer, Process)], peer: Peer) -> SocketAddr {
    servers.iter().find(|(of, _)| *of == peer).expect("only those are asked that were started").1.address()
}

fn accept() -> String {
    format!("Accept: {}", quinistry::oci::media_type::OCI_MANIFEST)
}

/// Makes a certificate for one day. Returns the files of certificate and key, or `None` without the programs.
fn certificate(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    fs::create_dir_all(folder).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let mut request = Command::new("openssl");
    request
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=compare", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null());
    let curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status();
    let made = request.status().is_ok_and(|status| status.success());
    (made && curl.is_ok()).then_some((certificate, key))
}

/// Rate at which eight processes of curl read one blob each. curl, like the clients of registries, decrypts
/// with one thread per connection; `wrk` reads 8 KiB at a time and would itself be the bottleneck.
fn gigabytes_per_second(url: &str) -> f64 {
    let begin = Instant::now();
    let start = || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--insecure", "--tlsv1.3", "--write-out", "%{size_download}"]);
        curl.args(["--output", "/dev/null", url]).stdin(Stdio::null()).stdout(Stdio::piped());
        curl.spawn().unwrap()
    };
    let all: Vec<_> = (0..CONNECTIONS).map(|_| start()).collect();
    let mut bytes = 0.0;
    for curl in all {
        let output = curl.wait_with_output().unwrap();
        assert!(output.status.success(), "curl {url}: {}", output.status);
        bytes += String::from_utf8_lossy(&output.stdout).parse::<f64>().expect("curl prints a number");
    }
    bytes / begin.elapsed().as_secs_f64() / 1e9
}

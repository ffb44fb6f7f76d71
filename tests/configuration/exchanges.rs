//! Certificates that are exchanged again and again under handshakes and under a pull, in all ways that certificate
//! managers have.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinistry::oci::{Algorithm, Digest, Hasher};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::program::Place;
use super::tls::serve;
use crate::support::certificates::{AUTHORITY, Certificates, Pair, Profile};
use crate::support::http::TEST_TIMEOUT;

/// Clients that make handshakes at once.
const CLIENTS: usize = 2;

/// Length of the part of a blob that is made and read at once.
const PART_BYTES: usize = 1 << 20;

/// Length of a test.
#[derive(Clone, Copy)]
struct Scale {
    exchanges: usize,
    /// Least number of handshakes during them.
    handshakes: usize,
    /// Length of the blob whose pull outlasts them, in parts.
    parts: usize,
}

/// A client of one registry.
#[derive(Clone)]
struct Client {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

impl Client {
    fn new(authority: &Pair, address: SocketAddr) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&authority.certificate).unwrap()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        // A resumed session shows the certificate of the former one.
        config.resumption = Resumption::disabled();
        Self { config: Arc::new(config), address }
    }

    fn connect(&self) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(TEST_TIMEOUT))?;
        stream.set_write_timeout(Some(TEST_TIMEOUT))?;
        let name = ServerName::from(self.address.ip());
        let mut connection = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        connection.complete_io(&mut stream)?;
        Ok(StreamOwned::new(connection, stream))
    }

    /// Returns the certificate that a new handshake shows.
    fn shown(&self) -> io::Result<CertificateDer<'static>> {
        let stream = self.connect()?;
        let chain = stream.conn.peer_certificates().expect("the handshake has ended");
        Ok(chain[0].clone().into_owned())
    }

    /// Sends a request with a body and reads the response's head.
    fn ask(
        &self,
        head: &str,
        body: impl Iterator<Item = Vec<u8>>,
    ) -> (StreamOwned<ClientConnection, TcpStream>, String) {
        let mut stream = self.connect().unwrap();
        stream.write_all(format!("{head}\r\nHost: registry.test\r\n\r\n").as_bytes()).unwrap();
        body.for_each(|part| stream.write_all(&part).unwrap());
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        (stream, String::from_utf8(answer).unwrap())
    }
}

/// A part of a blob, unlike all others.
fn part(number: usize) -> Vec<u8> {
    let mut part = vec![b'x'; PART_BYTES];
    part[..8].copy_from_slice(&number.to_le_bytes());
    part
}

fn digest(parts: impl Iterator<Item = Vec<u8>>) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    parts.for_each(|part| hasher.update(&part));
    hasher.finish()
}

/// Puts a pair into the place of the registry's own: by renames, in place, or by the link of a volume of Kubernetes.
fn put(place: &Place, pair: &Pair, round: usize) {
    let files = [(&pair.certificate, "tls.crt"), (&pair.key, "tls.key")];
    let new = place.path("new");
    match round % 3 {
        0 => {
            for (from, name) in files {
                fs::copy(from, &new).unwrap();
                fs::rename(&new, place.path(name)).unwrap();
            }
        }
        1 => {
            for (from, name) in files {
                fs::copy(from, place.path(name)).unwrap();
            }
        }
        _ => {
            let folder = format!("..{round}");
            fs::create_dir(place.path(&folder)).unwrap();
            for (from, name) in files {
                fs::copy(from, place.path(&folder).join(name)).unwrap();
            }
            symlink(&folder, &new).unwrap();
            fs::rename(&new, place.path("..data")).unwrap();
            for (_, name) in files {
                symlink(format!("..data/{name}"), &new).unwrap();
                fs::rename(&new, place.path(name)).unwrap();
            }
        }
    }
}

/// Ends the handshakes, also when the test fails.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchanges certificates while clients make handshakes, and while one pulls a blob. None of them may fail.
fn exchange_under_load(scale: Scale) {
    let Some(certificates) = Certificates::new() else { return };
    let authority = Profile { extensions: AUTHORITY, ..Profile::default() };
    let authority = certificates.self_signed("ca", authority);
    let pairs =
        ["first", "second", "third"].map(|name| certificates.signed_by(&authority, name, Profile::default()));
    let place = Place::new();
    let registry = serve(&place, &pairs[0], "");
    let client = Client::new(&authority, registry.peer.0);

    let digest_of_blob = digest((0..scale.parts).map(part));
    let length = scale.parts * PART_BYTES;
    let post = format!(
        "POST /v2/app/blobs/uploads/?digest={digest_of_blob} HTTP/1.1\r\nContent-Length: {length}\r\n\
         Connection: close"
    );
    let (_, answer) = client.ask(&post, (0..scale.parts).map(part));
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let get = format!("GET /v2/app/blobs/{digest_of_blob} HTTP/1.1\r\nConnection: close");
    let (mut pull, answer) = client.ask(&get, std::iter::empty());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut read = 0;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut pull_until = |end: usize| {
        let mut part = vec![0; PART_BYTES];
        while read < end {
            pull.read_exact(&mut part).unwrap_or_else(|error| panic!("after {read} parts: {error}"));
            hasher.update(&part);
            read += 1;
        }
    };

    let (is_over, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        let _until = Until(&is_over);
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) || made.load(Ordering::Relaxed) < scale.handshakes {
                    client.shown().expect("no handshake fails");
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..scale.exchanges {
            let pair = &pairs[(round + 1) % pairs.len()];
            let expected = CertificateDer::from_pem_file(&pair.certificate).unwrap();
            put(&place, pair, round);
            let begin = Instant::now();
            while client.shown().expect("no handshake fails") != expected {
                assert!(
                    begin.elapsed() < TEST_TIMEOUT,
                    "exchange {round} is not noticed: {}",
                    registry.log()
                );
                thread::sleep(Duration::from_millis(5));
            }
            slowest = slowest.max(begin.elapsed());
            // The last part comes after the last exchange.
            pull_until(round * (scale.parts - 1) / scale.exchanges);
        }
    });
    pull_until(scale.parts);
    assert_eq!(hasher.finish(), digest_of_blob);
    println!(
        "{} handshakes and a pull of {length} bytes during {} exchanges; none failed. The slowest exchange was \
         shown after {:.1} s",
        made.into_inner(),
        scale.exchanges,
        slowest.as_secs_f64()
    );
}

#[test]
fn no_handshake_and_no_pull_fails_while_certificates_are_exchanged() {
    // More than the kernel holds between the registry and a client that does not read.
    exchange_under_load(Scale { exchanges: 3, handshakes: 100, parts: 48 });
}

#[test]
#[ignore = "takes minutes; cargo test --test configuration -- --ignored --nocapture ten_thousand_handshakes"]
fn ten_thousand_handshakes_and_a_pull_of_two_gibibytes_outlast_a_hundred_exchanges() {
    exchange_under_load(Scale { exchanges: 100, handshakes: 10_000, parts: 2048 });
}

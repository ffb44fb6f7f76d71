//! Exchange of certificates without an end of connections.

use std::time::{Duration, SystemTime};

use rcgen::date_time_ymd;

use super::pki::{Authority, Files, Leaf, named};
use super::*;
use crate::watch::ReloadFiles as _;

/// Returns the certificate that a new handshake shows.
async fn shown(server: &Server, authority: &Authority) -> Vec<u8> {
    let stream = server.connect(&authority.trusted()).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_new_pair_serves_new_handshakes_and_open_connections_go_on() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let server = Server::start(files.pair(&authority.leaf("registry.test")));
    let mut open = server.connect(&authority.trusted()).await.unwrap();
    let next = authority.leaf("registry.test");
    files.pair(&next);
    server.tls.reload().unwrap();
    assert_eq!(shown(&server, &authority).await, next.certificate.der().as_ref());
    assert!(request(&mut open).await.unwrap().ends_with(" anonymous"));
    assert_eq!(server.tls.reloads(), (1, 0));
    server.tls.reload().unwrap();
    assert_eq!(server.tls.reloads(), (1, 0), "the same certificate is no exchange");
}

#[tokio::test]
async fn row_141_a_key_of_another_certificate_keeps_the_former_pair_until_both_fit() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let first = authority.leaf("registry.test");
    let server = Server::start(files.pair(&first));
    let next = authority.leaf("registry.test");
    files.write("tls.key", next.key.serialize_pem());
    let error = server.tls.reload().unwrap_err().to_string();
    assert!(error.contains("tls.key is not the key of the certificate in"), "{error}");
    assert_eq!(shown(&server, &authority).await, first.certificate.der().as_ref());
    files.write("tls.crt", next.certificate.pem());
    server.tls.reload().unwrap();
    assert_eq!(shown(&server, &authority).await, next.certificate.der().as_ref());
    assert_eq!(server.tls.reloads(), (1, 1));
}

#[test]
fn an_expired_certificate_replaces_only_one_that_has_expired_too() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let until = |year| -> Leaf {
        let mut params = named("registry.test");
        params.not_after = date_time_ymd(year, 1, 1);
        authority.sign(&params)
    };
    let at = |year: u64| SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_557_600);
    let server = TlsServer::new(LoadedTls::read(files.pair(&until(2030))).unwrap());
    let expiry = server.expiry();
    files.pair(&until(2029));
    let error = server.reload_at(at(2029) + Duration::from_hours(24 * 30)).unwrap_err().to_string();
    assert!(error.contains("expired at 2029-01-01T00:00:00Z, keeping the certificate in use"), "{error}");
    assert_eq!(server.expiry(), expiry);
    server.reload_at(at(2032)).unwrap();
    assert!(server.expiry() < expiry, "both have expired");
}

#[test]
fn settings_with_an_expired_certificate_are_refused_while_the_one_in_use_has_not() {
    let (authority, files, others) = (Authority::new("ca"), Files::new(), Files::new());
    let mut params = named("registry.test");
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let expired = others.pair(&authority.sign(&params));
    let server = TlsServer::new(LoadedTls::read(files.pair(&authority.leaf("registry.test"))).unwrap());
    let error = server.accept(LoadedTls::read(expired.clone()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("expired at 2002-01-01T00:00:00Z"), "{error}");
    let server = TlsServer::new(LoadedTls::read(expired.clone()).unwrap());
    assert!(server.accept(LoadedTls::read(expired).unwrap()).is_ok(), "the one in use has expired, too");
}

#[test]
fn files_that_were_read_before_other_settings_do_not_undo_them() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let settings = files.pair(&authority.leaf("registry.test"));
    let server = TlsServer::new(LoadedTls::read(settings.clone()).unwrap());
    let reload = server.begin_reload();
    files.pair(&authority.leaf("registry.test"));
    let read = LoadedTls::read(settings.clone()).unwrap();
    let client_cas = vec![files.write("clients.crt", authority.pem())];
    let stricter = TlsSettings { client_cas, client_auth: ClientAuth::RequireAndVerify, ..settings };
    server.replace(server.accept(LoadedTls::read(stricter.clone()).unwrap()).unwrap());
    server.finish_reload(&reload, read, SystemTime::now()).unwrap();
    assert_eq!(server.settings(), stricter);
}

#[tokio::test]
async fn an_authority_that_moves_into_the_chain_is_no_longer_trusted() {
    let (authority, clients, files) = (Authority::new("ca"), Authority::new("clients"), Files::new());
    let leaf = authority.leaf("registry.test");
    let other = Authority::new("other");
    let client_cas = vec![files.write("clients.crt", clients.pem() + &other.pem())];
    let settings = files.pair(&leaf);
    let client_auth = ClientAuth::RequireAndVerify;
    let server = Server::start(TlsSettings { client_cas, client_auth, ..settings });
    let client = authority.trusted_by(rustls::ALL_VERSIONS, &[], Some(&clients.leaf("alice")));
    assert!(server.ask(&client).await.unwrap().ends_with(" alice"));
    files.write("tls.crt", leaf.certificate.pem() + &clients.pem());
    files.write("clients.crt", other.pem());
    server.tls.reload().unwrap();
    assert!(server.ask(&client).await.is_err());
}

#[tokio::test]
async fn new_client_authorities_count_for_new_handshakes() {
    let (authority, old, new, files) =
        (Authority::new("ca"), Authority::new("old"), Authority::new("new"), Files::new());
    let client_cas = vec![files.write("clients.crt", old.pem())];
    let settings = files.pair(&authority.leaf("registry.test"));
    let server =
        Server::start(TlsSettings { client_cas, client_auth: ClientAuth::RequireAndVerify, ..settings });
    let alice = old.leaf("alice");
    let client = authority.trusted_by(rustls::ALL_VERSIONS, &[], Some(&alice));
    assert!(server.ask(&client).await.unwrap().ends_with(" alice"));
    files.write("clients.crt", new.pem());
    server.tls.reload().unwrap();
    assert!(server.ask(&client).await.is_err(), "no session is resumed past the check");
}

/// Exchanges a pair by a way that certificate managers have: by renames, in place, or by the link of a volume.
fn exchange(files: &Files, leaf: &Leaf, round: usize) {
    let pair = [("tls.crt", leaf.certificate.pem()), ("tls.key", leaf.key.serialize_pem())];
    match round % 3 {
        0 => {
            for (name, content) in pair {
                let new = files.write("new", content);
                std::fs::rename(new, files.path().join(name)).unwrap();
            }
        }
        1 => drop(files.pair(leaf)),
        _ => {
            let folder = files.path().join(format!("..{round}"));
            std::fs::create_dir(&folder).unwrap();
            for (name, content) in pair {
                std::fs::write(folder.join(name), content).unwrap();
                let link = files.path().join("link");
                std::os::unix::fs::symlink(folder.join(name), &link).unwrap();
                std::fs::rename(link, files.path().join(name)).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handshake_fails_during_a_hundred_exchanges() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let server = Server::start(files.pair(&authority.leaf("registry.test")));
    let config = authority.trusted();
    let handshakes = async {
        for _ in 0..1000 {
            server.connect(&config).await.expect("the handshake succeeds");
        }
    };
    let exchanges = async {
        for round in 0..100 {
            exchange(&files, &authority.leaf("registry.test"), round);
            let tls = server.tls.clone();
            tokio::task::spawn_blocking(move || tls.reload().unwrap()).await.unwrap();
        }
    };
    tokio::join!(handshakes, exchanges);
    assert_eq!(server.tls.reloads(), (100, 0));
}

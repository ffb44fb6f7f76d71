//! Client certificates: four demands, and certificates that are good, expired, foreign or an authority's.

use rcgen::{DnType, IsCa, SanType, date_time_ymd};

use super::pki::{Authority, Files, Leaf, named};
use super::*;
use crate::watch::ReloadFiles as _;

/// Starts a server that makes a demand of clients.
fn demanding(files: &Files, server: &Authority, clients: &Authority, client_auth: ClientAuth) -> Server {
    let client_cas = vec![files.write("clients.crt", clients.pem())];
    let settings = files.pair(&server.leaf("registry.test"));
    Server::start(TlsSettings { client_cas, client_auth, ..settings })
}

/// Returns the name that the server saw, or `refused`, over both versions of TLS.
async fn seen(server: &Server, authority: &Authority, identity: Option<&Leaf>) -> String {
    let mut seen = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let answer = server.ask(&authority.trusted_by(&[version], &[], identity)).await;
        seen.push(match answer {
            Ok(body) => body.split(' ').nth(1).unwrap_or("refused").to_owned(),
            Err(_) => "refused".into(),
        });
    }
    assert_eq!(seen[0], seen[1], "both versions agree");
    seen.swap_remove(0)
}

#[tokio::test]
async fn row_140_only_a_verified_certificate_is_an_identity() {
    let (authority, clients, files) = (Authority::new("ca"), Authority::new("clients"), Files::new());
    let good = clients.leaf("alice");
    let mut params = named("old");
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let expired = clients.sign(&params);
    let foreign = Authority::new("clients").leaf("admin");
    let mut params = named("sub");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let sub_authority = clients.sign(&params);
    let certificates = [None, Some(&good), Some(&expired), Some(&foreign), Some(&sub_authority)];
    let expected = [
        (ClientAuth::None, ["anonymous"; 5]),
        (ClientAuth::Request, ["anonymous"; 5]),
        (ClientAuth::RequireAny, ["refused", "anonymous", "anonymous", "anonymous", "anonymous"]),
        (ClientAuth::VerifyIfGiven, ["anonymous", "alice", "refused", "refused", "refused"]),
        (ClientAuth::RequireAndVerify, ["refused", "alice", "refused", "refused", "refused"]),
    ];
    for (demand, expected) in expected {
        let server = demanding(&files, &authority, &clients, demand);
        for (identity, expected) in certificates.iter().zip(expected) {
            assert_eq!(seen(&server, &authority, *identity).await, expected, "{demand:?}");
        }
    }
}

#[tokio::test]
async fn row_140_names_that_are_ambiguous_or_no_text_are_nobodys() {
    let (authority, clients, files) = (Authority::new("ca"), Authority::new("clients"), Files::new());
    let server = demanding(&files, &authority, &clients, ClientAuth::VerifyIfGiven);
    let nul = clients.sign(&named("alice\0.example.com"));
    assert_eq!(seen(&server, &authority, Some(&nul)).await, "ambiguous");
    let long = clients.sign(&named(&"a".repeat(300)));
    assert_eq!(seen(&server, &authority, Some(&long)).await, "ambiguous");
    let mut params = named("alice");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3, 1]), "x");
    params.distinguished_name.push(DnType::OrganizationName, "admin");
    assert_eq!(seen(&server, &authority, Some(&clients.sign(&params))).await, "alice");
    let mut params = named("alice");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "admin");
    assert_eq!(
        seen(&server, &authority, Some(&clients.sign(&params))).await,
        "ambiguous",
        "two common names"
    );
}

#[tokio::test]
async fn row_140_a_megabyte_of_names_is_refused() {
    let (authority, clients, files) = (Authority::new("ca"), Authority::new("clients"), Files::new());
    let server = demanding(&files, &authority, &clients, ClientAuth::VerifyIfGiven);
    let mut params = named("alice");
    let name = |number: u32| SanType::DnsName(format!("{number:0>100}.example.com").try_into().unwrap());
    params.subject_alt_names = (0..10_000).map(name).collect();
    assert_eq!(seen(&server, &authority, Some(&clients.sign(&params))).await, "refused");
    assert_eq!(seen(&server, &authority, Some(&clients.leaf("alice"))).await, "alice");
}

/// Asks on a connection that is to stay open. Returns the head and the body of the answer.
async fn ask_again(stream: &mut TlsStream<TcpStream>) -> (String, String) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    loop {
        let byte = stream.read_u8().await.expect("the answer is whole");
        answer.push(byte.into());
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return (head.to_owned(), body.to_owned());
            }
        }
    }
}

/// Asserts that the next answer on an open connection is to a client without certificate, and the last one.
async fn is_answered_as_nobody_and_closed(stream: &mut TlsStream<TcpStream>) {
    let (head, body) = ask_again(stream).await;
    assert!(body.ends_with(" anonymous"), "{body}");
    assert!(head.contains("connection: close"), "{head}");
    assert!(stream.read_u8().await.is_err(), "the connection ends");
}

#[tokio::test]
async fn the_identity_of_an_open_connection_ends_with_the_trust_in_its_authority() {
    let (authority, clients, files) = (Authority::new("ca"), Authority::new("clients"), Files::new());
    for client_auth in [ClientAuth::VerifyIfGiven, ClientAuth::RequireAndVerify] {
        let server = demanding(&files, &authority, &clients, client_auth);
        let client = authority.trusted_by(rustls::ALL_VERSIONS, &[], Some(&clients.leaf("alice")));
        let mut open = server.connect(&client).await.unwrap();
        assert!(ask_again(&mut open).await.1.ends_with(" alice"));
        files.pair(&authority.leaf("registry.test"));
        server.tls.reload().unwrap();
        assert!(ask_again(&mut open).await.1.ends_with(" alice"), "only the server's certificate is new");
        files.write("clients.crt", Authority::new("other").pem());
        server.tls.reload().unwrap();
        is_answered_as_nobody_and_closed(&mut open).await;
    }
}

#[tokio::test]
async fn the_identity_of_an_open_connection_ends_with_its_certificate() {
    let (authority, clients, files) = (Authority::new("ca"), Authority::new("clients"), Files::new());
    let server = demanding(&files, &authority, &clients, ClientAuth::VerifyIfGiven);
    let mut params = named("alice");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + now + std::time::Duration::from_secs(8);
    let client = authority.trusted_by(rustls::ALL_VERSIONS, &[], Some(&clients.sign(&params)));
    let mut open = server.connect(&client).await.unwrap();
    loop {
        let (head, body) = ask_again(&mut open).await;
        if body.ends_with(" anonymous") {
            assert!(head.contains("connection: close"), "{head}");
            break;
        }
        assert!(!head.contains("connection: close"), "{head}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(open.read_u8().await.is_err(), "the connection ends");
}

//! Token server that forms tokens as `docker_auth` does: RS256, a libtrust id as `kid`, one audience as a text, an
//! answer without `expires_in`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use super::signer::{encode, message, now};

/// Certificate of the key that signs.
pub(super) const CERTIFICATE: &str = include_str!("../../../src/registry/auth/token/tests/rsa.pem");
const KEY: &str = include_str!("../../../src/registry/auth/token/tests/rsa.key");

/// The libtrust id of the certificate's key: `openssl x509 -in rsa.pem -pubkey -noout | openssl pkey -pubin -outform
/// DER | sha256sum`, of which 30 bytes in base32.
const KEY_ID: &str = "DOQD:SIQ4:4SGV:2TIL:5F6I:HOYS:LX6H:BA5S:FW4X:FCEH:2IW4:FS5Q";

/// A server on a thread of its own.
pub(super) struct TokenServer {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl TokenServer {
    pub(super) fn start(user: &str, password: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let counted = requests.clone();
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                answer(&stream, &expected);
            }
        });
        Self { address, requests }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn answer(mut stream: &TcpStream, expected: &str) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let target = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
    let is_known = lines.take_while(|line| !line.is_empty()).any(|line| {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        name.eq_ignore_ascii_case("authorization") && value == expected
    });
    let (status, body) = if is_known {
        let token = token(target.split_once('?').map(|(_, query)| query).unwrap_or_default());
        ("200 OK", json!({"token": token, "access_token": token}).to_string())
    } else {
        ("401 Unauthorized", "Auth failed.\n".to_owned())
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// Makes a token with all that the query asks for.
fn token(query: &str) -> String {
    let mut access: Vec<Value> = Vec::new();
    for (_, scope) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "scope") {
        for scope in scope.split(' ') {
            let mut parts = scope.splitn(3, ':');
            let (kind, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let actions: Vec<&str> = parts.next().unwrap_or_default().split(',').collect();
            access.push(json!({"type": kind, "name": name, "actions": actions}));
        }
    }
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": KEY_ID});
    let claims = json!({
        "iss": "issuer", "sub": "alice", "aud": "registry", "exp": now() + 900, "nbf": now() - 10, "iat": now(),
        "jti": "7", "access": access,
    });
    let message = message(&header.to_string(), &claims.to_string());
    let der: String = KEY.lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", encode(&signature))
}

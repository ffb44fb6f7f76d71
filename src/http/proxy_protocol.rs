//! PROXY protocol, versions 1 and 2: a proxy tells the address of its client before the first byte of that client.
//!
//! Source: `doc/proxy-protocol.txt` of `HAProxy`. Only trusted proxies may speak it, and must: a connection without
//! the header could be from a client that the proxy hides.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::client_address::TrustedProxies;
use super::peer::Peer;

/// Longest time for the header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest header: version 2 with 520 bytes of addresses and extensions, as in the specification's example of a
/// receiver.
const MAX_HEADER_BYTES: usize = 536;

/// First bytes of version 2.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of a header of version 2 before the addresses.
const V2_FIXED_BYTES: usize = 16;

/// Longest line of version 1, with its end.
const MAX_V1_BYTES: usize = 107;

/// PROXY protocol of a listener.
#[derive(Debug, Default)]
pub struct ProxyProtocol {
    trusted: RwLock<TrustedProxies>,
    /// True once a connection of a proxy that is not trusted was logged.
    has_warned: AtomicBool,
}

/// Address in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeaderAddress {
    /// Address of the proxy's client.
    Client(SocketAddr),
    /// The header has none, as that of a proxy's own health check.
    Absent,
}

// === impl ProxyProtocol ===

impl ProxyProtocol {
    /// Makes the protocol of a listener whose connections are from these proxies.
    #[must_use]
    pub fn new(trusted: TrustedProxies) -> Self {
        Self { trusted: RwLock::new(trusted), has_warned: AtomicBool::new(false) }
    }

    /// Replaces the trusted proxies for the connections that follow.
    pub fn trust(&self, trusted: TrustedProxies) {
        *self.trusted.write().unwrap_or_else(PoisonError::into_inner) = trusted;
    }

    /// Reads the header of a connection, and returns the peer that it names. If the header has no address, the peer is
    /// not the trusted proxy: the client could choose its address by `X-Forwarded-For`.
    pub(super) async fn accept<S: AsyncRead + Unpin>(&self, stream: &mut S, peer: Peer) -> io::Result<Peer> {
        if !self.trusted.read().unwrap_or_else(PoisonError::into_inner).trusts(peer) {
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    %peer,
                    "refusing connections of peers that quinistry.http.trustedproxies does not name, since each \
                     connection must begin with the PROXY protocol"
                );
            }
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "PROXY protocol of an untrusted peer",
            ));
        }
        let header = timeout(HEADER_TIMEOUT, read_header(stream)).await;
        let header = header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let named = parse(&header).ok_or_else(malformed)?;
        Ok(match named {
            HeaderAddress::Client(address) => address.into(),
            HeaderAddress::Absent => match peer {
                Peer::Tcp(address) => Peer::Unnamed(Some(address)),
                Peer::Unix(_) => Peer::Unnamed(None),
                Peer::Unnamed(_) => peer,
            },
        })
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed header of the PROXY protocol")
}

/// Reads a header, and not a byte more.
async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut header = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == V2_SIGNATURE {
        header.resize(V2_FIXED_BYTES, 0);
        stream.read_exact(&mut header[V2_SIGNATURE.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if V2_FIXED_BYTES + length > MAX_HEADER_BYTES {
            return Err(malformed());
        }
        header.resize(V2_FIXED_BYTES + length, 0);
        stream.read_exact(&mut header[V2_FIXED_BYTES..]).await?;
    } else {
        if !header.starts_with(b"PROXY ") {
            return Err(malformed());
        }
        // Each byte by itself, because those after the line are TLS's or HTTP's.
        while !header.ends_with(b"\r\n") {
            if header.len() >= MAX_V1_BYTES {
                return Err(malformed());
            }
            header.push(stream.read_u8().await?);
        }
    }
    Ok(header)
}

/// Parses a whole header. Returns `None` if it is malformed, and [`HeaderAddress::Absent`] if it has no address.
fn parse(header: &[u8]) -> Option<HeaderAddress> {
    match header.strip_prefix(V2_SIGNATURE) {
        Some(rest) => parse_v2(rest),
        None => parse_v1(std::str::from_utf8(header).ok()?),
    }
}

fn parse_v1(line: &str) -> Option<HeaderAddress> {
    let line = line.strip_suffix("\r\n")?.strip_prefix("PROXY ")?;
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(HeaderAddress::Absent);
    }
    let [source, destination, source_port, destination_port] =
        [words.next()?, words.next()?, words.next()?, words.next()?];
    let parse_both = |is_v4: bool| {
        let parse = |text: &str| IpAddr::from_str(text).ok().filter(|address| address.is_ipv4() == is_v4);
        parse(destination)?;
        parse(source)
    };
    let address = match family {
        "TCP4" => parse_both(true)?,
        "TCP6" => parse_both(false)?,
        _ => return None,
    };
    let _: u16 = destination_port.parse().ok()?;
    let port = source_port.parse().ok()?;
    words.next().is_none().then_some(HeaderAddress::Client(SocketAddr::new(address, port)))
}

/// Parses version 2 after its signature. Extensions (TLVs) after the addresses are not looked at.
fn parse_v2(rest: &[u8]) -> Option<HeaderAddress> {
    let [version_and_command, family_and_protocol, _, _, addresses @ ..] = rest else { return None };
    match version_and_command {
        // LOCAL: the proxy checks the health of this server.
        0x20 => return Some(HeaderAddress::Absent),
        0x21 => {}
        _ => return None,
    }
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    match family_and_protocol {
        0x11 => {
            let address: [u8; 4] = addresses.get(..4)?.try_into().ok()?;
            let port = port(addresses.get(8..10)?)?;
            addresses.get(10..12)?;
            Some(HeaderAddress::Client((Ipv4Addr::from(address), port).into()))
        }
        0x21 => {
            let address: [u8; 16] = addresses.get(..16)?.try_into().ok()?;
            let port = port(addresses.get(32..34)?)?;
            addresses.get(34..36)?;
            Some(HeaderAddress::Client((Ipv6Addr::from(address), port).into()))
        }
        // UNSPEC, and clients of a unix socket of the proxy.
        0x00 | 0x31 | 0x32 => Some(HeaderAddress::Absent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length, addresses].concat()
    }

    #[expect(clippy::unnecessary_wraps, reason = "compared with the result of a parser")]
    fn address(text: &str) -> Option<HeaderAddress> {
        Some(HeaderAddress::Client(text.parse().unwrap()))
    }

    #[test]
    fn a_line_of_version_1_names_the_client() {
        assert_eq!(parse(b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"), address("192.0.2.7:56324"));
        assert_eq!(parse(b"PROXY TCP6 2001:db8::7 ::1 5 443\r\n"), address("[2001:db8::7]:5"));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Some(HeaderAddress::Absent));
        assert_eq!(parse(b"PROXY UNKNOWN 2001:db8::7 ::1 5 443\r\n"), Some(HeaderAddress::Absent));
    }

    #[test]
    fn malformed_lines_of_version_1_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 9\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 ::1 ::1 1 443\r\n",
            "PROXY TCP4 192.0.2.7  10.0.0.1 56324 443\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 56324 443\r\n",
            "proxy TCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
            "PROXY TCP4 localhost 10.0.0.1 56324 443\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn version_2_names_the_client_unless_it_has_no_address() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb];
        assert_eq!(parse(&v2(0x21, 0x11, &v4)), address("192.0.2.7:56324"));
        let with_extensions = [&v4[..], &[0x04, 0, 2, 0, 0], &[0xff; 200]].concat();
        assert_eq!(parse(&v2(0x21, 0x11, &with_extensions)), address("192.0.2.7:56324"));
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 15], &[1], &[0, 5, 1, 0xbb]].concat();
        assert_eq!(parse(&v2(0x21, 0x21, &v6)), address("[2001:db8::7]:5"));
        assert_eq!(parse(&v2(0x20, 0x11, &v4)), Some(HeaderAddress::Absent), "LOCAL");
        assert_eq!(parse(&v2(0x21, 0x00, &[])), Some(HeaderAddress::Absent), "UNSPEC");
        assert_eq!(parse(&v2(0x21, 0x31, &[b'/'; 216])), Some(HeaderAddress::Absent), "unix socket");
    }

    #[test]
    fn malformed_headers_of_version_2_are_refused() {
        assert_eq!(parse(&v2(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 1, 2, 3])), None, "cut off");
        assert_eq!(parse(&v2(0x21, 0x21, &[0; 35])), None, "cut off");
        assert_eq!(parse(&v2(0x31, 0x11, &[0; 12])), None, "version 3");
        assert_eq!(parse(&v2(0x22, 0x11, &[0; 12])), None, "unknown command");
        assert_eq!(parse(&v2(0x21, 0x12, &[0; 12])), None, "UDP");
    }

    async fn accepted(bytes: &[u8], peer: &str) -> (io::Result<Peer>, Vec<u8>) {
        let proxies = TrustedProxies::parse(["127.0.0.1"]).unwrap();
        let mut stream = bytes;
        let peer = peer.parse::<SocketAddr>().unwrap().into();
        let result = ProxyProtocol::new(proxies).accept(&mut stream, peer).await;
        (result, stream.to_vec())
    }

    #[tokio::test]
    async fn row_146_only_the_header_is_read_and_only_of_a_trusted_peer() {
        let v2 = v2(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb]);
        for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(), v2] {
            let bytes = [&header[..], b"GET / HTTP/1.1"].concat();
            let (peer, rest) = accepted(&bytes, "127.0.0.1:9").await;
            assert_eq!(peer.unwrap().to_string(), "192.0.2.7:56324");
            assert_eq!(rest, b"GET / HTTP/1.1");
            assert_eq!(
                accepted(&bytes, "127.0.0.2:9").await.0.unwrap_err().kind(),
                io::ErrorKind::PermissionDenied
            );
        }
    }

    #[tokio::test]
    async fn a_client_whose_address_the_proxy_does_not_tell_cannot_choose_it() {
        use crate::client_address::ClientAddress;

        let trusted = TrustedProxies::parse(["127.0.0.1"]).unwrap();
        let headers = [(http::HeaderName::from_static("x-forwarded-for"), "6.6.6.6".parse().unwrap())];
        let headers = headers.into_iter().collect();
        let (local, unix) = (v2(0x20, 0x11, &[0; 12]), v2(0x21, 0x31, &[b'/'; 216]));
        for header in [&b"PROXY UNKNOWN\r\n"[..], &local, &unix] {
            let peer = accepted(header, "127.0.0.1:9").await.0.unwrap();
            assert_eq!(ClientAddress::find(peer, &headers, &trusted).to_string(), "127.0.0.1");
        }
    }

    #[tokio::test]
    async fn row_146_long_and_cut_off_headers_are_refused() {
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 100_000]].concat();
        assert_eq!(accepted(&endless, "127.0.0.1:9").await.0.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let extensions = v2(0x21, 0x11, &[0; 521]);
        assert_eq!(
            accepted(&extensions, "127.0.0.1:9").await.0.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let longest = v2(0x21, 0x11, &[0; 520]);
        assert!(accepted(&longest, "127.0.0.1:9").await.0.is_ok());
        let cut_off = accepted(&longest[..100], "127.0.0.1:9").await;
        assert_eq!(cut_off.0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let none = accepted(b"GET / HTTP/1.1\r\n\r\n", "127.0.0.1:9").await;
        assert_eq!(none.0.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

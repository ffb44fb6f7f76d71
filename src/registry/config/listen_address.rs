//! Addresses to listen on, as Go's `net.Listen` takes them: `:5000`, `localhost:5000`, `[::1]:5000`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use quinistry_oci::{HostCharacters, ends_in_number, is_host_name};

/// Longest path of a unix socket, in bytes: `sun_path` of unix(7) without its last NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Prefix of a unix socket's path on the command line.
const UNIX: &str = "unix:";

/// Address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP socket.
    Tcp {
        /// Host part.
        host: ListenHost,
        /// Port; 0 lets the kernel choose one.
        port: u16,
    },
    /// Unix socket at this path.
    Unix(PathBuf),
}

/// Host part of a TCP address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenHost {
    /// All addresses of the machine, IPv6 and IPv4.
    All,
    /// This address.
    Ip(IpAddr),
    /// Name that the system resolves when the registry starts, such as `localhost`.
    Name(String),
}

/// Error of text that is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddressError {
    /// Port without a colon.
    #[error("is not an address, :{0} is")]
    BarePort(u16),
    /// Host without a port.
    #[error("needs a port, as in {0}:5000")]
    NoPort(String),
    /// Port that is no number up to 65535.
    #[error("has no valid port; write HOST:PORT with a port from 0 to 65535")]
    Port,
    /// Host that is neither an address nor a name.
    #[error("has no valid host; write HOST:PORT, with an IPv6 address in brackets")]
    Host,
    /// Path of a unix socket that is empty or too long.
    #[error("is not the path of a unix socket; write one of 1 to 107 bytes")]
    SocketPath,
    /// URL in place of an address.
    #[error("is a URL; write HOST:PORT")]
    Url,
}

// === impl ListenAddress ===

impl ListenAddress {
    /// Parses the value of a `--listen` flag, which may also be a port alone, or `unix:PATH`.
    pub fn from_flag(text: &str) -> Result<Self, ListenAddressError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return Self::unix(path.strip_prefix("//").unwrap_or(path));
        }
        match text.parse() {
            Err(ListenAddressError::BarePort(port)) => Ok(Self::Tcp { host: ListenHost::All, port }),
            result => result,
        }
    }

    /// Makes the address of a unix socket.
    pub fn unix(path: &str) -> Result<Self, ListenAddressError> {
        if path.is_empty() || path.len() > MAX_SOCKET_PATH_BYTES || path.contains('\0') {
            return Err(ListenAddressError::SocketPath);
        }
        Ok(Self::Unix(path.into()))
    }

    /// Returns true if this is the address of a unix socket.
    #[must_use]
    pub const fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Returns true if only programs on this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host: ListenHost::All, .. } => false,
            Self::Tcp { host: ListenHost::Ip(ip), .. } => ip.to_canonical().is_loopback(),
            Self::Tcp { host: ListenHost::Name(name), .. } => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            return Err(ListenAddressError::Url);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp { host: ListenHost::Ip(address.ip()), port: address.port() });
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(text.parse().map_or(ListenAddressError::Port, ListenAddressError::BarePort));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok()) {
            return Err(ListenAddressError::NoPort(text.to_owned()));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            let is_host = is_name(text) || text.parse::<IpAddr>().is_ok();
            return Err(if is_host {
                ListenAddressError::NoPort(text.to_owned())
            } else {
                ListenAddressError::Host
            });
        };
        let port = parse_port(port).ok_or(ListenAddressError::Port)?;
        let host = match host {
            "" => ListenHost::All,
            host if is_name(host) => ListenHost::Name(host.to_owned()),
            _ => return Err(ListenAddressError::Host),
        };
        Ok(Self::Tcp { host, port })
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp { host: ListenHost::Ip(address.ip()), port: address.port() }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: ListenHost::All, port } => write!(f, ":{port}"),
            Self::Tcp { host: ListenHost::Ip(ip), port } => SocketAddr::new(*ip, *port).fmt(f),
            Self::Tcp { host: ListenHost::Name(name), port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Parses a port: a number, or one of the two service names that configuration files use.
fn parse_port(text: &str) -> Option<u16> {
    match text {
        "http" => Some(80),
        "https" => Some(443),
        text => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
    }
}

/// Returns true if the text can be the name of a host. Dotted numbers that are no IPv4 address are none.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    is_host_name(name, HostCharacters::WithUnderscores) && !ends_in_number(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<ListenAddress>().map_or_else(|error| format!("! {error}"), |address| address.to_string())
    }

    #[test]
    fn addresses_are_understood_as_go_understands_them() {
        for (text, expected) in [
            (":5000", ":5000"),
            ("localhost:5000", "localhost:5000"),
            ("0.0.0.0:5000", "0.0.0.0:5000"),
            ("[::]:5000", "[::]:5000"),
            ("[::1]:0", "[::1]:0"),
            ("registry.example.com:443", "registry.example.com:443"),
            (":https", ":443"),
            ("127.0.0.1:http", "! has no valid host; write HOST:PORT, with an IPv6 address in brackets"),
            ("5000", "! is not an address, :5000 is"),
            ("99999", "! has no valid port; write HOST:PORT with a port from 0 to 65535"),
            (":99999", "! has no valid port; write HOST:PORT with a port from 0 to 65535"),
            (":+5", "! has no valid port; write HOST:PORT with a port from 0 to 65535"),
            ("localhost", "! needs a port, as in localhost:5000"),
            ("127.0.0.1", "! needs a port, as in 127.0.0.1:5000"),
            ("[::1]", "! needs a port, as in [::1]:5000"),
            ("::1:5000", "! has no valid host; write HOST:PORT, with an IPv6 address in brackets"),
            ("1.2.3:5000", "! has no valid host; write HOST:PORT, with an IPv6 address in brackets"),
            ("a b:5000", "! has no valid host; write HOST:PORT, with an IPv6 address in brackets"),
            ("http://localhost:5000", "! is a URL; write HOST:PORT"),
            ("", "! has no valid host; write HOST:PORT, with an IPv6 address in brackets"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn the_flag_also_takes_a_port_and_a_socket() {
        for (text, expected) in [
            ("8080", ":8080"),
            (":8081", ":8081"),
            ("localhost:8080", "localhost:8080"),
            ("unix:/run/q.sock", "unix:/run/q.sock"),
            ("unix:///run/q.sock", "unix:/run/q.sock"),
        ] {
            assert_eq!(ListenAddress::from_flag(text).unwrap().to_string(), expected);
        }
        for text in ["", "unix:", "99999", "x", &format!("unix:/{}", "a".repeat(107))] {
            assert!(ListenAddress::from_flag(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_addresses_and_sockets_are_local() {
        for (text, is_local) in [
            (":5000", false),
            ("0.0.0.0:5000", false),
            ("10.0.0.1:5000", false),
            ("registry:5000", false),
            ("127.0.0.53:5000", true),
            ("[::1]:5000", true),
            ("[::ffff:127.0.0.1]:5000", true),
            ("localhost:5000", true),
            ("unix:/run/q.sock", true),
        ] {
            assert_eq!(ListenAddress::from_flag(text).unwrap().is_local(), is_local, "{text}");
        }
    }
}

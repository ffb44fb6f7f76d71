//! Name or address of a registry on the command line.

use std::fmt;
use std::net::IpAddr;

use crate::oci::{HostCharacters, ends_in_number, is_host_name};

/// Name or address under which clients reach a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Parses a DNS name, which may begin with `*.`, or an IP address with or without brackets.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = inner.parse::<IpAddr>() {
            return Self::of_address(address);
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        if is_host_name(name, HostCharacters::Strict) && !ends_in_number(name) {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err("must be a DNS name of letters, digits, - and dots, such as registry.lan, or an IP address such as \
                 10.0.0.5, without scheme and port"
                .into())
        }
    }

    /// Parses an IP address.
    pub(super) fn parse_address(text: &str) -> Result<Self, String> {
        let address = text.parse().map_err(|_| "must be an IP address such as 10.0.0.5 or fd00::1")?;
        Self::of_address(address)
    }

    /// Refuses addresses that no client connects to.
    fn of_address(address: IpAddr) -> Result<Self, String> {
        let canonical = address.to_canonical();
        let is_broadcast = matches!(canonical, IpAddr::V4(address) if address.is_broadcast());
        let kind = if canonical.is_unspecified() {
            "stands for all addresses of this machine"
        } else if canonical.is_multicast() || is_broadcast {
            "is the address of a group of machines"
        } else {
            return Ok(Self::Address(address));
        };
        Err(format!(
            "{kind}, and no client connects to it; write a name or address that clients use, such as \
             registry.lan or 10.0.0.5"
        ))
    }

    /// Returns the host with a port, as image names have it.
    pub(super) fn with_port(&self, port: u16) -> String {
        match self {
            Self::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            other => format!("{other}:{port}"),
        }
    }

    /// Returns true if the host stands for many names.
    pub(super) fn is_wildcard(&self) -> bool {
        matches!(self, Self::Name(name) if name.starts_with("*."))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        assert_eq!(Host::parse("Reg.LAN"), Ok(Host::Name("reg.lan".into())));
        assert_eq!(Host::parse("*.reg.lan"), Ok(Host::Name("*.reg.lan".into())));
        assert_eq!(Host::parse("10.0.0.5").unwrap().with_port(5000), "10.0.0.5:5000");
        assert_eq!(Host::parse("[fd00::1]").unwrap().with_port(5000), "[fd00::1]:5000");
        for text in
            ["", "https://reg.lan", "reg.lan:5000", "10.0.0.256", "a..b", "-a", "a b", "a/b", "*.*.a", "x\ny"]
        {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_and_names_that_no_client_uses_are_refused() {
        for text in ["0.0.0.0", "::", "[::]", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let error = Host::parse(text).unwrap_err();
            assert!(error.contains("; write a name or address that clients use"), "{text}: {error}");
        }
        for text in ["0.0.0.0", "reg.lan", "[::1]"] {
            assert!(Host::parse_address(text).is_err(), "{text}");
        }
        assert_eq!(Host::parse_address("::1"), Host::parse("::1"));
        // No image name has an underscore in its host.
        assert!(Host::parse("my_registry.lan").unwrap_err().contains("letters, digits, - and dots"));
    }
}

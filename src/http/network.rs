//! Network of a client, as far as one client can choose its address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::client_address::ClientAddress;
use super::peer::Peer;

/// Network of a client: an IPv4 address, or the /64 of an IPv6 address, in which a client takes any address
/// that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// Address of IPv4, as a number.
    V4(u32),
    /// First 64 bits of an address of IPv6.
    V6(u64),
    /// Clients of Unix sockets.
    Unix,
    /// Client without an address, as in a router that is embedded in another program.
    Unknown,
}

impl Network {
    /// Returns the network of a client.
    #[must_use]
    pub fn of(client: Option<ClientAddress>) -> Self {
        match client {
            None => Self::Unknown,
            Some(ClientAddress::Unix) => Self::Unix,
            Some(ClientAddress::Ip(IpAddr::V4(address))) => Self::V4(address.to_bits()),
            Some(ClientAddress::Ip(IpAddr::V6(address))) => match address.to_ipv4_mapped() {
                Some(address) => Self::V4(address.to_bits()),
                None => Self::V6((address.to_bits() >> 64) as u64),
            },
        }
    }
}

impl From<Peer> for Network {
    fn from(peer: Peer) -> Self {
        Self::of(Some(peer.ip().map_or(ClientAddress::Unix, ClientAddress::Ip)))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(bits) => Ipv4Addr::from_bits(*bits).fmt(f),
            Self::V6(bits) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*bits) << 64)),
            Self::Unix => f.write_str("unix"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(Some(ClientAddress::Ip(address.parse().unwrap())))
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_64_bits_of_an_ipv6_address() {
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("2001:db8::1").to_string(), "2001:db8::/64");
        assert_ne!(Network::of(None), Network::of(Some(ClientAddress::Unix)));
    }
}

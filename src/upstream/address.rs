//! Classes of addresses, by their distance from this machine, and ranges of classes that may be dialled. Pure.
//!
//! Sources: the IANA special-purpose address registries (RFC 6890), and the metadata services of cloud providers, which
//! hand out credentials to any program on a machine that asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Class of an address, from the nearest to the farthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AddressClass {
    /// This machine.
    Loopback,
    /// The link of this machine, and the metadata service of its cloud provider.
    Link,
    /// A private network.
    Private,
    /// The internet.
    Public,
}

/// Classes of addresses that a request may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AddressRange {
    pub(crate) nearest: AddressClass,
    pub(crate) farthest: AddressClass,
}

/// Addresses of metadata services outside of 169.254.0.0/16: Azure, Alibaba Cloud and Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

// === impl AddressClass ===

impl AddressClass {
    /// Returns the class of an address; `None` if no server has such an address: multicast, documentation, reserved.
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Option<Self> {
        if METADATA_V4.contains(&address) {
            return Some(Self::Link);
        }
        match address.octets() {
            // Linux connects 0.0.0.0 to this machine.
            [127, ..] | [0, 0, 0, 0] => Some(Self::Loopback),
            [169, 254, ..] => Some(Self::Link),
            // The last two are of carrier-grade NAT and of benchmarks.
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => {
                Some(Self::Private)
            }
            [0 | 224..=255, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 51, 100, _]
            | [203, 0, 113, _] => None,
            _ => Some(Self::Public),
        }
    }

    fn of_v6(address: Ipv6Addr) -> Option<Self> {
        let v4 =
            |high: u16, low: u16| Self::of_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Some(Self::Loopback),
            // Networks of metadata services: Amazon and Google.
            [0xfe80..=0xfebf, ..] | [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..] => Some(Self::Link),
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some(Self::Private),
            // NAT64 and 6to4 lead to the IPv4 address inside.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
            // Teredo, documentation.
            [0x2001, 0 | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => None,
            [0x2000..=0x3fff, ..] => Some(Self::Public),
            _ => None,
        }
    }
}

// === impl AddressRange ===

impl AddressRange {
    /// Returns true if addresses of a class may be dialled.
    pub(crate) fn holds(self, class: Option<AddressClass>) -> bool {
        class.is_some_and(|class| (self.nearest..=self.farthest).contains(&class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(address: &str) -> Option<AddressClass> {
        AddressClass::of(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_told_apart_in_every_spelling() {
        let rows = [
            (
                Some(AddressClass::Loopback),
                "127.0.0.1 127.255.0.9 0.0.0.0 ::1 :: ::ffff:127.0.0.1 64:ff9b::7f00:1",
            ),
            (
                Some(AddressClass::Link),
                "169.254.169.254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: fe80::1 febf::1 \
                 168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd20:ce::254",
            ),
            (
                Some(AddressClass::Private),
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255 198.18.0.1 fc00::1 fd12::1 \
                 fec0::1 ::ffff:10.1.2.3 2002:0a00:0001::1",
            ),
            (
                Some(AddressClass::Public),
                "8.8.8.8 172.32.0.1 100.63.0.1 100.128.0.1 169.253.0.1 2606:4700::1 64:ff9b::808:808 2001:4860::1",
            ),
            (
                None,
                "224.0.0.1 255.255.255.255 240.0.0.1 0.1.2.3 192.0.2.1 198.51.100.1 203.0.113.1 ff02::1 2001:db8::1 \
                 2001::1 ::7f00:1 64:ff9b:1::7f00:1 100::1 3fff::1",
            ),
        ];
        for (expected, addresses) in rows {
            for address in addresses.split_whitespace() {
                assert_eq!(class(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn a_range_holds_what_lies_between_its_ends() {
        let range = AddressRange { nearest: AddressClass::Private, farthest: AddressClass::Public };
        assert!(range.holds(class("10.0.0.1")) && range.holds(class("8.8.8.8")));
        assert!(!range.holds(class("127.0.0.1")) && !range.holds(class("169.254.169.254")));
        assert!(!range.holds(class("224.0.0.1")));
        let empty = AddressRange { nearest: AddressClass::Public, farthest: AddressClass::Private };
        assert!(!empty.holds(class("10.0.0.1")) && !empty.holds(class("8.8.8.8")));
    }
}

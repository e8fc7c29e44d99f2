//! What an address is, so that nothing on the inside can be asked for by a name from the outside. Looks nothing up and
//! connects to nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What stands at an address, by the registries of special addresses (RFC 6890 and its successors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Public,
    Loopback,
    /// RFC 1918, RFC 4193, and the shared space of carriers (RFC 6598).
    Private,
    /// Among them 169.254.169.254, where clouds keep a machine's credentials.
    LinkLocal,
    Multicast,
    Unspecified,
    Documentation,
    /// Everything else that no server of the internet has.
    Reserved,
}

impl Kind {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [0, ..] => Self::Unspecified,
            [127, ..] => Self::Loopback,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            [169, 254, ..] => Self::LinkLocal,
            [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Self::Documentation,
            // Protocol assignments, the old 6to4 relays, benchmarks.
            [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => Self::Reserved,
            [224..=239, ..] => Self::Multicast,
            [240..=255, ..] => Self::Reserved,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        // The system takes a mapped address for the IPv4 address inside.
        if let Some(inner) = address.to_ipv4_mapped() {
            return Self::of_v4(inner);
        }
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0xfc00..=0xfdff, ..] => Self::Private,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xff00..=0xffff, ..] => Self::Multicast,
            [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Self::Documentation,
            // NAT64 (RFC 6052).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Self::through(&[v4(high, low)]),
            // 6to4 (RFC 3056).
            [0x2002, high, low, ..] => Self::through(&[v4(high, low)]),
            // Teredo (RFC 4380): its server, and its client with every bit turned over.
            [0x2001, 0, high, low, _, _, client_high, client_low] => {
                Self::through(&[v4(high, low), v4(!client_high, !client_low)])
            }
            // The other protocol assignments.
            [0x2001, 0..=0x01ff, ..] => Self::Reserved,
            // What has been given out as unicast so far.
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Reserved,
        }
    }

    /// An address that leads on to others: public when all of those are. Nothing on the inside is asked for by a detour.
    fn through(inner: &[Ipv4Addr]) -> Self {
        let all_public = inner.iter().all(|&address| Self::of_v4(address) == Self::Public);
        if all_public { Self::Public } else { Self::Reserved }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Documentation => "for documentation",
            Self::Reserved => "reserved, or leads to an address that is not public",
        })
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: &[(Kind, &[&str])] = &[
        (
            Kind::Public,
            &[
                "1.1.1.1",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "169.253.255.255",
                "172.15.255.255",
                "172.32.0.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
                "2606:4700::1111",
                "2001:200::1",
                "3ffe::1",
                "::ffff:8.8.8.8",
                "64:ff9b::8.8.8.8",
                "2002:808:808::1",
                "2001:0:808:808:0:0:f7f7:f7f7",
            ],
        ),
        (Kind::Loopback, &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"]),
        (
            Kind::Private,
            &[
                "10.0.0.0",
                "10.255.255.255",
                "172.16.0.0",
                "172.31.255.255",
                "192.168.0.0",
                "192.168.255.255",
                "100.64.0.0",
                "100.127.255.255",
                "fc00::",
                "fdff:ffff::1",
                "::ffff:10.0.0.1",
            ],
        ),
        (Kind::LinkLocal, &["169.254.169.254", "169.254.0.0", "fe80::1", "febf::1", "::ffff:169.254.169.254"]),
        (Kind::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1"]),
        (Kind::Unspecified, &["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"]),
        (Kind::Documentation, &["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff::1"]),
        (
            Kind::Reserved,
            &[
                "192.0.0.8",
                "192.88.99.1",
                "198.18.0.1",
                "198.19.255.255",
                "240.0.0.0",
                "255.255.255.255",
                "::127.0.0.1",
                "64:ff9b::169.254.169.254",
                "64:ff9b::10.0.0.1",
                "64:ff9b::127.0.0.1",
                "64:ff9b:1::8.8.8.8",
                "2002:a9fe:a9fe::1",
                "2002:7f00:1::",
                "2002:c0a8:1::",
                "2002::1",
                "2001:0:a00:1:0:0:f7f7:f7f7",
                "2001:0:808:808:0:0:5601:5601",
                "2001:20::1",
                "100::1",
                "fec0::1",
                "4000::1",
                "5f00::1",
                "1::1",
            ],
        ),
    ];

    /// G3
    #[test]
    fn every_block_of_special_addresses_is_known_to_its_edges() {
        for (kind, addresses) in KINDS {
            for text in *addresses {
                assert_eq!(Kind::of(text.parse().unwrap()), *kind, "{text}");
            }
        }
    }

    proptest! {
        /// G3
        #[test]
        fn an_ipv4_address_is_no_more_public_inside_an_ipv6_address(octets in any::<[u8; 4]>()) {
            let address = Ipv4Addr::from(octets);
            let is_public = Kind::of(address.into()) == Kind::Public;
            let [a, b, c, d] = octets.map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            for inside in [
                address.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x0808, !0x0808),
                Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low),
            ] {
                prop_assert_eq!(Kind::of(inside.into()) == Kind::Public, is_public, "{}", inside);
            }
        }
    }
}

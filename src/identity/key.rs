//! An API key as the gateway keeps it: everything but the secret.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::identity::{AccountId, Digest, ScopeSet};

/// The public id of a key, as lists show it and `revoke` takes it. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub Arc<str>);

#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    pub realm: Arc<str>,
    /// Whose rights bound the key's, at every use.
    pub owner: AccountId,
    pub name: String,
    pub scopes: ScopeSet,
    /// Tenants that the key is good for, among those of its owner, and for nothing outside a tenant; empty = all that its
    /// owner may.
    pub tenants: Vec<Arc<str>>,
    /// Where the key may be used from; empty = anywhere.
    pub allowed_ips: Networks,
    /// The environment it was made for; another environment's key is refused.
    pub environment: Arc<str>,
    /// Of the whole key as the client sends it.
    pub digest: Digest,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether the key may be used in this tenant, as far as the key goes: one that names none is good for all of its owner's.
    pub fn is_for(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|own| &**own == tenant)
    }
}

/// A list of networks as the operator or a client wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    listed: Vec<IpNet>,
    /// What they cover, from the first address to the last: in order and without overlap, so that a look-up in a thousand of
    /// them is a search of ten steps. IPv4 stands before IPv6, and no range holds both.
    covered: Box<[(IpAddr, IpAddr)]>,
}

impl Networks {
    pub fn new(networks: Vec<IpNet>) -> Self {
        let mut ranges: Vec<_> = networks.iter().map(|network| (network.network(), network.broadcast())).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|(first, last), (_, end)| {
            let overlaps = *first <= *end;
            if overlaps {
                *end = (*end).max(*last);
            }
            overlaps
        });
        Self { listed: networks, covered: ranges.into() }
    }

    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether the address lies in one of the networks. IPv4-mapped IPv6 addresses count as IPv4 on both sides.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let begun = self.covered.partition_point(|(first, _)| *first <= address);
        begun.checked_sub(1).and_then(|at| self.covered.get(at)).is_some_and(|(_, last)| address <= *last)
    }

    /// Whether every network of `self` lies in one of `outer`'s.
    pub fn lie_within(&self, outer: &Self) -> bool {
        self.listed.iter().all(|network| outer.listed.iter().any(|outer| outer.contains(network)))
    }

    /// Each as it is written; a single address without the length of its prefix.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.listed.iter().map(|network| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.listed.iter()
    }

    /// Parses `10.0.0.0/8`, `2001:db8::/32` or a single address. Host bits are cleared; IPv4-mapped IPv6 networks of
    /// /96 and longer become IPv4. `None` for anything else: octal parts, short forms, zones.
    pub fn parse_one(text: &str) -> Option<IpNet> {
        let network = match text.parse::<IpNet>() {
            Ok(network) => network,
            Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
        };
        Some(match network {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
                Some(v4) => IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).ok()?.trunc(),
                None => network.trunc(),
            },
            IpNet::V4(_) | IpNet::V6(_) => network.trunc(),
        })
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self::new(networks.into_iter().collect())
    }
}

impl KeyId {
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A list says of an address what its networks say one by one. Addresses and networks are drawn close together, so
        /// that they meet, and at both ends of the space.
        #[test]
        fn a_list_contains_what_one_of_its_networks_contains(
            listed in prop::collection::vec((0..2048_u32, 0..=32_u8, any::<bool>(), any::<bool>()), 0..12),
            asked in (0..2048_u32, any::<bool>(), any::<bool>()),
        ) {
            let address = |low: u32, from_the_end: bool, is_v6: bool| {
                let bits = if from_the_end { u32::MAX - low } else { low };
                if is_v6 { IpAddr::V6((u128::from(bits) << 96).into()) } else { IpAddr::V4(bits.into()) }
            };
            let networks: Vec<IpNet> = listed
                .iter()
                .map(|(low, length, end, is_v6)| IpNet::new(address(*low, *end, *is_v6), *length).unwrap())
                .collect();
            let asked = address(asked.0, asked.1, asked.2);
            let expected = networks.iter().any(|network| network.contains(&asked));
            prop_assert_eq!(Networks::new(networks).contains(asked), expected);
        }
    }

    fn networks(list: &[&str]) -> Networks {
        list.iter().map(|text| Networks::parse_one(text).unwrap()).collect()
    }

    #[test]
    fn mapped_ipv6_addresses_are_judged_as_ipv4() {
        let allowed = networks(&["10.0.0.0/8", "192.168.1.100"]);
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "192.168.1.100"] {
            assert!(allowed.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.168.1.101", "::ffff:11.0.0.1", "::10.1.2.3"] {
            assert!(!allowed.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(networks(&["::ffff:10.0.0.0/104"]).contains("10.9.9.9".parse().unwrap()));
    }

    #[test]
    fn networks_lie_within_wider_ones_only() {
        let outer = networks(&["10.0.0.0/8", "2001:db8::/32"]);
        assert!(networks(&["10.1.0.0/16", "10.2.3.4", "2001:db8:1::/48"]).lie_within(&outer));
        assert!(!networks(&["10.1.0.0/16", "11.0.0.0/16"]).lie_within(&outer));
        assert!(!networks(&["0.0.0.0/0"]).lie_within(&outer));
        assert_eq!(networks(&["10.2.3.4", "10.0.0.0/8"]).texts().collect::<Vec<_>>(), ["10.2.3.4", "10.0.0.0/8"]);
    }

    #[test]
    fn host_bits_are_cleared_so_that_equal_networks_are_equal() {
        assert_eq!(Networks::parse_one("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn malformed_networks_are_refused() {
        for text in ["", "10.0.0.0/33", "010.0.0.1", "10.0.0", "fe80::1%eth0", "10.0.0.1 ", "example.com"] {
            assert_eq!(Networks::parse_one(text), None, "{text}");
        }
    }
}

//! The client's address: whatever the headers say, it is an address that somebody trusted has vouched for.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::identity::Networks;
use crate::listener::{ClientAddress, Peer, Trust, client_address};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// Each line of the input is a header line's value: `Forwarded` when it begins with `F`, else `X-Forwarded-For`.
///
/// # Panics
/// When an address was believed that nobody trusted has named.
pub fn forwarded(input: &[u8]) {
    let trusted: Networks = ["192.0.2.0/24", "2001:db8:1::/48"].iter().filter_map(|text| Networks::parse_one(text)).collect();
    let mut headers = HeaderMap::new();
    for (name, value) in input.split(|byte| *byte == b'\n').filter_map(line) {
        headers.append(name, value);
    }
    let trust = Trust::Networks(trusted.clone());
    let found = client_address(STRANGER, &headers, &trust);
    assert_eq!((found.ip, found.peer, found.malformed), (STRANGER, Peer::Untrusted, false), "a stranger was believed");

    let found = client_address(PROXY, &headers, &trust);
    assert_eq!((found.peer, found.ip.to_canonical()), (Peer::Trusted, found.ip));
    assert!(found.ip == PROXY || stands_in(found.ip, &headers), "{found:?} stands in no header: {headers:?}");
    assert!(!found.malformed || trusted.contains(found.ip), "what is malformed was sent by a trusted hop: {found:?}");
    if !trusted.contains(found.ip) {
        what_stands_further_left_is_not_read(found, &headers, &trust);
    }
    let counted = client_address(STRANGER, &headers, &Trust::Hops(2));
    assert!(counted.ip == STRANGER || stands_in(counted.ip, &headers), "{counted:?} stands in no header: {headers:?}");
}

/// A stranger's address ends the walk: what the stranger claims, in whatever header, changes nothing.
fn what_stands_further_left_is_not_read(found: ClientAddress, headers: &HeaderMap, trusted: &Trust) {
    for claim in ["10.9.9.9", "192.0.2.77", "\"", "for=10.9.9.9", "for=\"", ""] {
        let mut longer = HeaderMap::new();
        for (name, value) in headers {
            let says_something = headers.get_all(name).iter().any(|line| !line.as_bytes().trim_ascii().is_empty());
            if says_something
                && !longer.contains_key(name)
                && let Ok(claim) = HeaderValue::from_str(claim)
            {
                longer.append(name.clone(), claim);
            }
            longer.append(name.clone(), value.clone());
        }
        assert_eq!(client_address(PROXY, &longer, trusted), found, "{claim:?} before {headers:?}");
    }
}

fn line(bytes: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = match bytes.strip_prefix(b"F") {
        Some(rest) => (FORWARDED, rest),
        None => (HeaderName::from_static("x-forwarded-for"), bytes),
    };
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

/// Whether a header spells the address somewhere, alone or with a port.
fn stands_in(address: IpAddr, headers: &HeaderMap) -> bool {
    let spells = |word: &str| {
        let whole = word.parse::<IpAddr>().ok();
        let without_port = word.split_once(':').and_then(|(ip, _)| ip.parse::<Ipv4Addr>().ok()).map(IpAddr::V4);
        [whole, without_port].into_iter().flatten().any(|spelled| spelled.to_canonical() == address)
    };
    let part_of_address = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
    headers.values().any(|value| String::from_utf8_lossy(value.as_bytes()).split(|c| !part_of_address(c)).any(spells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECE: &str = r#"(F|for=|For=|"|\[|\]|,|, |;|;by=|=|\n|\\|:80|192\.0\.2\.[0-9]|10\.0\.0\.[0-9]|::ffff:10\.0\.0\.1|2001:db8:1::7|unknown|_x| |0x7f)"#;

    proptest! {
        #[test]
        fn no_header_makes_an_address_up(pieces in prop::collection::vec(PIECE, 0..12)) {
            forwarded(pieces.concat().as_bytes());
            prop_assert!(pieces.len() < 12);
        }
    }
}

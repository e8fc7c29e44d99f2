//! The client's address. Nothing else decides it. Nobody is believed by default: only a peer in `trusted_proxies` may
//! speak for another, and its header is read from the right, the end that the nearest proxy wrote.
//!
//! When a trusted peer sends both `X-Forwarded-For` and `Forwarded`, the first is read and the second is not: most
//! proxies write only the first, and then the second is whatever the client made up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::config::TrustedProxies;
use crate::identity::Networks;

/// Who the client is, and on whose word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The last address that a trusted hop, or the connection itself, vouches for. Never an IPv4-mapped IPv6 address.
    pub ip: IpAddr,
    pub peer: Peer,
    /// A header that names an address and was not believed, or only in part.
    pub ignored_header: Option<&'static str>,
    /// A trusted hop named something that is no address. `ip` is then that hop, so that limits and deny lists have
    /// something to hold on to; an allow list must refuse, because the proxy's own address says nothing of the client.
    pub malformed: bool,
}

/// What the other end of the connection may say of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Trusted,
    Untrusted,
}

/// Whose word counts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// That of peers in these networks, and of whoever they name that is in them too.
    Networks(Networks),
    /// That of so many hops, the connection's other end being the first.
    Hops(u64),
}

impl Trust {
    pub fn new(config: &TrustedProxies) -> Self {
        match config {
            TrustedProxies::Networks(networks) => Self::Networks(networks.iter().map(|network| network.value).collect()),
            TrustedProxies::Hops(hops) => Self::Hops(hops.hops),
        }
    }

    /// Whether the hop of this number, counted from the connection outwards, from 1, is a proxy of ours.
    fn covers(&self, hop: u64, address: IpAddr) -> bool {
        match self {
            Self::Networks(networks) => networks.contains(address),
            Self::Hops(hops) => hop <= *hops,
        }
    }
}

/// The address of the client that a request comes from, judged by the connection's other end and the headers.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &Trust) -> ClientAddress {
    let peer = peer.to_canonical();
    let header = named_header(headers);
    if !trusted.covers(1, peer) {
        let ignored_header = header.map(|(name, _)| name);
        return ClientAddress { ip: peer, peer: Peer::Untrusted, ignored_header, malformed: false };
    }
    let direct = ClientAddress { ip: peer, peer: Peer::Trusted, ignored_header: None, malformed: false };
    // By number, every request comes through all of the proxies: one that names too few has passed by one of them.
    let counts = matches!(trusted, Trust::Hops(_));
    let Some((name, key)) = header else { return ClientAddress { malformed: counts, ..direct } };
    let lines = headers.get_all(key).iter().rev();
    let mut walk = Walk { last: peer, hop: 1, trusted };
    let step = if name == X_FORWARDED_FOR {
        lines.map(|line| walk.x_forwarded_for(line)).find(|step| *step != Step::Further)
    } else {
        lines.map(|line| walk.forwarded(line)).find(|step| *step != Step::Further)
    };
    let too_few = counts && step.is_none();
    let malformed = step == Some(Step::Malformed) || too_few;
    ClientAddress { ip: if too_few { peer } else { walk.last }, ignored_header: malformed.then_some(name), malformed, ..direct }
}

/// The header that is read, if one says anything.
fn named_header(headers: &HeaderMap) -> Option<(&'static str, HeaderName)> {
    let says = |key: &HeaderName| headers.get_all(key).iter().any(|line| !line.as_bytes().trim_ascii().is_empty());
    if says(&X_FORWARDED_FOR_KEY) {
        return Some((X_FORWARDED_FOR, X_FORWARDED_FOR_KEY));
    }
    says(&FORWARDED).then_some(("Forwarded", FORWARDED))
}

/// From the connection outwards, hop by hop.
struct Walk<'a> {
    last: IpAddr,
    /// How many hops `last` is away, itself included.
    hop: u64,
    trusted: &'a Trust,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A trusted proxy: what it says of the hop before it counts.
    Further,
    /// The client.
    Found,
    Malformed,
}

impl Walk<'_> {
    fn x_forwarded_for(&mut self, line: &HeaderValue) -> Step {
        if line.as_bytes().trim_ascii().is_empty() {
            return Step::Further;
        }
        let Ok(text) = line.to_str() else { return Step::Malformed };
        let hops = text.rsplit(',').map(|element| parse_node(element.trim_matches([' ', '\t'])));
        self.along(hops)
    }

    fn forwarded(&mut self, line: &HeaderValue) -> Step {
        if line.as_bytes().trim_ascii().is_empty() {
            return Step::Further;
        }
        let Ok(text) = line.to_str() else { return Step::Malformed };
        // Commas may stand inside quotes, so the line is read from the left and walked from the right. A quote that
        // never closes leaves no way to tell where the last hop begins.
        let Some(elements) = split_outside_quotes(text, ',') else { return Step::Malformed };
        self.along(elements.into_iter().rev().map(for_of_element))
    }

    fn along(&mut self, hops: impl Iterator<Item = Option<IpAddr>>) -> Step {
        for hop in hops {
            let Some(address) = hop else { return Step::Malformed };
            self.last = address;
            self.hop += 1;
            if !self.trusted.covers(self.hop, address) {
                return Step::Found;
            }
        }
        Step::Further
    }
}

/// An address with or without port, IPv6 with or without brackets. `None` for names, obfuscated nodes, zones, octal.
fn parse_node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let valid = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| valid).map(canonical);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::V4)
}

fn canonical(address: Ipv6Addr) -> IpAddr {
    IpAddr::V6(address).to_canonical()
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// The `for` of one element (RFC 7239, section 4). `None` without one, with two, or when it is no address.
fn for_of_element(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_outside_quotes(element, ';')? {
        let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        if !name.eq_ignore_ascii_case("for") {
            continue;
        }
        let bare = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => value,
        };
        if found.replace(parse_node(bare)?).is_some() {
            return None;
        }
    }
    found
}

/// `None` when a quote is not closed.
fn split_outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(text.get(start..at)?);
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    (!quoted).then_some(parts)
}

const X_FORWARDED_FOR: &str = "X-Forwarded-For";
const X_FORWARDED_FOR_KEY: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::vectors;

    fn networks(list: &[&str]) -> Networks {
        list.iter().map(|text| Networks::parse_one(text).unwrap()).collect()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn judged(peer: &str, lines: &[(&'static str, &str)]) -> ClientAddress {
        client_address(peer.parse().unwrap(), &headers(lines), &Trust::Networks(networks(&["192.0.2.0/24", "2001:db8:1::/48"])))
    }

    fn trusted(ip: &str) -> ClientAddress {
        ClientAddress { ip: ip.parse().unwrap(), peer: Peer::Trusted, ignored_header: None, malformed: false }
    }

    #[test]
    fn by_number_the_client_is_the_one_that_the_outermost_proxy_names() {
        let judged = |hops: u64, lines: &[(&'static str, &str)]| {
            let found = client_address("198.51.100.7".parse().unwrap(), &headers(lines), &Trust::Hops(hops));
            (found.ip.to_string(), found.malformed)
        };
        let is = |ip: &str, malformed: bool| (ip.to_owned(), malformed);
        assert_eq!(judged(1, &[("x-forwarded-for", "10.0.0.1, 203.0.113.9")]), is("203.0.113.9", false));
        assert_eq!(judged(2, &[("x-forwarded-for", "10.0.0.1, 203.0.113.9")]), is("10.0.0.1", false));
        assert_eq!(
            judged(2, &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "10.0.0.1, 203.0.113.9")]),
            is("10.0.0.1", false)
        );
        assert_eq!(judged(2, &[("forwarded", "for=6.6.6.6, for=10.0.0.1, for=203.0.113.9")]), is("10.0.0.1", false));
        // Too few: the request came past a proxy, and what it says of itself may be anything.
        assert_eq!(judged(3, &[("x-forwarded-for", "10.0.0.1, 203.0.113.9")]), is("198.51.100.7", true));
        assert_eq!(judged(1, &[]), is("198.51.100.7", true));
        assert_eq!(judged(1, &[("x-forwarded-for", "unknown")]), is("198.51.100.7", true));
    }

    #[test]
    fn headers_of_an_untrusted_peer_are_ignored_and_named() {
        let expected = |name| ClientAddress { peer: Peer::Untrusted, ignored_header: Some(name), ..trusted("203.0.113.9") };
        assert_eq!(judged("203.0.113.9", &[("x-forwarded-for", "10.0.0.1")]), expected("X-Forwarded-For"));
        assert_eq!(judged("::ffff:203.0.113.9", &[("forwarded", "for=10.0.0.1")]), expected("Forwarded"));
        // The headers of other products never count, so that turning one does not turn the limiter's key.
        let lines = [("true-client-ip", "10.0.0.1"), ("x-real-ip", "10.0.0.1")];
        assert_eq!(judged("203.0.113.9", &lines).ignored_header, None);
    }

    #[test]
    fn forwarded_is_walked_from_the_right_over_trusted_hops() {
        for (line, client) in [
            ("for=10.0.0.1", "10.0.0.1"),
            ("For=10.0.0.1;proto=https;by=192.0.2.1", "10.0.0.1"),
            ("for=10.0.0.1, for=203.0.113.9, for=192.0.2.7", "203.0.113.9"),
            ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=10.9.9.9;host=\"a, for=10.0.0.1\", for=198.51.100.1", "198.51.100.1"),
            ("for=198.51.100.1;host=\"a\\\",for=10.0.0.1;x=\\\"\"", "198.51.100.1"),
            ("for=192.0.2.8, for=192.0.2.7", "192.0.2.8"),
        ] {
            assert_eq!(judged("192.0.2.1", &[("forwarded", line)]), trusted(client), "{line}");
        }
    }

    #[test]
    fn a_malformed_forwarded_element_leaves_the_hop_that_sent_it() {
        let malformed = |ip| ClientAddress { ignored_header: Some("Forwarded"), malformed: true, ..trusted(ip) };
        for line in ["for=unknown", "for=_hidden", "by=10.0.0.1", "for=10.0.0.1;for=10.0.0.2", "for=\"10.0.0.1", "for", ","] {
            assert_eq!(judged("192.0.2.1", &[("forwarded", line)]), malformed("192.0.2.1"), "{line}");
        }
        assert_eq!(judged("192.0.2.1", &[("forwarded", "for=unknown, for=192.0.2.7")]), malformed("192.0.2.7"));
    }

    #[test]
    fn x_forwarded_for_wins_over_forwarded() {
        let lines = [("forwarded", "for=10.0.0.1"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(judged("192.0.2.1", &lines), trusted("198.51.100.1"));
    }

    #[test]
    fn what_stands_left_of_the_client_is_never_read() {
        for garbage in ["\"", "unknown", "", "\u{e9}"] {
            let line = format!("{garbage}, 198.51.100.1, 192.0.2.9");
            assert_eq!(judged("192.0.2.1", &[("x-forwarded-for", "nonsense"), ("x-forwarded-for", &line)]).ip.to_string(), {
                if garbage == "\u{e9}" { "192.0.2.1" } else { "198.51.100.1" }
            });
        }
    }

    /// The shared vectors. Where one says that the address is unknown, ours is the last hop that is known, marked.
    #[test]
    fn shared_vectors_agree() {
        let Some(vectors) = vectors("own/client_ip.json") else { return };
        let mut checked = 0;
        for vector in vectors["tests"].as_array().unwrap() {
            let list = |key: &str| vector[key].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>();
            if vector["decision"] == "config error" {
                continue;
            }
            let mut map = HeaderMap::new();
            for line in list("x_forwarded_for") {
                map.append("x-forwarded-for", line.parse().unwrap());
            }
            let peer: IpAddr = vector["peer"].as_str().unwrap().parse().unwrap();
            let found = client_address(peer, &map, &Trust::Networks(networks(&list("trusted_proxies"))));
            match vector["client_ip"].as_str() {
                Some(expected) => assert_eq!((found.ip.to_string().as_str(), found.malformed), (expected, false), "{vector}"),
                None => assert_eq!((found.ip, found.malformed), (peer, true), "{vector}"),
            }
            // A mapped range is no part of these rules: the config refuses or folds it.
            if list("allow") != ["::ffff:0:0/96"] {
                let allowed = !found.malformed && networks(&list("allow")).contains(found.ip);
                // Host bits of a network in the config are masked.
                let expected = ["allow", "config error or masked, said in the docs"];
                assert_eq!(allowed, expected.contains(&vector["decision"].as_str().unwrap()), "{vector}");
            }
            checked += 1;
        }
        assert_eq!(checked, 33);
    }
}

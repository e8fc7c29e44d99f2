//! `[[listener]]`: a socket that requests come in by.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node, section, words};
use crate::config::report::{Located, Place, Report};
use crate::config::tls::ListenerTls;
use crate::config::value::{ByteSize, Quota, are_everyone, is_everyone, refuse_zero};

section! {
    /// `[[listener]]`
    pub struct Listener {
        /// The name that an `[[api]]` refers to.
        name: Located<String>,
        /// Address and port, e.g. "0.0.0.0:8080".
        address: SocketAddr,
        /// Whose `X-Forwarded-For` or `Forwarded` header is believed: networks, or `{ hops = 1 }` where every request comes
        /// through so many proxies whose addresses are not known. Nobody by default.
        trusted_proxies: TrustedProxies = TrustedProxies::default(),
        /// TLS instead of clear text.
        tls: Option<ListenerTls> = None,
        /// Whether every connection begins with a header of the PROXY protocol, version 1 or 2: "off" or "required". Only
        /// proxies in `trusted_proxies` may then connect.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off,
        /// The listener for whose APIs this one decides: it forwards nothing, and tells a proxy of yours that asks at /decisions
        /// whether a request may pass. Only `trusted_proxies` may ask. Empty = it serves requests.
        decides_for: Option<Located<String>> = None,
        /// The API in whose error shapes a request is refused that belongs to no API; empty = RFC 9457.
        default_api: Option<Located<String>> = None,
        /// Whether clients may speak HTTP/2 beside HTTP/1.1: over TLS by ALPN, in clear text by prior knowledge. Left out: over TLS.
        http2: Option<bool> = None,
        /// The most that one request, and all of them, may take.
        limits: ListenerLimits = ListenerLimits::default(),
        /// How long a client may take.
        timeouts: ListenerTimeouts = ListenerTimeouts::default(),
    }
}

section! {
    /// `limits` of a listener.
    pub struct ListenerLimits: Default {
        /// Header fields of one request.
        headers: u64 = 100,
        /// Request line and header fields together.
        header_bytes: ByteSize = ByteSize(32 << 10),
        /// The request target.
        uri_bytes: ByteSize = ByteSize(8 << 10),
        /// Tokens that one client may have verified for the first time; again costs nothing. Counted by address, IPv6 by /64.
        cold_verifications: Quota = Quota { count: 500, window: Duration::from_secs(1) },
        /// Requests that one client of HTTP/2 may have at a time on a connection.
        h2_streams: u64 = 100,
        /// Open connections: a number, or "auto" for what the file limit allows.
        connections: Count = Count::Auto,
    }
}

section! {
    /// `timeouts` of a listener.
    pub struct ListenerTimeouts: Default {
        /// What comes before HTTP: the PROXY header and the TLS handshake together.
        handshake: Duration = Duration::from_secs(10),
        /// From the first byte of a request to the end of its header fields.
        header: Duration = Duration::from_secs(10),
        /// A connection without a request.
        idle: Duration = Duration::from_secs(75),
        /// A body in either direction of which nothing moves.
        body_progress: Duration = Duration::from_secs(30),
    }
}

impl Default for Listener {
    /// What a file without `[[listener]]` has: reachable from this machine only.
    fn default() -> Self {
        Self {
            name: Located::new("public".to_owned(), Place::default()),
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            trusted_proxies: TrustedProxies::default(),
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
            decides_for: None,
            default_api: None,
            http2: None,
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
            place: Place::default(),
        }
    }
}

impl Listener {
    pub fn speaks_http2(&self) -> bool {
        self.http2.unwrap_or(self.tls.is_some())
    }

    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        self.trusted_proxies.check(report);
        if self.decides_for.is_some() && !self.trusted_proxies.names_someone() {
            let why = format!("`{}` decides for others, and `trusted_proxies` names nobody who may ask it", self.name.value);
            report.error_with_help(report.at(self.place, "decides_for"), why, ASKERS);
        }
        self.limits.check(report);
        if let Some(tls) = &self.tls {
            tls.check(report);
        }
        self.check_proxy_protocol(report);
        let ListenerTimeouts { handshake, header, idle, body_progress, place } = self.timeouts;
        let all = [("handshake", handshake), ("header", header), ("idle", idle), ("body_progress", body_progress)];
        refuse_zero(place, &all, report);
    }
}

impl Listener {
    fn check_proxy_protocol(&self, report: &mut Report) {
        if self.proxy_protocol == ProxyProtocol::Off {
            return;
        }
        let place = report.at(self.place, "proxy_protocol");
        match &self.trusted_proxies {
            TrustedProxies::Networks(networks) if networks.is_empty() && report.is_sound(self.place, "trusted_proxies") => {
                let why = "nobody may send the PROXY header: `trusted_proxies` is empty, and every connection would be closed";
                report.error_with_help(place, why, "name the networks of the proxies that send it");
            }
            TrustedProxies::Networks(_) => {}
            TrustedProxies::Hops(hops) => {
                let why =
                    "with `proxy_protocol` the proxies are named by their networks: by number, anybody could send the header";
                report.error_with_help(report.at(hops.place, "hops"), why, OWN_PROXIES);
            }
        }
    }
}

impl ListenerLimits {
    fn check(&self, report: &mut Report) {
        let Self { headers, header_bytes, uri_bytes, h2_streams, connections: _, cold_verifications: _, place } = *self;
        if !HEADERS.contains(&headers) {
            let why = format!("`headers` is {headers}, expected {} to {}", HEADERS.start(), HEADERS.end());
            report.error(report.at(place, "headers"), why);
        }
        if !H2_STREAMS.contains(&h2_streams) {
            let why = format!("`h2_streams` is {h2_streams}, expected {} to {}", H2_STREAMS.start(), H2_STREAMS.end());
            report.error(report.at(place, "h2_streams"), why);
        }
        if !HEADER_BYTES.contains(&header_bytes.0) {
            let (least, most) = (ByteSize(*HEADER_BYTES.start()), ByteSize(*HEADER_BYTES.end()));
            let why = format!("`header_bytes` is {header_bytes}, expected {least} to {most}");
            report.error(report.at(place, "header_bytes"), why);
        }
        let at = report.at(place, "uri_bytes");
        if !URI_BYTES.contains(&uri_bytes.0) {
            let why = format!("`uri_bytes` is {uri_bytes}, expected 1B to {}B", URI_BYTES.end());
            report.error(at, why);
        } else if uri_bytes.0 > header_bytes.0 && report.is_sound(place, "header_bytes") {
            let why = format!("`uri_bytes` is {uri_bytes}, more than the {header_bytes} of `header_bytes`, which it is part of");
            report.error(at, why);
        }
    }
}

/// hyper's header map takes 32,768 entries; a request with a thousand is an attack already.
const HEADERS: RangeInclusive<u64> = 1..=1000;
/// Each stream may keep some hundred kilobytes.
const H2_STREAMS: RangeInclusive<u64> = 1..=1000;
/// hyper's read buffer cannot be smaller than 8 KiB.
const HEADER_BYTES: RangeInclusive<u64> = 8 << 10..=1 << 20;
/// The longest URI that the `http` crate parses.
const URI_BYTES: RangeInclusive<u64> = 1..=65_534;

words! {
    /// Whether connections begin with a header of the PROXY protocol.
    pub enum ProxyProtocol { Off = "off", Required = "required" }
}

/// Who may speak for a client.
#[derive(Clone, Debug)]
pub enum TrustedProxies {
    /// Peers of these networks, and whoever they name in turn.
    Networks(Vec<Located<IpNet>>),
    /// The connection's other end is the first of so many proxies, whatever its address. The gateway must then be out of
    /// reach for anybody else.
    Hops(Hops),
}

section! {
    /// `trusted_proxies` by their number.
    pub struct Hops {
        /// How many proxies every request comes through.
        hops: u64,
    }
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self::Networks(Vec::new())
    }
}

impl TrustedProxies {
    /// Whether peers are told apart: by number, everybody who can connect is a proxy.
    fn names_someone(&self) -> bool {
        matches!(self, Self::Networks(networks) if !networks.is_empty())
    }

    fn check(&self, report: &mut Report) {
        match self {
            Self::Networks(networks) => {
                for network in networks.iter().filter(|network| is_everyone(&network.value)) {
                    let why = format!("`{}` lets everybody say which address they come from", network.value);
                    report.error_with_help(network.place, why, OWN_PROXIES);
                }
                let all: Vec<&IpNet> = networks.iter().map(|network| &network.value).collect();
                if let Some(first) = networks.first()
                    && are_everyone(all.iter().copied())
                    && !all.into_iter().any(is_everyone)
                {
                    let why = "these networks together let everybody say which address they come from";
                    report.error_with_help(first.place, why, OWN_PROXIES);
                }
            }
            Self::Hops(hops) if !HOPS.contains(&hops.hops) => {
                let why = format!("`hops` is {}, expected {} to {}", hops.hops, HOPS.start(), HOPS.end());
                report.error(report.at(hops.place, "hops"), why);
            }
            Self::Hops(_) => {}
        }
    }
}

impl Decode for TrustedProxies {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.value.get_ref().is_table() {
            true => Hops::decode(node, decoder).map(Self::Hops),
            false => Vec::decode(node, decoder).map(Self::Networks),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [Vec::<IpNet>::schema(), Hops::schema()] })
    }
}

const ASKERS: &str = "name the networks of the proxies that ask: what they tell of a request is believed";
const OWN_PROXIES: &str = "name the networks of your own proxies";
/// More proxies in a row than anybody has.
const HOPS: RangeInclusive<u64> = 1..=16;

/// A number, or what the machine gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Auto,
    Exactly(u64),
}

impl Decode for Count {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        if node.value.get_ref().as_str() == Some("auto") {
            return Some(Self::Auto);
        }
        match node.whole_number() {
            Some(count @ 1..) => Some(Self::Exactly(count)),
            _ => decoder.mismatch(node, "\"auto\" or a number from 1"),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }] })
    }
}

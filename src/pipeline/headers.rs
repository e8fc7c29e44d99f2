//! What a proxy does to header fields: takes away what belongs to one connection only, and says who is behind it. Pure
//! functions; identity headers are not set here.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::Range;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::listener::Peer;

/// Removes the fields that are for one connection only: those of RFC 9110, section 7.6.1, and whatever `Connection`
/// names. For requests and responses.
///
/// To be called before any header of the gateway's own is set: a client may name one in `Connection`.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_what_connection_names(headers);
    remove_each(headers, is_hop_by_hop);
}

/// Removes from a request, in one look through its names, whatever no upstream may see: the fields of [`remove_hop_by_hop`],
/// false framing, what a peer that is not trusted says of the client or of a path or address behind it, and what `is_ours`
/// names. Returns what is kept of a trusted peer's words.
pub fn cleanse(headers: &mut HeaderMap, trust: Peer, is_ours: impl Fn(&str) -> bool) -> Kept {
    remove_what_connection_names(headers);
    let kept = if trust == Peer::Trusted { Kept::of(headers) } else { Kept::default() };
    remove_each(headers, |name| {
        let is_rebuilt = |name: &HeaderName| *name == X_FORWARDED_FOR || *name == header::FORWARDED;
        let text = name.as_str();
        is_hop_by_hop(name)
            || is_false_framing(text)
            || (may_be_a_claim(text) && (is_false_claim(text, trust) || is_method_override(text) || is_rebuilt(name)))
            || is_ours(text)
    });
    kept
}

pub fn remove_each(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

fn remove_what_connection_names(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    let text = name.as_str();
    // Most names are told by their first byte.
    text.starts_with(['c', 'e', 'k', 'p', 't', 'u']) && HOP_BY_HOP.contains(&text)
}

/// Whether a server that reads any other character as `-` (CGI, WSGI) would take this for the framing of the message,
/// beside the one that is written when it is sent.
fn is_false_framing(name: &str) -> bool {
    let is = |known: &str| name.len() == known.len() && name != known && name.bytes().map(folded).eq(known.bytes());
    is("transfer-encoding") || is("content-length")
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect()
}

/// Where a request comes from, for the upstream.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// What [`crate::listener::client_address`] said.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// `http` or `https`, as the request came to us.
    pub scheme: &'static str,
    /// The host that was asked for, with the port if it had one.
    pub host: &'a str,
}

/// Writes `X-Forwarded-For`, `-Proto`, `-Host`, `X-Real-IP` and `Forwarded` (RFC 7239) into what [`cleanse`] has left.
///
/// A trusted peer's `X-Forwarded-For` is continued, and its protocol and host are kept, because it saw the client's connection.
pub fn set_forwarded(headers: &mut HeaderMap, origin: &Origin<'_>, kept: Kept) {
    let client = origin.client.to_canonical();
    let peer = origin.peer.to_canonical();
    let host = kept.host.as_deref().unwrap_or(origin.host);
    let proto = kept.proto.unwrap_or(origin.scheme);
    let mut values = Values::default();
    let chain = values.add(|text| {
        match kept.x_forwarded_for {
            Some(chain) => text.extend([&*chain, ", "]),
            None if client != peer => {
                push_address(text, client);
                text.push_str(", ");
            }
            None => {}
        }
        push_address(text, peer);
    });
    let real_ip = values.add(|text| push_address(text, client));
    let forwarded_host = values.add(|text| text.push_str(host));
    let forwarded = values.add(|text| {
        // A hop is named by whom it heard from; what the peer heard it has said itself, or it stands first in our own words.
        match kept.forwarded {
            Some(elements) => text.extend([&*elements, ", "]),
            None if client != peer => {
                push_for(text, client);
                text.push_str(", ");
            }
            None => {}
        }
        push_for(text, peer);
        text.push_str(";host=");
        push_quoted(text, host);
        text.extend([";proto=", proto]);
    });
    let values = values.finish();
    values.set(headers, X_FORWARDED_FOR, chain);
    values.set(headers, X_REAL_IP, real_ip);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    values.set(headers, X_FORWARDED_HOST, forwarded_host);
    values.set(headers, header::FORWARDED, forwarded);
}

/// The values of several headers, written into one piece of memory that they then share.
#[derive(Default)]
pub struct Values(String);

/// Values that are written.
pub struct Written(Bytes);

impl Values {
    /// Appends one, and says where it is.
    pub fn add(&mut self, write: impl FnOnce(&mut String)) -> Range<usize> {
        let start = self.0.len();
        self.0.reserve(ROOM.saturating_sub(start));
        write(&mut self.0);
        start..self.0.len()
    }

    pub fn finish(self) -> Written {
        Written(Bytes::from(self.0))
    }
}

impl Written {
    /// Sets a header to what stands there. What is no header's value is better left out than sent: our own words are plain
    /// ASCII, and a host was a header's value before.
    pub fn set(&self, headers: &mut HeaderMap, name: HeaderName, at: Range<usize>) {
        if let Ok(value) = HeaderValue::from_maybe_shared(self.0.slice(at)) {
            headers.insert(name, value);
        } else {
            headers.remove(name);
        }
    }
}

/// What a trusted peer said.
#[derive(Default)]
pub struct Kept {
    x_forwarded_for: Option<String>,
    forwarded: Option<String>,
    proto: Option<&'static str>,
    host: Option<String>,
}

impl Kept {
    fn of(headers: &HeaderMap) -> Self {
        let x_forwarded_for = joined(headers, &X_FORWARDED_FOR);
        Self {
            // `client_address` reads the one that stands first here; the other may be the client's invention.
            forwarded: if x_forwarded_for.is_some() { None } else { joined(headers, &header::FORWARDED) },
            x_forwarded_for,
            proto: single(headers, &X_FORWARDED_PROTO)
                .and_then(|said| ["http", "https"].into_iter().find(|known| said == *known)),
            host: single(headers, &X_FORWARDED_HOST),
        }
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut out = String::new();
    for line in headers.get_all(name) {
        push(&mut out, line.to_str().ok()?.trim());
    }
    (!out.is_empty()).then_some(out)
}

/// The value when there is exactly one.
fn single(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = headers.get_all(name).iter();
    let value = lines.next()?.to_str().ok().filter(|value| !value.is_empty() && !value.contains(','))?;
    lines.next().is_none().then(|| value.to_owned())
}

fn push(list: &mut String, item: &str) {
    if !list.is_empty() && !item.is_empty() {
        list.push_str(", ");
    }
    list.push_str(item);
}

/// IPv4 without the machinery of formatting: each request writes a few.
fn push_address(text: &mut String, address: IpAddr) {
    let IpAddr::V4(v4) = address else {
        let _ = write!(text, "{address}");
        return;
    };
    for (index, octet) in v4.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        for digit in [octet / 100, octet / 10 % 10].into_iter().skip_while(|digit| *digit == 0 && octet < 100) {
            if octet >= 10 || digit > 0 {
                text.push(char::from(b'0' + digit));
            }
        }
        text.push(char::from(b'0' + octet % 10));
    }
}

/// `for=` and a node of RFC 7239, section 6: IPv6 in brackets and quotes.
fn push_for(text: &mut String, address: IpAddr) {
    text.push_str("for=");
    match address {
        IpAddr::V4(_) => push_address(text, address),
        IpAddr::V6(v6) => {
            let _ = write!(text, "\"[{v6}]\"");
        }
    }
}

/// A token as it is, anything else as a quoted string (RFC 9110, section 5.6): no value can end its own element.
fn push_quoted(text: &mut String, value: &str) {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !value.is_empty() && value.bytes().all(is_token) {
        return text.push_str(value);
    }
    text.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

/// Whether a name claims where a request comes from, and may not. A spelling with `_`, `.` or the like for `-` is never a
/// proxy's: it is a client's, meant for an upstream that reads both as one (CGI, WSGI), and goes whoever sent it.
fn is_false_claim(text: &str, trust: Peer) -> bool {
    is_claim(text) && (trust == Peer::Untrusted || text.bytes().any(|b| folded(b) != b))
}

/// Whether frameworks take the field for the method in place of the one that was judged. Nobody may say so, a trusted peer
/// neither: its method was judged as well.
fn is_method_override(text: &str) -> bool {
    let same = |word: &str| text.len() == word.len() && text.bytes().map(folded).eq(word.bytes());
    METHOD_OVERRIDES.into_iter().any(same)
}

/// All claims and overrides begin so, and most other names do not.
fn may_be_a_claim(name: &str) -> bool {
    name.starts_with(['x', 'f', 't', 'c', 's'])
}

/// `name` is lower case.
fn is_claim(name: &str) -> bool {
    let same = |word: &str| name.len() == word.len() && name.bytes().map(folded).eq(word.bytes());
    let begins = |word: &str| name.len() >= word.len() && name.bytes().take(word.len()).map(folded).eq(word.bytes());
    CLAIM_FAMILIES.into_iter().any(begins) || CLAIMS.into_iter().any(same)
}

/// As CGI reads the names of headers: what is no letter and no digit is all the same.
fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte } else { b'-' }
}

/// The path to ask a server for: its base path, then the path and query as they were judged.
pub fn join_path(base: &str, path_and_query: &str) -> String {
    // A base never ends with `/` (config/value.rs), and a path always begins with one.
    format!("{base}{path_and_query}")
}

/// Names the request in answers, logs and to the upstream.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "proxy-authenticate",
    "proxy-authorization",
    "keep-alive",
    "proxy-connection",
];

/// Fields that `Connection` must not take away: the upstream would read another request than the one that was judged.
static END_TO_END: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
];

/// Beginnings of fields by which servers and frameworks let a proxy name another client, host, path, method or
/// certificate, or call a request one of their own.
const CLAIM_FAMILIES: [&str; 7] =
    ["x-forwarded-", "x-original-", "x-rewrite-", "x-envoy-", "x-ssl-", "ssl-client-", "client-cert"];

/// Further such fields.
const CLAIMS: [&str; 9] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-client-cert",
    "x-cluster-client-ip",
    "x-internal",
    "x-middleware-subrequest",
    "true-client-ip",
    "cf-connecting-ip",
];

/// For the values of one request's forwarding headers.
const ROOM: usize = 192;

const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        map
    }

    fn listed(map: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    /// C1 C10: a name that a server folds into a framing field is not forwarded; the fields themselves are left alone.
    #[test]
    fn no_other_spelling_of_a_framing_field_is_forwarded() {
        let mut map = headers(&[
            ("Transfer_Encoding", "chunked"),
            ("transfer.encoding", "chunked"),
            ("content_length", "5"),
            ("Content~Length", "5"),
            ("content-length", "3"),
            ("content-lengths", "4"),
            ("transfer-encoding", "chunked"),
            ("transferencoding", "chunked"),
        ]);
        remove_each(&mut map, |name| is_false_framing(name.as_str()));
        let kept = ["content-length: 3", "content-lengths: 4", "transfer-encoding: chunked", "transferencoding: chunked"];
        assert_eq!(listed(&map), kept);
    }

    fn origin(client: &str, peer: &str) -> Origin<'static> {
        Origin { client: client.parse().unwrap(), peer: peer.parse().unwrap(), scheme: "http", host: "api.test:8080" }
    }

    fn rebuild(map: &mut HeaderMap, trust: Peer, origin: &Origin<'_>) {
        let kept = cleanse(map, trust, |_| false);
        set_forwarded(map, origin, kept);
    }

    #[test]
    fn connection_takes_away_what_it_names_but_not_what_was_judged() {
        let mut map = headers(&[
            ("connection", "close, X-Auth-User, x-forwarded-for"),
            ("Connection", "Host, cookie, Content-Length, authorization"),
            ("x-auth-user", "admin"),
            ("x-forwarded-for", "10.0.0.1"),
            ("host", "api.test"),
            ("cookie", "a=1"),
            ("content-length", "3"),
            ("authorization", "Bearer x"),
            ("te", "trailers"),
            ("trailer", "x-auth-user"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("proxy-authenticate", "Basic"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(
            listed(&map),
            ["accept: */*", "authorization: Bearer x", "content-length: 3", "cookie: a=1", "host: api.test"]
        );
    }

    #[test]
    fn claims_of_an_untrusted_peer_are_dropped_in_every_spelling_and_rebuilt() {
        let mut map = headers(&[
            ("X-Forwarded-For", "10.0.0.1"),
            ("X_Forwarded_For", "10.0.0.1"),
            ("x-forwarded.host", "evil"),
            ("X-Forwarded-Host", "evil"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Uri", "/admin"),
            ("X-Forwarded-Prefix", "/admin"),
            ("X-Forwarded-Port", "1"),
            ("X-Forwarded-Method", "GET"),
            ("Forwarded", "for=10.0.0.1"),
            ("X-Real-IP", "10.0.0.1"),
            ("X-Original-URL", "/admin"),
            ("X_Original_URL", "/admin"),
            ("X~Original+URL", "/admin"),
            ("X-Original-Method", "GET"),
            ("X-Rewrite-URL", "/admin"),
            ("X-Middleware-Subrequest", "middleware"),
            ("X-SSL-Client-Verify", "SUCCESS"),
            ("X-Client-Cert", "x"),
            ("X-Envoy-Internal", "true"),
            ("X-Internal", "true"),
            ("True-Client-IP", "10.0.0.1"),
            ("x-originals", "kept"),
            ("x-request-id", "kept"),
            ("from", "kept"),
        ]);
        rebuild(&mut map, Peer::Untrusted, &origin("203.0.113.9", "203.0.113.9"));
        assert_eq!(
            listed(&map),
            [
                "forwarded: for=203.0.113.9;host=\"api.test:8080\";proto=http",
                "from: kept",
                "x-forwarded-for: 203.0.113.9",
                "x-forwarded-host: api.test:8080",
                "x-forwarded-proto: http",
                "x-originals: kept",
                "x-real-ip: 203.0.113.9",
                "x-request-id: kept",
            ]
        );
    }

    /// A12: the upstream does what was judged.
    #[test]
    fn no_header_makes_another_method_of_the_one_that_was_judged() {
        for trust in [Peer::Untrusted, Peer::Trusted] {
            let mut map = headers(&[
                ("X-HTTP-Method-Override", "DELETE"),
                ("X_HTTP_Method_Override", "DELETE"),
                ("X-HTTP~Method-Override", "DELETE"),
                ("X-HTTP-Method", "DELETE"),
                ("X-Method-Override", "DELETE"),
                ("x-http-methods", "kept"),
            ]);
            rebuild(&mut map, trust, &origin("203.0.113.9", "203.0.113.9"));
            assert_eq!(listed(&map).iter().filter(|line| line.contains("method")).collect::<Vec<_>>(), ["x-http-methods: kept"]);
        }
    }

    #[test]
    fn the_chain_of_a_trusted_peer_is_continued() {
        let mut map = headers(&[
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.test"),
            ("x-forwarded-prefix", "/v1"),
            ("forwarded", "for=10.0.0.1"),
        ]);
        rebuild(&mut map, Peer::Trusted, &origin("203.0.113.9", "192.0.2.1"));
        assert_eq!(
            listed(&map),
            [
                "forwarded: for=203.0.113.9, for=192.0.2.1;host=public.test;proto=https",
                "x-forwarded-for: 198.51.100.1, 203.0.113.9, 192.0.2.1",
                "x-forwarded-host: public.test",
                "x-forwarded-prefix: /v1",
                "x-forwarded-proto: https",
                "x-real-ip: 203.0.113.9",
            ]
        );
    }

    #[test]
    fn a_chain_in_forwarded_alone_is_continued_there_and_begun_in_the_other() {
        let mut map = headers(&[("forwarded", "for=\"[2001:db8::1]\""), ("x-forwarded-proto", "gopher")]);
        rebuild(&mut map, Peer::Trusted, &origin("2001:db8::1", "::ffff:192.0.2.1"));
        assert_eq!(
            listed(&map),
            [
                "forwarded: for=\"[2001:db8::1]\", for=192.0.2.1;host=\"api.test:8080\";proto=http",
                "x-forwarded-for: 2001:db8::1, 192.0.2.1",
                "x-forwarded-host: api.test:8080",
                "x-forwarded-proto: http",
                "x-real-ip: 2001:db8::1",
            ]
        );
    }

    /// B6: also in the words of a trusted peer, whose host is not judged as a host.
    #[test]
    fn no_host_can_forge_an_element() {
        let mut map = HeaderMap::new();
        let host = "a\";for=1.1.1.1;by=\"x\\";
        rebuild(&mut map, Peer::Untrusted, &Origin { host, ..origin("2001:db8::2", "2001:db8::2") });
        assert_eq!(map["forwarded"], "for=\"[2001:db8::2]\";host=\"a\\\";for=1.1.1.1;by=\\\"x\\\\\";proto=http");
    }

    #[test]
    fn a_base_path_comes_before_the_path() {
        assert_eq!(join_path("/base", "/a?b=c"), "/base/a?b=c");
        assert_eq!(join_path("", "/"), "/");
    }
}

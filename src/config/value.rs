//! Values that cannot be wrong: each is parsed once, with an error that says what was found and what would be right.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node};
pub use crate::config::path::{PathPattern, Segment};
use crate::config::report::{Place, Report};
use crate::identity::{CredentialKind, Networks, Scope};

/// Decodes a type from a string: the parser's error is the report's message.
macro_rules! from_text {
    ($type:ty, $wanted:literal, $parse:expr) => {
        impl Decode for $type {
            fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
                let text = decoder.string(node, $wanted)?;
                let parse: fn(&str) -> Result<Self, String> = $parse;
                match parse(&text) {
                    Ok(value) => Some(value),
                    Err(why) => decoder.refuse(node, why, concat!("expected ", $wanted)),
                }
            }

            fn schema() -> Value {
                json!({ "type": "string", "description": concat!("expected ", $wanted) })
            }
        }
    };
}

from_text!(Duration, "a duration such as \"30s\", \"20ms\", \"1h\" or \"7d\"", parse_duration);
from_text!(SocketAddr, "an address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"", |text| text.parse().map_err(|_| {
    match text.parse::<IpAddr>() {
        Ok(_) => format!("`{text}` has no port"),
        Err(_) => format!("`{text}` is no address with a port"),
    }
}));
from_text!(IpNet, "a network such as \"10.0.0.0/8\" or a single address", |text| Networks::parse_one(text)
    .ok_or_else(|| format!("`{text}` is no network")));
from_text!(Scope, "a scope such as \"nodes:read\"", |text| Scope::parse(text).ok_or_else(|| format!("`{text}` is no scope")));
from_text!(CredentialKind, "a kind of credential: \"jwt\", \"api_key\" or \"client_certificate\"", |text| CredentialKind::parse(
    text
)
.ok_or_else(|| format!("`{text}` is no kind of credential")));
from_text!(Method, "an HTTP method such as \"GET\"", |text| parse_method(text));
from_text!(HeaderName, "a header name such as \"X-Auth-User-Id\"", |text| HeaderName::from_str(text)
    .map_err(|_| format!("`{text}` is no header name")));
from_text!(ByteSize, "a size such as \"32KiB\" or \"10MiB\"", parse_size);
from_text!(Quota, "a quota such as \"5 per 15m\"", parse_quota);
from_text!(UpstreamUrl, "a URL such as \"http://127.0.0.1:9000\" or \"http://nodes.internal:8080/base\"", UpstreamUrl::parse);
from_text!(HostPattern, "a host name such as \"api.example.com\", \"*.example.com\" or \"*\"", parse_host);

impl Decode for Networks {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        Vec::<IpNet>::decode(node, decoder).map(Self::new)
    }

    fn schema() -> Value {
        Vec::<IpNet>::schema()
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// So many in so long, e.g. `600 per 1m`. Neither is ever zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub count: u32,
    pub window: Duration,
}

/// Where an upstream server is: an authority to connect to and a path that is put before every forwarded path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    pub scheme: Scheme,
    /// Host name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or starts with `/` and does not end with one.
    pub base_path: String,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1 in clear text.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
}

/// Which values of Host an API answers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Any,
    /// Lower case, without port and trailing dot.
    Exact(String),
    /// `*.example.com`: any name below it, kept as `.example.com`.
    Below(String),
}

impl UpstreamUrl {
    /// Parses a URL; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|_| format!("`{text}` is no URL"))?;
        let (scheme, default_port) = match uri.scheme_str() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => (Scheme::Https, 443),
            Some(other) => {
                return Err(format!("`{text}`: the scheme `{other}` is not supported, only `http` and `https`"));
            }
            None => return Err(format!("`{text}` has no scheme")),
        };
        let authority = uri.authority().ok_or_else(|| format!("`{text}` names no host"))?.as_str();
        if authority.contains('@') {
            return Err("the URL holds a user name or password".to_owned());
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(format!("`{text}` has a query or a fragment"));
        }
        let base = uri.path().trim_end_matches('/');
        let plain = |part: &str| !matches!(part, "." | "..") && !part.contains(['%', '\\', ';']);
        if !base.split('/').all(plain) || base.contains("//") {
            return Err(format!("`{text}`: the base path is not in its plain form"));
        }
        let (host, port) = parse_host_port(authority, default_port).map_err(|why| format!("`{text}`: {why}"))?;
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port, base_path: base.to_owned() })
    }
}

/// Splits `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`; the host comes without brackets. By hand, because the URI type takes a
/// port that is no number, and then says that there is none.
pub fn parse_host_port(text: &str, default_port: u16) -> Result<(&str, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|&port| port != 0)),
        Some(_) | None => (text, Some(default_port)),
    };
    let port = port.ok_or("the port is no number from 1 to 65535")?;
    match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => Ok((address, port)),
        None if is_host_name(host) => Ok((host, port)),
        Some(_) | None => Err(format!("`{host}` is no host")),
    }
}

/// Parses `30s`, `20ms`, `15m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        "" => return Err(format!("`{text}` has no unit")),
        _ => return Err(wrong()),
    };
    // A hundred years: anything above it is a slip, and sums of two still fit every clock.
    millis.filter(|&millis| millis <= 3_153_600_000_000).map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long"))
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    let wrong = || format!("`{text}` is no size");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err(format!("`{text}` has no unit")),
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).map(ByteSize).ok_or_else(|| format!("`{text}` is too large"))
}

fn parse_quota(text: &str) -> Result<Quota, String> {
    let (count, window) = text.split_once(" per ").ok_or_else(|| format!("`{text}` is no quota"))?;
    let digits = count.trim();
    let wrong = || format!("`{digits}` is no count from 1 to {}", u32::MAX);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let count: u32 = digits.parse().map_err(|_| wrong())?;
    let window = parse_duration(window.trim())?;
    match (count, window) {
        (0, _) => Err(format!("`{text}` allows nothing")),
        (_, window) if window < Duration::from_millis(1) => Err(format!("`{text}` has an empty window")),
        (count, window) => Ok(Quota { count, window }),
    }
}

fn parse_method(text: &str) -> Result<Method, String> {
    let wrong = || format!("`{text}` is no HTTP method");
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(format!("{}: methods are upper case", wrong()));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| wrong())
}

fn parse_host(text: &str) -> Result<HostPattern, String> {
    let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let address = |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    match (lower.as_str(), lower.strip_prefix("*.")) {
        _ if text == "*" => Ok(HostPattern::Any),
        (_, Some(name)) if is_host_name(name) => Ok(HostPattern::Below(format!(".{name}"))),
        (name, None) if is_host_name(name) || address(name).is_some() => Ok(HostPattern::Exact(lower)),
        (name, _) if name.contains("://") => Err(format!("`{text}` is a URL, not a host name")),
        (name, _) if name.rsplit_once(':').is_some_and(|(host, _)| is_host_name(host) || address(host).is_some()) => {
            Err(format!("`{text}` has a port; the listener has it already"))
        }
        (..) => Err(format!("`{text}` is no host name")),
    }
}

/// Dotted labels of letters, digits, `-` and `_` (which no DNS name has, but names inside a cluster do).
pub fn is_host_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether a network holds every address of its family.
pub fn is_everyone(network: &IpNet) -> bool {
    network.prefix_len() == 0
}

/// Whether networks together hold every address of a family, as `0.0.0.0/1` and `128.0.0.0/1` do.
pub fn are_everyone<'a>(networks: impl IntoIterator<Item = &'a IpNet>) -> bool {
    IpNet::aggregate(&networks.into_iter().copied().collect()).iter().any(is_everyone)
}

/// Reports durations of one table that must not be zero: nothing would ever be done in time.
pub fn refuse_zero(table: Place, durations: &[(&str, Duration)], report: &mut Report) {
    for (key, _) in durations.iter().filter(|(_, duration)| duration.is_zero()) {
        report.error(report.at(table, key), format!("`{key}` is zero: nothing is done in no time"));
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, base_path } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}{base_path}"),
            false => write!(f, "{scheme}://{host}:{port}{base_path}"),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.window.as_secs() {
            _ if self.window.subsec_millis() != 0 => write!(f, "{} per {}ms", self.count, self.window.as_millis()),
            s if s % 86_400 == 0 => write!(f, "{} per {}d", self.count, s / 86_400),
            s if s % 3600 == 0 => write!(f, "{} per {}h", self.count, s / 3600),
            s if s % 60 == 0 => write!(f, "{} per {}m", self.count, s / 60),
            s => write!(f, "{} per {s}s", self.count),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T: fmt::Debug>(parsed: Result<T, String>) -> String {
        parsed.unwrap_err()
    }

    #[test]
    fn durations_need_a_unit_and_have_an_end() {
        for (text, millis) in [("20ms", 20), ("30s", 30_000), ("15m", 900_000), ("1h", 3_600_000), ("7d", 604_800_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, why) in [
            ("30", "`30` has no unit"),
            ("", "`` is no duration"),
            ("s", "`s` is no duration"),
            ("1.5s", "`1.5s` is no duration"),
            ("-1s", "`-1s` is no duration"),
            ("+1s", "`+1s` is no duration"),
            ("1 s", "`1 s` is no duration"),
            ("1S", "`1S` is no duration"),
            ("36501d", "`36501d` is too long"),
            ("18446744073709551615d", "`18446744073709551615d` is too long"),
            ("99999999999999999999s", "`99999999999999999999s` is no duration"),
        ] {
            assert_eq!(error(parse_duration(text)), why);
        }
    }

    #[test]
    fn sizes_are_binary_and_shown_as_they_are_written() {
        for text in ["0B", "1B", "1023B", "32KiB", "10MiB", "1025KiB"] {
            assert_eq!(parse_size(text).unwrap().to_string(), text);
        }
        assert_eq!(parse_size("1GiB"), Ok(ByteSize(1 << 30)));
        for (text, why) in [
            ("10", "`10` has no unit"),
            ("10MB", "`10MB` is no size"),
            ("MiB", "`MiB` is no size"),
            ("99999999999GiB", "`99999999999GiB` is too large"),
        ] {
            assert_eq!(error(parse_size(text)), why);
        }
    }

    #[test]
    fn quotas_are_never_zero_and_shown_as_they_are_written() {
        for text in ["5 per 15m", "600 per 1m", "1 per 1500ms", "10 per 1s", "3 per 7d", "4294967295 per 1h", "9 per 90s"] {
            assert_eq!(parse_quota(text).unwrap().to_string(), text);
        }
        for (text, why) in [
            ("5", "`5` is no quota"),
            ("5/m", "`5/m` is no quota"),
            ("five per 1m", "`five` is no count from 1 to 4294967295"),
            ("+5 per 1m", "`+5` is no count from 1 to 4294967295"),
            ("4294967296 per 1m", "`4294967296` is no count from 1 to 4294967295"),
            ("0 per 1m", "`0 per 1m` allows nothing"),
            ("5 per 0s", "`5 per 0s` has an empty window"),
            ("5 per m", "`m` is no duration"),
            ("5 per 10", "`10` has no unit"),
        ] {
            assert_eq!(error(parse_quota(text)), why);
        }
    }

    #[test]
    fn upstream_urls_keep_host_port_and_base_path() {
        for (text, scheme, host, port, base) in [
            ("http://127.0.0.1:9000", Scheme::Http, "127.0.0.1", 9000, ""),
            ("http://Nodes.internal", Scheme::Http, "nodes.internal", 80, ""),
            ("http://nodes_1.internal:8080/base/", Scheme::Http, "nodes_1.internal", 8080, "/base"),
            ("http://[::1]:9000/a/b", Scheme::Http, "::1", 9000, "/a/b"),
            ("http://[2001:db8::1]", Scheme::Http, "2001:db8::1", 80, ""),
            ("https://a.internal", Scheme::Https, "a.internal", 443, ""),
        ] {
            let expected = UpstreamUrl { scheme, host: host.to_owned(), port, base_path: base.to_owned() };
            assert_eq!(UpstreamUrl::parse(text), Ok(expected.clone()), "{text}");
            assert_eq!(UpstreamUrl::parse(&expected.to_string()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn upstream_urls_that_mean_something_else_are_refused() {
        for (text, why) in [
            ("127.0.0.1:9000", "`127.0.0.1:9000` has no scheme"),
            ("ftp://a", "`ftp://a`: the scheme `ftp` is not supported, only `http` and `https`"),
            ("http://", "`http://` is no URL"),
            ("http://a:0", "`http://a:0`: the port is no number from 1 to 65535"),
            ("http://a:99999", "`http://a:99999`: the port is no number from 1 to 65535"),
            ("http://a:", "`http://a:`: the port is no number from 1 to 65535"),
            ("http://:80", "`http://:80`: `` is no host"),
            ("http://a..b", "`http://a..b`: `a..b` is no host"),
            ("http://[::1", "`http://[::1` is no URL"),
            ("http://u:secret@a", "the URL holds a user name or password"),
            ("http://a/?q=1", "`http://a/?q=1` has a query or a fragment"),
            ("http://a/#f", "`http://a/#f` has a query or a fragment"),
            ("http://a/x/../y", "`http://a/x/../y`: the base path is not in its plain form"),
            ("http://a/x//y", "`http://a/x//y`: the base path is not in its plain form"),
            ("http://a/%2e", "`http://a/%2e`: the base path is not in its plain form"),
        ] {
            assert_eq!(error(UpstreamUrl::parse(text)), why);
        }
    }

    #[test]
    fn host_patterns_are_lower_case_names_without_port() {
        for (text, pattern) in [
            ("*", HostPattern::Any),
            ("API.example.com.", HostPattern::Exact("api.example.com".to_owned())),
            ("*.Example.com", HostPattern::Below(".example.com".to_owned())),
            ("127.0.0.1", HostPattern::Exact("127.0.0.1".to_owned())),
            ("[::1]", HostPattern::Exact("[::1]".to_owned())),
        ] {
            assert_eq!(parse_host(text), Ok(pattern), "{text}");
        }
        for (text, why) in [
            ("", "`` is no host name"),
            (".", "`.` is no host name"),
            ("*.", "`*.` is no host name"),
            ("a..b", "`a..b` is no host name"),
            ("*.*.b", "`*.*.b` is no host name"),
            ("a*.b", "`a*.b` is no host name"),
            ("::1", "`::1` is no host name"),
            ("[::1", "`[::1` is no host name"),
            ("a:8080", "`a:8080` has a port; the listener has it already"),
            ("[::1]:80", "`[::1]:80` has a port; the listener has it already"),
            ("http://a", "`http://a` is a URL, not a host name"),
        ] {
            assert_eq!(error(parse_host(text)), why);
        }
    }

    #[test]
    fn methods_are_upper_case_tokens() {
        assert_eq!(parse_method("PATCH"), Ok(Method::PATCH));
        assert_eq!(error(parse_method("get")), "`get` is no HTTP method: methods are upper case");
        assert_eq!(error(parse_method("A B")), "`A B` is no HTTP method");
        assert_eq!(error(parse_method("")), "`` is no HTTP method");
    }

    proptest::proptest! {
        #[test]
        fn a_quota_is_shown_as_it_is_parsed(count in 1u32.., millis in 1u64..10_000_000_000) {
            let quota = Quota { count, window: Duration::from_millis(millis) };
            assert_eq!(parse_quota(&quota.to_string()), Ok(quota));
        }
    }
}

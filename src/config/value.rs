//! Values that cannot be wrong: each is parsed once, with an error that says what was found and what would be right.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node};
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
                    Err(why) => {
                        let place = decoder.place(node);
                        decoder.report.error_with_help(place, why, concat!("expected ", $wanted));
                        None
                    }
                }
            }

            fn schema() -> Value {
                json!({ "type": "string", "description": concat!("expected ", $wanted) })
            }
        }
    };
}

from_text!(Duration, "a duration such as \"30s\", \"20ms\", \"1h\" or \"7d\"", parse_duration);
from_text!(SocketAddr, "an address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"", |text| text
    .parse()
    .map_err(|_| format!("`{text}` is no socket address")));
from_text!(IpNet, "a network such as \"10.0.0.0/8\" or a single address", |text| Networks::parse_one(text)
    .ok_or_else(|| format!("`{text}` is no network")));
from_text!(Scope, "a scope such as \"nodes:read\"", |text| Scope::parse(text).ok_or_else(|| format!("`{text}` is no scope")));
from_text!(CredentialKind, "a kind of credential: \"jwt\" or \"api_key\"", |text| CredentialKind::parse(text)
    .ok_or_else(|| format!("`{text}` is no kind of credential")));
from_text!(Method, "an HTTP method such as \"GET\"", |text| parse_method(text));
from_text!(HeaderName, "a header name such as \"X-Auth-User-Id\"", |text| HeaderName::from_str(text)
    .map_err(|_| format!("`{text}` is no header name")));
from_text!(ByteSize, "a size such as \"32KiB\" or \"10MiB\"", parse_size);
from_text!(Quota, "a quota such as \"5 per 15m\"", parse_quota);
from_text!(UpstreamUrl, "a URL such as \"http://127.0.0.1:9000\" or \"http://nodes.internal:8080/base\"", parse_upstream);
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
    /// Host name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or starts with `/` and does not end with one.
    pub base_path: String,
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

/// A path pattern: literals, `{name}` for one segment, `**` or `{**name}` for any number of segments at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    pub segments: Vec<Segment>,
    text: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    Literal(String),
    Capture(Arc<str>),
    /// None or more segments; always the last.
    Tail(Option<Arc<str>>),
}

impl PathPattern {
    /// Parses a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else { return Err(format!("`{text}` does not start with `/`")) };
        let parts: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
        let last = parts.len();
        let mut segments = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let segment = parse_segment(part).map_err(|why| format!("`{text}`: {why}"))?;
            if matches!(segment, Segment::Tail(_)) && index + 1 != last {
                return Err(format!("`{text}`: `**` may only stand at the end"));
            }
            if let Some(name) = segment.name()
                && segments.iter().any(|earlier: &Segment| earlier.name() == Some(name))
            {
                return Err(format!("`{text}`: two captures are called `{name}`"));
            }
            segments.push(segment);
        }
        Ok(Self { segments, text: text.into() })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pattern of `self` followed by `other`: a rule below a prefix.
    pub fn join(&self, other: &Self) -> Result<Self, String> {
        Self::parse(&format!("{}{}", self.text.trim_end_matches('/'), other.text))
    }

    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// Two patterns of one shape match exactly the same paths.
    pub fn shape(&self) -> String {
        let one = |segment: &Segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Capture(_) => "/{}".to_owned(),
            Segment::Tail(_) => "/**".to_owned(),
        };
        self.segments.iter().map(one).collect()
    }
}

impl Segment {
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Capture(name) | Self::Tail(Some(name)) => Some(name),
            Self::Literal(_) | Self::Tail(None) => None,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Decode for PathPattern {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.raw_string(node, "a path such as \"/api/items/{id}\"")?;
        Self::parse(text).map_err(|why| decoder.report.error(decoder.place(node), why)).ok()
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": "a path; `{name}` is one segment, `{**name}` any number at the end" })
    }
}

fn parse_segment(part: &str) -> Result<Segment, String> {
    let name_of = |name: &str| {
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if valid { Ok(name.into()) } else { Err(format!("`{name}` is no name for a capture (a-z, 0-9, _)")) }
    };
    if part == "**" {
        return Ok(Segment::Tail(None));
    }
    match part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some(inner) => match inner.strip_prefix("**") {
            Some(name) => name_of(name).map(|name| Segment::Tail(Some(name))),
            None => name_of(inner).map(Segment::Capture),
        },
        None if part.is_empty() => Err("it has an empty segment".to_owned()),
        None if part == "." || part == ".." => Err(format!("`{part}` is no segment")),
        None if part.contains(['{', '}', '*', '%', '\\', '?', '#', ';']) || !part.bytes().all(|b| b.is_ascii_graphic()) => {
            Err(format!("`{part}` holds a character that a literal segment may not have"))
        }
        None => Ok(Segment::Literal(part.to_owned())),
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
    let count: u32 = count.trim().parse().map_err(|_| format!("`{count}` is no count"))?;
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

fn parse_upstream(text: &str) -> Result<UpstreamUrl, String> {
    let uri: http::Uri = text.parse().map_err(|_| format!("`{text}` is no URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some(other) => return Err(format!("`{text}`: the scheme `{other}` is not supported, only `http`")),
        None => return Err(format!("`{text}` has no scheme")),
    }
    let authority = uri.authority().ok_or_else(|| format!("`{text}` names no host"))?;
    if authority.as_str().contains('@') {
        return Err(format!("`{text}` holds a user name or password"));
    }
    if uri.query().is_some() || text.contains('#') {
        return Err(format!("`{text}` has a query or a fragment"));
    }
    let base = uri.path().trim_end_matches('/');
    if base.split('/').any(|part| part == "." || part == "..") || base.contains("//") || base.contains('%') {
        return Err(format!("`{text}`: the base path is not in its plain form"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(UpstreamUrl { host, port: authority.port_u16().unwrap_or(80), base_path: base.to_owned() })
}

fn parse_host(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    let lower = text.trim_end_matches('.').to_ascii_lowercase();
    let (name, below) = lower.strip_prefix("*.").map_or((lower.as_str(), false), |rest| (rest, true));
    let valid = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'));
    if !valid || (name.contains(':') && !name.starts_with('[')) {
        return Err(format!("`{text}` is no host name (without port)"));
    }
    Ok(if below { HostPattern::Below(format!(".{name}")) } else { HostPattern::Exact(name.to_owned()) })
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
        let seconds = self.window.as_secs();
        match seconds {
            0 => write!(f, "{} per {}ms", self.count, self.window.as_millis()),
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

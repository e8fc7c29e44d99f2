//! `cors`: which pages of other origins a browser lets read the answers of an API (Fetch Standard, section 3.2).

use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, Method};
use serde_json::{Value, json};

use crate::config::decode::{Decode, Decoder, Node, section};
use crate::config::report::Report;

section! {
    /// `cors` of an API or a route.
    pub struct Cors {
        /// Origins that may read: "https://app.example.com", one label for any as in "https://*.example.com", "null", or "*" for all.
        origins: Vec<OriginPattern>,
        /// Whether browsers may send cookies and credentials that they hold themselves.
        credentials: bool = false,
        /// Methods that pages may use; empty = whichever the path takes.
        methods: Vec<Method> = Vec::new(),
        /// Request headers that pages may send; empty = Content-Type and those that carry credentials.
        headers: Vec<HeaderName> = Vec::new(),
        /// Answer headers that pages may read besides the plain ones.
        expose_headers: Vec<HeaderName> = Vec::new(),
        /// How long a browser remembers what a preflight was answered.
        max_age: Duration = Duration::from_secs(600),
    }
}

/// The origins that one word names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    Any,
    /// As browsers write it: lower case, without the scheme's own port.
    Exact(String),
    /// `https://` and `.example.com`, with one label between them.
    Below {
        scheme: &'static str,
        suffix: String,
    },
}

impl Cors {
    /// Reports what is wrong within the section.
    pub fn check(&self, report: &mut Report) {
        let origins = report.at(self.place, "origins");
        if self.origins.is_empty() && report.is_sound(self.place, "origins") {
            report.error_with_help(origins, "`origins` is empty: no page may read anything", "leave `cors` out instead");
        }
        if self.credentials && self.origins.contains(&OriginPattern::Any) {
            let why = "`*` with `credentials`: every page could act for whoever looks at it";
            report.error_with_help(origins, why, "name the origins");
        }
    }
}

impl OriginPattern {
    /// Whether an `Origin` header names one of them. Compared byte for byte: browsers write one spelling only.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(known) => known == origin,
            Self::Below { scheme, suffix } => {
                let label = origin.strip_prefix(scheme).and_then(|rest| rest.strip_suffix(suffix.as_str()));
                label.is_some_and(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
            }
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if lower == "*" {
            return Ok(Self::Any);
        }
        if lower == "null" {
            return Ok(Self::Exact(lower));
        }
        let (scheme, own_port) = match lower.split_once("://") {
            Some(("https", _)) => ("https://", ":443"),
            Some(("http", _)) => ("http://", ":80"),
            Some(_) | None => return Err(format!("`{text}` is no origin of http or https")),
        };
        let rest = lower.strip_prefix(scheme).unwrap_or_default();
        let rest = rest.strip_suffix(own_port).unwrap_or(rest);
        let (is_below, host) = rest.strip_prefix("*.").map_or((false, rest), |host| (true, host));
        let authority: Authority = host.parse().map_err(|_| format!("`{text}` is not a scheme, a host and a port"))?;
        let is_whole = authority.port().map_or(authority.host().len(), |port| authority.host().len() + 1 + port.as_str().len());
        if authority.host().is_empty() || is_whole != host.len() || host.contains('*') || host.ends_with(':') {
            return Err(format!("`{text}` is not a scheme, a host and a port"));
        }
        match is_below {
            true => Ok(Self::Below { scheme, suffix: format!(".{host}") }),
            false => Ok(Self::Exact(format!("{scheme}{host}"))),
        }
    }
}

impl Decode for OriginPattern {
    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.string(node, WANTED)?;
        match Self::parse(&text) {
            Ok(pattern) => Some(pattern),
            Err(why) => decoder.refuse(node, why, &format!("expected {WANTED}")),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": format!("expected {WANTED}") })
    }
}

const WANTED: &str = "an origin such as \"https://app.example.com\", \"https://*.example.com\", \"null\" or \"*\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        let matches = |pattern: &str, origin: &str| OriginPattern::parse(pattern).unwrap().matches(origin);
        for (pattern, origin, expected) in [
            ("https://App.example.com", "https://app.example.com", true),
            ("https://app.example.com:443", "https://app.example.com", true),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.com", "https://app.example.com.evil.test", false),
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com", "https://a.b.example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://evil.test/.example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com:8443", "https://a.example.com:8443", true),
            ("null", "null", true),
            ("https://app.example.com", "null", false),
            ("*", "null", true),
        ] {
            assert_eq!(matches(pattern, origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for (text, why) in [
            ("app.example.com", "`app.example.com` is no origin of http or https"),
            ("ftp://a", "`ftp://a` is no origin of http or https"),
            ("https://", "`https://` is not a scheme, a host and a port"),
            ("https://a/", "`https://a/` is not a scheme, a host and a port"),
            ("https://u@a", "`https://u@a` is not a scheme, a host and a port"),
            ("https://a:", "`https://a:` is not a scheme, a host and a port"),
            ("https://*.*.a", "`https://*.*.a` is not a scheme, a host and a port"),
        ] {
            assert_eq!(OriginPattern::parse(text).unwrap_err(), why);
        }
    }
}

//! What a route does to requests and answers beside letting them through: as `gateway.toml` says it, checked against the
//! identity headers and the carriers of its API, and put into the form in which it is used.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::config::decode::Named;
use crate::config::report::{Located, Place, Report};
use crate::config::{self, HeaderChanges, OriginPattern, check_identity_header};
use crate::contract::api::{Carrier, IdentityHeaders};
use crate::patience::Pace;

/// The features of one route. Without any, a request passes as it is.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// What a request must have to be this route's.
    pub conditions: Vec<(HeaderName, HeaderValue)>,
    pub cors: Option<Arc<Cors>>,
    /// Put before the path for the upstream.
    pub add_prefix: Option<Arc<str>>,
    pub host: Option<HeaderValue>,
    pub request: HeaderEdits,
    pub response: HeaderEdits,
    pub pace: Option<Pace>,
}

/// Headers that are taken away, and then those that are set.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    set: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

/// What browsers are told, each part as the header that says it.
#[derive(Clone, Debug)]
pub struct Cors {
    pub origins: Vec<OriginPattern>,
    pub credentials: bool,
    /// `None` = the method that is asked for.
    pub methods: Option<HeaderValue>,
    pub headers: HeaderValue,
    pub expose: Option<HeaderValue>,
    /// Whole seconds.
    pub max_age: u64,
}

/// An answer that stands in the config file.
#[derive(Clone, Debug)]
pub struct Fixed {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub location: Option<Location>,
}

/// Where a redirect leads.
#[derive(Clone, Debug)]
pub struct Location {
    pub base: String,
    /// Whether the path and the query that were asked for follow.
    pub keeps_path: bool,
}

impl HeaderEdits {
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }

    fn of(changes: HeaderChanges<'_>, report: &mut Report) -> Self {
        let remove = changes.remove.iter().map(|name| name.value.clone()).collect();
        Self { set: pairs(changes.set, report), remove }
    }

    fn or(self, other: Self) -> Self {
        if self.set.is_empty() && self.remove.is_empty() { other } else { self }
    }
}

impl Features {
    /// Name and value of each header that is asked for, to be shown.
    pub fn asked_headers(&self) -> BTreeMap<String, String> {
        let shown = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        self.conditions.iter().map(|(name, value)| (name.to_string(), shown(value))).collect()
    }

    /// The same behind a path, with a blank before each.
    pub fn condition_text(&self) -> String {
        self.asked_headers().iter().map(|(name, value)| format!(" {name}={value}")).collect()
    }

    /// Replaces what the section says; what it does not say stays.
    pub fn overlay(&mut self, spec: &config::Route, report: &mut Report) {
        if !spec.matches.headers.0.is_empty() {
            self.conditions = pairs(&spec.matches.headers, report);
        }
        if let Some(prefix) = &spec.rewrite.add_prefix {
            self.add_prefix = Some(prefix.value.as_str().into());
        }
        if let Some(host) = &spec.rewrite.host {
            self.host = value_of(host, report).filter(|_| is_host(host, report));
        }
        self.request = HeaderEdits::of(spec.request_changes(), report).or(std::mem::take(&mut self.request));
        self.response = HeaderEdits::of(spec.response_changes(), report).or(std::mem::take(&mut self.response));
        self.pace = spec.body_rate.as_ref().map(|rate| Pace { bytes: rate.min.0, grace: rate.grace }).or(self.pace);
    }
}

impl Cors {
    pub fn new(spec: &config::Cors, carriers: &[Carrier]) -> Self {
        let names = |names: &[HeaderName]| list(names.iter().map(HeaderName::as_str));
        let usual = carriers.iter().map(Carrier::header).chain([&header::CONTENT_TYPE]).map(HeaderName::as_str);
        Self {
            origins: spec.origins.clone(),
            credentials: spec.credentials,
            methods: list(spec.methods.iter().map(http::Method::as_str)),
            headers: names(&spec.headers).or_else(|| list(usual)).unwrap_or(HeaderValue::from_static("content-type")),
            expose: names(&spec.expose_headers),
            max_age: spec.max_age.as_secs(),
        }
    }
}

impl Fixed {
    /// The answer that a route gives itself, if it does.
    pub fn of(spec: &config::Route, report: &mut Report) -> Option<Self> {
        let status = |status: u64| {
            u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK)
        };
        if let Some(redirect) = &spec.redirect {
            let (base, keeps_path) = redirect.parts();
            return Some(Self {
                status: status(redirect.status),
                headers: HeaderMap::new(),
                body: Bytes::new(),
                location: Some(Location { base: base.to_owned(), keeps_path }),
            });
        }
        let respond = spec.respond.as_ref()?;
        let mut headers: HeaderMap = pairs(&respond.headers, report).into_iter().collect();
        if !respond.body.is_empty()
            && let Ok(media_type) = HeaderValue::from_str(&respond.content_type)
        {
            headers.insert(header::CONTENT_TYPE, media_type);
        }
        Some(Self { status: status(respond.status), headers, body: respond.body.clone().into(), location: None })
    }
}

/// `308 -> https://new.example.com{path}`, or the status alone.
impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(Location { base, keeps_path }) => {
                write!(f, "{} -> {base}{}", self.status.as_u16(), if *keeps_path { "{path}" } else { "" })
            }
            None => write!(f, "{}", self.status.as_u16()),
        }
    }
}

/// Reports edits of headers that are not the operator's to edit.
pub fn check(api: &config::Api, identity: &IdentityHeaders, carriers: &[Carrier], report: &mut Report) {
    let is_credential = |name: &str| {
        let known = carriers.iter().map(Carrier::header).chain([&header::AUTHORIZATION]);
        known.into_iter().any(|carrier| folded(carrier.as_str()) == folded(name))
    };
    let is_identity = |name: &str| identity.reserved.iter().any(|known| folded(known.as_str()) == folded(name));
    for route in &api.routes {
        for (name, place) in names(route.request_changes()) {
            let why = match check_identity_header(&folded(name)) {
                Err(why) => why,
                Ok(()) if is_identity(name) => format!("`{name}` says who calls, which only the gateway does"),
                Ok(()) if is_credential(name) => format!("`{name}` carries a credential"),
                Ok(()) => continue,
            };
            report.error(place, why);
        }
        let fixed = route.respond.iter().flat_map(|respond| respond.headers.0.iter());
        let fixed = fixed.map(|(name, _)| (name.value.as_str(), name.place));
        for (name, place) in names(route.response_changes()).chain(fixed) {
            if let Err(why) = check_identity_header(&folded(name)) {
                report.error(place, why);
            }
        }
    }
}

fn names<'a>(changes: HeaderChanges<'a>) -> impl Iterator<Item = (&'a str, Place)> {
    let set = changes.set.0.iter().map(|(name, _)| (name.value.as_str(), name.place));
    set.chain(changes.remove.iter().map(|name| (name.value.as_str(), name.place)))
}

/// As CGI reads the names of headers: capitals are small, and what is no letter and no digit is all the same.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

fn pairs(named: &Named<Located<String>>, report: &mut Report) -> Vec<(HeaderName, HeaderValue)> {
    let mut out = Vec::new();
    for (name, value) in &named.0 {
        match HeaderName::try_from(name.value.as_str()) {
            Ok(header) => out.extend(value_of(value, report).map(|value| (header, value))),
            Err(_) => report.error(name.place, format!("`{}` is no header name", name.value)),
        }
    }
    out
}

fn value_of(text: &Located<String>, report: &mut Report) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(&text.value).ok();
    if value.is_none() {
        report.error(text.place, "the value is no header value: visible ASCII and blanks");
    }
    value
}

fn is_host(host: &Located<String>, report: &mut Report) -> bool {
    let is_host = config::value::parse_host_port(&host.value, 80);
    if let Err(why) = &is_host {
        report.error_with_help(host.place, why.clone(), "expected a host such as \"nodes.internal\" or \"nodes.internal:8080\"");
    }
    is_host.is_ok()
}

/// `None` of nothing.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let text = words.collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&text).ok().filter(|_| !text.is_empty())
}

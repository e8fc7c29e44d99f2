//! Says to the upstream who is calling. The only writer of identity headers, and the only maker of [`Authorized`].
//!
//! In this order: false framing and hop-by-hop headers go (what `Connection` names could otherwise remove what is set
//! below), every spelling of an identity header goes, the credential goes, the forwarding headers are rebuilt, the
//! route's edits are made, and only then the identity is set.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::body::Body;
use crate::config::CredentialHandling;
use crate::contract::{Api, CallerFacts, Carrier, Facts, KeyFacts, Route};
use crate::pipeline::authorize::Permit;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::headers::{self, Origin, Values, X_REQUEST_ID};

/// A request that may be forwarded. Only [`apply`] makes one, and `forward` accepts nothing else.
pub struct Authorized {
    request: Request<Body>,
    /// The route's own; `None` = the upstream's.
    response_timeout: Option<Duration>,
}

impl Authorized {
    /// The head as the upstream will see it.
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    pub fn into_parts(self) -> (Request<Body>, Option<Duration>) {
        (self.request, self.response_timeout)
    }
}

/// Rewrites the head for the upstream.
pub fn apply(
    api: &Api,
    route: &Route,
    permit: &Permit,
    used: Option<&HeaderName>,
    exchange: &mut Exchange,
    body: Body,
) -> Authorized {
    let mut out = std::mem::take(&mut exchange.headers);
    let kept = headers::cleanse(&mut out, exchange.trust, |name| is_identity(api, name));
    // Once, and not each time that the map is found full.
    out.reserve(api.identity.headers.len() + WRITTEN);
    strip_credentials(api, route, used, &mut out);
    let host = out.get(header::HOST).cloned();
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = if exchange.tls.is_some() { "https" } else { "http" };
    let origin = Origin { client: exchange.client, peer: exchange.peer.ip(), scheme, host };
    headers::set_forwarded(&mut out, &origin, kept);
    route.features.request.apply(&mut out);
    if let Some(host) = &route.features.host {
        out.insert(header::HOST, host.clone());
    }
    set_correlation(exchange, &mut out);
    set_identity(api, permit, &mut out);
    let mut request = Request::new(body);
    *request.headers_mut() = out;
    *request.method_mut() = exchange.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = target(exchange);
    Authorized { request, response_timeout: route.response_timeout }
}

/// The normalised path, rewritten where the route says so, and the query as it came.
fn target(exchange: &Exchange) -> Uri {
    let path = exchange.notes.forwarded_path.as_ref().or(exchange.notes.path.as_ref()).map_or("/", |path| path.as_str());
    if let Some(as_it_came) = exchange.uri.path_and_query().filter(|target| target.path() == path) {
        return as_it_came.clone().into();
    }
    let text = match exchange.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Uri::try_from(text).unwrap_or_default()
}

/// Whether an upstream could take a header for one of ours: any case, and any other character for `-`, because CGI, WSGI
/// and some frameworks read them as one name (CGI servers make `_` of all that is no letter and no digit).
fn is_identity(api: &Api, name: &str) -> bool {
    let same = |a: &str, b: &str| a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| folded(a) == folded(b));
    api.identity.reserved.iter().any(|known| same(known.as_str(), name))
}

fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

fn strip_credentials(api: &Api, route: &Route, used: Option<&HeaderName>, out: &mut HeaderMap) {
    let known = api.carriers.iter().map(Carrier::header).chain([&header::AUTHORIZATION]);
    for name in known {
        let handling = if used == Some(name) { route.credential } else { route.unused_carriers };
        if handling == CredentialHandling::Strip {
            out.remove(name);
        }
    }
}

/// `X-Request-Id` is ours; `traceparent` is passed on when it is well formed, and started when it is not there
/// (W3C Trace Context, section 3.2).
fn set_correlation(exchange: &Exchange, out: &mut HeaderMap) {
    let id = &*exchange.request_id;
    let mut values = Values::default();
    let request_id = values.add(|text| text.push_str(id));
    let mut parents = out.get_all(&TRACEPARENT).iter();
    let sound = matches!((parents.next(), parents.next()), (Some(value), None) if is_traceparent(value.as_bytes()));
    let traceparent = (!sound).then(|| {
        values.add(|text| {
            // The second half of an id is as random as the first.
            let parent = id.split_at_checked(16).map_or(id, |(_, half)| half);
            text.extend(["00-", id, "-", parent, "-01"]);
        })
    });
    let values = values.finish();
    values.set(out, X_REQUEST_ID, request_id);
    if let Some(traceparent) = traceparent {
        out.remove(TRACESTATE);
        values.set(out, TRACEPARENT, traceparent);
    }
}

fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let mut parts = value.split(|b| *b == b'-');
    let (version, trace, parent, flags) = (parts.next(), parts.next(), parts.next(), parts.next());
    let right = |part: Option<&[u8]>, length: usize| part.is_some_and(|part| part.len() == length && hex(part));
    let zero = |part: Option<&[u8]>| part.is_some_and(|part| part.iter().all(|b| *b == b'0'));
    right(version, 2)
        && version != Some(b"ff")
        && right(trace, 32)
        && !zero(trace)
        && right(parent, 16)
        && !zero(parent)
        && right(flags, 2)
        && parts.next().is_none()
}

fn set_identity(api: &Api, permit: &Permit, out: &mut HeaderMap) {
    let (Some(principal), Some(shown)) = (permit.principal(), permit.shown()) else { return };
    let facts = Facts {
        account: Some(shown),
        key: principal.key.as_deref().map(|key| KeyFacts { key, secret: None, last_used_at: None }),
        caller: Some(CallerFacts { principal, account: shown, tenant: permit.tenant(), permissions: permit.permissions() }),
        ..Facts::of(&api.facts)
    };
    for (name, placeholder) in &api.identity.headers {
        if let Some(text) = facts.text(placeholder) {
            insert(out, name.clone(), &escaped(text));
        } else if let Some(text) = header_text(&facts.value(placeholder)) {
            insert(out, name.clone(), &text);
        }
    }
}

/// Forwarding and correlation headers, at most.
const WRITTEN: usize = 8;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What may not stand in an identity header as it is: everything outside visible ASCII, and the percent sign that marks
/// an escape.
const OUTSIDE: &AsciiSet = &CONTROLS.add(b'%');
/// In a list also the comma that separates its items, and blanks around it.
const IN_LIST: &AsciiSet = &OUTSIDE.add(b',').add(b' ');

/// A value as a header: lists joined by commas, each item escaped so that its boundaries survive. `None` = no header.
fn header_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(escaped(text).into_owned()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) => Some(items.iter().map(item_text).collect::<Vec<_>>().join(",")),
        Value::Object(_) => Some(utf8_percent_encode(&value.to_string(), OUTSIDE).to_string()),
    }
}

fn escaped(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, OUTSIDE).into()
}

fn item_text(item: &Value) -> String {
    let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
    Cow::from(utf8_percent_encode(&text, IN_LIST)).into_owned()
}

fn insert(out: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Caller;
    use crate::listener::Peer;
    use crate::pipeline::authorize;
    use crate::pipeline::fixture::{account, api, exchange, route, session};
    use proptest::prelude::*;
    use serde_json::json;

    /// B10 B11: claims cannot add a header or an item.
    #[test]
    fn values_stay_inside_their_header_and_items_inside_their_list() {
        assert_eq!(header_text(&json!("u\r\nX-Auth-Roles: admin")).unwrap(), "u%0D%0AX-Auth-Roles: admin");
        assert_eq!(header_text(&json!(["x,admin", "a b", "50%"])).unwrap(), "x%2Cadmin,a%20b,50%25");
        assert_eq!(header_text(&json!("J\u{fc}rgen")).unwrap(), "J%C3%BCrgen");
        assert_eq!(header_text(&Value::Null), None);
    }

    #[test]
    fn only_well_formed_trace_parents_are_passed_on() {
        assert!(is_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert!(!is_traceparent(wrong.as_bytes()), "{wrong}");
        }
    }

    fn applied(route_name: &str, rest: &str, caller: Caller, used: Option<&HeaderName>, headers: &[(&str, &str)]) -> Vec<String> {
        let routes = "[[api.route]]\nname = \"open\"\npath = \"/open\"\npublic = true\n\
                      [[api.route]]\nname = \"t\"\npath = \"/t/{tenant}\"\naccept = [\"jwt\", \"api_key\"]\ntenant = \"{tenant}\"\n";
        let api = api(&format!("{rest}{routes}"));
        let route = route(&api, route_name);
        let mut exchange = exchange("192.0.2.1", headers);
        let captures = [("tenant".into(), "prod".to_owned())];
        let permit = authorize::decide(&api, route, &captures, caller, &mut exchange).unwrap();
        let authorized = apply(&api, route, &permit, used, &mut exchange, Body::empty());
        let ours =
            ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "traceparent", "x-request-id"];
        let shown = authorized.headers().iter().filter(|(name, _)| !ours.contains(&name.as_str()));
        let mut lines: Vec<String> = shown.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    /// B1 B2 B3: the caller has no e-mail, no key and no tenant role to speak of, and names them all.
    #[test]
    fn the_upstream_learns_from_us_alone_who_calls() {
        let forged = [
            ("connection", "close, x-auth-user-id, X-Auth-Method"),
            ("x-auth-user-id", "admin"),
            ("X-Auth-Roles", "admin"),
            ("X_Auth_Roles", "admin"),
            ("x-auth-key-id", "key-9"),
            ("x.auth.key.id", "key-9"),
            ("X-Auth~Key-Id", "key-9"),
            ("accept", "*/*"),
        ];
        let viewer = account(&["viewer"], &[("prod", "viewer")]);
        let identity = ["accept: */*", "x-auth-method: jwt", "x-auth-roles: viewer", "x-auth-scopes: read", "x-auth-user-id: u1"];
        let mut expected: Vec<&str> = identity.to_vec();
        expected.push("x-auth-username: ann");
        assert_eq!(applied("t", "", session(viewer), None, &forged), expected);
        assert_eq!(applied("open", "", Caller::Anonymous, None, &forged), ["accept: */*"]);
    }

    /// B1: an upstream that once believed the contract's headers believes them still.
    #[test]
    fn headers_of_the_contract_that_the_operator_replaced_are_no_clients_to_send() {
        let rest = "[api.identity]\nheaders = { \"X-Who\" = \"account.id\" }\n";
        let forged = [("X-Auth-Roles", "admin"), ("x_auth_user_id", "admin"), ("x-who", "admin"), ("x-whom", "kept")];
        let caller = session(account(&[], &[("prod", "viewer")]));
        assert_eq!(applied("t", rest, caller, None, &forged), ["x-who: u1", "x-whom: kept"]);
    }

    /// B8: neither the credential that was used nor one that stood beside it.
    #[test]
    fn credentials_stay_here_unless_the_config_says_otherwise() {
        let sent = [("authorization", "Bearer x"), ("x-api-key", "gw_live_x")];
        let credentials = |rest: &str| {
            let caller = session(account(&[], &[("prod", "viewer")]));
            let mut lines = applied("t", rest, caller, Some(&header::AUTHORIZATION), &sent);
            lines.retain(|line| line.starts_with("authorization") || line.starts_with("x-api-key"));
            lines
        };
        assert_eq!(credentials(""), Vec::<String>::new());
        assert_eq!(credentials("identity = { credential = \"keep\" }\n"), ["authorization: Bearer x"]);
        assert_eq!(credentials("identity = { unused_carriers = \"keep\" }\n"), ["x-api-key: gw_live_x"]);
    }

    /// How a CGI server reads a header's name.
    fn as_cgi(name: &str) -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    }

    proptest! {
        #[test]
        fn no_spelling_of_an_identity_header_survives_and_no_other_header_is_lost(
            spellings in proptest::collection::vec((0_usize..6, "[-_.~!#$%&'*+^`|]{4}", any::<u32>()), 0..8),
            others in proptest::collection::vec("[a-z]{1,6}[-_.]auth[-_.][a-z]{1,6}", 0..8),
        ) {
            let api = api("");
            let ours: Vec<String> = api.identity.headers.iter().map(|(name, _)| name.to_string()).collect();
            let mut out = HeaderMap::new();
            for (index, separators, capitals) in &spellings {
                let (mut separator, mut place) = (separators.chars(), 0);
                let spelled: String = ours[index % ours.len()].chars().map(|c| {
                    place += 1;
                    match c {
                        '-' => separator.next().unwrap_or('-'),
                        c if capitals >> (place % 32) & 1 == 1 => c.to_ascii_uppercase(),
                        c => c,
                    }
                }).collect();
                out.append(HeaderName::from_bytes(spelled.as_bytes()).unwrap(), HeaderValue::from_static("forged"));
            }
            let reserved: Vec<String> = ours.iter().map(|name| as_cgi(name)).collect();
            let mut kept = 0;
            for name in &others {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                if !reserved.contains(&as_cgi(name.as_str())) && !out.contains_key(&name) {
                    out.insert(name, HeaderValue::from_static("kept"));
                    kept += 1;
                }
            }
            headers::cleanse(&mut out, Peer::Trusted, |name| is_identity(&api, name));
            prop_assert!(out.keys().all(|name| !reserved.contains(&as_cgi(name.as_str()))), "{:?}", out);
            prop_assert_eq!(out.len(), kept);
        }
    }
}

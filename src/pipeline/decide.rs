//! Decisions for a proxy that forwards by itself and asks before it does: nginx `auth_request`, Traefik ForwardAuth, Caddy
//! `forward_auth`, Envoy `ext_authz` over HTTP. What it asks about becomes a request like any other and goes through the
//! same stages; the answer is a 200 with the identity headers, or the refusal.
//!
//! A proxy asks in one of two ways. `/decisions` alone: headers tell method, target and host. `/decisions` before the
//! target, as Envoy does: the request itself tells them. What is told twice, in part or in both ways is refused, because
//! one of the two may be the client's own word.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};

use crate::body::Body;
use crate::contract::{Api, Carrier};
use crate::listener::{Peer, check_target};
use crate::pipeline::exchange::{Asked, Exchange, Way};
use crate::pipeline::inject::Authorized;
use crate::rejection::Denial;

/// Makes of the request that asks the request that is asked about.
///
/// # Errors
/// [`Denial::AskerUntrusted`], [`Denial::NoRoute`] for another path, [`Denial::QuestionMalformed`].
pub fn pose(exchange: &mut Exchange) -> Result<Asked, Denial> {
    if exchange.trust != Peer::Trusted {
        return Err(Denial::AskerUntrusted { address: exchange.peer.ip().to_canonical() });
    }
    // The connection is the asking proxy's, and so is a certificate that was shown on it.
    exchange.tls = None;
    if exchange.uri.authority().is_some() {
        return Err(malformed("its target is no path"));
    }
    // Without it the asking proxy would be counted, and admitted, for all of its clients.
    if !names_a_client(&exchange.headers) {
        return Err(malformed("nothing names the client: X-Forwarded-For is missing"));
    }
    let target = exchange.uri.path_and_query().map_or("", |target| target.as_str());
    let rest = target.strip_prefix(PATH).ok_or(Denial::NoRoute)?;
    let method = told(&exchange.headers, &METHOD)?;
    let uri = told(&exchange.headers, &TARGET)?;
    let asked = if rest.starts_with('/') {
        if method.is_some() || uri.is_some() {
            return Err(malformed("both its path and its headers tell of a request"));
        }
        exchange.uri = read_target(&exchange.method, rest.as_bytes())?;
        Asked { way: Way::Path, is_narrow: false, wants_all: false }
    } else {
        if !rest.is_empty() && !rest.starts_with('?') {
            return Err(Denial::NoRoute);
        }
        // What else stands there is the client's query, which Caddy leaves. It can tell nothing of the request.
        let says = |option: &str| rest.trim_start_matches('?').split('&').any(|found| found == option);
        let (is_narrow, wants_all) = (says(NARROW), says(ALL));
        let host = told(&exchange.headers, &[X_FORWARDED_HOST])?.cloned();
        let method = method.ok_or_else(|| malformed("X-Forwarded-Method is missing"))?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| malformed("X-Forwarded-Method is no method"))?;
        let uri = uri.ok_or_else(|| malformed("X-Forwarded-Uri is missing"))?;
        exchange.uri = read_target(&method, uri.as_bytes())?;
        exchange.method = method;
        exchange.headers.insert(header::HOST, host.ok_or_else(|| malformed("X-Forwarded-Host is missing"))?);
        Asked { way: Way::Headers, is_narrow, wants_all }
    };
    METHOD.iter().chain(&TARGET).for_each(|name| drop(exchange.headers.remove(name)));
    Ok(asked)
}

/// The answer for a request that may pass: what `inject` would have told the upstream of the caller.
pub fn allow(api: &Api, authorized: &Authorized, asked: Asked) -> Response<Body> {
    let told = authorized.headers();
    let mut response = Response::new(Body::empty());
    for (name, _) in &api.identity.headers {
        if let Some(value) = told.get(name) {
            response.headers_mut().insert(name.clone(), value.clone());
        } else if asked.wants_all {
            response.headers_mut().insert(name.clone(), HeaderValue::from_static(""));
        }
    }
    if asked.way == Way::Path
        && let Some(names) = removed(api, told)
    {
        response.headers_mut().insert(TO_REMOVE, names);
    }
    response
}

/// The headers that a client may have sent and the upstream must not see: Envoy overwrites what it is told and leaves the
/// rest as it came.
fn removed(api: &Api, told: &HeaderMap) -> Option<HeaderValue> {
    let credentials = api.carriers.iter().map(Carrier::header).chain([&header::AUTHORIZATION]);
    let mut names: Vec<&str> = api
        .identity
        .reserved
        .iter()
        .chain(credentials)
        .filter(|name| !told.contains_key(*name))
        .map(HeaderName::as_str)
        .collect();
    names.sort_unstable();
    names.dedup();
    HeaderValue::try_from(names.join(",")).ok().filter(|names| !names.is_empty())
}

/// Says a refusal in the statuses that the asking proxy takes, and the real one beside it.
pub fn narrow(asked: Asked, response: &mut Response<Body>) {
    let status = response.status();
    if asked.is_narrow && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        response.headers_mut().insert(DECISION_STATUS, HeaderValue::from(status.as_u16()));
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
}

/// The one line that tells something. Two may be the proxy's and the client's.
fn told<'a>(headers: &'a HeaderMap, names: &[HeaderName]) -> Result<Option<&'a HeaderValue>, Denial> {
    let mut lines = names.iter().flat_map(|name| headers.get_all(name));
    let line = lines.next();
    match lines.next() {
        None => Ok(line),
        Some(_) => Err(malformed("its headers tell of more than one request")),
    }
}

/// Judged as a target in a request line is.
fn read_target(method: &Method, target: &[u8]) -> Result<Uri, Denial> {
    let is_visible = target.iter().all(u8::is_ascii_graphic);
    if !is_visible || !target.starts_with(b"/") {
        return Err(malformed("its target is no path"));
    }
    check_target(method.as_str().as_bytes(), target)?;
    Uri::try_from(target).map_err(|_| malformed("its target is no path"))
}

fn names_a_client(headers: &HeaderMap) -> bool {
    [X_FORWARDED_FOR, header::FORWARDED].iter().flat_map(|name| headers.get_all(name)).any(|line| !line.is_empty())
}

fn malformed(what: &'static str) -> Denial {
    Denial::QuestionMalformed { what }
}

const PATH: &str = "/decisions";
/// In the query: for nginx, which makes a 500 of every other refusal.
const NARROW: &str = "refusals=401,403";
/// In the query: for Caddy, which leaves the client's header, or writes its own placeholder, where the answer has none.
const ALL: &str = "absent=empty";
const METHOD: [HeaderName; 2] = [HeaderName::from_static("x-forwarded-method"), HeaderName::from_static("x-original-method")];
const TARGET: [HeaderName; 2] = [HeaderName::from_static("x-forwarded-uri"), HeaderName::from_static("x-original-uri")];
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const DECISION_STATUS: HeaderName = HeaderName::from_static("x-decision-status");
/// Envoy removes the headers that are named here from the request that it forwards.
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixture::exchange;
    use proptest::prelude::*;

    const TELLING: [(&str, &str); 4] = [
        ("x-forwarded-method", "PUT"),
        ("x-forwarded-uri", "/items/1?x=%41"),
        ("x-forwarded-host", "api.test"),
        ("x-forwarded-for", "203.0.113.9"),
    ];

    /// Method, target and host of what is asked about by a proxy that is trusted.
    fn posed(target: &str, headers: &[(&str, &str)]) -> Option<(String, String, String)> {
        let mut exchange = exchange("192.0.2.1", headers);
        exchange.trust = Peer::Trusted;
        exchange.uri = target.parse().unwrap();
        pose(&mut exchange).ok()?;
        Some((exchange.method.to_string(), exchange.uri.to_string(), exchange.read_host().ok()?))
    }

    proptest! {
        /// B5: whatever stands beside what a proxy tells, in whatever order, the question is the same or there is none.
        #[test]
        fn nothing_that_a_client_adds_changes_what_is_asked_about(
            added in proptest::collection::vec((
                "(x[-_](forwarded|original|rewrite)[-_](method|uri|url|host|for)|host|forwarded|connection|x-http-method-override)",
                "(GET|/|/open|/decisions|api\\.test|evil\\.test|x-forwarded-uri|for=10\\.0\\.0\\.1)",
            ), 0..5),
            after in any::<bool>(),
            query in "(\\?[a-z/=&,]{0,9})?",
        ) {
            let mut headers: Vec<(&str, &str)> = added.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let at = if after { headers.len() } else { 0 };
            headers.splice(at..at, TELLING);
            let asked = ("PUT".to_owned(), "/items/1?x=%41".to_owned(), "api.test".to_owned());
            let posed_so = posed(&format!("/decisions{query}"), &headers);
            prop_assert!(posed_so.is_none_or(|posed| posed == asked));
            let way = ("GET".to_owned(), format!("/x{query}"), "api.test".to_owned());
            headers.retain(|(name, _)| *name != "host");
            headers.push(("host", "api.test"));
            let posed_so = posed(&format!("/decisions/x{query}"), &headers);
            prop_assert!(posed_so.is_none_or(|posed| posed == way));
        }
    }

    #[test]
    fn what_a_proxy_tells_is_what_is_asked_about() {
        let asked = ("PUT".to_owned(), "/items/1?x=%41".to_owned(), "api.test".to_owned());
        assert_eq!(posed("/decisions", &TELLING), Some(asked));
        let with_a_host = [("host", "api.test:8080"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(posed("/decisions/x?y", &with_a_host), Some(("GET".to_owned(), "/x?y".to_owned(), "api.test".to_owned())));
    }
}

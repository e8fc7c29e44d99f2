//! What browsers ask before a page of another origin may send a request, and what they are told of every answer (Fetch
//! Standard, section 3.2). A preflight carries no credential by design: it is answered before anybody is asked who he is,
//! and goes no further. Whatever is no true preflight is a request like any other.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::body::Body;
use crate::config::OriginPattern;
use crate::contract::Cors;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::headers::remove_each;
use crate::pipeline::routing::{Found, Routing};
use crate::rejection::{Denial, Stage};

/// Finds the route of a request; that of a preflight is the one of the request which it announces, where pages of other
/// origins may use that at all: where `cors_of` knows something.
///
/// # Errors
/// Those of [`Routing::find`].
pub fn find(
    routing: &Routing,
    cors_of: impl Fn(&Found) -> Option<Arc<Cors>>,
    exchange: &mut Exchange,
) -> Result<(Found, Option<Arc<Cors>>), Denial> {
    let announced = announced(exchange);
    let found = announced.and_then(|method| routing.find(&method, exchange).ok());
    if let Some(found) = found
        && let Some(cors) = cors_of(&found)
    {
        exchange.note(Stage::Route, || "a preflight, judged as the request that it announces".to_owned());
        return Ok((found, Some(cors)));
    }
    let method = exchange.method.clone();
    routing.find(&method, exchange).map(|found| (found, None))
}

/// The method that a true preflight asks for: OPTIONS with one origin and one method.
fn announced(exchange: &Exchange) -> Option<Method> {
    if exchange.method != Method::OPTIONS {
        return None;
    }
    single(&exchange.headers, &ORIGIN)?;
    let method = Method::from_bytes(single(&exchange.headers, &ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()?;
    (method != Method::CONNECT && method != Method::TRACE).then_some(method)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let value = lines.next()?;
    lines.next().is_none().then_some(value)
}

/// What a preflight is answered; [`mark`] adds what every answer says. An origin that may not learn it learns nothing.
pub fn preflight(cors: &Cors, exchange: &Exchange) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Access-Control-Request-Method"));
    if allowed(cors, exchange.headers.get(ORIGIN)).is_some() {
        let asked = exchange.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let methods = cors.methods.as_ref().or(asked);
        methods.into_iter().for_each(|methods| drop(headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone())));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age));
    }
    response
}

/// Takes away what an upstream says of other origins: where the gateway says it, two answers would contradict each other.
pub fn forget(headers: &mut HeaderMap) {
    remove_each(headers, |name| name.as_str().starts_with("access-control-allow-") || OTHERS.contains(name));
}

/// Says which pages may read an answer: refusals too, or an application could not tell why it was refused. `fallback` holds where no route is known.
pub fn mark(fallback: Option<&Cors>, exchange: &Exchange, headers: &mut HeaderMap) {
    let Some(cors) = exchange.notes.cors.as_deref().or(fallback) else { return };
    let origin = exchange.notes.origin.as_ref().or_else(|| exchange.headers.get(ORIGIN));
    let any = cors.origins.contains(&OriginPattern::Any);
    if !any {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = allowed(cors, origin) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, if any { HeaderValue::from_static("*") } else { origin.clone() });
    if cors.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Some(expose) = &cors.expose {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
    }
}

fn allowed<'a>(cors: &Cors, origin: Option<&'a HeaderValue>) -> Option<&'a HeaderValue> {
    let text = origin?.to_str().ok()?;
    origin.filter(|_| cors.origins.iter().any(|pattern| pattern.matches(text)))
}

static OTHERS: [HeaderName; 2] = [ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE];

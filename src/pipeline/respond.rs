//! What a client is told of a request that was not served, in its API's own words; and the headers that every answer of
//! the gateway carries.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::body::Body;
use crate::contract::{Api, ApiFacts, ErrorAnswer, ErrorTable, Facts, Fixed};
use crate::pipeline::exchange::Exchange;
use crate::rejection::{Denial, Failure, Rejection};

/// How requests are refused that belong to no API: RFC 9457.
pub struct Fallback {
    table: ErrorTable,
    facts: ApiFacts,
}

impl Default for Fallback {
    fn default() -> Self {
        Self { table: ErrorTable::problem(), facts: ApiFacts::default() }
    }
}

/// The answer to a rejection, by the API's table where the API is known.
pub fn refuse(rejection: &Rejection, api: Option<&Api>, fallback: &Fallback, exchange: &Exchange) -> Response<Body> {
    panic_point!("respond");
    let ErrorAnswer { status, content_type, body } = render(rejection, api, fallback, exchange);
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Some(seconds) = retry_after(rejection) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = allow(rejection) {
        headers.insert(header::ALLOW, allow);
    }
    if let Some(api) = api {
        mark_as_ours(api, headers);
    }
    response
}

/// The same answer for a client of gRPC: its status stands in a field, and there is no body (the protocol's `Trailers-Only`).
pub fn as_grpc(response: Response<Body>) -> Response<Body> {
    let (mut parts, _) = response.into_parts();
    let words = parts.status.canonical_reason().unwrap_or_default();
    parts.headers.insert(GRPC_STATUS, HeaderValue::from(grpc_status(parts.status)));
    parts.headers.insert(GRPC_MESSAGE, HeaderValue::from_static(words));
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.status = StatusCode::OK;
    Response::from_parts(parts, Body::empty())
}

/// gRPC's code for a status of HTTP that is ours: nearer than what a client would make of one that it does not expect.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        // INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED.
        400 | 415 | 417 | 422 => 3,
        401 => 16,
        403 => 7,
        404 | 405 => 12,
        // DEADLINE_EXCEEDED, ABORTED, RESOURCE_EXHAUSTED.
        408 | 504 => 4,
        409 => 10,
        413 | 414 | 429 | 431 => 8,
        // INTERNAL, UNAVAILABLE, UNKNOWN.
        500 => 13,
        502 | 503 => 14,
        _ => 2,
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Status and body of the same answer, to be shown.
pub fn text(rejection: &Rejection, api: Option<&Api>, fallback: &Fallback, exchange: &Exchange) -> (u16, String) {
    let answer = render(rejection, api, fallback, exchange);
    (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
}

fn render(rejection: &Rejection, api: Option<&Api>, fallback: &Fallback, exchange: &Exchange) -> ErrorAnswer {
    let (table, facts) = api.map_or((&fallback.table, &fallback.facts), |api| (&api.errors, &api.facts));
    let notes = &exchange.notes;
    table.render(rejection, notes.kind, notes.operation, &exchange.request_id, &Facts::of(facts))
}

/// The answer that stands in the config file.
///
/// # Errors
/// When the path and the query that were asked for are no header value, which they are in every head that was judged.
pub fn fixed(fixed: &Fixed, api: &Api, exchange: &Exchange) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(Body::full(fixed.body.clone()));
    *response.status_mut() = fixed.status;
    *response.headers_mut() = fixed.headers.clone();
    if let Some(location) = &fixed.location {
        let mut text = location.base.clone();
        // A path begins with one slash, which no host and no segment before it ends with: the host stays the config's.
        if location.keeps_path {
            text.push_str(exchange.notes.path.as_ref().map_or("/", |path| path.as_str()));
            exchange.uri.query().iter().for_each(|query| text.extend(["?", *query]));
        }
        let value = HeaderValue::from_str(&text);
        let value = value.map_err(|_| Failure::Internal { detail: "a redirect leads to what is no header value".to_owned() })?;
        response.headers_mut().insert(header::LOCATION, value);
    }
    mark_as_ours(api, response.headers_mut());
    Ok(response)
}

/// Adds the contract's headers to an answer that the gateway gives itself. What the answer says already stays.
pub fn mark_as_ours(api: &Api, headers: &mut HeaderMap) {
    for (name, value) in &api.local_headers {
        if !headers.contains_key(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Whole seconds, rounded up and at least one: a client that waits so long finds the limit free. A busy gateway asks for one.
fn retry_after(rejection: &Rejection) -> Option<u64> {
    match rejection {
        Rejection::Denied(denial) => {
            denial.retry_after().map(|wait| (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
        }
        Rejection::Failed(
            Failure::StoreUnavailable { .. }
            | Failure::HashingBusy
            | Failure::CountersUnavailable { .. }
            | Failure::KeysUnavailable { .. }
            | Failure::KeysPending { .. }
            | Failure::UpstreamFull { .. },
        ) => Some(1),
        Rejection::Failed(
            Failure::UpstreamUnreachable { .. }
            | Failure::UpstreamConnectTimeout { .. }
            | Failure::UpstreamTimeout { .. }
            | Failure::UpstreamBroken { .. }
            | Failure::Internal { .. },
        ) => None,
    }
}

/// RFC 9110, section 15.5.6: a 405 names what is allowed.
fn allow(rejection: &Rejection) -> Option<HeaderValue> {
    match rejection {
        Rejection::Denied(Denial::MethodNotAllowed { allow }) => HeaderValue::from_str(allow).ok(),
        Rejection::Denied(Denial::ConnectRefused | Denial::TraceRefused) => {
            Some(HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
        }
        Rejection::Denied(_) | Rejection::Failed(_) => None,
    }
}

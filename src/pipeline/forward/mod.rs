//! Sends a request to an upstream and hands its answer back as a stream. Sends what it is given: who may pass, and with
//! which headers, was decided before.

mod dial;
mod fleet;
mod outgoing;
mod pool;
mod read_on;
mod resolve;

use std::cell::Cell;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TRAILER, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::body::{Body, BodyError};
use crate::pipeline::headers::remove_hop_by_hop;
use crate::pipeline::inject::Authorized;
use crate::rejection::{Denial, Failure, Rejection};
use fleet::{Admitted, Fault, Held};
pub use fleet::{Fleet, Reading};
use outgoing::{Outgoing, Spare};
use pool::{Connection, Server};

/// The servers of one `[[upstream]]`, as one worker uses them.
pub struct Upstream {
    fleet: Arc<Fleet>,
    /// In the order of the fleet's.
    servers: Vec<Rc<Server>>,
    next: Cell<u64>,
    idle: Duration,
}

/// Why a connection gave no answer.
enum Setback {
    /// Nothing of the request has left.
    Unsent(Box<Outgoing>),
    /// The connection was closed and not a whole head of an answer had come.
    Closed(String),
    Over(Rejection),
}

/// Sends what `inject` made. `patience` is the upstream's own response timeout.
///
/// # Errors
/// Those of [`Upstream::send`].
pub fn send(
    upstream: &Upstream,
    authorized: Authorized,
    patience: Duration,
) -> impl Future<Output = Result<Response<Body>, Rejection>> {
    let (request, response_timeout) = authorized.into_parts();
    upstream.send(request, response_timeout.unwrap_or(patience))
}

impl Upstream {
    /// Must be called on the worker's `LocalRuntime`: it starts a task that closes idle connections.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let config = &fleet.config;
        let server = |url| Server::new(url, config.timeouts.clone(), fleet.tls.as_ref());
        let servers: Vec<Rc<Server>> = config.servers.iter().map(server).collect();
        let idle = config.timeouts.idle;
        spawn_local(sweep(servers.iter().map(Rc::downgrade).collect(), (idle / 2).max(LEAST_PAUSE)));
        Self { fleet, servers, next: Cell::new(0), idle }
    }

    /// Sends a request and returns the answer as soon as its head is there. Hop-by-hop headers of the request must have
    /// been removed; those of the answer are. The body frames the message, whatever the headers said.
    ///
    /// `response_timeout` runs while the upstream is to act: it takes the request's body, or it answers.
    ///
    /// A server that cannot be reached is passed over for another. A kept connection that turns out closed is replaced
    /// by a new one when nothing was sent on it, or when the request has no body and may be repeated (RFC 9110, section
    /// 9.2.2); a new one that ends so too costs one of the attempts of `retries`.
    ///
    /// # Errors
    /// [`Failure::UpstreamFull`], [`Failure::UpstreamUnreachable`], [`Failure::UpstreamConnectTimeout`],
    /// [`Failure::UpstreamTimeout`], [`Failure::UpstreamBroken`]; or the [`Denial`] of a client whose body is too large, too slow or broken.
    pub fn send(
        &self,
        request: Request<Body>,
        response_timeout: Duration,
    ) -> impl Future<Output = Result<Response<Body>, Rejection>> {
        self.carry(Outgoing::new(request), response_timeout)
    }

    async fn carry(&self, mut outgoing: Box<Outgoing>, response_timeout: Duration) -> Result<Response<Body>, Rejection> {
        let mut admitted = self.fleet.admit()?;
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        // The high half of this product goes through all numbers in no order that the turns have.
        let first = self.fleet.choose(turn, turn.wrapping_mul(GOLDEN_RATIO) >> 32);
        let server = self.server(first)?;
        if let Some(connection) = server.take() {
            let spare = outgoing.spare();
            match self.exchange(first, connection, outgoing, response_timeout, &mut admitted).await {
                Ok(response) => return Ok(response),
                Err(Setback::Unsent(same)) => outgoing = same,
                // A server may close what it has kept: that is no fault of it.
                Err(Setback::Closed(detail)) => {
                    outgoing = spare.and_then(Spare::unpack).ok_or_else(|| broken(server, detail))?;
                }
                Err(Setback::Over(rejection)) => return Err(self.gave_up(first, server, rejection)),
            }
        }
        // Boxed, because most requests find a connection and should not carry the room for making one.
        Box::pin(self.send_anew(first, outgoing, response_timeout, admitted)).await
    }

    /// Sends on a new connection, and on one to another server when that ends without an answer.
    async fn send_anew(
        &self,
        mut at: usize,
        mut outgoing: Box<Outgoing>,
        response_timeout: Duration,
        mut admitted: Option<Admitted>,
    ) -> Result<Response<Body>, Rejection> {
        let mut attempts = self.fleet.config.retries.attempts;
        let mut again = None;
        loop {
            let (used, server, connection) = self.connect(at).await?;
            at = used;
            let spare = if attempts > 0 { outgoing.spare() } else { None };
            let rejection = match self.exchange(at, connection, outgoing, response_timeout, &mut admitted).await {
                Ok(response) => return Ok(response),
                Err(Setback::Unsent(_)) => broken(server, "closed before the request was sent"),
                Err(Setback::Closed(detail)) => broken(server, detail),
                Err(Setback::Over(rejection)) => return Err(self.gave_up(at, server, rejection)),
            };
            let rejection = self.gave_up(at, server, rejection);
            let next = self.others(at).next();
            let (Some(same), Some(next)) = (spare.and_then(Spare::unpack), next) else { return Err(rejection) };
            if again.is_none() {
                again = self.fleet.again();
            }
            if again.is_none() {
                return Err(rejection);
            }
            attempts -= 1;
            outgoing = same;
            at = next;
        }
    }

    fn server(&self, at: usize) -> Result<&Rc<Server>, Rejection> {
        self.servers.get(at).ok_or_else(|| Failure::Internal { detail: "an upstream without servers".to_owned() }.into())
    }

    /// The servers after this one that take requests.
    fn others(&self, at: usize) -> impl Iterator<Item = usize> {
        let count = self.servers.len();
        (1..count).map(move |step| (at + step) % count).filter(|other| !self.fleet.is_out(*other))
    }

    /// Notes what a server has done when it was at fault.
    fn gave_up(&self, at: usize, server: &Server, rejection: Rejection) -> Rejection {
        if matches!(rejection, Rejection::Failed(Failure::UpstreamTimeout { .. } | Failure::UpstreamBroken { .. })) {
            self.fleet.failed(at, &server.label, Fault::Answer);
        }
        rejection
    }

    /// A new connection to this server, or to another one when it cannot be reached.
    async fn connect(&self, first: usize) -> Result<(usize, &Rc<Server>, Connection), Rejection> {
        let server = self.server(first)?;
        let failure = match server.connect().await {
            Ok(connection) => return Ok((first, server, connection)),
            Err(failure) => failure,
        };
        self.fleet.failed(first, &server.label, Fault::Connect);
        for at in self.others(first) {
            let other = self.server(at)?;
            match other.connect().await {
                Ok(connection) => return Ok((at, other, connection)),
                Err(_) => self.fleet.failed(at, &other.label, Fault::Connect),
            }
        }
        Err(failure.into())
    }

    async fn exchange(
        &self,
        at: usize,
        mut connection: Connection,
        mut outgoing: Box<Outgoing>,
        response_timeout: Duration,
        admitted: &mut Option<Admitted>,
    ) -> Result<Response<Body>, Setback> {
        let server = self.server(at).map_err(Setback::Over)?;
        let Some(target) = server.target(&outgoing.path) else {
            return Err(Setback::Over(broken(server, "base path and path are no target")));
        };
        let held = self.fleet.hold(at);
        *outgoing.request.uri_mut() = target;
        outgoing.request.headers_mut().entry(HOST).or_insert_with(|| server.host.clone());
        let asked = outgoing.request.method().clone();
        let response = answer(server, &mut connection, outgoing, response_timeout).await?;
        match response.status() {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                self.fleet.failed(at, &server.label, Fault::Answer);
            }
            _ => self.fleet.succeeded(at, &server.label),
        }
        accept(server, connection, response, &asked, self.idle, (held, admitted.take())).map_err(Setback::Over)
    }
}

/// Sends on one connection and waits for the head of the answer.
async fn answer(
    server: &Server,
    connection: &mut Connection,
    outgoing: Box<Outgoing>,
    patience: Duration,
) -> Result<Response<Incoming>, Setback> {
    let Outgoing { request, path, meter } = *outgoing;
    let Connection { sender, deadline } = connection;
    let mut answer = pin!(sender.try_send_request(request));
    // Never zero: a wait for the client would begin anew without end.
    let patience = patience.max(LEAST_PAUSE);
    deadline.start(patience);
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        loop {
            ready!(deadline.poll(cx));
            let Some(meter) = &meter else { return Poll::Ready(None) };
            // The client is waited for: its body has a timeout of its own, so this wait ends in any case.
            let Some(quiet_since) = meter.reader_quiet_since() else {
                deadline.start(patience);
                continue;
            };
            if quiet_since.elapsed() >= patience {
                return Poll::Ready(None);
            }
            deadline.start_from(quiet_since, patience);
        }
    });
    match answered.await {
        Some(Ok(response)) => Ok(response),
        Some(Err(mut error)) => Err(match error.take_message() {
            Some(request) => Setback::Unsent(Box::new(Outgoing { request, path, meter })),
            None => setback(server, &error.into_error()),
        }),
        None => Err(Setback::Over(Failure::UpstreamTimeout { upstream: server.label.clone() }.into())),
    }
}

fn setback(server: &Server, error: &hyper::Error) -> Setback {
    if let Some(denial) = client_fault(error) {
        return Setback::Over(denial.into());
    }
    let detail = explain(error);
    // Not the server's doing: the connection's task has panicked, as it does when the request's body panics in it, or
    // hyper was asked for something that it does not do.
    if error.is_user() {
        return Setback::Over(Failure::Internal { detail }.into());
    }
    if error.is_incomplete_message() || is_reset(error) {
        return Setback::Closed(detail);
    }
    Setback::Over(broken(server, detail))
}

/// The reason why the client's own body ended the exchange.
fn client_fault(error: &hyper::Error) -> Option<Denial> {
    error.source()?.downcast_ref::<BodyError>()?.denial().cloned()
}

fn is_reset(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    error.source().and_then(|source| source.downcast_ref::<io::Error>()).is_some_and(|error| {
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
    })
}

fn explain(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn broken(server: &Server, detail: impl Into<String>) -> Rejection {
    Failure::UpstreamBroken { upstream: server.label.clone(), detail: detail.into() }.into()
}

/// Makes an upstream's answer ours: checks its framing, takes away what was for its connection, and sees to it that the
/// connection comes back when the body has been read. Until then the request is a load.
fn accept(
    server: &Rc<Server>,
    connection: Connection,
    response: Response<Incoming>,
    asked: &Method,
    idle: Duration,
    load: (Held, Option<Admitted>),
) -> Result<Response<Body>, Rejection> {
    let (mut parts, incoming) = response.into_parts();
    check_framing(parts.status, &parts.headers, asked).map_err(|detail| broken(server, detail))?;
    // What it announces may be passed on (pipeline/trailers.rs); whoever speaks HTTP/1 has to be told before.
    let trailer = parts.headers.remove(TRAILER);
    remove_hop_by_hop(&mut parts.headers);
    if let Some(trailer) = trailer {
        parts.headers.insert(TRAILER, trailer);
    }
    let body = if incoming.is_end_stream() {
        server.give_back(connection);
        Body::empty()
    } else {
        let server = server.clone();
        Body::from_upstream(incoming, idle, move || {
            drop(load);
            server.give_back(connection);
        })
    };
    let mut ours = Response::new(body);
    *ours.status_mut() = parts.status;
    *ours.headers_mut() = parts.headers;
    Ok(ours)
}

/// Refuses what two readers could frame in two ways (RFC 9112, section 6.3), and an upgrade that nobody asked for.
fn check_framing(status: StatusCode, headers: &HeaderMap, asked: &Method) -> Result<(), &'static str> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it switched protocols without being asked to");
    }
    let one = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        (values.next(), values.next().is_some())
    };
    let (length, more_lengths) = one(CONTENT_LENGTH);
    let (coding, more_codings) = one(TRANSFER_ENCODING);
    if more_lengths || (length.is_some() && coding.is_some()) {
        return Err("it states the length of its body twice");
    }
    if more_codings || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err("its transfer coding is not exactly `chunked`");
    }
    let no_body = status == StatusCode::NO_CONTENT && *asked != Method::HEAD;
    if no_body && coding.is_some() {
        return Err(BODY_OF_A_204);
    }
    let Some(length) = length else { return Ok(()) };
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|text| text.parse::<u64>().ok()) {
        None => Err("its Content-Length is no number"),
        Some(1..) if no_body => Err(BODY_OF_A_204),
        Some(_) => Ok(()),
    }
}

/// Closes connections that have been idle too long, as long as the upstream exists.
async fn sweep(servers: Vec<Weak<Server>>, pause: Duration) {
    loop {
        sleep(pause).await;
        let alive: Vec<Rc<Server>> = servers.iter().filter_map(Weak::upgrade).collect();
        if alive.is_empty() {
            return;
        }
        alive.iter().for_each(|server| server.sweep());
    }
}

/// Its bytes would be read as the next answer of the connection.
const BODY_OF_A_204: &str = "it announces a body for a 204";
/// Two to the 64th, divided by the golden ratio.
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;
const LEAST_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;

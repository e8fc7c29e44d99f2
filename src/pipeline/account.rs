//! The account that is given of each request: one log line and one count when its answer has gone out, or when its
//! client has gone before it.

use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, Method, Response, Version, header};

use crate::body::{Body, Meter};
use crate::clock::{self, Now};
use crate::observe::{AccessLog, RecentRefusals, Record, RouteMetrics, Verdict};
use crate::pipeline::exchange::{Exchange, Notes};
use crate::pipeline::path::NormalPath;
use crate::rejection::{Failure, Rejection};

/// Where accounts are written.
pub struct Books {
    pub log: AccessLog,
    pub refusals: RecentRefusals,
    /// For requests that found no route.
    pub unrouted: Arc<RouteMetrics>,
    pub in_flight: Arc<AtomicU64>,
}

/// A request whose account is still open. Dropping it closes the account: the client left, or a stage panicked.
pub struct Account {
    books: Arc<Books>,
    pub exchange: Exchange,
    /// Counts the request's body.
    pub received: Option<Meter>,
    user_agent: Option<HeaderValue>,
    closed: bool,
}

/// What is written once the answer's body has gone out: kept as it was found, because a record that nobody reads is not
/// made.
struct Line {
    books: Arc<Books>,
    started: Now,
    request_id: String,
    listener: Arc<str>,
    version: Version,
    method: Method,
    /// As it came, where it was refused before it was normal.
    raw_path: String,
    client: IpAddr,
    peer: SocketAddr,
    user_agent: Option<HeaderValue>,
    notes: Notes,
    received: Option<Meter>,
    end: End,
}

/// How a request ended.
struct End {
    status: u16,
    verdict: Verdict,
    /// Stage, code and words of the rejection.
    why: Option<(&'static str, &'static str, String)>,
}

impl Account {
    pub fn open(books: Arc<Books>, exchange: Exchange) -> Self {
        // Taken now: the headers go to the upstream.
        let user_agent = exchange.headers.get(header::USER_AGENT).cloned();
        books.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { books, exchange, received: None, user_agent, closed: false }
    }

    /// Writes the line when the answer's body has ended.
    pub fn close(mut self, response: Response<Body>, verdict: Verdict, rejection: Option<&Rejection>) -> Response<Body> {
        self.closed = true;
        let line = self.line(End::new(response.status().as_u16(), verdict, rejection));
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.when_done(move |done| line.write(done.bytes)))
    }

    fn line(&mut self, end: End) -> Line {
        let exchange = &mut self.exchange;
        Line {
            books: self.books.clone(),
            started: exchange.now,
            raw_path: if exchange.notes.path.is_some() { String::new() } else { raw_path(exchange) },
            request_id: mem::take(&mut exchange.request_id),
            listener: exchange.listener.clone(),
            version: exchange.version,
            method: mem::take(&mut exchange.method),
            client: exchange.client,
            peer: exchange.peer,
            user_agent: self.user_agent.take(),
            notes: mem::take(&mut exchange.notes),
            received: self.received.take(),
            end,
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let end = match std::thread::panicking() {
            true => End::new(500, Verdict::Failed, Some(&panicked())),
            false => End::new(0, Verdict::Failed, None),
        };
        self.line(end).write(0);
    }
}

impl End {
    fn new(status: u16, verdict: Verdict, rejection: Option<&Rejection>) -> Self {
        let why = rejection.map(|rejection| (rejection.stage().as_str(), rejection.code(), rejection.to_string()));
        Self { status, verdict, why }
    }
}

impl Line {
    fn write(mut self, bytes_out: u64) {
        let duration_us = clock::tick().since(self.started.tick);
        // The answer's body panicked after its head had gone out: the status stays what the client was told.
        if std::thread::panicking() && self.end.why.is_none() {
            self.end = End::new(self.end.status, Verdict::Failed, Some(&panicked()));
        }
        let reason = self.end.why.as_ref().map(|(_, code, _)| *code);
        let metrics = self.notes.metrics.take().unwrap_or_else(|| self.books.unrouted.clone());
        metrics.record(self.end.status, reason, duration_us);
        let books = self.books.clone();
        if reason.is_some() || books.log.is_on() {
            let record = self.record(duration_us, bytes_out);
            if reason.is_some() {
                books.refusals.remember(&record);
            }
            books.log.write(&record);
        }
        books.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn record(self, duration_us: u64, bytes_out: u64) -> Record {
        let Self { notes, end, .. } = self;
        let credential = notes.principal.as_ref().map(|principal| {
            let issuer = principal.foreign.as_ref().map_or_else(String::new, |foreign| format!(" of {}", foreign.issuer));
            format!("{}:{}{issuer}", principal.kind, principal.credential_id)
        });
        let (stage, reason, detail) = match end.why {
            Some((stage, code, words)) => (Some(stage), Some(code), Some(words)),
            None => (None, None, None),
        };
        Record {
            at: self.started.wall,
            request_id: self.request_id,
            verdict: end.verdict,
            stage,
            reason,
            detail,
            listener: self.listener,
            api: notes.api_name.unwrap_or_default(),
            route: notes.route.unwrap_or_default(),
            protocol: protocol(self.version),
            method: self.method,
            host: notes.host.unwrap_or_default(),
            path: notes.path.map_or(self.raw_path, NormalPath::into_string),
            client_ip: self.client,
            peer: self.peer,
            credential: credential.or_else(|| notes.kind.map(|kind| kind.to_string())),
            account: notes.principal.as_ref().map(|principal| principal.account.id.to_string()),
            tenant: notes.tenant,
            status: end.status,
            duration_us,
            upstream: notes.upstream,
            upstream_us: notes.upstream_us,
            bytes_in: self.received.as_ref().map_or(0, Meter::bytes),
            bytes_out,
            user_agent: self.user_agent.map(|agent| Record::agent(agent.as_bytes())),
        }
    }
}

/// The name of a version, as CGI and most logs write it.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

fn panicked() -> Rejection {
    Failure::Internal { detail: "it panicked".to_owned() }.into()
}

/// The path as it came, of a request that was refused before its path was normal. CONNECT has none.
fn raw_path(exchange: &Exchange) -> String {
    if let Some(fault) = &exchange.fault {
        return fault.path.clone();
    }
    match exchange.method {
        Method::CONNECT => String::new(),
        _ => exchange.uri.path().to_owned(),
    }
}

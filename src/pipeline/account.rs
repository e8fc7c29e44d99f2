//! The account that is given of each request: one log line and one count when its answer has gone out, or when its
//! client has gone before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, Response, header};

use crate::body::{Body, Meter};
use crate::clock;
use crate::observe::{AccessLog, RecentRefusals, Record, RouteMetrics, Verdict};
use crate::pipeline::exchange::Exchange;
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
    user_agent: Option<String>,
    closed: bool,
}

/// What is written once the answer's body has gone out.
struct Line {
    books: Arc<Books>,
    metrics: Arc<RouteMetrics>,
    record: Record,
    received: Option<Meter>,
    started: clock::Tick,
}

impl Account {
    pub fn open(books: Arc<Books>, exchange: Exchange) -> Self {
        // Taken now: the headers go to the upstream.
        let user_agent = exchange.headers.get(header::USER_AGENT).map(|value| Record::agent(value.as_bytes()));
        books.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { books, exchange, received: None, user_agent, closed: false }
    }

    /// Writes the line when the answer's body has ended.
    pub fn close(mut self, response: Response<Body>, verdict: Verdict, rejection: Option<&Rejection>) -> Response<Body> {
        self.closed = true;
        let line = self.line(response.status().as_u16(), verdict, rejection);
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.when_done(move |done| line.write(done.bytes)))
    }

    fn line(&mut self, status: u16, verdict: Verdict, rejection: Option<&Rejection>) -> Line {
        let exchange = &mut self.exchange;
        let notes = std::mem::take(&mut exchange.notes);
        let credential = notes.principal.as_ref().map(|principal| {
            let issuer = principal.foreign.as_ref().map_or_else(String::new, |foreign| format!(" of {}", foreign.issuer));
            format!("{}:{}{issuer}", principal.kind, principal.credential_id)
        });
        let record = Record {
            at: exchange.now.wall,
            request_id: exchange.request_id.clone(),
            verdict,
            stage: rejection.map(|rejection| rejection.stage().as_str()),
            reason: rejection.map(Rejection::code),
            detail: rejection.map(ToString::to_string),
            listener: exchange.listener.clone(),
            api: notes.api_name.unwrap_or_default(),
            route: notes.route.unwrap_or_default(),
            method: exchange.method.clone(),
            host: notes.host.unwrap_or_default(),
            path: notes.path.map_or_else(|| raw_path(exchange), |path| path.to_string()),
            client_ip: exchange.client,
            peer: exchange.peer,
            credential: credential.or_else(|| notes.kind.map(|kind| kind.to_string())),
            account: notes.principal.as_ref().map(|principal| principal.account.id.to_string()),
            tenant: notes.tenant,
            status,
            duration_us: 0,
            upstream: notes.upstream,
            upstream_us: notes.upstream_us,
            bytes_in: 0,
            bytes_out: 0,
            user_agent: self.user_agent.take(),
        };
        Line {
            books: self.books.clone(),
            metrics: notes.metrics.unwrap_or_else(|| self.books.unrouted.clone()),
            record,
            received: self.received.take(),
            started: exchange.now.tick,
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        if std::thread::panicking() {
            self.line(500, Verdict::Failed, Some(&panicked())).write(0);
        } else {
            self.line(0, Verdict::Failed, None).write(0);
        }
    }
}

impl Line {
    fn write(mut self, bytes_out: u64) {
        self.record.duration_us = clock::now().tick.since(self.started);
        self.record.bytes_out = bytes_out;
        // The answer's body panicked after its head had gone out: the status stays what the client was told.
        if std::thread::panicking() && self.record.reason.is_none() {
            let defect = panicked();
            self.record.verdict = Verdict::Failed;
            self.record.stage = Some(defect.stage().as_str());
            self.record.reason = Some(defect.code());
            self.record.detail = Some(defect.to_string());
        }
        self.record.bytes_in = self.received.as_ref().map_or(0, Meter::bytes);
        if self.record.reason.is_some() {
            self.books.refusals.remember(&self.record);
        }
        self.metrics.record(self.record.status, self.record.reason, self.record.duration_us);
        self.books.log.write(&self.record);
        self.books.in_flight.fetch_sub(1, Ordering::Relaxed);
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

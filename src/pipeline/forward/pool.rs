//! The connections to one server, kept by one worker: taken and given back without a lock, newest first, so that what is
//! not needed grows old and is closed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::Uri;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use hyper::client::conn::http1;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::body::{Body, Deadline};
use crate::config::UpstreamTimeouts;
use crate::config::value::{Scheme, UpstreamUrl};
use crate::outbound::ServerTls;
use crate::pipeline::forward::dial::{Dialed, Dialer};
use crate::pipeline::forward::lane::{Lane, Place};
use crate::pipeline::headers::join_path;
use crate::rejection::Failure;

/// A server and its idle connections.
pub struct Server {
    /// `host:port`, for messages and for a request without Host.
    pub label: String,
    pub host: HeaderValue,
    base_path: String,
    /// Of its URL, for requests that name it.
    pub scheme: http::uri::Scheme,
    dialer: Dialer,
    timeouts: UpstreamTimeouts,
    /// Oldest first.
    idle: RefCell<Vec<Idle>>,
    /// Connections of HTTP/2, however many requests are on them.
    lanes: RefCell<Vec<Rc<Lane>>>,
    /// Who makes the next one of HTTP/2.
    turn: Mutex<()>,
    /// The last time that no connection could be made.
    failed_at: Cell<Option<Instant>>,
}

/// What one request is sent on.
pub struct Connection {
    pub sender: Sender,
    /// Of the request that is on it. Kept with the connection, so that not each request sets a timer of the runtime.
    pub deadline: Deadline,
}

pub enum Sender {
    Http1(http1::SendRequest<Body>),
    /// Beside others on the same connection.
    Http2(Place),
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Sender {
    fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(place) => place.sender.is_ready(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(place) => place.sender.is_closed(),
        }
    }
}

impl Server {
    /// `tls` is of use for an `https` URL alone.
    pub fn new(url: &UpstreamUrl, timeouts: UpstreamTimeouts, tls: Option<&ServerTls>) -> Rc<Self> {
        let label = match url.host.contains(':') {
            true => format!("[{}]:{}", url.host, url.port),
            false => format!("{}:{}", url.host, url.port),
        };
        Rc::new(Self {
            host: HeaderValue::from_str(&label).unwrap_or(HeaderValue::from_static("localhost")),
            label,
            base_path: url.base_path.clone(),
            scheme: if url.scheme == Scheme::Https { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP },
            dialer: Dialer::new(url, tls),
            timeouts,
            idle: RefCell::default(),
            lanes: RefCell::default(),
            turn: Mutex::new(()),
            failed_at: Cell::default(),
        })
    }

    /// What to ask this server for. `None` when base and path together are no valid target.
    pub fn target(&self, path: &PathAndQuery) -> Option<Uri> {
        if self.base_path.is_empty() {
            return Some(path.clone().into());
        }
        join_path(&self.base_path, path.as_str()).parse::<PathAndQuery>().ok().map(Uri::from)
    }

    /// A kept connection that is good for a request as far as anyone can know.
    pub fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            if since.elapsed() > self.timeouts.idle {
                // Everything below it is older still.
                idle.clear();
            } else if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        let place = self.reserve()?;
        Some(Connection { sender: Sender::Http2(place), deadline: Deadline::default() })
    }

    /// Keeps a connection whose answer has been read to its end. One that hyper would not use again is dropped: the
    /// server said `close`, sent more than its answer, or still takes the request's body. One of HTTP/2 has its
    /// room back when `connection` is dropped.
    pub fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if matches!(connection.sender, Sender::Http1(_)) && connection.sender.is_ready() && idle.len() < MOST_IDLE {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what has been idle too long.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(|idle| !idle.connection.sender.is_over() && idle.since.elapsed() <= self.timeouts.idle);
        self.lanes.borrow_mut().retain(|lane| !lane.is_over() && !lane.is_idle_for(self.timeouts.idle));
    }

    /// Whether the last connect failed a short while ago.
    pub fn is_resting(&self) -> bool {
        self.failed_at.get().is_some_and(|at| at.elapsed() < REST)
    }

    /// A new connection; or room on one of HTTP/2 that another request has made meanwhile.
    ///
    /// # Errors
    /// [`Failure::UpstreamUnreachable`] or [`Failure::UpstreamConnectTimeout`].
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let upstream = self.label.clone();
        let made = match timeout(self.timeouts.connect, self.make()).await {
            Ok(Ok(sender)) => Ok(Connection { sender, deadline: Deadline::default() }),
            Ok(Err(detail)) => Err(Failure::UpstreamUnreachable { upstream, detail }),
            Err(_) => Err(Failure::UpstreamConnectTimeout { upstream }),
        };
        self.failed_at.set(made.is_err().then(Instant::now));
        made
    }

    async fn make(&self) -> Result<Sender, String> {
        if !self.dialer.expects_http2() {
            return self.keep(self.dialer.dial().await?);
        }
        // One after the other: a connection has room for many of those that wait.
        let _turn = self.turn.lock().await;
        if let Some(place) = self.reserve() {
            return Ok(Sender::Http2(place));
        }
        self.keep(self.dialer.dial().await?)
    }

    fn keep(&self, dialed: Dialed) -> Result<Sender, String> {
        let lane = match dialed {
            Dialed::Http1(sender) => return Ok(Sender::Http1(sender)),
            Dialed::Http2(lane) => lane,
        };
        let place = lane.reserve().ok_or("it takes no request")?;
        let mut lanes = self.lanes.borrow_mut();
        // One more than that carries its one request and ends.
        if lanes.len() < MOST_LANES {
            lanes.push(lane);
        }
        Ok(Sender::Http2(place))
    }

    fn reserve(&self) -> Option<Place> {
        self.lanes.borrow().iter().find_map(Lane::reserve)
    }

    #[cfg(test)]
    pub fn idle_connections(&self) -> usize {
        self.idle.borrow().len()
    }
}

/// Idle connections that one worker keeps to one server.
const MOST_IDLE: usize = 256;
/// Connections of HTTP/2 that one worker keeps to one server.
const MOST_LANES: usize = 32;
/// How long a server that cannot be reached is passed over while others can.
const REST: Duration = Duration::from_secs(5);

//! The connections to one server, kept by one worker: taken and given back without a lock, newest first, so that what is
//! not needed grows old and is closed.

use std::cell::RefCell;
use std::rc::Rc;

use http::Uri;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, timeout};

use crate::body::Body;
use crate::config::UpstreamTimeouts;
use crate::config::value::UpstreamUrl;
use crate::outbound::ServerTls;
use crate::patience::Deadline;
use crate::pipeline::forward::dial::Dialer;
use crate::pipeline::headers::join_path;
use crate::rejection::Failure;

/// A server and its idle connections.
pub struct Server {
    /// `host:port`, for messages and for a request without Host.
    pub label: String,
    pub host: HeaderValue,
    base_path: String,
    dialer: Dialer,
    timeouts: UpstreamTimeouts,
    /// Oldest first.
    idle: RefCell<Vec<Idle>>,
}

/// A connection that is good for one request at a time.
pub struct Connection {
    pub sender: SendRequest<Body>,
    /// Of the request that is on it. Kept with the connection, so that not each request sets a timer of the runtime.
    pub deadline: Deadline,
}

struct Idle {
    connection: Connection,
    since: Instant,
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
            dialer: Dialer::new(url, tls),
            timeouts,
            idle: RefCell::default(),
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
        None
    }

    /// Keeps a connection whose answer has been read to its end. One that hyper would not use again is dropped: the
    /// server said `close`, sent more than its answer, or still takes the request's body.
    pub fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if connection.sender.is_ready() && idle.len() < MOST_IDLE {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what has been idle too long.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(|idle| !idle.connection.sender.is_closed() && idle.since.elapsed() <= self.timeouts.idle);
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`Failure::UpstreamUnreachable`] or [`Failure::UpstreamConnectTimeout`].
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let upstream = self.label.clone();
        match timeout(self.timeouts.connect, self.dialer.dial()).await {
            Ok(Ok(sender)) => Ok(Connection { sender, deadline: Deadline::default() }),
            Ok(Err(detail)) => Err(Failure::UpstreamUnreachable { upstream, detail }),
            Err(_) => Err(Failure::UpstreamConnectTimeout { upstream }),
        }
    }

    #[cfg(test)]
    pub fn idle_connections(&self) -> usize {
        self.idle.borrow().len()
    }
}

/// Idle connections that one worker keeps to one server.
const MOST_IDLE: usize = 256;

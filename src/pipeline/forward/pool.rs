//! The connections to one server, kept by one worker: taken and given back without a lock, newest first, so that what is
//! not needed grows old and is closed.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use http::Uri;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use crate::body::Body;
use crate::config::UpstreamTimeouts;
use crate::config::value::UpstreamUrl;
use crate::patience::Deadline;
use crate::pipeline::forward::read_on::ReadOn;
use crate::pipeline::forward::resolve::Resolver;
use crate::pipeline::headers::join_path;
use crate::rejection::Failure;

/// A server and its idle connections.
pub struct Server {
    /// `host:port`, for messages and for a request without Host.
    pub label: String,
    pub host: HeaderValue,
    base_path: String,
    resolver: Rc<Resolver>,
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
    pub fn new(url: &UpstreamUrl, timeouts: UpstreamTimeouts) -> Rc<Self> {
        let label = match url.host.contains(':') {
            true => format!("[{}]:{}", url.host, url.port),
            false => format!("{}:{}", url.host, url.port),
        };
        Rc::new(Self {
            host: HeaderValue::from_str(&label).unwrap_or(HeaderValue::from_static("localhost")),
            label,
            base_path: url.base_path.clone(),
            resolver: Resolver::new(&url.host, url.port),
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
        match timeout(self.timeouts.connect, self.dial()).await {
            Ok(Ok(socket)) => handshake(socket).await.map_err(|detail| Failure::UpstreamUnreachable { upstream, detail }),
            Ok(Err(error)) => Err(Failure::UpstreamUnreachable { upstream, detail: error.to_string() }),
            Err(_) => Err(Failure::UpstreamConnectTimeout { upstream }),
        }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.resolver.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    #[cfg(test)]
    pub fn idle_connections(&self) -> usize {
        self.idle.borrow().len()
    }
}

async fn handshake(socket: TcpStream) -> Result<Connection, String> {
    // Fails only for a connection that is gone, which the first request finds out.
    let _ = socket.set_nodelay(true);
    let mut http = Builder::new();
    http.writev(false).max_header_size(MOST_HEADER_BYTES).max_buf_size(BUFFER);
    let (sender, connection) = http.handshake(TokioIo::new(ReadOn::new(socket))).await.map_err(|error| error.to_string())?;
    // Lives as long as the connection: it ends when the sender is dropped or the server closes. Its errors reach the
    // request that is on the connection, if there is one.
    spawn_local(async move {
        let _ = connection.await;
    });
    Ok(Connection { sender, deadline: Deadline::default() })
}

/// Idle connections that one worker keeps to one server.
const MOST_IDLE: usize = 256;
/// The head of an answer; above it the answer counts as broken.
const MOST_HEADER_BYTES: usize = 64 << 10;
/// A head has to fit in. Of an answer whose reader stands still, hyper holds two of these, and the client's side one more.
const BUFFER: usize = MOST_HEADER_BYTES;

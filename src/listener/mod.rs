//! Sockets in, requests out: TCP, the PROXY protocol, TLS, the raw-head guard, HTTP/1, the client's address, drain. Knows no route and judges no request; everything
//! here runs on one worker's thread.

mod arrive;
mod client_addr;
mod connection;
mod guard;
mod live;
mod proxy;
mod sockets;
mod timed_io;
mod tls;
mod transport;

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::body::Body;
use crate::config::{Listener, ListenerTimeouts, ProxyProtocol, TrustedProxies};
use crate::identity::Networks;
use crate::listener::guard::HeadLimits;

pub use arrive::ConnectionInfo;
pub use client_addr::{ClientAddress, Peer, Trust, client_address};
#[cfg(any(test, feature = "internals"))]
pub use guard::hyper_reads_what_was_judged;
pub use guard::{Fault, check_target};
pub use live::Live;
pub use sockets::{adopt, bind};
pub use tls::{Changed, ClientCertificate, Handshake, TlsStore};

/// Answers requests. A panic while it does becomes a bare 500 for that request alone.
pub trait Handler: 'static {
    /// With a fault, the head was refused, `request` is what could be read of it, and its connection closes after the answer.
    fn call(
        &self,
        request: Request<Incoming>,
        connection: ConnectionInfo,
        fault: Option<Fault>,
    ) -> impl Future<Output = Response<Body>>;
}

/// How one worker serves one listener.
pub struct Settings {
    name: String,
    timeouts: ListenerTimeouts,
    /// Connections at a time; more are closed as soon as they come.
    connections: usize,
    drain_timeout: Duration,
    heads: HeadLimits,
    http: http1::Builder,
    /// Whose PROXY header every connection begins with.
    proxies: Option<Networks>,
    tls: Option<Arc<TlsStore>>,
    /// What was said of connections without a right beginning.
    strangers: Said,
    malformed: Said,
}

impl Settings {
    /// `workers` is how many sockets share the file limit: threads times listeners.
    pub fn new(config: &Listener, workers: usize, drain_timeout: Duration) -> Self {
        let limits = &config.limits;
        let header_bytes = usize::try_from(limits.header_bytes.0).unwrap_or(usize::MAX);
        let mut http = http1::Builder::new();
        // The timeouts are ours (timed_io.rs says why), so hyper needs no timer. A client that closes its half has gone.
        // A copy of a small body costs less than a vectored write.
        http.header_read_timeout(None).half_close(false).title_case_headers(false).auto_date_header(true).writev(false);
        // hyper answers a head above its limits itself, without log line and in nobody's shape. Its limits are therefore
        // wider than ours, which the guard has applied before; not by much, for a reader that stands still fills a buffer
        // of this size, and the connection keeps it.
        let wide = header_bytes.saturating_add(LEAST_BUFFER);
        http.max_header_size(wide).max_buf_size(wide);
        // With the default hyper keeps the fields on the stack; any other number is a heap allocation for every request.
        if limits.headers > HYPER_HEADERS {
            http.max_headers(usize::try_from(limits.headers).unwrap_or(usize::MAX));
        }
        Self {
            name: config.name.value.clone(),
            timeouts: config.timeouts.clone(),
            connections: sockets::connection_cap(limits.connections, workers),
            drain_timeout,
            heads: HeadLimits::from(config),
            http,
            proxies: proxies(config),
            tls: None,
            strangers: Said::default(),
            malformed: Said::default(),
        }
    }
}

impl Settings {
    /// The same with TLS, where the listener has it.
    pub fn with_tls(self, tls: Option<Arc<TlsStore>>) -> Self {
        Self { tls, ..self }
    }
}

/// Whose PROXY header is wanted. `None` where none is; nobody's where the config says so in a way that it does not allow.
fn proxies(config: &Listener) -> Option<Networks> {
    match (config.proxy_protocol, &config.trusted_proxies) {
        (ProxyProtocol::Off, _) => None,
        (ProxyProtocol::Required, TrustedProxies::Networks(networks)) => {
            Some(networks.iter().map(|network| network.value).collect())
        }
        (ProxyProtocol::Required, TrustedProxies::Hops(_)) => Some(Networks::new(Vec::new())),
    }
}

/// Something that is said once, however often it happens.
#[derive(Default)]
struct Said(Cell<bool>);

impl Said {
    fn once(&self, say: impl FnOnce()) {
        if !self.0.replace(true) {
            say();
        }
    }
}

/// The shutdown as the connections of one worker see it.
#[derive(Default)]
struct Drain {
    begun: Cell<bool>,
    wake: Notify,
}

/// Serves a socket until `drain` becomes true or its sender is gone, then lets the requests in flight finish.
///
/// Must run on a `LocalRuntime`. Returns how many connections were cut because the drain time was over.
///
/// # Errors
/// When the socket cannot be watched. Nothing that a client does ends it.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    settings: Rc<Live<Settings>>,
    handler: Rc<H>,
    mut drain: watch::Receiver<bool>,
) -> io::Result<usize> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = Connections { settings, handler, drain: Rc::default(), tasks: JoinSet::new() };
    let mut trouble = Episode::default();
    let mut crowd = Episode::default();
    loop {
        tokio::select! {
            biased;
            _ = drain.wait_for(|begun| *begun) => break,
            Some(ended) = connections.tasks.join_next() => connections.note_end(ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    connections.admit(socket, peer, &mut crowd);
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    let name = &connections.settings.get().name;
                    trouble.happens(|| tracing::error!(listener = %name, %error, "cannot accept connections; trying again every 50 ms"));
                    // Without a pause the loop would spin: the connection that could not be taken is still there.
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // What the kernel has already accepted for us would be reset by the close.
    if let Ok(backlog) = listener.into_std() {
        while let Ok((socket, peer)) = backlog.accept() {
            if socket.set_nonblocking(true).is_ok()
                && let Ok(socket) = TcpStream::from_std(socket)
            {
                connections.admit(socket, peer, &mut crowd);
            }
        }
    }
    Ok(connections.drain().await)
}

/// The connections of one worker.
struct Connections<H> {
    /// Each connection is served to its end by those that held when it came.
    settings: Rc<Live<Settings>>,
    handler: Rc<H>,
    drain: Rc<Drain>,
    tasks: JoinSet<()>,
}

impl<H: Handler> Connections<H> {
    fn admit(&mut self, socket: TcpStream, peer: SocketAddr, crowd: &mut Episode) {
        let settings = self.settings.get();
        let cap = settings.connections;
        if self.tasks.len() >= cap {
            let name = &settings.name;
            crowd.happens(|| tracing::warn!(listener = %name, cap, "all connections are taken; new ones are closed at once"));
            return;
        }
        // One refusal more and one connection less would log for ever; half empty is really over.
        if self.tasks.len() <= cap / 2 {
            crowd.over();
        }
        // Only fails for a connection that is gone already.
        if socket.set_nodelay(true).is_err() {
            return;
        }
        let carry = connection::carry(socket, peer, settings, self.handler.clone(), self.drain.clone());
        self.tasks.spawn_local(carry);
    }

    fn note_end(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(listener = %self.settings.get().name, "a connection was dropped because its task panicked");
        }
    }

    /// Waits for all connections, then cuts the rest. Returns how many that were.
    async fn drain(mut self) -> usize {
        self.drain.begun.set(true);
        self.drain.wake.notify_waiters();
        let settings = self.settings.get();
        let patience = settings.drain_timeout;
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.note_end(ended);
            }
        };
        if timeout(patience, all).await.is_ok() {
            return 0;
        }
        let cut = self.tasks.len();
        tracing::warn!(listener = %settings.name, cut, "the drain time is over; connections were cut");
        self.tasks.shutdown().await;
        cut
    }
}

/// Something that goes on for a while and is logged once: it is over when it has not happened for some time, or earlier
/// when its owner knows.
#[derive(Default)]
struct Episode(Option<Instant>);

impl Episode {
    fn happens(&mut self, log: impl FnOnce()) {
        let now = Instant::now();
        if self.0.replace(now).is_none_or(|last| now.duration_since(last) > CALM) {
            log();
        }
    }

    fn over(&mut self) {
        self.0 = None;
    }
}

/// An error that says something of the connection that was to be taken, and nothing of the listener.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// hyper's own limit on header fields.
const HYPER_HEADERS: u64 = 100;
/// hyper refuses a buffer below 8 KiB.
const LEAST_BUFFER: usize = 8 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A file that becomes free and is taken at once is no end of the trouble.
const CALM: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
#[cfg(test)]
pub mod wire;

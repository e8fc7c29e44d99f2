//! How a connection to a server is made: TCP, then TLS where its URL says `https`, then HTTP/1.1.

use std::io;
use std::rc::Rc;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::body::Body;
use crate::config::value::{Scheme, UpstreamUrl};
use crate::outbound::ServerTls;
use crate::pipeline::forward::read_on::ReadOn;
use crate::pipeline::forward::resolve::Resolver;

/// What connections to one server are made with.
pub struct Dialer {
    resolver: Rc<Resolver>,
    /// A name or an address, without brackets.
    host: String,
    tls: Option<ServerTls>,
}

impl Dialer {
    /// `tls` is of use for an `https` URL alone.
    pub fn new(url: &UpstreamUrl, tls: Option<&ServerTls>) -> Self {
        Self {
            resolver: Resolver::new(&url.host, url.port),
            host: url.host.clone(),
            tls: tls.filter(|_| url.scheme == Scheme::Https).cloned(),
        }
    }

    /// # Errors
    /// Why there is none.
    pub async fn dial(&self) -> Result<SendRequest<Body>, String> {
        let socket = self.reach().await.map_err(|error| error.to_string())?;
        // Fails only for a connection that is gone, which the first request finds out.
        let _ = socket.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return speak(socket).await;
        };
        let secured = tls.connect(&self.host, socket).await.map_err(|error| format!("TLS: {error}"))?;
        speak(secured).await
    }

    async fn reach(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.resolver.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

async fn speak<S>(socket: S) -> Result<SendRequest<Body>, String>
where
    TokioIo<ReadOn<S>>: Read + Write + Unpin + 'static,
{
    let mut http = Builder::new();
    http.writev(false).max_header_size(MOST_HEADER_BYTES).max_buf_size(BUFFER);
    let (sender, connection) = http.handshake(TokioIo::new(ReadOn::new(socket))).await.map_err(|error| error.to_string())?;
    // Lives as long as the connection: it ends when the sender is dropped or the server closes. Its errors reach the
    // request that is on the connection, if there is one.
    spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// The head of an answer; above it the answer counts as broken.
const MOST_HEADER_BYTES: usize = 64 << 10;
/// A head has to fit in. Of an answer whose reader stands still, hyper holds two of these, and the client's side one more.
const BUFFER: usize = MOST_HEADER_BYTES;

//! From an accepted socket to a connection on which HTTP begins: the PROXY header, then the TLS handshake. Whoever does
//! not get so far in the time of `timeouts.handshake` is closed, and so is whoever says something wrong: there is nobody
//! yet to whom an answer could be given.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::listener::tls::Handshake;
use crate::listener::transport::Transport;
use crate::listener::{Settings, proxy};

/// Where a connection comes from, and what its beginning has told.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The other end: a client or a proxy, as the socket says or as the PROXY header of a trusted peer does.
    /// [`crate::listener::client_address`] tells who the client is.
    pub peer: SocketAddr,
    /// `None` in clear text.
    pub tls: Option<Arc<Handshake>>,
}

/// A connection whose beginning is over.
pub struct Arrived {
    pub transport: Transport,
    pub info: ConnectionInfo,
    pub protocol: Protocol,
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// `None` when the connection is to be closed.
pub async fn arrive(socket: TcpStream, peer: SocketAddr, settings: &Settings) -> Option<Arrived> {
    let info = ConnectionInfo { peer, tls: None };
    if settings.proxies.is_none() && settings.tls.is_none() {
        return Some(Arrived { transport: Transport::Plain(socket), info, protocol: Protocol::Http1 });
    }
    // Boxed, so that connections in clear text have no room for a handshake.
    let beginning = Box::pin(begin(socket, info, settings));
    timeout(settings.timeouts.handshake, beginning).await.ok().flatten()
}

async fn begin(mut socket: TcpStream, mut info: ConnectionInfo, settings: &Settings) -> Option<Arrived> {
    if let Some(trusted) = &settings.proxies {
        if !trusted.contains(info.peer.ip().to_canonical()) {
            let (peer, name) = (info.peer.ip(), &settings.name);
            settings.strangers.once(|| {
                tracing::warn!(%peer, listener = %name, "closed: a PROXY header is wanted, and only trusted_proxies may send one; said once");
            });
            return None;
        }
        match proxy::read(&mut socket).await {
            Ok(Some(source)) => info.peer = source,
            Ok(None) => {}
            Err(why) => {
                let (peer, name) = (info.peer.ip(), &settings.name);
                settings.malformed.once(|| {
                    tracing::warn!(%peer, listener = %name, %why, "closed: the connection does not begin with a PROXY header; said once");
                });
                return None;
            }
        }
    }
    let Some(store) = &settings.tls else {
        return Some(Arrived { transport: Transport::Plain(socket), info, protocol: Protocol::Http1 });
    };
    let terms = store.current();
    // Its errors are the client's, who was told by an alert.
    let stream = TlsAcceptor::from(terms.server.clone()).accept(socket).await.ok()?;
    let (_, session) = stream.get_ref();
    let protocol = if session.alpn_protocol() == Some(HTTP2) { Protocol::Http2 } else { Protocol::Http1 };
    info.tls = Some(Arc::new(terms.handshake(store, session)?));
    Some(Arrived { transport: Transport::Tls(Box::new(stream)), info, protocol })
}

const HTTP2: &[u8] = b"h2";

//! An upstream that speaks TLS and HTTP/2, and remembers what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use hyper::body::{Body, Incoming};
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::support::{Authority, Issued};

pub struct Modern {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which connection it came on, from 1.
    pub connection: usize,
    pub version: Version,
    pub uri: String,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    /// Requests for `/held`, which are answered when there are as many as [`Modern::hold`] said.
    held: AtomicUsize,
    wanted: AtomicUsize,
    freed: Notify,
}

impl Modern {
    /// In clear text, HTTP/2 alone, which takes so many requests at a time on a connection.
    pub fn h2c(streams: u32) -> Self {
        Self::start(None, streams)
    }

    /// By TLS with this certificate. With `clients`, only those whose certificate it has signed are answered.
    pub fn tls(own: &Issued, clients: Option<&Authority>, protocols: &[&str]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self::start(Some(TlsAcceptor::from(Arc::new(config))), 100)
    }

    fn start(tls: Option<TlsAcceptor>, streams: u32) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move { serving.accept(TcpListener::from_std(listener).unwrap(), tls, streams).await });
        });
        Self { address, shared }
    }

    /// `/held` is answered when so many are there at once.
    pub fn hold(&self, count: usize) {
        self.shared.wanted.store(count, Ordering::SeqCst);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Asked {
        self.asked().pop().unwrap()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>, streams: u32) {
        while let Ok((socket, _)) = listener.accept().await {
            let connection = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
            let (this, tls) = (self.clone(), tls.clone());
            tokio::task::spawn_local(async move {
                let Some(tls) = tls else { return this.serve(TokioIo::new(socket), true, connection, streams).await };
                let Ok(stream) = tls.accept(socket).await else { return };
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                this.serve(TokioIo::new(stream), is_http2, connection, streams).await;
            });
        }
    }

    async fn serve(self: Arc<Self>, io: impl Read + Write + Unpin + 'static, is_http2: bool, connection: usize, streams: u32) {
        let answer = service_fn(move |request| self.clone().answer(request, connection));
        if is_http2 {
            let _ = http2::Builder::new(Local).max_concurrent_streams(streams).serve_connection(io, answer).await;
        } else {
            let _ = http1::Builder::new().serve_connection(io, answer).await;
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, connection: usize) -> Result<Response<Parts>, Infallible> {
        let (head, body) = request.into_parts();
        let (mut text, mut trailers) = (String::new(), None);
        let mut body = pin!(body);
        while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            match frame.into_data() {
                Ok(data) => text.push_str(std::str::from_utf8(&data).unwrap()),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        let (uri, version, headers) = (head.uri.to_string(), head.version, head.headers);
        self.seen.lock().unwrap().push(Asked { connection, version, uri, headers, body: text.clone(), trailers });
        if head.uri.path() == "/held" {
            let freed = self.freed.notified();
            if self.held.fetch_add(1, Ordering::SeqCst) + 1 >= self.wanted.load(Ordering::SeqCst) {
                self.freed.notify_waiters();
            } else {
                freed.await;
            }
        }
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
        let frames = VecDeque::from([Frame::data(Bytes::from(format!("got {text}"))), Frame::trailers(trailers)]);
        Ok(Response::new(Parts(frames)))
    }
}

/// A body with trailers.
struct Parts(VecDeque<Frame<Bytes>>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[derive(Clone)]
struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

//! HTTP to the outside: one GET, one answer, bounded in bytes and time, by https, from public addresses unless the
//! operator says otherwise. Never on the path of a request; knows nothing of what it fetches.

mod address;
mod authorities;
mod error;
#[cfg(test)]
pub mod scripted;
mod server_tls;
mod target;
#[cfg(test)]
mod tests;

use std::future::{pending, poll_fn};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, LOCATION,
    USER_AGENT,
};
use http::{Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub use authorities::Authorities;
pub use error::FetchError;
pub use server_tls::ServerTls;
use target::{Reach, Target};

/// Fetches. A clone is cheap.
#[derive(Clone)]
pub struct Client {
    /// `None` on a system without certificates, where only http can work.
    tls: Option<TlsConnector>,
    reach: Reach,
}

/// Whom a client believes, and where it may go.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Certificates (PEM) that servers are trusted by, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether private and loopback addresses are fetched from; loopback addresses then also by http.
    pub allow_private: bool,
}

/// What one fetch may cost.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Of the answer's body.
    pub bytes: usize,
    /// From the look-up of the name to the last byte.
    pub time: Duration,
}

/// An answer of status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub body: Bytes,
    /// How long `Cache-Control` (RFC 9111, section 5.2.2) lets it be used: zero where it must not be kept, `None` where
    /// nothing is said.
    pub max_age: Option<Duration>,
}

impl Client {
    /// # Errors
    /// When `ca_file` cannot be used: says which file, and what would be right.
    pub fn new(trust: &Trust) -> Result<Self, String> {
        let roots = match &trust.ca_file {
            Some(file) => Some(Authorities::read(file)?.roots),
            None => system_roots(),
        };
        let reach = if trust.allow_private { Reach::Inside } else { Reach::Public };
        Ok(Self { tls: roots.map(connector).transpose()?, reach })
    }

    /// Fetches a URL over a connection of its own. Follows no redirect, and takes no answer other than a plain 200.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self, url: &str, limits: &FetchLimits) -> Result<Fetched, FetchError> {
        let target = Target::parse(url)?;
        let too_slow = |_| FetchError::TooSlow { host: target.host.clone(), time: limits.time };
        timeout(limits.time, self.fetch(&target, limits)).await.map_err(too_slow)?
    }

    async fn fetch(&self, target: &Target, limits: &FetchLimits) -> Result<Fetched, FetchError> {
        let socket = self.connect(target, limits.time).await?;
        if !target.is_tls {
            return exchange(target, socket, limits.bytes).await;
        }
        let host = || target.host.clone();
        let tls = self.tls.as_ref().ok_or_else(|| FetchError::NoAuthorities { host: host() })?;
        let broken = |detail: String| FetchError::Tls { host: host(), detail };
        let name = ServerName::try_from(host()).map_err(|error| broken(error.to_string()))?;
        let socket = tls.connect(name, socket).await.map_err(|error| broken(error.to_string()))?;
        exchange(target, socket, limits.bytes).await
    }

    /// Connects to one of the addresses that were judged: a second look-up could answer otherwise.
    async fn connect(&self, target: &Target, time: Duration) -> Result<TcpStream, FetchError> {
        let mut addresses = target.addresses(self.reach).await?;
        addresses.truncate(MOST_ADDRESSES);
        // One that swallows everything leaves time for the others.
        let share = time / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut detail = String::new();
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => detail = format!("{address}: {error}"),
                Err(_) => detail = format!("{address}: no answer within {share:?}"),
            }
        }
        Err(FetchError::Connect { host: target.host.clone(), detail })
    }
}

/// One request and one answer on a new connection, which ends with it.
async fn exchange<S>(target: &Target, socket: S, most_bytes: usize) -> Result<Fetched, FetchError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    TokioIo<S>: Read + Write,
{
    let broken = |error: hyper::Error| FetchError::Broken { host: target.host.clone(), detail: explain(&error) };
    let mut http = Builder::new();
    http.max_header_size(MOST_HEADER_BYTES).max_buf_size(BUFFER);
    let (mut sender, connection) = http.handshake(TokioIo::new(socket)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request(target)).await.map_err(broken)?;
        let max_age = accept(target, &response, most_bytes)?;
        let body = read(target, response.into_body(), most_bytes).await?;
        Ok(Fetched { body, max_age })
    };
    // The connection moves the bytes. Its end says nothing: what it has read is still to be taken, and its errors come
    // out of the exchange too.
    let driver = async {
        let _ = connection.await;
        pending().await
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        never = driver => never,
    }
}

fn request(target: &Target) -> Request<String> {
    let mut request = Request::new(String::new());
    *request.uri_mut() = Uri::from(target.path.clone());
    let headers = request.headers_mut();
    headers.insert(HOST, target.authority.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("gateward/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    request
}

/// Judges the head of an answer; how long it may be used.
fn accept(target: &Target, response: &Response<Incoming>, most_bytes: usize) -> Result<Option<Duration>, FetchError> {
    let (host, status, headers) = (|| target.host.clone(), response.status(), response.headers());
    if status.is_redirection() {
        return Err(FetchError::Redirect { host: host(), status, to: redirect_host(headers) });
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status { host: host(), status });
    }
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
        return Err(FetchError::Encoded { host: host() });
    }
    // hyper has made sure that there is one length, and that it is a number.
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > most_bytes)) {
        return Err(FetchError::TooLarge { host: host(), bytes: most_bytes });
    }
    Ok(max_age(headers))
}

/// The whole body, or none of it.
async fn read(target: &Target, body: Incoming, most_bytes: usize) -> Result<Bytes, FetchError> {
    let mut body = pin!(body);
    let mut out = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::as_mut(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| FetchError::Broken { host: target.host.clone(), detail: explain(&error) })?;
        let Ok(data) = frame.into_data() else { continue };
        if out.len().saturating_add(data.len()) > most_bytes {
            return Err(FetchError::TooLarge { host: target.host.clone(), bytes: most_bytes });
        }
        out.extend_from_slice(&data);
    }
    Ok(out.freeze())
}

/// Of several directives the strictest holds. A value that is no number is none: then our own pace is kept.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = values.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase());
    let seconds = directives.filter_map(|directive| match directive.split_once('=') {
        Some(("max-age", seconds)) => seconds.trim_matches('"').parse().ok(),
        // `no-cache="field"` is about one field of the answer, not about all of it.
        None if directive == "no-store" || directive == "no-cache" => Some(0),
        Some(_) | None => None,
    });
    seconds.min().map(Duration::from_secs)
}

fn redirect_host(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
    match location {
        Some(uri) => uri.host().map_or_else(|| "another path of its own".to_owned(), str::to_owned),
        None => "nowhere".to_owned(),
    }
}

fn explain(error: &hyper::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A system's store may hold what cannot be read; what can be read is taken.
fn system_roots() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    (!roots.is_empty()).then_some(roots)
}

/// TLS 1.2 and 1.3, with what rustls holds to be safe.
fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    versions.map_err(|error| error.to_string())
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, String> {
    let mut config = builder()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// How many of a name's addresses are tried.
const MOST_ADDRESSES: usize = 4;
/// The head of an answer; above it the answer counts as broken.
const MOST_HEADER_BYTES: usize = 32 << 10;
const BUFFER: usize = 64 << 10;

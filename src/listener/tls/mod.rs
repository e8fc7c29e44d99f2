//! TLS of a listener: its certificates, whom it takes client certificates from, and both anew when their files change.
//!
//! A listener has one policy for client certificates, whatever name a client asks for, and one key for its session
//! tickets, which is made anew with every change of the files: no session goes on under other terms than it began with.

mod certificates;
mod client;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion, version};

use crate::clock::{self, Timestamp};
use crate::config::report::{Located, Place};
use crate::config::{Listener, ListenerTls, TlsVersion};

pub use certificates::Certificates;
pub use client::ClientCertificate;

/// What a `tls` section of the config cannot be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    /// Where the file's name stands in the config.
    pub place: Place,
    pub why: String,
}

/// The TLS of one listener, shared by all workers.
pub struct TlsStore {
    listener: Arc<str>,
    config: ListenerTls,
    current: ArcSwap<Terms>,
    /// The files that could not be used the last time, so that this is said once.
    refused: Mutex<Option<Fingerprint>>,
}

/// What one connection is begun with.
pub struct Terms {
    pub(super) server: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    clients: Arc<dyn ClientCertVerifier>,
    fingerprint: Fingerprint,
}

/// What TLS has established of a connection.
pub struct Handshake {
    certificates: Arc<Certificates>,
    /// The certificate that was shown.
    shown: usize,
    client: Option<Client>,
}

/// A client that has shown a certificate.
struct Client {
    certificate: Arc<ClientCertificate>,
    /// What it has shown, its own certificate first.
    chain: Vec<CertificateDer<'static>>,
    store: Arc<TlsStore>,
    /// Under which terms it was verified the last time.
    standing: ArcSwap<Terms>,
}

/// Whether the files have changed since they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Yes,
    No,
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The first name that it is for.
    pub name: String,
    pub not_after: Timestamp,
}

type Fingerprint = [u8; 32];

impl TlsStore {
    /// Reads the files that a listener names. `None` for a listener in clear text.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(listener: &Listener) -> Result<Option<Self>, Vec<TlsFault>> {
        let Some(config) = &listener.tls else { return Ok(None) };
        let protocols = protocols(listener);
        let terms = Terms::new(config, &protocols, &Files::read(config))?;
        Ok(Some(Self {
            listener: listener.name.value.as_str().into(),
            config: config.clone(),
            current: ArcSwap::from_pointee(terms),
            refused: Mutex::new(None),
        }))
    }

    /// What a connection that comes now is begun with.
    pub fn current(&self) -> Arc<Terms> {
        self.current.load_full()
    }

    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Whether a listener of another config may go on with it: only its files' content may differ, which is followed here.
    pub fn is_of(&self, listener: &Listener) -> bool {
        let same = listener.tls.as_ref().is_some_and(|tls| tls.is_same(&self.config));
        same && *listener.name.value == *self.listener && self.current.load().server.alpn_protocols == protocols(listener)
    }

    /// Reads the files again, and takes them over if all of them can be used. Waits for the disk.
    ///
    /// # Errors
    /// Everything that is wrong with them, the first time that it is seen; the listener goes on with what it had.
    pub fn reload(&self) -> Result<Changed, Vec<TlsFault>> {
        let files = Files::read(&self.config);
        let fingerprint = files.fingerprint();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load();
        if current.fingerprint == fingerprint || *refused == Some(fingerprint) {
            return Ok(Changed::No);
        }
        let protocols = &current.server.alpn_protocols;
        match Terms::new(&self.config, protocols, &files) {
            Ok(terms) => {
                *refused = None;
                self.current.store(Arc::new(terms));
                Ok(Changed::Yes)
            }
            Err(faults) => {
                *refused = Some(fingerprint);
                Err(faults)
            }
        }
    }

    /// The certificates in use, in the order of the config.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.current.load().certificates.expiries()
    }
}

impl Terms {
    fn new(config: &ListenerTls, protocols: &[Vec<u8>], files: &Files) -> Result<Self, Vec<TlsFault>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut faults = Vec::new();
        let now = clock::now().wall;
        let certificates = Certificates::new(&files.pairs, &provider, now, &mut faults);
        let verifier = client::verifier(config, files, &provider, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let (certificates, whole) = (Arc::new(certificates), |why: String| vec![TlsFault { place: config.place, why }]);
        let versions: &[&SupportedProtocolVersion] = match config.min_version {
            TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.map_err(|error| whole(format!("TLS cannot be used: {error}")))?;
        let mut server = builder.with_client_cert_verifier(verifier.clone()).with_cert_resolver(certificates.clone());
        server.alpn_protocols = protocols.to_vec();
        // All that is offered is sound; auditors ask for an order all the same.
        server.ignore_client_order = true;
        // Stateless sessions whose key changes every six hours (rustls rotates it); the one before still opens.
        server.ticketer = Ticketer::new().map_err(|error| whole(format!("there is no key for session tickets: {error}")))?;
        Ok(Self { server: Arc::new(server), certificates, clients: verifier, fingerprint: files.fingerprint() })
    }

    /// What has been established of a connection that was begun with these terms. `None` when a client's certificate was
    /// verified and then cannot be read.
    pub(super) fn handshake(self: &Arc<Self>, store: &Arc<TlsStore>, session: &ServerConnection) -> Option<Handshake> {
        let shown = self.certificates.index_for(session.server_name());
        let client = match session.peer_certificates() {
            Some(chain) => Some(Client {
                certificate: Arc::new(ClientCertificate::read(chain.first()?)?),
                chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
                store: store.clone(),
                standing: ArcSwap::new(self.clone()),
            }),
            None => None,
        };
        Some(Handshake { certificates: self.certificates.clone(), shown, client })
    }

    /// Whether a client that shows this chain would be let in.
    fn lets_in(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> bool {
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        // Terms that ask for no certificate take none.
        let asks = self.clients.offer_client_auth();
        asks && chain.split_first().is_some_and(|(own, rest)| self.clients.verify_client_cert(own, rest, now).is_ok())
    }
}

impl Handshake {
    /// Whether a request for `host` may come by this connection: the host's certificate is the one that was shown
    /// (RFC 9110, section 7.4). `host` is in lower case, without port and trailing dot.
    pub fn is_for(&self, host: &str) -> bool {
        self.certificates.index_for(Some(host)) == self.shown
    }

    /// The certificate that the client has shown, signed by one of the listener's authorities. `None` without one, and when
    /// the authorities or their revocation lists have changed since, so that it would not be let in any more.
    pub fn client(&self, now: Timestamp) -> Option<Arc<ClientCertificate>> {
        let client = self.client.as_ref()?;
        let current = client.store.current.load();
        if !Arc::ptr_eq(&current, &client.standing.load()) {
            if !current.lets_in(&client.chain, now) {
                return None;
            }
            client.standing.store(Arc::clone(&current));
        }
        Some(client.certificate.clone())
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.as_ref().map(|client| &client.certificate);
        f.debug_struct("Handshake").field("shown", &self.shown).field("client", &client).finish_non_exhaustive()
    }
}

/// What the section's files hold, or why they cannot be read.
pub struct Files {
    pairs: Vec<Pair>,
    client_ca: Option<Content>,
    client_crl: Option<Content>,
}

/// A certificate's file and its key's.
pub struct Pair {
    certificate: Content,
    key: Content,
}

/// One file.
pub struct Content {
    path: PathBuf,
    place: Place,
    read: Result<Vec<u8>, String>,
}

impl Files {
    fn read(config: &ListenerTls) -> Self {
        let pair = |pair: &crate::config::CertificatePair| Pair {
            certificate: Content::read(&pair.cert_file),
            key: Content::read(&pair.key_file),
        };
        Self {
            pairs: config.certificates.iter().map(pair).collect(),
            client_ca: config.client_ca_file.as_ref().map(Content::read),
            client_crl: config.client_crl_file.as_ref().map(Content::read),
        }
    }

    /// Tells whether something has changed, without keys being kept for it.
    fn fingerprint(&self) -> Fingerprint {
        let pairs = self.pairs.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
        let mut context = Context::new(&SHA256);
        for content in pairs.chain(&self.client_ca).chain(&self.client_crl) {
            let bytes = content.read.as_ref().map_or_else(|why| why.as_bytes(), Vec::as_slice);
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        }
        context.finish().as_ref().try_into().unwrap_or_default()
    }
}

impl Content {
    fn read(path: &Located<PathBuf>) -> Self {
        let read = std::fs::read(&path.value).map_err(|error| format!("it cannot be read: {error}"));
        Self { path: path.value.clone(), place: path.place, read }
    }

    /// The bytes, or a fault that says why there are none.
    fn bytes(&self, faults: &mut Vec<TlsFault>) -> Option<&[u8]> {
        self.read.as_ref().map_err(|why| faults.push(self.fault(why))).ok().map(Vec::as_slice)
    }

    fn fault(&self, why: impl fmt::Display) -> TlsFault {
        TlsFault { place: self.place, why: format!("{}: {why}", self.path.display()) }
    }
}

/// What ALPN offers (RFC 7301), the better first.
fn protocols(listener: &Listener) -> Vec<Vec<u8>> {
    let http2 = listener.speaks_http2().then(|| b"h2".to_vec());
    http2.into_iter().chain([b"http/1.1".to_vec()]).collect()
}

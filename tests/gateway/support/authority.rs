//! Certificates for tests, and clients that speak TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

/// Signs certificates.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate with its key, as files hold them.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For a server of these names.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(names, |_| {})
    }

    /// For a client with this URI as its subject alternative name.
    pub fn client(&self, uri: &str) -> Issued {
        self.client_with(|params| params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap())))
    }

    pub fn client_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.issue(&[], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(params);
        })
    }

    pub fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

impl Issued {
    /// Writes `NAME.pem` and `NAME.key`.
    pub fn save(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.pem")), &self.certificate).unwrap();
        fs::write(folder.join(format!("{name}.key")), &self.key).unwrap();
    }
}

/// Sessions without regard to the name that they were begun for: a client that offers the ticket of one name to another.
#[derive(Debug)]
struct Careless(ClientSessionMemoryCache);

fn whatever() -> ServerName<'static> {
    ServerName::try_from("whatever.test").unwrap()
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(whatever(), session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&whatever())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&whatever());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(whatever(), ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&whatever())
    }
}

/// Who connects, and how.
#[derive(Clone)]
pub struct Caller {
    config: Arc<ClientConfig>,
}

impl Caller {
    /// Believes the authority and shows no certificate.
    pub fn of(authority: &Authority) -> Self {
        Self::with(authority, None, &[&version::TLS13, &version::TLS12], &[])
    }

    pub fn showing(authority: &Authority, own: &Issued) -> Self {
        Self::with(authority, Some(own), &[&version::TLS13, &version::TLS12], &[])
    }

    pub fn with(
        authority: &Authority,
        own: Option<&Issued>,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match own {
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config) }
    }

    /// The same, changed.
    pub fn but(mut self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// The same, who offers any session to any name.
    pub fn careless(self) -> Self {
        self.but(|config| config.resumption = Resumption::store(Arc::new(Careless(ClientSessionMemoryCache::new(64)))))
    }

    /// Connects, asks for the certificate of `name`, and ends the handshake.
    pub fn connect(&self, address: SocketAddr, name: &str) -> Result<Secured, String> {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        self.over(socket, name)
    }

    /// The same over a connection on which something was said before.
    pub fn over(&self, socket: TcpStream, name: &str) -> Result<Secured, String> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(self.config.clone(), name).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        }
        Ok(Secured { stream })
    }
}

/// A connection with TLS.
pub struct Secured {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Secured {
    /// Sends a GET and reads the whole answer: its status and all of its text. The connection is closed after it.
    pub fn get(&mut self, host: &str, path: &str) -> Result<(u16, String), String> {
        self.get_with(host, path, "")
    }

    /// The same with whole header lines.
    pub fn get_with(&mut self, host: &str, path: &str, lines: &str) -> Result<(u16, String), String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut text = String::new();
        self.stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or_else(|| format!("no answer: {text:?}"))?, text))
    }

    /// Whether the handshake went on with an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The name of the certificate that was shown, as it stands in its DER.
    pub fn shows(&self, name: &str) -> bool {
        let certificate = self.stream.conn.peer_certificates().unwrap().first().unwrap();
        certificate.windows(name.len()).any(|window| window == name.as_bytes())
    }
}

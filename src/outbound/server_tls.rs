//! TLS to the servers of an upstream: whom they are believed by, and who the gateway is to them.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::UpstreamTls;
use crate::outbound::{Authorities, builder, system_roots};

/// How connections to the servers of one upstream are secured. A clone is cheap, and shares the sessions to resume.
#[derive(Clone)]
pub struct ServerTls {
    connector: TlsConnector,
    /// Whose certificate is asked for, instead of that of the URL's host.
    name: Option<ServerName<'static>>,
}

impl ServerTls {
    /// # Errors
    /// Says which file cannot be used, and what would be right.
    pub fn new(config: &UpstreamTls) -> Result<Self, String> {
        let roots = match &config.ca_file {
            Some(file) => Authorities::read(&file.value)?.roots,
            None => system_roots().ok_or("this system has no certificates of authorities; name a file with `ca_file`")?,
        };
        let builder = builder()?.with_root_certificates(roots);
        let mut tls = match (&config.cert_file, &config.key_file) {
            (Some(certificate), Some(key)) => {
                let own = (chain(&certificate.value)?, private_key(&key.value)?);
                builder.with_client_auth_cert(own.0, own.1).map_err(|_| {
                    let (certificate, key) = (certificate.value.display(), key.value.display());
                    format!("`key_file` {key}: it is not the key of the certificate in {certificate}")
                })?
            }
            (Some(_) | None, None) | (None, Some(_)) => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = config.server_name.as_ref().map(|name| server_name(&name.value)).transpose()?;
        Ok(Self { connector: TlsConnector::from(Arc::new(tls)), name })
    }

    /// Secures a connection to `host`, which is a name or an address without brackets.
    ///
    /// # Errors
    /// Why the other end is not believed, or does not believe us.
    pub async fn connect(&self, host: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = self.name.clone().map_or_else(|| server_name(host), Ok).map_err(io::Error::other)?;
        self.connector.connect(name, socket).await
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| format!("`{text}` is no name that a certificate can have"))
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: String| format!("`cert_file` {}: {why}", file.display());
    let pem = fs::read(file).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| wrong(format!("it is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong("it holds no certificate; expected PEM, `-----BEGIN CERTIFICATE-----`".to_owned()));
    }
    Ok(chain)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let wrong = |why: String| format!("`key_file` {}: {why}", file.display());
    let pem = fs::read(file).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    // Nothing more is said of what stands in it.
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| wrong("it holds no private key; expected PEM, `-----BEGIN PRIVATE KEY-----`".to_owned()))
}
